//! Peer URLs, and which of a peer's URLs is used.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::Mutex;

/// A peer URL: `http`, `https`, `unix` or `unixs`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PeerUrl(Arc<Parts>);

#[derive(PartialEq, Eq, Hash)]
struct Parts {
    text: String,
    tls: bool,
    unix: bool,
    /// Host, or the socket's path.
    host: String,
    port: u16,
}

/// A text that is no peer URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad peer URL {url:?}: {reason}")]
pub struct UrlError {
    url: String,
    reason: &'static str,
}

impl PeerUrl {
    /// The URL as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// Whether the scheme asks for TLS: `https` or `unixs`.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.tls
    }

    /// Host name or address, an IPv6 address without brackets; the path for a unix socket.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// TCP port; 0 for a unix socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Path of the unix socket, if it is one.
    #[must_use]
    pub fn socket_path(&self) -> Option<&str> {
        self.0.unix.then_some(self.host())
    }

    /// What goes into the `Host` header.
    pub(crate) fn authority(&self) -> String {
        match (self.0.unix, self.0.host.contains(':')) {
            (true, _) => "localhost".into(),
            (false, true) => format!("[{}]:{}", self.0.host, self.0.port),
            (false, false) => format!("{}:{}", self.0.host, self.0.port),
        }
    }
}

impl FromStr for PeerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let error = |reason| UrlError { url: text.to_owned(), reason };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| error("no scheme"))?;
        let (tls, unix) = match scheme {
            "http" => (false, false),
            "https" => (true, false),
            "unix" => (false, true),
            "unixs" => (true, true),
            _ => return Err(error("scheme must be http, https, unix, or unixs")),
        };
        let (host, port) = if unix {
            (rest, 0)
        } else {
            let authority = rest.strip_suffix('/').unwrap_or(rest);
            if authority.contains(['/', '?', '#', '@']) {
                return Err(error("it must hold nothing but a host and a port"));
            }
            split_port(authority, if tls { 443 } else { 80 }).ok_or_else(|| error("bad port"))?
        };
        if host.is_empty() || host.contains(|c: char| c.is_control() || c == ' ') {
            return Err(error("bad host"));
        }
        Ok(Self(Arc::new(Parts { text: text.to_owned(), tls, unix, host: host.to_owned(), port })))
    }
}

fn split_port(authority: &str, default: u16) -> Option<(&str, u16)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return match port.strip_prefix(':') {
            Some(port) => Some((host, port.parse().ok()?)),
            None => port.is_empty().then_some((host, default)),
        };
    }
    match authority.split_once(':') {
        Some((host, port)) => Some((host, port.parse().ok()?)),
        None => Some((authority, default)),
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Reads a list of URLs; an empty one is refused.
pub(crate) fn parse_all(urls: &[String]) -> Result<Vec<PeerUrl>, UrlError> {
    if urls.is_empty() {
        return Err(UrlError { url: String::new(), reason: "no URL" });
    }
    urls.iter().map(|url| url.parse()).collect()
}

/// The URLs of a peer. Everybody uses the same one until somebody finds that it does not work.
pub(crate) struct Picker(Mutex<Picked>);

/// Invariant: `urls` is not empty and `at` is inside it.
struct Picked {
    urls: Vec<PeerUrl>,
    at: usize,
}

impl Picker {
    pub(crate) fn new(urls: Vec<PeerUrl>) -> Self {
        assert!(!urls.is_empty(), "parse_all refuses an empty list");
        Self(Mutex::new(Picked { urls, at: 0 }))
    }

    pub(crate) fn pick(&self) -> PeerUrl {
        let picked = self.0.lock();
        picked.urls[picked.at].clone()
    }

    /// Moves on to the next URL, unless somebody has done so already.
    pub(crate) fn failed(&self, url: &PeerUrl) {
        let mut picked = self.0.lock();
        if picked.urls[picked.at] == *url {
            picked.at = (picked.at + 1) % picked.urls.len();
        }
    }

    pub(crate) fn replace(&self, urls: Vec<PeerUrl>) {
        assert!(!urls.is_empty(), "parse_all refuses an empty list");
        *self.0.lock() = Picked { urls, at: 0 };
    }

    pub(crate) fn all(&self) -> Vec<PeerUrl> {
        self.0.lock().urls.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> PeerUrl {
        text.parse().unwrap()
    }

    #[test]
    fn parts_are_found() {
        let parts = |text| {
            let url = url(text);
            (url.host().to_owned(), url.port(), url.is_tls(), url.authority())
        };
        assert_eq!(parts("http://a.b:2380"), ("a.b".into(), 2380, false, "a.b:2380".into()));
        assert_eq!(parts("https://a/"), ("a".into(), 443, true, "a:443".into()));
        assert_eq!(parts("http://[::1]:2380"), ("::1".into(), 2380, false, "[::1]:2380".into()));
        assert_eq!(url("unix://localhost:1").socket_path(), Some("localhost:1"));
        assert_eq!(url("unixs:///tmp/a").socket_path(), Some("/tmp/a"));
        assert_eq!(url("http://a:1").socket_path(), None);
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "a:2380",
            "ftp://a:1",
            "http://",
            "http://a:b",
            "http://a:1/x",
            "http://u@a:1",
            "http://[::1:1",
            "http://a:99999",
            "unix://",
            "http://a b:1",
        ] {
            assert!(text.parse::<PeerUrl>().is_err(), "{text}");
        }
    }

    /// T29.
    #[test]
    fn t29_the_picker_sticks_until_its_url_fails() {
        let (one, two) = (url("http://a:1"), url("http://a:2"));
        let picker = Picker::new(vec![one.clone(), two.clone()]);
        assert_eq!((picker.pick(), picker.pick()), (one.clone(), one.clone()));
        picker.failed(&one);
        picker.failed(&one); // a second task that failed on the same URL
        assert_eq!(picker.pick(), two);
        picker.failed(&two);
        assert_eq!(picker.pick(), one);
        picker.replace(vec![two.clone()]);
        assert_eq!(picker.pick(), two);
    }
}
