//! Header compression of HTTP/2 (RFC 7541), as much as a gRPC client needs.
//!
//! Both directions use the dynamic table, as real clients and servers do: without it a request
//! carries a hundred bytes more, and the server under test would spend time on parsing them.

mod huffman;

use std::collections::VecDeque;

/// Names of the static table with their values, index 1 first (RFC 7541 appendix A). Entries a
/// gRPC server never uses are kept, since indices count all of them.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Size of either dynamic table: what both sides assume until told otherwise.
const TABLE_SIZE: usize = 4096;
/// What an entry counts beside its characters.
const ENTRY_OVERHEAD: usize = 32;

/// A header block that breaks the rules.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed header block")]
pub struct Malformed;

/// Writes header blocks.
///
/// Every header but the pseudo ones of the static table goes into the dynamic table at its first
/// use. A client sends few different ones, so nothing is ever evicted; see [`Encoder::encode`].
#[derive(Debug, Default)]
pub struct Encoder {
    /// In the order of insertion.
    sent: Vec<(&'static str, String)>,
}

impl Encoder {
    /// Appends `headers` to `out`.
    ///
    /// # Panics
    /// When the headers of one connection outgrow the peer's table of 4096 bytes.
    pub fn encode(&mut self, headers: &[(&'static str, &str)], out: &mut Vec<u8>) {
        for (name, value) in headers {
            if let Some(i) = STATIC.iter().position(|entry| entry == &(*name, *value)) {
                integer(out, 0x80, 7, i + 1);
            } else if let Some(i) = self.sent.iter().position(|(n, v)| n == name && v == value) {
                integer(out, 0x80, 7, STATIC.len() + self.sent.len() - i);
            } else {
                self.insert(name, value, out);
            }
        }
    }

    fn insert(&mut self, name: &'static str, value: &str, out: &mut Vec<u8>) {
        let named = STATIC.iter().position(|(n, _)| n == &name).map_or(0, |i| i + 1);
        integer(out, 0x40, 6, named);
        if named == 0 {
            integer(out, 0, 7, name.len());
            out.extend_from_slice(name.as_bytes());
        }
        integer(out, 0, 7, value.len());
        out.extend_from_slice(value.as_bytes());
        self.sent.push((name, value.to_string()));
        let size: usize = self.sent.iter().map(|(n, v)| n.len() + v.len() + ENTRY_OVERHEAD).sum();
        assert!(size <= TABLE_SIZE, "too many different headers on one connection");
    }
}

/// Reads header blocks.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Newest first.
    table: VecDeque<(Vec<u8>, Vec<u8>)>,
    size: usize,
    limit: Option<usize>,
}

impl Decoder {
    /// Reads one block and hands each header to `each`.
    ///
    /// # Errors
    /// When the block is not well formed; the connection cannot go on then.
    pub fn decode(
        &mut self,
        mut block: &[u8],
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), Malformed> {
        while let Some(first) = block.first().copied() {
            if first & 0x80 != 0 {
                let index = read_integer(&mut block, 7)?;
                self.with(index, &mut each)?;
            } else if first & 0xe0 == 0x20 {
                let limit = read_integer(&mut block, 5)?;
                self.limit = Some(limit.min(TABLE_SIZE));
                self.evict();
            } else {
                let store = first & 0xc0 == 0x40;
                let index = read_integer(&mut block, if store { 6 } else { 4 })?;
                let name = match index {
                    0 => read_string(&mut block)?,
                    _ => self.name(index)?,
                };
                let value = read_string(&mut block)?;
                each(&name, &value);
                if store {
                    self.size += name.len() + value.len() + ENTRY_OVERHEAD;
                    self.table.push_front((name, value));
                    self.evict();
                }
            }
        }
        Ok(())
    }

    fn with(&self, index: usize, each: &mut impl FnMut(&[u8], &[u8])) -> Result<(), Malformed> {
        match index.checked_sub(1).ok_or(Malformed)? {
            i if i < STATIC.len() => each(STATIC[i].0.as_bytes(), STATIC[i].1.as_bytes()),
            i => {
                let (name, value) = self.table.get(i - STATIC.len()).ok_or(Malformed)?;
                each(name, value);
            }
        }
        Ok(())
    }

