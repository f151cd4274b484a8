//! Splits a line of interactive input into words (ctl.md §3.1).

use crate::failure::Failure;
use crate::go;

/// The words of a line. A word in single quotes is taken as it is, one in double quotes is a Go
/// string literal, any other reaches to the next space and may contain quotes inside.
pub(crate) fn argify(line: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(&first) = rest.first() {
        let length = match first {
            b'"' => double_quoted(rest),
            b'\'' => rest[1..].iter().position(|&byte| byte == b'\'').map(|end| end + 2),
            byte if byte.is_ascii_whitespace() => None,
            _ => Some(rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len())),
        };
        // A quote that is never closed is no word and is skipped like a space.
        let Some(length) = length else {
            rest = &rest[1..];
            continue;
        };
        let (word, after) = rest.split_at(length);
        rest = after;
        words.push(match first {
            b'"' => go::unquote(word).ok_or_else(|| Failure::invalid_input("invalid syntax"))?,
            b'\'' => word[1..word.len() - 1].to_vec(),
            _ => word.to_vec(),
        });
    }
    Ok(words)
}

/// The length of the literal at the beginning, if it is closed.
fn double_quoted(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, words: &[&str]) {
        let want: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        assert_eq!(argify(line.as_bytes()), Ok(want));
    }

    #[test]
    fn lines_are_split_as_etcdctl_splits_them() {
        check("put a b", &["put", "a", "b"]);
        check(r#"put "a b" 'c "d'"#, &["put", "a b", "c \"d"]);
        check(r#"put a"b c"#, &["put", "a\"b", "c"]);
        check(r#"put "a""b""#, &["put", "a", "b"]);
        check(r#"put a "b"#, &["put", "a", "b"]);
        check(r#"put "\x41\n""#, &["put", "A\n"]);
        check("  ", &[]);
        assert_eq!(argify(br#""\q""#).unwrap_err().message(), "invalid syntax");
    }
}
