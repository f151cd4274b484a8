//! v3 discovery through a service that wants TLS.

use etcdrs_client::Put;

use crate::harness::Setup;
use crate::pki::{Pki, client};

#[tokio::test]
async fn a_member_registers_itself_over_tls() {
    let pki = Pki::new();
    let service = Setup::secure().tls("", &pki.strict_server()).start().await;
    let tls = pki.client_with(&client());
    let size = Put::new("/_etcd/registry/token/_config/size", "1");
    service.client(&tls).await.put(size).await.unwrap();
    let setup = Setup::with("http", "http")
        .flag("discovery-endpoints", &service.client)
        .flag("discovery-token", "token")
        .flag("discovery-insecure-transport", false)
        .file("discovery-cacert", &pki.path("ca.pem"));
    let (cert, key) = (pki.path("client.crt"), pki.path("client.key"));
    let known = setup.clone().file("discovery-cert", &cert).file("discovery-key", &key);
    let mut member = known.spawn_named("default", Some(""));
    member.logs("ready to serve client requests").await;
    drop(member);

    // Without a certificate it is not let in, and tries again.
    let mut stranger = setup.spawn_named("default", Some(""));
    stranger.logs_times("retry connecting to discovery service", 2).await;
    assert!(!stranger.log().contains("ready to serve"), "{}", stranger.log());
}
