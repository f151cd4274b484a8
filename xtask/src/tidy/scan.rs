//! A light reading of a Rust file: enough to count lines, find functions and words.
//!
//! Comments and literals are blanked first, so that braces and names inside them do not count.
//! Macros that build functions are not expanded; nobody needs a precise answer here.

/// One source file, prepared.
pub(super) struct Source {
    original: String,
    /// The same text with comments and literals blanked; line breaks stay where they are.
    code: String,
    /// Line of the inline test module, or the number of lines.
    tests_start: usize,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    /// Its name, without the type it belongs to.
    pub(super) name: String,
    /// Lines from `fn` to the closing brace.
    pub(super) lines: usize,
}

impl Source {
    /// Prepares `text`.
    pub(super) fn new(text: &str) -> Self {
        let code = blank(text);
        let mut lines = code.lines().zip(1..).peekable();
        let mut tests_start = text.lines().count();
        while let Some((line, number)) = lines.next() {
            let module = |l: &str| l.trim_start().starts_with("mod ") && l.contains('{');
            if line.trim() == "#[cfg(test)]" && lines.peek().is_some_and(|(l, _)| module(l)) {
                tests_start = number - 1;
                break;
            }
        }
        Self { original: text.into(), code, tests_start }
    }

    /// The file opens with a `//!` comment.
    pub(super) fn starts_with_page(&self) -> bool {
        let first = self.original.lines().find(|l| !l.trim().is_empty() && !l.starts_with("#!"));
        first.is_some_and(|l| l.starts_with("//!"))
    }

    /// Lines before the inline tests.
    pub(super) fn code_lines(&self) -> usize {
        self.tests_start
    }

    /// The code outside tests contains `word` as a whole identifier.
    pub(super) fn mentions(&self, word: &str) -> bool {
        self.code
            .lines()
            .take(self.tests_start)
            .any(|l| l.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == word))
    }

    /// Functions with a body outside tests, nested ones included.
    pub(super) fn functions(&self) -> Vec<Function> {
        let bytes = self.code.as_bytes();
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(offset) = self.code[at..].find("fn ") {
            let start = at + offset;
            at = start + 3;
            let whole_word = start == 0 || !is_word(bytes[start - 1]);
            let name: String = self.code[at..].chars().take_while(|c| is_name(*c)).collect();
            if !whole_word || name.is_empty() {
                continue;
            }
            let first_line = self.line_of(start);
            if first_line >= self.tests_start {
                break;
            }
            if let Some(end) = body_end(bytes, at) {
                found.push(Function { name, lines: self.line_of(end) - first_line + 1 });
            }
        }
        found
    }

    fn line_of(&self, offset: usize) -> usize {
        self.code.as_bytes()[..offset].iter().filter(|b| **b == b'\n').count()
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Offset of the brace that closes the body of the function whose name starts at `from`, or `None`
/// for a declaration without one.
fn body_end(code: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0usize;
    let mut parens = 0usize;
    for (i, byte) in code.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => parens += 1,
            b')' | b']' => parens = parens.saturating_sub(1),
            b';' if depth == 0 && parens == 0 => return None,
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 && parens == 0 {
                    return Some(i);
                }
            }
            _ => {}
        }
    }
    None
}

/// Replaces comments, strings and characters by spaces.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut i = 0;
    while i < bytes.len() {
        let end = literal_end(bytes, i);
        if end > i {
            let keep = |b: &mut u8| *b = if *b == b'\n' { b'\n' } else { b' ' };
            out[i..end].iter_mut().for_each(keep);
            i = end;
        } else {
            i += 1;
        }
    }
    String::from_utf8(out).expect("whole characters were replaced by spaces")
}

