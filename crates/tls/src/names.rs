//! Names of addresses and addresses of names, for the check of where a peer comes from.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;
use tokio::sync::OnceCell;

/// A look-up under way.
pub type LookUp<'a, T> = Pin<Box<dyn Future<Output = io::Result<Vec<T>>> + Send + 'a>>;

/// Where names are looked up.
pub trait Names: Send + Sync + 'static {
    /// The addresses of a host.
    fn addresses<'a>(&'a self, host: &'a str) -> LookUp<'a, IpAddr>;
    /// The hosts of an address.
    fn hosts(&self, address: IpAddr) -> LookUp<'_, String>;
}

/// The names as this machine knows them: its hosts file and its name servers.
#[derive(Default)]
pub struct SystemNames(OnceCell<TokioResolver>);

impl Names for SystemNames {
    fn addresses<'a>(&'a self, host: &'a str) -> LookUp<'a, IpAddr> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }

    fn hosts(&self, address: IpAddr) -> LookUp<'_, String> {
        Box::pin(async move {
            // The operating system's own call for this cannot be reached without unsafe code.
            let resolver = async || TokioResolver::builder_tokio()?.build();
            let resolver = self.0.get_or_try_init(resolver).await.map_err(io::Error::other)?;
            let found = resolver.reverse_lookup(address).await.map_err(io::Error::other)?;
            let name = |data: &RData| match data {
                RData::PTR(name) => Some(name.to_string().trim_end_matches('.').to_owned()),
                _ => None,
            };
            Ok(found.answers().iter().filter_map(|record| name(&record.data)).collect())
        })
    }
}