    fn name(&self, index: usize) -> Result<Vec<u8>, Malformed> {
        let mut found = Vec::new();
        self.with(index, &mut |name, _| found = name.to_vec())?;
        Ok(found)
    }

    fn evict(&mut self) {
        while self.size > self.limit.unwrap_or(TABLE_SIZE) {
            let Some((name, value)) = self.table.pop_back() else { break };
            self.size -= name.len() + value.len() + ENTRY_OVERHEAD;
        }
    }
}

/// Appends an integer with a prefix of `bits` bits below the marks in `first`.
fn integer(out: &mut Vec<u8>, first: u8, bits: u8, value: usize) {
    let max = (1usize << bits) - 1;
    if value < max {
        out.push(first | value as u8);
        return;
    }
    out.push(first | max as u8);
    let mut rest = value - max;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn read_integer(block: &mut &[u8], bits: u8) -> Result<usize, Malformed> {
    let (first, mut rest) = block.split_first().ok_or(Malformed)?;
    let max = (1usize << bits) - 1;
    let mut value = usize::from(*first) & max;
    if value == max {
        let mut shift = 0;
        loop {
            let (byte, tail) = rest.split_first().ok_or(Malformed)?;
            rest = tail;
            // Nothing here is longer than a few megabytes.
            if shift > 21 {
                return Err(Malformed);
            }
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    Ok(value)
}

fn read_string(block: &mut &[u8]) -> Result<Vec<u8>, Malformed> {
    let coded = block.first().ok_or(Malformed)? & 0x80 != 0;
    let length = read_integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Malformed)?;
    *block = rest;
    if coded { huffman::decode(text).ok_or(Malformed) } else { Ok(text.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
        let mut all = Vec::new();
        let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
        decoder.decode(block, |n, v| all.push((text(n), text(v)))).unwrap();
        all
    }

    #[test]
    fn what_the_encoder_writes_the_decoder_reads() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let requests = [
            [(":method", "POST"), (":path", "/a/B"), ("te", "trailers")],
            [(":method", "POST"), (":path", "/a/C"), ("te", "trailers")],
            [(":method", "POST"), (":path", "/a/B"), ("te", "trailers")],
        ];
        let mut sizes = Vec::new();
        for request in &requests {
            let mut block = Vec::new();
            encoder.encode(request, &mut block);
            sizes.push(block.len());
            let read = decoded(&mut decoder, &block);
            assert!(read.iter().map(|(n, v)| (n.as_str(), v.as_str())).eq(request.iter().copied()));
        }
        assert_eq!(sizes[2], 3, "a repeated request takes a byte a header");
    }

    /// RFC 7541 appendix C.3.1.
    #[test]
    fn example_of_the_rfc_decodes() {
        let mut block = vec![0x82, 0x86, 0x84, 0x41, 0x0f];
        block.extend_from_slice(b"www.example.com");
        let read = decoded(&mut Decoder::default(), &block);
        assert_eq!(read[3], (":authority".into(), "www.example.com".into()));
        assert_eq!(read[2], (":path".into(), "/".into()));
    }

    #[test]
    fn long_integers_survive() {
        for value in [0, 30, 31, 127, 128, 1337, 1 << 20] {
            let mut out = Vec::new();
            integer(&mut out, 0, 5, value);
            assert_eq!(read_integer(&mut out.as_slice(), 5), Ok(value));
        }
    }

    #[test]
    fn unknown_indices_and_cut_blocks_are_refused() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(&[0x80], |_, _| ()), Err(Malformed));
        assert_eq!(decoder.decode(&[0xff, 0x10], |_, _| ()), Err(Malformed));
        assert_eq!(decoder.decode(&[0x40, 0x05, b'a'], |_, _| ()), Err(Malformed));
    }

    #[test]
    fn shrinking_the_table_evicts() {
        let mut decoder = Decoder::default();
        decoded(&mut decoder, &[0x40, 1, b'a', 1, b'b']);
        assert_eq!(decoded(&mut decoder, &[0xbe]), [("a".into(), "b".into())]);
        assert_eq!(decoder.decode(&[0x20, 0xbe], |_, _| ()), Err(Malformed));
    }
}
