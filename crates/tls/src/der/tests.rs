//! Certificates made by rcgen, and damaged ones.

use rcgen::{
    CertificateParams, CertificateRevocationListParams, CrlIssuingDistributionPoint, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

use super::*;

fn params() -> CertificateParams {
    let names = ["a.example".to_owned(), "10.1.2.3".to_owned(), "::1".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    params.distinguished_name.push(DnType::CommonName, "root ü");
    params.serial_number = Some(SerialNumber::from_slice(&[0x8f, 1]));
    params.not_before = date_time_ymd(1999, 12, 31);
    params.not_after = date_time_ymd(2056, 2, 29);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

#[test]
fn the_fields_are_found() {
    let certificate = params().self_signed(&KeyPair::generate().unwrap()).unwrap();
    let found = Certificate::parse(certificate.der()).unwrap();
    assert_eq!(found.common_name, "root ü");
    assert_eq!(found.serial, [0x8f, 1]);
    assert_eq!(found.dns_names, ["a.example"]);
    let addresses: Vec<String> = found.ip_addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.1.2.3", "::1"]);
    // date -u -d 1999-12-31 +%s, date -u -d 2056-02-29 +%s
    assert_eq!(found.valid, (946_598_400, 2_719_008_000));
    assert!(found.is_for(CLIENT_USAGE) && !found.is_for(SERVER_USAGE));
}

#[test]
fn a_certificate_without_usages_is_for_all() {
    let mut params = params();
    params.extended_key_usages.clear();
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert!(Certificate::parse(certificate.der()).unwrap().is_for(SERVER_USAGE));
}

#[test]
fn no_damage_makes_it_panic() {
    let certificate = params().self_signed(&KeyPair::generate().unwrap()).unwrap();
    let der = certificate.der().to_vec();
    for cut in 0..der.len() {
        assert_eq!(Certificate::parse(&der[..cut]), Err(Malformed), "cut at {cut}");
    }
    for at in 0..der.len() {
        for bit in 0..8 {
            let mut damaged = der.clone();
            damaged[at] ^= 1 << bit;
            let _ = Certificate::parse(&damaged);
            let _ = revoked_serials(&damaged);
        }
    }
}

#[test]
fn revoked_serials_are_found() {
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    ca.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    let issuer = Issuer::new(ca, KeyPair::generate().unwrap());
    let list = |serials: &[&[u8]]| {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2060, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None::<CrlIssuingDistributionPoint>,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&issuer).unwrap();
        revoked_serials(list.der()).unwrap()
    };
    assert_eq!(list(&[&[7], &[0x8f, 1]]), HashSet::from([vec![7], vec![0x8f, 1]]));
    assert!(list(&[]).is_empty());
    assert_eq!(revoked_serials(b"junk"), Err(Malformed));
}

#[test]
fn days_are_counted_as_calendars_do() {
    assert_eq!(days_since_epoch(1970, 1, 1), 0);
    assert_eq!(days_since_epoch(2000, 3, 1) - days_since_epoch(2000, 2, 28), 2);
    assert_eq!(days_since_epoch(1900, 3, 1) - days_since_epoch(1900, 2, 28), 1);
}
