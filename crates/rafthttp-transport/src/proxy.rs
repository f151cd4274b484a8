//! Proxies on the way to peers, by the rules of Go's HTTP client: `HTTPS_PROXY`, `HTTP_PROXY` and
//! `NO_PROXY`, in capital letters or small ones (T06, storage-and-raft.md §4.9).
//!
//! Where Go sends plain requests through a proxy one by one, every connection here is a tunnel
//! (`CONNECT`): streams live for days, and a tunnel is the same for all schemes.

use std::io;
use std::net::IpAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::url::PeerUrl;

/// Longest head of a proxy's answer, bytes.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// Which connections go through which proxy. None do by default.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    http: Option<Setting>,
    https: Option<Setting>,
    bypass: Vec<Rule>,
}

/// A proxy, or why the setting names none: whoever dials is told.
type Setting = Result<Proxy, String>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Proxy {
    host: String,
    port: u16,
    /// `user:password` in base64.
    credentials: Option<String>,
}

/// A host that is reached without a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    All,
    Network(IpAddr, u32),
    /// A host or address, at this port if there is one.
    Host(String, Option<u16>),
    /// Hosts whose names end so, with the dot.
    Below(String, Option<u16>),
}

impl Proxies {
    /// What the variables that `get` knows ask for.
    #[must_use]
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Self {
        let any = |names: [&str; 2]| {
            names.iter().filter_map(|name| get(name)).find(|text| !text.is_empty())
        };
        let proxy = |names| any(names).map(|text| Proxy::parse(&text));
        let bypass = any(["NO_PROXY", "no_proxy"]).unwrap_or_default();
        Self {
            http: proxy(["HTTP_PROXY", "http_proxy"]),
            https: proxy(["HTTPS_PROXY", "https_proxy"]),
            bypass: bypass.split(',').filter_map(Rule::parse).collect(),
        }
    }

    /// What the environment of the process asks for.
    #[must_use]
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The proxy on the way to `url`, if there is one.
    fn of(&self, url: &PeerUrl) -> io::Result<Option<&Proxy>> {
        let setting = if url.is_tls() { &self.https } else { &self.http };
        let Some(setting) = setting else { return Ok(None) };
        if url.socket_path().is_some() || self.is_direct(url.host(), url.port()) {
            return Ok(None);
        }
        match setting {
            Ok(proxy) => Ok(Some(proxy)),
            Err(why) => Err(io::Error::new(io::ErrorKind::InvalidInput, why.clone())),
        }
    }

    fn is_direct(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        let local = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        local || self.bypass.iter().any(|rule| rule.covers(&host, address, port))
    }

    /// Connects to the host of `url`, through its proxy if it has one. The caller limits the time.
    pub(crate) async fn connect(&self, url: &PeerUrl) -> io::Result<TcpStream> {
        match self.of(url)? {
            Some(proxy) => proxy.tunnel(url).await,
            None => TcpStream::connect((url.host(), url.port())).await,
        }
    }
}

impl Proxy {
    fn parse(text: &str) -> Setting {
        let invalid = || format!("invalid proxy address {text:?}");
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        if scheme != "http" {
            return Err(format!("{}: only http is known", invalid()));
        }
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let address: PeerUrl = format!("http://{address}").parse().map_err(|_| invalid())?;
        let credentials = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let plain = [&unescaped(name)[..], b":", &unescaped(password)].concat();
            BASE64_STANDARD.encode(plain)
        });
        Ok(Self { host: address.host().to_owned(), port: address.port(), credentials })
    }

    async fn tunnel(&self, url: &PeerUrl) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect((&self.host[..], self.port)).await?;
        let target = match url.host().contains(':') {
            true => format!("[{}]:{}", url.host(), url.port()),
            false => format!("{}:{}", url.host(), url.port()),
        };
        let credentials = self.credentials.as_ref();
        let credentials = credentials.map(|text| format!("Proxy-Authorization: Basic {text}\r\n"));
        let request = format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{}\r\n",
            credentials.unwrap_or_default()
        );
        stream.write_all(request.as_bytes()).await?;
        let head = read_head(&mut stream).await?;
        // `HTTP/1.1 200 Connection established`
        match head.split(' ').nth(1) {
            Some(status) if status.starts_with('2') => Ok(stream),
            _ => {
                let told = head.lines().next().unwrap_or_default();
                Err(io::Error::other(format!("proxy {}:{}: {told}", self.host, self.port)))
            }
        }
    }
}

/// Reads up to the empty line. Nothing follows it before this side has spoken.
async fn read_head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= ANSWER_BYTES_MAX {
            return Err(io::Error::other("a proxy's answer is too long"));
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A part of a URL without its `%41` escapes; what is no escape stays as it is.
fn unescaped(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&first, more)) = rest.split_first() {
        let digits = more.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let value = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match value.filter(|_| first == b'%') {
            Some(value) => {
                bytes.push(value);
                rest = &more[2..];
            }
            None => {
                bytes.push(first);
                rest = more;
            }
        }
    }
    bytes
}

