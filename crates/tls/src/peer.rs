//! Who the other side is by its certificate, and whether it comes from where it should.

use std::io;
use std::net::IpAddr;

use rustls::pki_types::CertificateDer;

use crate::der::Certificate;
use crate::names::Names;
use crate::words;

/// What a verified certificate says of its owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// The subject's common name, which is the user's name where etcd's authentication goes by
    /// certificates; empty if there is none.
    pub common_name: String,
    /// Host names it is valid for.
    pub dns_names: Vec<String>,
    /// Addresses it is valid for.
    pub ip_addresses: Vec<IpAddr>,
}

impl PeerCertificate {
    /// Nothing for a certificate that cannot be read, which a verified one always can.
    pub(crate) fn of(der: &CertificateDer<'_>) -> Self {
        let Certificate { common_name, dns_names, ip_addresses, .. } =
            Certificate::parse(der).unwrap_or_default();
        Self { common_name, dns_names, ip_addresses }
    }
}

/// A peer's certificate is not valid for the address the peer comes from.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It has addresses, no names, and this one is not among them.
    #[error("x509: certificate is valid for {}, not {address}", list(.valid))]
    Address {
        /// Where the peer comes from.
        address: IpAddr,
        /// The addresses of the certificate.
        valid: Vec<IpAddr>,
    },
    /// None of its names has this address.
    #[error("tls: \"{address}\" does not match any of DNSNames {names:?} ({look_up})")]
    Names {
        /// Where the peer comes from.
        address: IpAddr,
        /// The names of the certificate.
        names: Vec<String>,
        /// How the last look-up failed, if one did.
        look_up: String,
    },
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Checks that a certificate is valid for the address its owner comes from (operations.md §2.14).
///
/// One without names and addresses is. Else the address has to be in it, or one of its names has
/// to have the address. A name may be a wildcard, `*.example`: then the address's own name has to
/// be below it and, because whoever owns an address can give it any name, lead back to it.
pub(crate) async fn check_source(
    certificate: &PeerCertificate,
    address: IpAddr,
    names: &dyn Names,
) -> Result<(), SourceError> {
    let address = address.to_canonical();
    let PeerCertificate { dns_names, ip_addresses, .. } = certificate;
    if dns_names.is_empty() && ip_addresses.is_empty() || ip_addresses.contains(&address) {
        return Ok(());
    }
    if dns_names.is_empty() {
        return Err(SourceError::Address { address, valid: ip_addresses.clone() });
    }
    let mut last_error = None;
    let is_wildcard = |name: &&String| name.starts_with("*.");
    for name in dns_names.iter().filter(|name| !is_wildcard(name)) {
        if leads_to(name, address, names).await.unwrap_or_else(|error| {
            last_error = Some(error);
            false
        }) {
            return Ok(());
        }
    }
    let wildcards: Vec<&str> =
        dns_names.iter().filter(is_wildcard).map(|name| &name[1..]).collect();
    if !wildcards.is_empty() {
        match names.hosts(address).await {
            Ok(hosts) => {
                for host in hosts.iter().filter(|host| is_below(host, &wildcards)) {
                    if leads_to(host, address, names).await.unwrap_or(false) {
                        return Ok(());
                    }
                }
            }
            Err(error) => last_error = Some(error),
        }
    }
    let look_up = last_error.map_or_else(|| "<nil>".to_owned(), |error| words::of_io(&error));
    Err(SourceError::Names { address, names: dns_names.clone(), look_up })
}

async fn leads_to(name: &str, address: IpAddr, names: &dyn Names) -> io::Result<bool> {
    let found = names.addresses(name).await?;
    Ok(found.iter().any(|found| found.to_canonical() == address))
}

/// Whether a host ends in one of these, each of which starts with a dot.
fn is_below(host: &str, domains: &[&str]) -> bool {
    let host = host.to_ascii_lowercase();
    domains.iter().any(|domain| host.ends_with(&domain.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests;
