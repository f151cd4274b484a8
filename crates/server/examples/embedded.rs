//! A server inside another program: starts on a free port, puts and gets through gRPC, stops.

use etcdrs_proto::etcdserverpb::kv_client::KvClient;
use etcdrs_proto::etcdserverpb::{PutRequest, RangeRequest};
use etcdrs_server::{Config, Server};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let config = Config {
        data_dir: dir.path().join("data"),
        listen_client_urls: vec!["http://127.0.0.1:0".parse()?],
        listen_peer_urls: Vec::new(), // no peers, and no port for them
        ..Config::default()
    };
    let server = Server::start(config).await?;
    let url = server.client_urls()[0].to_string();
    println!("serving {url}");
    let channel = tonic::transport::Endpoint::from_shared(url)?.connect().await?;
    let mut kv = KvClient::new(channel);
    let put = PutRequest { key: "greeting".into(), value: "hello".into(), ..Default::default() };
    kv.put(put).await?;
    let range = RangeRequest { key: "greeting".into(), ..Default::default() };
    let found = kv.range(range).await?.into_inner();
    println!("{:?} at revision {}", found.kvs[0].value, found.kvs[0].mod_revision);
    anyhow::ensure!(found.kvs[0].value == "hello", "the server forgot");
    drop(kv);
    server.stop().await;
    Ok(())
}
