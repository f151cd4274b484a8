//! Certificates against the addresses their owners come from.

use std::collections::HashMap;

use super::*;
use crate::names::LookUp;

/// Names and addresses as the test wants them.
#[derive(Default)]
struct Book {
    addresses: HashMap<&'static str, Vec<IpAddr>>,
    hosts: HashMap<IpAddr, Vec<String>>,
}

impl Names for Book {
    fn addresses<'a>(&'a self, host: &'a str) -> LookUp<'a, IpAddr> {
        let found = self.addresses.get(host).cloned();
        Box::pin(async move { found.ok_or_else(|| io::Error::other("lookup: no such host")) })
    }

    fn hosts(&self, address: IpAddr) -> LookUp<'_, String> {
        let found = self.hosts.get(&address).cloned();
        Box::pin(async move { found.ok_or_else(|| io::Error::other("lookup: no such address")) })
    }
}

fn book() -> Book {
    let here = "10.0.0.1".parse().unwrap();
    Book {
        addresses: HashMap::from([("a.example", vec![here]), ("b.example", vec![])]),
        hosts: HashMap::from([
            (here, vec!["a.example".to_owned()]),
            ("10.0.0.9".parse().unwrap(), vec!["b.example".to_owned()]),
        ]),
    }
}

async fn check(names: &[&str], addresses: &[&str], from: &str) -> Result<(), String> {
    let certificate = PeerCertificate {
        common_name: String::new(),
        dns_names: names.iter().map(ToString::to_string).collect(),
        ip_addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    };
    let checked = check_source(&certificate, from.parse().unwrap(), &book()).await;
    checked.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_certificate_without_names_may_come_from_anywhere() {
    assert_eq!(check(&[], &[], "10.0.0.1").await, Ok(()));
}

#[tokio::test]
async fn addresses_are_compared() {
    assert_eq!(check(&[], &["10.0.0.2", "10.0.0.1"], "10.0.0.1").await, Ok(()));
    assert_eq!(check(&[], &["10.0.0.1"], "::ffff:10.0.0.1").await, Ok(()));
    let error = "x509: certificate is valid for 10.0.0.2, not 10.0.0.1";
    assert_eq!(check(&[], &["10.0.0.2"], "10.0.0.1").await, Err(error.to_owned()));
}

#[tokio::test]
async fn names_are_looked_up() {
    assert_eq!(check(&["nosuch", "a.example"], &["10.0.0.2"], "10.0.0.1").await, Ok(()));
    let error = "tls: \"10.0.0.9\" does not match any of DNSNames [\"a.example\"] (<nil>)";
    assert_eq!(check(&["a.example"], &[], "10.0.0.9").await, Err(error.to_owned()));
    let error = "tls: \"10.0.0.1\" does not match any of DNSNames [\"nosuch\"] \
                 (lookup: no such host)";
    assert_eq!(check(&["nosuch"], &[], "10.0.0.1").await, Err(error.to_owned()));
}

#[tokio::test]
async fn a_wildcard_needs_a_name_that_leads_back() {
    assert_eq!(check(&["*.example"], &[], "10.0.0.1").await, Ok(()));
    assert!(check(&["*.other"], &[], "10.0.0.1").await.is_err());
    assert!(check(&["*.example"], &[], "10.0.0.9").await.is_err(), "only the reverse name fits");
}
