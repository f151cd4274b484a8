//! URLs of flags.

use std::cmp::Ordering;
use std::fmt;
use std::net::IpAddr;

/// A listen or advertise URL: scheme, host and port, nothing else; or a path of a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    /// The path if the scheme is a unix one.
    host: String,
    /// 0 if the scheme is a unix one.
    port: u16,
}

impl Url {
    /// `http://localhost:<port>`.
    #[must_use]
    pub fn localhost(port: u16) -> Self {
        Self { scheme: "http".into(), host: "localhost".into(), port }
    }

    /// Reads a URL by etcd's rules (operations.md §1.11).
    ///
    /// # Errors
    ///
    /// A text that names the URL and what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("URL scheme must be http, https, unix, or unixs: {text}"));
        };
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "http" | "https" => {}
            "unix" | "unixs" => return Ok(Self { scheme, host: rest.into(), port: 0 }),
            _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
        }
        let (address, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let no_port = || format!("URL address does not have the form \"host:port\": {text}");
        let (host, port) = address.rsplit_once(':').ok_or_else(no_port)?;
        let port = port.parse().map_err(|_| no_port())?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(no_port());
        }
        if !path.is_empty() {
            return Err(format!("URL must not contain a path: {text}"));
        }
        Ok(Self { scheme, host: host.into(), port })
    }

    /// Reads a comma-separated list, sorted as etcd keeps it.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`].
    pub fn parse_list(text: &str) -> Result<Vec<Self>, String> {
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let mut urls = text.split(',').map(Self::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort();
        urls.dedup();
        Ok(urls)
    }

    /// Reads the URLs of a request: one at least, sorted (MB-02).
    ///
    /// # Errors
    ///
    /// As [`Self::parse`], and a text if there are none.
    pub fn parse_some(texts: &[String]) -> Result<Vec<Self>, String> {
        if texts.is_empty() {
            return Err("no valid URLs given".into());
        }
        let mut urls = texts.iter().map(|text| Self::parse(text)).collect::<Result<Vec<_>, _>>()?;
        urls.sort();
        Ok(urls)
    }

    /// `host:port`, as a listener takes it; the path of a unix socket. An empty host listens on
    /// all addresses.
    #[must_use]
    pub fn address(&self) -> String {
        if self.is_unix() {
            return self.host.clone();
        }
        let host = if self.host.is_empty() { "0.0.0.0" } else { &self.host };
        format!("{host}:{}", self.port)
    }

    /// The same URL with another port: what a listener on port 0 got.
    #[must_use]
    pub fn with_port(&self, port: u16) -> Self {
        Self { port, ..self.clone() }
    }

    /// Whether the scheme asks for TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.scheme.ends_with('s')
    }

    /// `http`, `https`, `unix` or `unixs`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The host without brackets; a unix socket has none.
    #[must_use]
    pub fn host(&self) -> &str {
        if self.is_unix() {
            return "";
        }
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port; 0 of a unix socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it names a socket of this machine's file system.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        self.scheme.starts_with("unix")
    }

    /// What is advertised must be somewhere: an empty host is nowhere.
    ///
    /// # Errors
    ///
    /// etcd's text.
    pub fn check_advertise(&self) -> Result<(), String> {
        if self.is_unix() || !self.host.is_empty() {
            return Ok(());
        }
        Err(format!("unexpected empty host ({self})"))
    }

    /// A listener needs an address, not a name (`localhost` excepted).
    ///
    /// # Errors
    ///
    /// etcd's text.
    pub fn check_listen(&self) -> Result<(), String> {
        let bare = self.host();
        if bare.is_empty() || bare == "localhost" || bare.parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        Err(format!("expected IP in URL for binding ({self})"))
    }
}

/// What is wrong with a URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UrlError(String);

impl std::str::FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text).map_err(UrlError)
    }
}

/// By the text, which is how etcd sorts what goes into a member's id.
impl Ord for Url {
    fn cmp(&self, other: &Self) -> Ordering {
        self.to_string().cmp(&other.to_string())
    }
}

impl PartialOrd for Url {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_unix() {
            return write!(f, "{}://{}", self.scheme, self.host);
        }
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_follow_etcds_rules() {
        assert_eq!(
            Url::parse("http://127.0.0.1:2379").expect("url").to_string(),
            "http://127.0.0.1:2379"
        );
        assert_eq!(Url::parse("http://:2379").expect("url").address(), "0.0.0.0:2379");
        for (bad, why) in [
            ("127.0.0.1:2379", "scheme"),
            ("ftp://a:1", "scheme"),
            ("http://a", "host:port"),
            ("http://a:b", "host:port"),
            ("http://a/path", "host:port"),
            ("http://a:1/path", "path"),
        ] {
            let error = Url::parse(bad).expect_err(bad);
            assert!(error.contains(why), "{bad}: {error}");
        }
        assert!(Url::parse("http://example.com:1").expect("url").check_listen().is_err());
        assert!(Url::parse("http://[::1]:1").expect("url").check_listen().is_ok());
    }

    #[test]
    fn unix_sockets_are_paths() {
        for text in ["unix://localhost:2380", "unixs:///run/etcd.sock"] {
            let url = Url::parse(text).expect("url");
            assert_eq!((url.to_string().as_str(), url.is_unix()), (text, true));
            assert_eq!((url.host(), url.port()), ("", 0));
        }
        assert_eq!(Url::parse("unix:///a/b").expect("url").address(), "/a/b");
    }

    #[test]
    fn t_mb_02_urls_of_requests() {
        let parse = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            Url::parse_some(&texts).map(|urls| urls.len())
        };
        assert_eq!(parse(&["http://h:1", "https://h:1", "unix://a", "unixs://a"]), Ok(4));
        assert_eq!(parse(&[]), Err("no valid URLs given".into()));
        for bad in ["", "http://h", "http://h:1/", "ftp://h:1"] {
            assert!(parse(&["http://h:1", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn lists_are_sorted_by_text() {
        let urls = Url::parse_list("http://h:2380,http://h:12380,http://h:2380").expect("urls");
        let texts: Vec<String> = urls.iter().map(Url::to_string).collect();
        assert_eq!(texts, ["http://h:12380", "http://h:2380"]);
        assert!(Url::parse("http://:1").expect("url").check_advertise().is_err());
        assert!(Url::parse("HTTP://h:1").expect("url").check_advertise().is_ok());
    }
}
