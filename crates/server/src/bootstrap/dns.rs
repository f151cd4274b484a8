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
        // Asked once or twice in a life, so nothing of it is kept.
        let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        query(&resolver.map_err(|error| format!("lookup {name}: {error}"))?, name).await
    }
}

/// Asks for SRV records, and puts the ones to be preferred first.
async fn query(resolver: &TokioResolver, name: &str) -> Result<Vec<SrvRecord>, String> {
    let found = resolver.srv_lookup(name).await;
    let found = found.map_err(|error| format!("lookup {name}: {error}"))?;
    let mut records: Vec<_> = found
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => {
                let record = SrvRecord { target: srv.target.to_utf8(), port: srv.port };
                Some((srv.priority, std::cmp::Reverse(srv.weight), record))
            }
            _ => None,
        })
        .collect();
    records.sort();
    Ok(records.into_iter().map(|(_, _, record)| record).collect())
}

#[cfg(test)]
mod tests {
    use hickory_resolver::config::{NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    use hickory_resolver::proto::op::Message;
    use hickory_resolver::proto::rr::rdata::SRV;
    use hickory_resolver::proto::rr::{Name, Record};
    use tokio::net::UdpSocket;

    use super::*;

    /// A name server on a free port that answers every question with these records.
    async fn name_server(records: Vec<SRV>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("bound");
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let asked = Message::from_vec(&buffer[..length]).expect("a question");
                let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
                let name = asked.queries[0].name().clone();
                answer.add_query(asked.queries[0].clone());
                for srv in &records {
                    let data = RData::SRV(srv.clone());
                    answer.add_answer(Record::from_rdata(name.clone(), 60, data));
                }
                let answer = answer.to_vec().expect("an answer");
                socket.send_to(&answer, from).await.expect("sent");
            }
        });
        address
    }

    #[tokio::test]
    async fn srv_records_come_in_their_order() {
        let target = |text: &str| Name::from_ascii(text).expect("a name");
        let records = vec![
            SRV::new(20, 0, 2380, target("last.example.com.")),
            SRV::new(10, 1, 2381, target("light.example.com.")),
            SRV::new(10, 9, 2382, target("heavy.example.com.")),
        ];
        let server = name_server(records).await;
        let mut group = NameServerConfig::udp(server.ip());
        group.connections[0].port = server.port();
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![group]);
        let resolver =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build();
        let resolver = resolver.expect("a resolver");
        let found = query(&resolver, "_etcd-server._tcp.example.com").await.expect("records");
        let found: Vec<String> =
            found.iter().map(|record| format!("{}:{}", record.target, record.port)).collect();
        assert_eq!(
            found,
            ["heavy.example.com.:2382", "light.example.com.:2381", "last.example.com.:2380"]
        );
    }

    #[tokio::test]
    async fn addresses_and_localhost_need_no_server() {
        let address = SystemResolver.address("127.0.0.9", 7).await;
        assert_eq!(address, Ok(SocketAddr::from(([127, 0, 0, 9], 7))));
        let local = SystemResolver.address("localhost", 7).await.expect("an address");
        assert!(local.ip().is_loopback());
    }
}
