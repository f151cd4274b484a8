//! The few fields of certificates and revocation lists that rustls does not hand out.
//!
//! Certificates come from the network, but only after webpki has parsed them; lists come from the
//! operator. Either way nothing here trusts a length. Fields: RFC 5280, §4.1 and §5.1.

use std::collections::HashSet;
use std::net::IpAddr;

/// The bytes are not what they should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

type Parsed<T> = Result<T, Malformed>;

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const BMP_STRING: u8 = 0x1e;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 37];
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 37, 0];

/// What a certificate is for, as object ids.
pub(crate) const SERVER_USAGE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
pub(crate) const CLIENT_USAGE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// A certificate, as far as we look at it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// Without leading zeros.
    pub(crate) serial: Vec<u8>,
    /// The last one of the subject, as Go has it; empty if there is none.
    pub(crate) common_name: String,
    /// First and last second it is valid, since the Unix epoch.
    pub(crate) valid: (i64, i64),
    pub(crate) dns_names: Vec<String>,
    pub(crate) ip_addresses: Vec<IpAddr>,
    /// Object ids; `None` if the certificate does not limit its use.
    usages: Option<Vec<Vec<u8>>>,
}

impl Certificate {
    /// Reads the DER form.
    pub(crate) fn parse(der: &[u8]) -> Parsed<Self> {
        let mut outer = Reader(Reader(der).expect(SEQUENCE)?);
        let mut body = Reader(outer.expect(SEQUENCE)?);
        body.optional(VERSION)?;
        let mut found =
            Self { serial: unsigned(body.expect(INTEGER)?).to_vec(), ..Self::default() };
        body.expect(SEQUENCE)?; // the signature's algorithm
        body.expect(SEQUENCE)?; // the issuer
        let mut valid = Reader(body.expect(SEQUENCE)?);
        found.valid = (time(valid.next()?)?, time(valid.next()?)?);
        found.common_name = common_name(body.expect(SEQUENCE)?)?;
        body.expect(SEQUENCE)?; // the key
        while !body.0.is_empty() {
            let (tag, content) = body.next()?;
            if tag == EXTENSIONS {
                found.read_extensions(Reader(content).expect(SEQUENCE)?)?;
            }
        }
        Ok(found)
    }

    fn read_extensions(&mut self, extensions: &[u8]) -> Parsed<()> {
        let mut extensions = Reader(extensions);
        while !extensions.0.is_empty() {
            let mut extension = Reader(extensions.expect(SEQUENCE)?);
            let id = extension.expect(OBJECT_ID)?;
            let value = match extension.next()? {
                (OCTET_STRING, value) => value,
                _critical => extension.expect(OCTET_STRING)?,
            };
            if id == SUBJECT_ALT_NAME {
                self.read_names(Reader(value).expect(SEQUENCE)?)?;
            } else if id == EXTENDED_KEY_USAGE {
                let mut ids = Reader(Reader(value).expect(SEQUENCE)?);
                let usages = self.usages.get_or_insert_default();
                while !ids.0.is_empty() {
                    usages.push(ids.expect(OBJECT_ID)?.to_vec());
                }
            }
        }
        Ok(())
    }

    fn read_names(&mut self, names: &[u8]) -> Parsed<()> {
        let mut names = Reader(names);
        while !names.0.is_empty() {
            match names.next()? {
                (DNS_NAME, name) => self.dns_names.push(text(name)?),
                (IP_ADDRESS, octets) => {
                    let address = <[u8; 4]>::try_from(octets)
                        .map(IpAddr::from)
                        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from));
                    self.ip_addresses.push(address.map_err(|_| Malformed)?);
                }
                _other => {}
            }
        }
        Ok(())
    }

    /// Whether the certificate may be used for this.
    pub(crate) fn is_for(&self, usage: &[u8]) -> bool {
        let allows = |allowed: &Vec<u8>| allowed == usage || allowed == ANY_USAGE;
        self.usages.as_ref().is_none_or(|usages| usages.iter().any(allows))
    }
}

