//! Endpoints from DNS: `_etcd-client-ssl._tcp` and `_etcd-client._tcp` of a domain (ctl.md §1.2).

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use crate::error::Error;

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    priority: u16,
    target: String,
    port: u16,
}

/// The endpoints that a domain's SRV records name: the encrypted ones first, each kind by
/// priority. `name` is put behind the services' names, for domains with several clusters; it may
/// be empty.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) if there are no such records.
pub async fn discover_endpoints(domain: &str, name: &str) -> Result<Vec<String>, Error> {
    let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
    let resolver = resolver.map_err(|error| Error::config(format!("read resolv.conf: {error}")))?;
    endpoints(domain, name, async |service| look_up(&resolver, service).await).await
}

async fn look_up(resolver: &TokioResolver, service: String) -> Result<Vec<Service>, String> {
    let found = resolver.srv_lookup(service.as_str()).await.map_err(|error| {
        let nothing = error.is_no_records_found();
        let why = if nothing { "no such host".to_owned() } else { error.to_string() };
        format!("lookup {service}: {why}")
    })?;
    let records = found.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(srv) => {
            Some(Service { priority: srv.priority, target: srv.target.to_string(), port: srv.port })
        }
        _ => None,
    });
    Ok(records.collect())
}

async fn endpoints<L>(domain: &str, name: &str, look_up: L) -> Result<Vec<String>, Error>
where
    L: AsyncFn(String) -> Result<Vec<Service>, String>,
{
    let dash = if name.is_empty() { "" } else { "-" };
    let (mut found, mut errors) = (Vec::new(), Vec::new());
    for (kind, scheme) in [("etcd-client-ssl", "https"), ("etcd-client", "http")] {
        match look_up(format!("_{kind}{dash}{name}._tcp.{domain}")).await {
            Ok(mut services) => {
                services.sort_by_key(|service| service.priority);
                found.extend(services.into_iter().map(|Service { target, port, .. }| {
                    format!("{scheme}://{}:{port}", target.trim_end_matches('.'))
                }));
            }
            Err(error) => errors.push(error),
        }
    }
    match errors.as_slice() {
        [encrypted, plain] => {
            Err(Error::config(format!("dns lookup errors: {encrypted} and {plain}")))
        }
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A domain with an encrypted and two plain endpoints, and one more for a cluster called `b`.
    async fn records(name: String) -> Result<Vec<Service>, String> {
        let service = |priority, host: &str, port| Service {
            priority,
            target: format!("{host}.example."),
            port,
        };
        match name.as_str() {
            "_etcd-client-ssl._tcp.example" => Ok(vec![service(0, "c", 2379)]),
            "_etcd-client._tcp.example" => Ok(vec![service(9, "b", 2), service(1, "a", 1)]),
            "_etcd-client-b._tcp.example" => Ok(vec![service(0, "d", 4)]),
            _ => Err(format!("lookup {name}: no such host")),
        }
    }

    #[tokio::test]
    async fn both_kinds_of_records_are_used() {
        let found = endpoints("example", "", records).await.unwrap();
        assert_eq!(found, ["https://c.example:2379", "http://a.example:1", "http://b.example:2"]);
        let found = endpoints("example", "b", records).await.unwrap();
        assert_eq!(found, ["http://d.example:4"]);
    }

    #[tokio::test]
    async fn a_domain_without_records_is_an_error() {
        let error = endpoints("nowhere", "", records).await.unwrap_err();
        let text = "dns lookup errors: lookup _etcd-client-ssl._tcp.nowhere: no such host \
                    and lookup _etcd-client._tcp.nowhere: no such host";
        assert_eq!(error.to_string(), text);
    }
}
