//! The Huffman code of RFC 7541, appendix B, for printable ASCII.
//!
//! A gRPC server sends nothing else in headers: messages are percent-encoded. Other codes decode to
//! an error instead of being carried here for nobody.

use std::sync::LazyLock;

/// Code and its length in bits for the characters from space to `~`.
const CODES: [(u32, u8); 95] = [
    (0x14, 6),
    (0x3f8, 10),
    (0x3f9, 10),
    (0xffa, 12),
    (0x1ff9, 13),
    (0x15, 6),
    (0xf8, 8),
    (0x7fa, 11),
    (0x3fa, 10),
    (0x3fb, 10),
    (0xf9, 8),
    (0x7fb, 11),
    (0xfa, 8),
    (0x16, 6),
    (0x17, 6),
    (0x18, 6),
    (0x0, 5),
    (0x1, 5),
    (0x2, 5),
    (0x19, 6),
    (0x1a, 6),
    (0x1b, 6),
    (0x1c, 6),
    (0x1d, 6),
    (0x1e, 6),
    (0x1f, 6),
    (0x5c, 7),
    (0xfb, 8),
    (0x7ffc, 15),
    (0x20, 6),
    (0xffb, 12),
    (0x3fc, 10),
    (0x1ffa, 13),
    (0x21, 6),
    (0x5d, 7),
    (0x5e, 7),
    (0x5f, 7),
    (0x60, 7),
    (0x61, 7),
    (0x62, 7),
    (0x63, 7),
    (0x64, 7),
    (0x65, 7),
    (0x66, 7),
    (0x67, 7),
    (0x68, 7),
    (0x69, 7),
    (0x6a, 7),
    (0x6b, 7),
    (0x6c, 7),
    (0x6d, 7),
    (0x6e, 7),
    (0x6f, 7),
    (0x70, 7),
    (0x71, 7),
    (0x72, 7),
    (0xfc, 8),
    (0x73, 7),
    (0xfd, 8),
    (0x1ffb, 13),
    (0x7fff0, 19),
    (0x1ffc, 13),
    (0x3ffc, 14),
    (0x22, 6),
    (0x7ffd, 15),
    (0x3, 5),
    (0x23, 6),
    (0x4, 5),
    (0x24, 6),
    (0x5, 5),
    (0x25, 6),
    (0x26, 6),
    (0x27, 6),
    (0x6, 5),
    (0x74, 7),
    (0x75, 7),
    (0x28, 6),
    (0x29, 6),
    (0x2a, 6),
    (0x7, 5),
    (0x2b, 6),
    (0x76, 7),
    (0x2c, 6),
    (0x8, 5),
    (0x9, 5),
    (0x2d, 6),
    (0x77, 7),
    (0x78, 7),
    (0x79, 7),
    (0x7a, 7),
    (0x7b, 7),
    (0x7ffe, 15),
    (0x7fc, 11),
    (0x3ffd, 14),
    (0x1ffd, 13),
];

const LONGEST: u8 = 19;

/// Characters by (length, code), sorted for searching.
static BY_CODE: LazyLock<Vec<(u8, u32, u8)>> = LazyLock::new(|| {
    let mut all: Vec<_> =
        CODES.iter().zip(b' '..).map(|((code, len), c)| (*len, *code, c)).collect();
    all.sort_unstable();
    all
});

/// Decodes `input`; `None` for a code outside printable ASCII or bad padding.
pub(super) fn decode(input: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(input.len() * 2);
    let (mut code, mut len) = (0u32, 0u8);
    for bit in input.iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1)) {
        code = code << 1 | u32::from(bit);
        len += 1;
        if let Ok(at) = BY_CODE.binary_search_by_key(&(len, code), |(l, c, _)| (*l, *c)) {
            out.push(BY_CODE[at].2);
            (code, len) = (0, 0);
        } else if len > LONGEST {
            return None;
        }
    }
    // What is left is padding: fewer than eight bits, all ones.
    (len < 8 && code == (1 << len) - 1).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7541 appendix C.4 and C.6.
    #[test]
    fn examples_of_the_rfc_decode() {
        let host = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&host).unwrap(), b"www.example.com");
        assert_eq!(decode(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(), b"no-cache");
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b,
            0x81, 0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
        ];
        assert_eq!(decode(&date).unwrap(), b"Mon, 21 Oct 2013 20:13:21 GMT");
    }

    #[test]
    fn no_code_is_the_beginning_of_another() {
        for (i, (a, a_len)) in CODES.iter().enumerate() {
            for (b, b_len) in &CODES[i + 1..] {
                let shorter = (*a_len).min(*b_len);
                assert_ne!(a >> (a_len - shorter), b >> (b_len - shorter));
            }
        }
    }

    #[test]
    fn bad_padding_is_refused() {
        assert_eq!(decode(&[0x00]), None);
        assert_eq!(decode(&[0x07]).unwrap(), b"0");
        assert_eq!(decode(&[0xff, 0xff, 0xff, 0xff]), None);
    }
}
