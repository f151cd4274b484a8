//! A small PKI in a directory of its own, and handshakes in memory.
#![expect(clippy::unwrap_used, reason = "a helper of tests, where a panic is the report")]
#![allow(dead_code, reason = "every test uses a part of it")]

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use etcdrs_tls::{
    Accepted, ClientStream, ClientTls, ClientTlsInfo, HandshakeError, Rejected, ServerTls,
    ServerTlsInfo,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};
use tempfile::TempDir;
use tokio::io::DuplexStream;

/// A certificate to be.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) common_name: &'static str,
    pub(crate) names: Vec<&'static str>,
    pub(crate) usages: Vec<ExtendedKeyUsagePurpose>,
    pub(crate) serial: u64,
    pub(crate) expired: bool,
}

/// What a server called localhost has.
pub(crate) fn server() -> Leaf {
    Leaf {
        common_name: "server",
        names: vec!["localhost", "127.0.0.1"],
        usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
        serial: 100,
        expired: false,
    }
}

/// What a client has.
pub(crate) fn client() -> Leaf {
    Leaf {
        common_name: "root",
        names: vec!["client.example"],
        usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
        serial: 0x2a,
        expired: false,
    }
}

pub(crate) fn params(leaf: &Leaf) -> CertificateParams {
    let names: Vec<String> = leaf.names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, leaf.common_name);
    params.extended_key_usages = leaf.usages.clone();
    params.serial_number = Some(SerialNumber::from(leaf.serial));
    if leaf.expired {
        params.not_after = date_time_ymd(2001, 1, 1);
    }
    params
}

/// A certificate authority and a directory for files.
pub(crate) struct Pki {
    dir: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    /// One whose certificate lies in `ca.pem`.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let pki = Self { dir: tempfile::tempdir().unwrap(), ca };
        pki.write("ca.pem", pki.ca.pem());
        pki
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn ca_pem(&self) -> String {
        self.ca.pem()
    }

    pub(crate) fn issuer(&self) -> &CertifiedIssuer<'static, KeyPair> {
        &self.ca
    }

    /// Certificate and key as PEM.
    pub(crate) fn sign(&self, leaf: &Leaf) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = params(leaf).signed_by(&key, &self.ca).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// Writes certificate and key to `<name>.crt` and `<name>.key`.
    pub(crate) fn issue(&self, name: &str, leaf: &Leaf) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.sign(leaf);
        (self.write(&format!("{name}.crt"), certificate), self.write(&format!("{name}.key"), key))
    }

    /// The DER of a list that revokes these.
    pub(crate) fn revocations(&self, serials: &[u64]) -> Vec<u8> {
        let revoked = serials.iter().map(|&serial| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2060, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.ca).unwrap().der().to_vec()
    }

    /// A server with a certificate of this PKI.
    pub(crate) fn server(&self) -> ServerTlsInfo {
        let (cert, key) = self.issue("server", &server());
        ServerTlsInfo { cert_file: Some(cert), key_file: Some(key), ..ServerTlsInfo::default() }
    }

    /// A server that asks for certificates of this PKI.
    pub(crate) fn strict_server(&self) -> ServerTlsInfo {
        ServerTlsInfo {
            trusted_ca_file: Some(self.path("ca.pem")),
            client_cert_auth: true,
            ..self.server()
        }
    }

    /// A client that trusts this PKI.
    pub(crate) fn client(&self) -> ClientTlsInfo {
        ClientTlsInfo { trusted_ca_file: Some(self.path("ca.pem")), ..ClientTlsInfo::default() }
    }

    /// The same with a certificate.
    pub(crate) fn client_with(&self, leaf: &Leaf) -> ClientTlsInfo {
        let (cert, key) = self.issue("client", leaf);
        ClientTlsInfo { cert_file: Some(cert), key_file: Some(key), ..self.client() }
    }
}

/// What both sides say of a handshake.
pub(crate) struct Shaken {
    pub(crate) server: Result<Accepted<DuplexStream>, Box<Rejected>>,
    pub(crate) client: Result<ClientStream<DuplexStream>, HandshakeError>,
}

impl Shaken {
    /// Why the server did not want the client.
    #[track_caller]
    pub(crate) fn refusal(&self) -> String {
        self.server.as_ref().expect_err("the server refuses").to_string()
    }

    /// Why the client did not want the server.
    #[track_caller]
    pub(crate) fn complaint(&self) -> String {
        self.client.as_ref().expect_err("the client refuses").to_string()
    }

    /// Both are content.
    #[track_caller]
    pub(crate) fn agreed(&self) -> &Accepted<DuplexStream> {
        assert!(self.client.is_ok(), "{:?}", self.client);
        self.server.as_ref().expect("the server agrees")
    }
}

/// A handshake between the two, the client coming from `from` and looking for `host`.
pub(crate) async fn shake_from(
    server: &ServerTls,
    client: &ClientTls,
    host: &str,
    from: Option<IpAddr>,
) -> Shaken {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (server, client) = tokio::join!(server.accept(near, from), client.connect(far, host));
    Shaken { server, client }
}

/// A handshake between settings.
pub(crate) async fn shake(server: &ServerTlsInfo, client: &ClientTlsInfo) -> Shaken {
    let server = ServerTls::new(server.clone()).unwrap();
    let client = ClientTls::new(client.clone()).unwrap();
    shake_from(&server, &client, "localhost", None).await
}