/// End of the comment or literal that starts at `i`; `i` itself if none does.
fn literal_end(b: &[u8], i: usize) -> usize {
    let rest = &b[i..];
    let after_word = i > 0 && is_word(b[i - 1]);
    if rest.starts_with(b"//") {
        return i + rest.iter().position(|c| *c == b'\n').unwrap_or(rest.len());
    }
    if rest.starts_with(b"/*") {
        return block_comment_end(b, i);
    }
    if !after_word
        && (rest.starts_with(b"r\"") || rest.starts_with(b"r#") || rest.starts_with(b"br"))
    {
        return raw_string_end(b, i);
    }
    match rest[0] {
        b'"' => quoted_end(b, i, b'"'),
        // A lifetime has no closing quote two or more places on.
        b'\'' if rest.get(1) == Some(&b'\\') || char_closes(rest) => quoted_end(b, i, b'\''),
        _ => i,
    }
}

/// `rest`, which starts with a quote, is a character and not a lifetime.
fn char_closes(rest: &[u8]) -> bool {
    let length = match rest.get(1) {
        None => return false,
        Some(c) if *c < 0x80 => 1,
        Some(c) if *c < 0xe0 => 2,
        Some(c) if *c < 0xf0 => 3,
        Some(_) => 4,
    };
    rest.get(1 + length) == Some(&b'\'')
}

fn block_comment_end(b: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut i = start;
    while i < b.len() {
        if b[i..].starts_with(b"/*") {
            depth += 1;
            i += 2;
        } else if b[i..].starts_with(b"*/") {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    b.len()
}

fn raw_string_end(b: &[u8], start: usize) -> usize {
    let mut i = start + b[start..].iter().take_while(|c| matches!(c, b'b' | b'r')).count();
    let hashes = b[i..].iter().take_while(|c| **c == b'#').count();
    i += hashes;
    if b.get(i) != Some(&b'"') {
        return start;
    }
    let mut close = vec![b'"'];
    close.resize(1 + hashes, b'#');
    let found = b[i + 1..].windows(close.len()).position(|w| w == close);
    found.map_or(b.len(), |at| i + 1 + at + close.len())
}

fn quoted_end(b: &[u8], start: usize, quote: u8) -> usize {
    let mut i = start + 1;
    while i < b.len() {
        match b[i] {
            b'\\' => i += 2,
            c if c == quote => return i + 1,
            _ => i += 1,
        }
    }
    b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions(text: &str) -> Vec<(String, usize)> {
        Source::new(text).functions().into_iter().map(|f| (f.name, f.lines)).collect()
    }

    #[test]
    fn functions_are_measured_to_their_closing_brace() {
        let text =
            "fn a() {\n    if x {\n    }\n}\n\nimpl T {\n    pub fn b(&self) -> [u8; 4] { c }\n}\n";
        assert_eq!(functions(text), [("a".into(), 4), ("b".into(), 1)]);
    }

    #[test]
    fn declarations_and_function_pointers_are_not_functions() {
        assert_eq!(functions("trait T {\n fn a(&self);\n}\nstruct S { f: fn (u8) }\n"), []);
    }

    #[test]
    fn braces_in_literals_and_comments_do_not_count() {
        let text =
            "fn a<'a>() {\n // }\n let s = \"}\"; let r = r#\"\"}\"#; let c = '}'; /* } */\n}\n";
        assert_eq!(functions(text), [("a".into(), 4)]);
    }

    #[test]
    fn inline_tests_are_left_out() {
        let text = "//! Page.\nfn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { HashMap }\n}\n";
        let source = Source::new(text);
        assert_eq!(source.code_lines(), 2);
        assert_eq!(source.functions().len(), 1);
        assert!(!source.mentions("HashMap"));
    }

    #[test]
    fn words_are_whole_and_outside_comments() {
        let source = Source::new("// Instant\nuse Instantly; let s = \"Instant\";\n");
        assert!(!source.mentions("Instant"));
        assert!(Source::new("use std::time::Instant;\n").mentions("Instant"));
    }

    #[test]
    fn page_comes_first() {
        assert!(Source::new("//! Page.\n").starts_with_page());
        assert!(!Source::new("use x;\n//! Page.\n").starts_with_page());
    }
}
