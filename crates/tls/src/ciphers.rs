//! Cipher suites by the names Go gives them.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, cipher_suite as suite};
use rustls::{ProtocolVersion, SupportedCipherSuite};

use crate::error::ConfigError;

/// Go's names of what rustls has. Those of TLS 1.3 may be listed, but are always on, as in Go.
const SUPPORTED: [(&str, SupportedCipherSuite); 11] = [
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", suite::TLS13_CHACHA20_POLY1305_SHA256),
    // Older names of Go for the same.
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Go has these and rustls has not.
const UNSUPPORTED: [&str; 16] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// The cryptography to use, with the suites of TLS 1.2 limited to these names if there are any.
pub(crate) fn provider(names: &[String]) -> Result<Arc<CryptoProvider>, ConfigError> {
    let mut provider = aws_lc_rs::default_provider();
    if !names.is_empty() {
        let chosen = names.iter().map(|name| find(name)).collect::<Result<Vec<_>, _>>()?;
        provider.cipher_suites.retain(|suite| is_tls13(suite) || chosen.contains(suite));
    }
    Ok(Arc::new(provider))
}

fn is_tls13(suite: &SupportedCipherSuite) -> bool {
    suite.version().version == ProtocolVersion::TLSv1_3
}

fn find(name: &str) -> Result<SupportedCipherSuite, ConfigError> {
    if let Some((_, suite)) = SUPPORTED.iter().find(|(known, _)| *known == name) {
        return Ok(*suite);
    }
    if UNSUPPORTED.contains(&name) {
        let supported: Vec<&str> = SUPPORTED.iter().map(|(name, _)| *name).collect();
        let (name, supported) = (name.to_owned(), supported.join(", "));
        return Err(ConfigError::UnsupportedCipherSuite { name, supported });
    }
    Err(ConfigError::UnknownCipherSuite(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites(names: &[&str]) -> Result<Vec<SupportedCipherSuite>, ConfigError> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        Ok(provider(&names)?.cipher_suites.clone())
    }

    #[test]
    fn chosen_suites_limit_tls_1_2_alone() {
        let all = suites(&[]).unwrap();
        assert_eq!(all.len(), 9);
        let chosen = suites(&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305"]).unwrap();
        let old: Vec<_> = chosen.iter().filter(|suite| !is_tls13(suite)).collect();
        assert_eq!(old, [&suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256]);
        assert_eq!(chosen.len(), 4);
    }

    #[test]
    fn every_supported_name_is_its_suite() {
        for (name, suite) in SUPPORTED {
            let theirs = format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
            assert!(theirs.starts_with(name), "{name}: {theirs}");
        }
    }

    #[test]
    fn names_that_cannot_be_used_are_told_apart() {
        let error = suites(&["FOO"]).unwrap_err().to_string();
        assert_eq!(error, "unexpected TLS cipher suite \"FOO\"");
        let error = suites(&["TLS_RSA_WITH_AES_128_GCM_SHA256"]).unwrap_err().to_string();
        assert!(error.contains("RSA key exchange"), "{error}");
        assert!(error.contains("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), "{error}");
    }
}
