//! A writer of JSON objects with Go's `omitempty`.

use std::fmt::{Display, Write};

/// An object being written; consumed by [`Object::close`].
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Self {
        Self("{".to_owned())
    }

    /// A member whose value is JSON already.
    pub(super) fn always(mut self, name: &str, json: impl Display) -> Self {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        let _ = write!(self.0, "\"{name}\":{json}");
        self
    }

    /// A member that may be absent.
    pub(super) fn maybe(self, name: &str, json: Option<String>) -> Self {
        match json {
            Some(json) => self.always(name, json),
            None => self,
        }
    }

    /// A number, left out if it is 0.
    pub(super) fn number(self, name: &str, number: impl Into<i128>) -> Self {
        match number.into() {
            0 => self,
            number => self.always(name, number),
        }
    }

    /// A truth value, left out if it is false.
    pub(super) fn truth(self, name: &str, truth: bool) -> Self {
        if truth { self.always(name, true) } else { self }
    }

    /// A text, left out if it is empty.
    pub(super) fn text(self, name: &str, text: &str) -> Self {
        if text.is_empty() { self } else { self.always(name, string(text)) }
    }

    /// An array, left out if it is empty.
    pub(super) fn list(self, name: &str, items: impl Iterator<Item = String>) -> Self {
        let mut items = items.peekable();
        if items.peek().is_none() { self } else { self.always(name, array(items)) }
    }

    /// The object's text.
    pub(super) fn close(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

/// An array of values that are JSON already.
pub(super) fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// A JSON string; what could end a script element is escaped, as Go does.
pub(super) fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        assert_eq!(string("a<b>&\"\\\n\u{1}ü"), r#""a\u003cb\u003e\u0026\"\\\n\u0001ü""#);
    }

    #[test]
    fn empty_values_are_left_out() {
        let object = Object::new().number("a", 0).truth("b", false).text("c", "").number("d", 7);
        assert_eq!(object.close(), r#"{"d":7}"#);
    }
}
