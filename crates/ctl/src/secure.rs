//! Whom to talk to and how to encrypt it: the TLS flags and `--discovery-srv` (ctl.md §1.2).

use etcdrs_client::discover_endpoints;
use etcdrs_client::tls::{ClientTls, ClientTlsInfo};

use crate::cli::Global;
use crate::failure::Failure;

const ENDPOINT: &str = "127.0.0.1:2379";

/// How to encrypt; `None` if no flag says anything about it. Whether it is done is the endpoint's
/// scheme to say, but wrong files are refused either way.
pub(crate) fn tls(global: &Global) -> Result<Option<ClientTls>, Failure> {
    let files = [("cert", &global.cert), ("key", &global.key), ("cacert", &global.cacert)];
    for (name, value) in files {
        if value.as_deref() == Some("") {
            let message = format!("empty string is passed to --{name} option");
            return Err(Failure::bad_args(message));
        }
    }
    let skip = global.insecure_skip_tls_verify == Some(true);
    let wanted = files.iter().any(|(_, value)| value.is_some())
        || global.insecure_transport == Some(false)
        || skip;
    if !wanted {
        return Ok(None);
    }
    let path = |value: &Option<String>| value.as_ref().map(Into::into);
    // Whoever can answer our DNS questions could else send us to servers of his own.
    let trust_names = global.insecure_discovery != Some(false);
    let info = ClientTlsInfo {
        cert_file: path(&global.cert),
        key_file: path(&global.key),
        trusted_ca_file: path(&global.cacert),
        server_name: global
            .discovery_srv
            .clone()
            .filter(|domain| !trust_names && !domain.is_empty()),
        insecure_skip_verify: skip,
        ..ClientTlsInfo::default()
    };
    let tls = ClientTls::new(info).map_err(|error| Failure::bad_args(error.etcdctl_text()))?;
    Ok(Some(tls))
}

/// The endpoints: those of the domain, else those of `--endpoints`, else the usual one.
pub(crate) async fn endpoints(global: &Global) -> Result<Vec<String>, Failure> {
    let given = given_endpoints(global);
    let Some(domain) = global.discovery_srv.as_deref().filter(|domain| !domain.is_empty()) else {
        return Ok(given);
    };
    let name = global.discovery_srv_name.as_deref().unwrap_or_default();
    let found = discover_endpoints(domain, name).await;
    let found = found.map_err(|error| Failure::error(error.to_string()))?;
    let safe = match global.insecure_discovery {
        Some(false) => without_plain(found),
        _ => found,
    };
    Ok(if safe.is_empty() { given } else { safe })
}

/// The endpoints without a look at DNS.
pub(crate) fn given_endpoints(global: &Global) -> Vec<String> {
    global.endpoints.clone().unwrap_or_else(|| vec![ENDPOINT.to_owned()])
}

/// Tells of the endpoints that are not encrypted and leaves them out.
fn without_plain(mut endpoints: Vec<String>) -> Vec<String> {
    endpoints.retain(|endpoint| {
        let plain = endpoint.starts_with("http://");
        if plain {
            eprintln!("ignoring discovered insecure endpoint {endpoint:?}");
        }
        !plain
    });
    endpoints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(global: Global, message: &str) {
        assert_eq!(tls(&global).expect_err("the flags are wrong").message(), message);
    }

    /// The texts are those of etcdctl 3.5.1, tried.
    #[test]
    fn wrong_files_are_refused_in_etcdctls_words() {
        let some = |text: &str| Some(text.to_owned());
        let message = "KeyFile and CertFile must both be present[key: , cert: x]";
        refused(Global { cert: some("x"), ..Global::default() }, message);
        let message = "KeyFile and CertFile must both be present[key: x, cert: ]";
        refused(Global { key: some("x"), ..Global::default() }, message);
        let message = "empty string is passed to --key option";
        refused(Global { key: some(""), cacert: some("missing"), ..Global::default() }, message);
        let message = "open missing: no such file or directory";
        refused(Global { cacert: some("missing"), ..Global::default() }, message);
        refused(Global { cert: some("missing"), key: some("x"), ..Global::default() }, message);
    }

    #[test]
    fn encryption_needs_a_flag() {
        let is_on = |global: Global| tls(&global).expect("the flags are right").is_some();
        assert!(!is_on(Global::default()));
        assert!(!is_on(Global { insecure_transport: Some(true), ..Global::default() }));
        assert!(is_on(Global { insecure_transport: Some(false), ..Global::default() }));
        assert!(is_on(Global { insecure_skip_tls_verify: Some(true), ..Global::default() }));
    }

    #[test]
    fn plain_endpoints_are_left_out() {
        let found = ["http://a:1", "https://b:2"].map(String::from).to_vec();
        assert_eq!(without_plain(found), ["https://b:2"]);
    }

    #[tokio::test]
    async fn no_domain_means_no_look_up() {
        let global = Global { discovery_srv: Some(String::new()), ..Global::default() };
        assert_eq!(endpoints(&global).await.expect("nothing to look up"), [ENDPOINT]);
    }
}
