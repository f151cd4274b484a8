//! URLs of flags, and the `name=url` list of `--initial-cluster`.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// A listen or advertise URL: scheme, host and port, nothing else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    scheme: String,
    host: String,
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
        match scheme {
            "http" | "https" => {}
            "unix" | "unixs" => {
                return Err(format!("unix sockets are not available in this version: {text}"));
            }
            _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
        }
        let (address, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if !path.is_empty() {
            return Err(format!("URL must not contain a path: {text}"));
        }
        let no_port = || format!("URL address does not have the form \"host:port\": {text}");
        let (host, port) = address.rsplit_once(':').ok_or_else(no_port)?;
        let port = port.parse().map_err(|_| no_port())?;
        if host.contains(':') && !host.starts_with('[') {
            return Err(no_port());
        }
        Ok(Self { scheme: scheme.into(), host: host.into(), port })
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

    /// `host:port`, as a listener takes it. An empty host listens on all addresses.
    #[must_use]
    pub fn address(&self) -> String {
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

    /// A listener needs an address, not a name (`localhost` excepted).
    ///
    /// # Errors
    ///
    /// etcd's text.
    pub fn check_listen(&self) -> Result<(), String> {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
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

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

/// `--initial-cluster`: names and their peer URLs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialCluster {
    /// Peer URLs by member name, sorted.
    pub members: BTreeMap<String, Vec<Url>>,
}

impl InitialCluster {
    /// Reads `name=url,name=url`; a repeated name adds a URL to its member.
    ///
    /// # Errors
    ///
    /// A text that names the part that cannot be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut cluster = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((name, url)) = part.split_once('=') else {
                return Err(format!("{part:?} of --initial-cluster has no name: want name=url"));
            };
            if name.is_empty() {
                return Err(format!("empty name in {part:?} of --initial-cluster"));
            }
            cluster.members.entry(name.into()).or_default().push(Url::parse(url)?);
        }
        for urls in cluster.members.values_mut() {
            urls.sort();
        }
        Ok(cluster)
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
            ("http://a:1/path", "path"),
        ] {
            let error = Url::parse(bad).expect_err(bad);
            assert!(error.contains(why), "{bad}: {error}");
        }
        assert!(Url::parse("http://example.com:1").expect("url").check_listen().is_err());
        assert!(Url::parse("http://[::1]:1").expect("url").check_listen().is_ok());
    }

    #[test]
    fn initial_clusters_join_repeated_names() {
        let cluster =
            InitialCluster::parse("b=http://h:2,a=http://h:1,b=http://h:3").expect("cluster");
        assert_eq!(cluster.members.len(), 2);
        assert_eq!(cluster.members["b"].len(), 2);
        assert!(InitialCluster::parse("http://h:1").is_err());
    }
}
