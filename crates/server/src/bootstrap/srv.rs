//! Members named by DNS: `--discovery-srv` (operations.md §2.10, RFC 2782).

use std::collections::BTreeMap;

use super::{BootstrapError, Resolver};
use crate::config::{Config, InitialCluster, Url};

/// The services, each with the scheme of its members' URLs. Both are asked, and what both name
/// counts.
const SERVICES: [(&str, &str); 2] = [("https", "etcd-server-ssl"), ("http", "etcd-server")];

/// Reads the members of `--discovery-srv`. The one at an address that this member advertises has
/// its name; the others are numbered.
///
/// # Errors
///
/// [`BootstrapError::Srv`] if no service names a member, [`BootstrapError::NotInSrv`] if this one
/// is not among them.
pub(super) async fn members(
    resolver: &impl Resolver,
    config: &Config,
) -> Result<InitialCluster, BootstrapError> {
    let suffix = match config.discovery.srv_name.as_str() {
        "" => String::new(),
        name => format!("-{name}"),
    };
    let (mut parts, mut errors) = (Vec::new(), Vec::new());
    for (scheme, service) in SERVICES {
        let service = format!("{service}{suffix}");
        match named(resolver, config, scheme, &service, parts.len()).await {
            Ok(found) => parts.extend(found),
            Err(why) => {
                errors.push(format!("error querying DNS SRV records for _{service} {why}"));
            }
        }
    }
    if parts.is_empty() {
        return Err(BootstrapError::Srv(errors.join("; ")));
    }
    for part in &parts {
        tracing::info!(node = part, "got bootstrap from DNS for etcd-server");
    }
    let found = InitialCluster::parse(&parts.join(",")).map_err(BootstrapError::Srv)?;
    if !found.members.contains_key(&config.name) {
        return Err(BootstrapError::NotInSrv(config.name.clone()));
    }
    Ok(found)
}

/// The members of one service as `name=url`. Numbers start at `next`, so that the members of two
/// services have names of their own.
async fn named(
    resolver: &impl Resolver,
    config: &Config,
    scheme: &str,
    service: &str,
    mut next: usize,
) -> Result<Vec<String>, String> {
    let mut own = BTreeMap::new();
    for url in config.initial_advertise_peer_urls.iter().filter(|url| !url.is_unix()) {
        own.insert(resolver.address(url.host(), url.port()).await?, url);
    }
    let records = resolver.srv(&format!("_{service}._tcp.{}", config.discovery.srv_domain)).await?;
    let (mut parts, mut last) = (Vec::new(), format!("lookup {service}: no SRV record"));
    for record in records {
        let target = record.target.trim_end_matches('.');
        let address = match resolver.address(target, record.port).await {
            Ok(address) => address,
            Err(why) => {
                last = why;
                continue;
            }
        };
        let url = format!("{scheme}://{target}:{}", record.port);
        match own.get(&address) {
            Some(advertised) if advertised.scheme() != scheme => {
                last = mismatch(&url, service, advertised);
            }
            Some(_) => parts.push(format!("{}={url}", config.name)),
            None => {
                parts.push(format!("{next}={url}"));
                next += 1;
            }
        }
    }
    if parts.is_empty() { Err(last) } else { Ok(parts) }
}

fn mismatch(url: &str, service: &str, advertised: &Url) -> String {
    format!(
        "bootstrap at {url} from DNS for {service} has scheme mismatch with expected peer {advertised}"
    )
}

/// The name that the certificates of peers found by DNS must have: the domain, unless a CA is
/// configured that vouches for them.
pub(crate) fn server_name(config: &Config) -> Option<&str> {
    let domain = config.discovery.srv_domain.as_str();
    let trusts = !config.peer_tls.trusted_ca_file.as_os_str().is_empty();
    (!domain.is_empty() && !trusts).then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::tests::FakeDns;

    fn config(advertised: &str) -> Config {
        let mut config = Config {
            name: "me".into(),
            initial_advertise_peer_urls: Url::parse_list(advertised).expect("urls"),
            ..Config::default()
        };
        config.discovery.srv_domain = "example.com".into();
        config
    }

    fn dns() -> FakeDns {
        FakeDns::default()
            .host("a.example.com", "10.0.0.1")
            .host("b.example.com", "10.0.0.2")
            .host("c.example.com", "10.0.0.3")
    }

    const PLAIN: &str = "_etcd-server._tcp.example.com";
    const SECURE: &str = "_etcd-server-ssl._tcp.example.com";

    #[tokio::test]
    async fn the_member_at_our_address_has_our_name() {
        let dns = dns().srv(PLAIN, &[("a.example.com.", 2380), ("b.example.com.", 2380)]);
        let found = members(&dns, &config("http://10.0.0.2:2380")).await.expect("members");
        let text = "0=http://a.example.com:2380,me=http://b.example.com:2380";
        assert_eq!(found.to_string(), text);
        let elsewhere = members(&dns, &config("http://10.0.0.9:2380")).await;
        assert_eq!(elsewhere, Err(BootstrapError::NotInSrv("me".into())));
    }

    #[tokio::test]
    async fn both_services_count_and_the_suffix_is_used() {
        let dns = dns()
            .srv(SECURE, &[("a.example.com.", 2380)])
            .srv(PLAIN, &[("b.example.com.", 2380), ("c.example.com", 2380)])
            .srv("_etcd-server-x._tcp.example.com", &[("b.example.com", 1)]);
        let mut config = config("http://b.example.com:2380");
        let found = members(&dns, &config).await.expect("members");
        assert_eq!(
            found.to_string(),
            "0=https://a.example.com:2380,1=http://c.example.com:2380,me=http://b.example.com:2380"
        );
        assert_eq!(server_name(&config), Some("example.com"));
        config.discovery.srv_name = "x".into();
        config.initial_advertise_peer_urls = Url::parse_list("http://10.0.0.2:1").expect("urls");
        let found = members(&dns, &config).await.expect("members");
        assert_eq!(found.to_string(), "me=http://b.example.com:1");
        config.peer_tls.trusted_ca_file = "ca.pem".into();
        assert_eq!(server_name(&config), None);
    }

    #[tokio::test]
    async fn what_dns_lacks_is_told() {
        let error = members(&dns(), &config("http://10.0.0.1:1")).await.expect_err("nothing");
        assert_eq!(
            error.to_string(),
            "error setting up initial cluster: error querying DNS SRV records for _etcd-server-ssl lookup _etcd-server-ssl._tcp.example.com: no such host; error querying DNS SRV records for _etcd-server lookup _etcd-server._tcp.example.com: no such host"
        );
        let dns = dns().srv(SECURE, &[("a.example.com", 1)]);
        let error = members(&dns, &config("http://10.0.0.1:1")).await.expect_err("scheme");
        let text = "bootstrap at https://a.example.com:1 from DNS for etcd-server-ssl has scheme mismatch with expected peer http://10.0.0.1:1";
        assert!(error.to_string().contains(text), "{error}");
    }
}
