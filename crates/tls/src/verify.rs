//! Whether a certificate is good: webpki's checks, with what etcd and Go do beside them.
//!
//! Go takes a certificate that is itself in the CA file as its own proof, whether or not it calls
//! itself a CA, and many small installations consist of one such certificate. webpki refuses them,
//! so they are checked here, as Go does.

use std::collections::HashSet;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError};
use rustls::{Error, SignatureScheme};

use crate::der::{self, CLIENT_USAGE, Certificate, SERVER_USAGE};
use crate::error::ConfigError;
use crate::files::Authorities;

/// A certificate that is good in itself and refused all the same, in etcd's words.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("client certificate authentication failed")]
    NotAllowed,
    #[error("transport: certificate serial {0} revoked")]
    Revoked(String),
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
    }
}

/// What a certificate has to fulfil beside being good.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Invariant: at most one of these two is not empty.
    common_names: Vec<String>,
    hostnames: Vec<ServerName<'static>>,
    revoked: HashSet<Vec<u8>>,
}

impl Rules {
    /// The rules of these lists, of which one may have entries.
    pub(crate) fn new(
        common_names: &[String],
        hostnames: &[String],
        revoked: HashSet<Vec<u8>>,
    ) -> Result<Self, ConfigError> {
        if !common_names.is_empty() && !hostnames.is_empty() {
            let (common_names, hostnames) = (common_names.to_vec(), hostnames.to_vec());
            return Err(ConfigError::BothLists { common_names, hostnames });
        }
        let parse = |name: &String| {
            let parsed = ServerName::try_from(name.clone());
            parsed.map_err(|_| ConfigError::ServerName(name.clone()))
        };
        let hostnames = hostnames.iter().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { common_names: common_names.to_vec(), hostnames, revoked })
    }

    /// Checks a chain that was found good.
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        let owner = parse(end_entity)?;
        if !self.common_names.is_empty() && !self.common_names.contains(&owner.common_name) {
            return Err(Refused::NotAllowed.into());
        }
        if !self.hostnames.is_empty() {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            let fits = |name| verify_server_name(&certificate, name).is_ok();
            if !self.hostnames.iter().any(fits) {
                return Err(Refused::NotAllowed.into());
            }
        }
        if self.revoked.is_empty() {
            return Ok(());
        }
        let others = intermediates.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        for Certificate { serial, .. } in std::iter::once(&owner).chain(&others) {
            if self.revoked.contains(serial) {
                let hex = serial.iter().map(|byte| format!("{byte:02x}")).collect();
                return Err(Refused::Revoked(hex).into());
            }
        }
        Ok(())
    }
}

fn parse(der: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::parse(der).map_err(|der::Malformed| CertificateError::BadEncoding.into())
}

/// Checks a certificate that stands in the CA file itself; `false` if it does not.
fn is_trusted_itself(
    trusted: &[CertificateDer<'static>],
    end_entity: &CertificateDer<'_>,
    usage: &[u8],
    now: UnixTime,
) -> Result<bool, Error> {
    if !trusted.contains(end_entity) {
        return Ok(false);
    }
    let certificate = parse(end_entity)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let (from, until) = certificate.valid;
    let error = match now {
        _ if now < from => CertificateError::NotValidYet,
        _ if now > until => CertificateError::Expired,
        _ if !certificate.is_for(usage) => CertificateError::InvalidPurpose,
        _ => return Ok(true),
    };
    Err(error.into())
}

/// Checks the certificates of clients.
#[derive(Debug)]
pub(crate) struct Clients {
    trusted: Vec<CertificateDer<'static>>,
    inner: Arc<dyn ClientCertVerifier>,
    rules: Rules,
}

impl Clients {
    pub(crate) fn new(
        authorities: Authorities,
        rules: Rules,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, ConfigError> {
        let Authorities { roots, certificates: trusted } = authorities;
        let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        // Without revocation lists of rustls's own, only a lack of roots can be wrong.
        let inner = inner.build().map_err(|_| ConfigError::NoCa)?;
        Ok(Self { trusted, inner, rules })
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if !is_trusted_itself(&self.trusted, end_entity, CLIENT_USAGE, now)? {
            self.inner.verify_client_cert(end_entity, intermediates, now)?;
        }
        self.rules.check(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Checks the certificates of servers.
#[derive(Debug)]
pub(crate) struct Servers {
    trust: Trust,
    rules: Rules,
    provider: Arc<CryptoProvider>,
}

/// Which servers are believed to be who they say.
#[derive(Debug)]
enum Trust {
    /// All of them.
    Anyone,
    /// Nobody: there is no CA at all.
    Nobody,
    Authorities {
        trusted: Vec<CertificateDer<'static>>,
        inner: Arc<WebPkiServerVerifier>,
    },
}

impl Servers {
    /// Without authorities every server is believed.
    pub(crate) fn new(
        authorities: Option<Authorities>,
        rules: Rules,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        let trust = match authorities {
            None => Trust::Anyone,
            Some(Authorities { roots, certificates: trusted }) => {
                let builder = WebPkiServerVerifier::builder_with_provider(
                    Arc::new(roots),
                    Arc::clone(&provider),
                );
                // Without revocation lists, only a lack of roots can be wrong.
                builder.build().map_or(Trust::Nobody, |inner| Trust::Authorities { trusted, inner })
            }
        };
        Self { trust, rules, provider }
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            Trust::Anyone => return Ok(ServerCertVerified::assertion()),
            Trust::Nobody => return Err(CertificateError::UnknownIssuer.into()),
            Trust::Authorities { trusted, inner } => {
                if is_trusted_itself(trusted, end_entity, SERVER_USAGE, now)? {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                } else {
                    inner.verify_server_cert(
                        end_entity,
                        intermediates,
                        server_name,
                        ocsp_response,
                        now,
                    )?;
                }
            }
        }
        self.rules.check(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
