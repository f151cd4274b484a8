//! Comparing URLs: literally, else by the addresses of their hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};

use super::Patience;
use crate::config::Url;

/// The system's name service.
pub(crate) trait Resolver: Sync {
    /// The first address of a host.
    fn address(
        &self,
        host: &str,
        port: u16,
    ) -> impl Future<Output = Result<SocketAddr, String>> + Send;

    /// The SRV records of a name, the ones to be preferred first.
    fn srv(&self, name: &str) -> impl Future<Output = Result<Vec<SrvRecord>, String>> + Send;
}

/// Where a service is, by RFC 2782.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SrvRecord {
    /// The host, with or without a dot at its end.
    pub(crate) target: String,
    /// The port.
    pub(crate) port: u16,
}

/// What hosts resolved to; a text says why one did not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses(BTreeMap<String, Result<SocketAddr, String>>);

#[cfg(test)]
impl Addresses {
    pub(super) fn of<const N: usize>(known: [(&str, &str); N]) -> Self {
        let known = known.map(|(url, address)| {
            (url.to_owned(), address.parse().map_err(|_| address.to_owned()))
        });
        Self(known.into())
    }
}

/// Whether the host is a name whose address counts. `localhost` is a different place for
/// everybody, so only its name is compared.
fn has_name(url: &Url) -> bool {
    !url.is_unix() && url.host() != "localhost" && url.host().parse::<IpAddr>().is_err()
}

/// Asks for the addresses of all hosts that are names, each until it is known or patience ends.
pub(super) async fn all(
    resolver: &impl Resolver,
    urls: BTreeSet<&Url>,
    patience: Patience,
) -> Addresses {
    let names = urls.into_iter().filter(|url| has_name(url));
    let asked = names.map(|url| async move {
        let mut last = Err(format!("lookup {}: no time was left", url.host()));
        let attempts = async {
            loop {
                last = resolver.address(url.host(), url.port()).await;
                let Err(error) = &last else { return };
                tracing::warn!(%url, host = url.address(), error, "failed to resolve URL Host");
                tokio::time::sleep(patience.retry).await;
            }
        };
        // Running out of time leaves the last error, which is what the operator wants to see.
        let _ = tokio::time::timeout(patience.resolve, attempts).await;
        (url.to_string(), last)
    });
    Addresses(futures_util::future::join_all(asked).await.into_iter().collect())
}

/// Checks that two lists name the same places, in any order.
///
/// # Errors
///
/// The first difference in etcd's words, or why a host is not known.
pub(super) fn check_same(a: &[Url], b: &[Url], addresses: &Addresses) -> Result<(), String> {
    if a.len() != b.len() {
        return Err(format!("len({}) != len({})", quoted(a), quoted(b)));
    }
    let sorted = |urls: &[Url]| {
        let mut urls = urls.to_vec();
        urls.sort();
        urls
    };
    let (a, b) = (sorted(a), sorted(b));
    if a == b {
        return Ok(());
    }
    let (a, b) = (addresses.resolved(a)?, addresses.resolved(b)?);
    for ((a, of_a), (b, of_b)) in a.iter().zip(&b) {
        if a != b {
            return Err(format!(
                "{a:?}(resolved from {:?}) != {b:?}(resolved from {:?})",
                of_a.to_string(),
                of_b.to_string()
            ));
        }
    }
    Ok(())
}

impl Addresses {
    /// The URLs with addresses for hosts, sorted, each with what it was before.
    fn resolved(&self, urls: Vec<Url>) -> Result<Vec<(String, Url)>, String> {
        let mut resolved = urls
            .into_iter()
            .map(|url| {
                if !has_name(&url) {
                    return Ok((url.to_string(), url));
                }
                let known = self.0.get(&url.to_string()).cloned();
                let address =
                    known.unwrap_or_else(|| Err(format!("lookup {}: not asked", url.host())))?;
                Ok((format!("{}://{address}", url.scheme()), url))
            })
            .collect::<Result<Vec<_>, String>>()?;
        resolved.sort();
        Ok(resolved)
    }
}

/// A list as Go prints one with quotes.
fn quoted(urls: &[Url]) -> String {
    let urls: Vec<String> = urls.iter().map(|url| format!("{:?}", url.to_string())).collect();
    format!("[{}]", urls.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str) -> Vec<Url> {
        text.split(',').map(|url| Url::parse(url).expect("url")).collect()
    }

    #[track_caller]
    fn check(a: &str, b: &str, want: Result<(), &str>) {
        let addresses = Addresses::of([
            ("http://one:1", "10.0.0.1:1"),
            ("http://uno:1", "10.0.0.1:1"),
            ("http://two:1", "10.0.0.2:1"),
            ("http://six:1", "[::6]:1"),
            ("http://gone:1", "lookup gone: no such host"),
        ]);
        assert_eq!(check_same(&urls(a), &urls(b), &addresses), want.map_err(str::to_owned));
    }

    #[test]
    fn lists_are_equal_by_text_or_by_address() {
        check("http://one:1,http://two:1", "http://two:1,http://one:1", Ok(()));
        check("http://one:1", "http://uno:1", Ok(()));
        check("http://one:1,http://two:1", "http://two:1,http://uno:1", Ok(()));
        check("http://one:1", "http://10.0.0.1:1", Ok(()));
        check("http://[::6]:1", "http://six:1", Ok(()));
        check("unix:///a", "unix:///a", Ok(()));
        // A name that nobody can resolve is still equal to itself.
        check("http://gone:1", "http://gone:1", Ok(()));
    }

    #[test]
    fn differences_have_etcds_words() {
        check(
            "http://one:1",
            "http://two:1",
            Err(
                "\"http://10.0.0.1:1\"(resolved from \"http://one:1\") != \"http://10.0.0.2:1\"(resolved from \"http://two:1\")",
            ),
        );
        // As etcd 3.5.1 says it.
        check(
            "http://localhost:33302",
            "http://127.0.0.1:33302",
            Err(
                "\"http://localhost:33302\"(resolved from \"http://localhost:33302\") != \"http://127.0.0.1:33302\"(resolved from \"http://127.0.0.1:33302\")",
            ),
        );
        check(
            "http://127.0.0.1:33302",
            "http://127.0.0.1:33302,http://127.0.0.1:33312",
            Err(
                "len([\"http://127.0.0.1:33302\"]) != len([\"http://127.0.0.1:33302\" \"http://127.0.0.1:33312\"])",
            ),
        );
        check("http://gone:1", "http://one:1", Err("lookup gone: no such host"));
        check("http://one:1", "https://one:2", Err("lookup one: not asked"));
    }
}
