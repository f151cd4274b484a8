//! The name service of the system.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use super::{Resolver, SrvRecord};

/// Addresses as every program of the machine resolves them, SRV records from the name servers of
/// `/etc/resolv.conf`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemResolver;

impl Resolver for SystemResolver {
    async fn address(&self, host: &str, port: u16) -> Result<SocketAddr, String> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(SocketAddr::new(address, port));
        }
        let found = tokio::net::lookup_host((host, port)).await;
        let mut found = found.map_err(|error| format!("lookup {host}: {error}"))?;
        found.next().ok_or_else(|| format!("lookup {host}: no such host"))
    }

    async fn srv(&self, name: &str) -> Result<Vec<SrvRecord>, String> {
        let failed = |error: &dyn std::fmt::Display| format!("lookup {name}: {error}");
        // Asked once or twice in a life, so nothing of it is kept.
        let resolver = TokioResolver::builder_tokio()
            .and_then(|builder| builder.build())
            .map_err(|error| failed(&error))?;
        let found = resolver.srv_lookup(name).await.map_err(|error| failed(&error))?;
        let mut records: Vec<_> = found
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some((
                    srv.priority,
                    std::cmp::Reverse(srv.weight),
                    SrvRecord { target: srv.target.to_utf8(), port: srv.port },
                )),
                _ => None,
            })
            .collect();
        records.sort();
        Ok(records.into_iter().map(|(_, _, record)| record).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_and_localhost_need_no_server() {
        let address = SystemResolver.address("127.0.0.9", 7).await;
        assert_eq!(address, Ok(SocketAddr::from(([127, 0, 0, 9], 7))));
        let local = SystemResolver.address("localhost", 7).await.expect("an address");
        assert!(local.ip().is_loopback());
    }
}