impl Rule {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Self::All);
        }
        if let Some((address, bits)) = text.split_once('/') {
            return Some(Self::Network(address.parse().ok()?, bits.parse().ok()?));
        }
        let url: PeerUrl = if text.parse::<std::net::Ipv6Addr>().is_ok() {
            return Some(Self::Host(text, None));
        } else {
            format!("http://{text}").parse().ok()?
        };
        let port = (!text.ends_with(url.host()) && !text.ends_with(']')).then_some(url.port());
        Some(match url.host().strip_prefix("*.").or_else(|| url.host().strip_prefix('.')) {
            Some(name) => Self::Below(format!(".{name}"), port),
            None => Self::Host(url.host().to_owned(), port),
        })
    }

    /// `host` is in small letters, and `address` what it means as an address.
    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        let here = |of: &Option<u16>| of.is_none_or(|of| of == port);
        match self {
            Self::All => true,
            Self::Network(network, bits) => {
                address.is_some_and(|address| in_network(address, *network, *bits))
            }
            Self::Below(ending, at) => here(at) && address.is_none() && host.ends_with(&ending[..]),
            Self::Host(name, at) => {
                let below = address.is_none() && host.ends_with(&format!(".{name}"));
                here(at) && (host == name || below)
            }
        }
    }
}

fn in_network(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let same = |address: u128, network: u128, width: u32| {
        bits <= width && (bits == 0 || (address ^ network) >> (width - bits) == 0)
    };
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            same(u32::from(address).into(), u32::from(network).into(), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => same(address.into(), network.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::from_variables(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    /// Where a connection goes: `host:port` of the proxy, or nothing.
    fn way(proxies: &Proxies, url: &str) -> Option<String> {
        let found = proxies.of(&url.parse().unwrap()).unwrap();
        found.map(|proxy| format!("{}:{}", proxy.host, proxy.port))
    }

    #[test]
    fn t_06_each_scheme_has_its_proxy() {
        let both = proxies(&[("HTTP_PROXY", "http://p:3128"), ("https_proxy", "q:8080")]);
        assert_eq!(way(&both, "http://a:2380").unwrap(), "p:3128");
        assert_eq!(way(&both, "https://a:2380").unwrap(), "q:8080");
        for direct in ["http://localhost:1", "http://127.0.0.1:1", "https://[::1]:1", "unix://a:1"]
        {
            assert_eq!(way(&both, direct), None, "{direct}");
        }
        assert_eq!(way(&Proxies::default(), "http://a:2380"), None);
        // Capital letters come first, and an empty value is none.
        let twice = proxies(&[("HTTP_PROXY", ""), ("http_proxy", "p"), ("HTTPS_PROXY", "")]);
        assert_eq!(way(&twice, "http://a:2380").unwrap(), "p:80");
        assert_eq!(way(&twice, "https://a:2380"), None);
    }

    #[test]
    fn t_06_no_proxy_names_who_is_reached_without() {
        let rules = "b.example, .c.example,*.d.example,10.0.0.0/8,192.168.1.5,e.example:2380,\
                     fd00::/8,,[fe80::1]:7";
        let some = proxies(&[("HTTP_PROXY", "p:1"), ("NO_PROXY", rules)]);
        for direct in [
            "http://b.example:1",
            "http://B.EXAMPLE:1",
            "http://x.b.example:1",
            "http://x.c.example:1",
            "http://x.d.example:1",
            "http://10.1.2.3:1",
            "http://192.168.1.5:1",
            "http://e.example:2380",
            "http://[fd00::7]:1",
            "http://[fe80::1]:7",
        ] {
            assert_eq!(way(&some, direct), None, "{direct}");
        }
        for through in [
            "http://c.example:1",
            "http://xb.example:1",
            "http://11.1.2.3:1",
            "http://e.example:2381",
            "http://[fe80::1]:8",
        ] {
            assert!(way(&some, through).is_some(), "{through}");
        }
        let none = proxies(&[("HTTP_PROXY", "p:1"), ("NO_PROXY", "*")]);
        assert_eq!(way(&none, "http://a:2380"), None);
    }

    #[test]
    fn t_06_credentials_and_wrong_addresses() {
        let proxy = Proxy::parse("http://us%65r:pa%3ass@p:3128/").unwrap();
        assert_eq!((&proxy.host[..], proxy.port), ("p", 3128));
        assert_eq!(proxy.credentials, Some(BASE64_STANDARD.encode("user:pa:ss")));
        for wrong in ["socks5://p:1", "http://p:x", "http://"] {
            let all = proxies(&[("HTTP_PROXY", wrong)]);
            assert!(all.of(&"http://a:1".parse().unwrap()).is_err(), "{wrong}");
            assert_eq!(way(&all, "http://127.0.0.1:1"), None, "{wrong}");
        }
    }
}