/// The serial numbers of a certificate revocation list, without leading zeros.
pub(crate) fn revoked_serials(der: &[u8]) -> Parsed<HashSet<Vec<u8>>> {
    let mut outer = Reader(Reader(der).expect(SEQUENCE)?);
    let mut body = Reader(outer.expect(SEQUENCE)?);
    body.optional(INTEGER)?; // the version
    body.expect(SEQUENCE)?; // the signature's algorithm
    body.expect(SEQUENCE)?; // the issuer
    time(body.next()?)?;
    for tag in [UTC_TIME, GENERALIZED_TIME] {
        body.optional(tag)?; // the next update
    }
    let mut entries = Reader(body.optional(SEQUENCE)?.unwrap_or_default());
    let mut serials = HashSet::new();
    while !entries.0.is_empty() {
        let mut entry = Reader(entries.expect(SEQUENCE)?);
        serials.insert(unsigned(entry.expect(INTEGER)?).to_vec());
    }
    Ok(serials)
}

/// Reads one value after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The next value: its tag and its content.
    fn next(&mut self) -> Parsed<(u8, &'a [u8])> {
        let [tag, short, rest @ ..] = self.0 else { return Err(Malformed) };
        // A tag in several bytes is used by nothing we read.
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (length, rest) = match short {
            0..=0x7f => (usize::from(*short), rest),
            0x81..=0x84 => {
                let (digits, rest) =
                    rest.split_at_checked(usize::from(short - 0x80)).ok_or(Malformed)?;
                let length = digits.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte));
                (length, rest)
            }
            _ => return Err(Malformed),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok((*tag, content))
    }

    /// The content of the next value, which has to be of this kind.
    fn expect(&mut self, tag: u8) -> Parsed<&'a [u8]> {
        self.optional(tag)?.ok_or(Malformed)
    }

    /// The content of the next value if it is of this kind.
    fn optional(&mut self, tag: u8) -> Parsed<Option<&'a [u8]>> {
        if self.0.first() != Some(&tag) {
            return Ok(None);
        }
        self.next().map(|(_, content)| Some(content))
    }
}

/// A number without leading zeros.
fn unsigned(integer: &[u8]) -> &[u8] {
    let zeros = integer.iter().take_while(|&&byte| byte == 0).count();
    &integer[zeros..]
}

fn text(bytes: &[u8]) -> Parsed<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed)
}

/// The last common name of a subject.
fn common_name(subject: &[u8]) -> Parsed<String> {
    let mut sets = Reader(subject);
    let mut name = String::new();
    while !sets.0.is_empty() {
        let mut set = Reader(sets.expect(SET)?);
        while !set.0.is_empty() {
            let mut attribute = Reader(set.expect(SEQUENCE)?);
            if attribute.expect(OBJECT_ID)? != COMMON_NAME {
                continue;
            }
            name = match attribute.next()? {
                (BMP_STRING, value) => {
                    let units =
                        value.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
                    String::from_utf16_lossy(&units.collect::<Vec<_>>())
                }
                (_, value) => String::from_utf8_lossy(value).into_owned(),
            };
        }
    }
    Ok(name)
}

/// Seconds since the Unix epoch of `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn time((tag, text): (u8, &[u8])) -> Parsed<i64> {
    let digits = text.strip_suffix(b"Z").ok_or(Malformed)?;
    let two = |at: usize| {
        let pair = digits.get(at..at + 2).ok_or(Malformed)?;
        let digit = |byte: u8| if byte.is_ascii_digit() { Ok(byte - b'0') } else { Err(Malformed) };
        Ok(i64::from(digit(pair[0])?) * 10 + i64::from(digit(pair[1])?))
    };
    let (year, at) = match (tag, digits.len()) {
        (UTC_TIME, 12) => (two(0)? + if two(0)? < 50 { 2000 } else { 1900 }, 2),
        (GENERALIZED_TIME, 14) => (two(0)? * 100 + two(2)?, 4),
        _ => return Err(Malformed),
    };
    let (month, day) = (two(at)?, two(at + 2)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(Malformed);
    }
    let (hour, minute, second) = (two(at + 4)?, two(at + 6)?, two(at + 8)?);
    Ok(days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days from 1970-01-01 in the Gregorian calendar. Years are counted from March, so that the day
/// that leap years add is the last one of its year.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before_month = (month * 153 + 2) / 5;
    let before_year = year * 365 + year / 4 - year / 100 + year / 400;
    before_year + before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests;
