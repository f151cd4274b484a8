//! `%q` and its inverse.

use std::fmt::Write;

/// Whether Go prints the character as it is.
fn is_printable(c: char) -> bool {
    // The standard library escapes marks only at the beginning of a string, Go never does.
    c == ' ' || ['x', c].iter().collect::<String>().escape_debug().nth(1) == Some(c)
}

/// A Go string literal of these bytes; bytes that are not UTF-8 become `\x..`.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\x07' => out.push_str("\\a"),
                '\x08' => out.push_str("\\b"),
                '\x0c' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x0b' => out.push_str("\\v"),
                '\'' => out.push('\''),
                c if is_printable(c) => out.push(c),
                c => push_escape(&mut out, c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

fn push_escape(out: &mut String, c: char) {
    let _ = match u32::from(c) {
        code @ (0..0x20 | 0x7f) => write!(out, "\\x{code:02x}"),
        code @ 0..0x1_0000 => write!(out, "\\u{code:04x}"),
        code => write!(out, "\\U{code:08x}"),
    };
}

/// The bytes of a Go string literal in double quotes; `None` where its syntax is invalid.
pub(crate) fn unquote(literal: &[u8]) -> Option<Vec<u8>> {
    let mut rest = literal.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let mut out = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'"' | b'\n' => return None,
            b'\\' => rest = unescape(rest, &mut out)?,
            _ => out.push(byte),
        }
    }
    Some(out)
}

/// Reads what follows a backslash and gives what is left.
fn unescape<'a>(rest: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&kind, rest) = rest.split_first()?;
    let number = |rest: &'a [u8], digits: usize, radix: u32| {
        let (digits, rest) = rest.split_at_checked(digits)?;
        let digits = std::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
        Some((u32::from_str_radix(digits, radix).ok()?, rest))
    };
    let simple = match kind {
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 11,
        b'\\' | b'"' => kind,
        b'x' => {
            let (code, rest) = number(rest, 2, 16)?;
            out.push(u8::try_from(code).ok()?);
            return Some(rest);
        }
        b'0'..=b'7' => {
            let (code, rest) = number(rest, 2, 8)?;
            out.push(u8::try_from(u32::from(kind - b'0') * 64 + code).ok()?);
            return Some(rest);
        }
        b'u' | b'U' => {
            let (code, rest) = number(rest, if kind == b'u' { 4 } else { 8 }, 16)?;
            let c = char::from_u32(code)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        _ => return None,
    };
    out.push(simple);
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go_does() {
        for (bytes, text) in [
            (&b"bar"[..], r#""bar""#),
            (b"b\x01z", r#""b\x01z""#),
            (b"\x00\x7f\xff", r#""\x00\x7f\xff""#),
            (b"v \"q\" 'x' \\", r#""v \"q\" 'x' \\""#),
            ("ü\u{301}\u{200b}\u{a0}\u{1f600}".as_bytes(), "\"ü\u{301}\\u200b\\u00a0\u{1f600}\""),
            (b"\x07\n\t", r#""\a\n\t""#),
        ] {
            assert_eq!(quote(bytes), text);
        }
    }

    #[test]
    fn unquotes_as_go_does() {
        assert_eq!(unquote(br#""a\n\x00\101\u00fc""#), Some("a\n\0Aü".as_bytes().to_vec()));
        for bad in [&br#""\q""#[..], br#""a"b""#, b"a", br#""\x1""#, br#""\'""#, b"\"\n\""] {
            assert_eq!(unquote(bad), None);
        }
    }
}
