//! Texts as Go's standard library reads and writes them, on which scripts rely: quoted strings,
//! durations, numbers and their errors, sizes.

mod duration;
mod number;
mod quote;

pub(crate) use crate::go::duration::{format_duration, parse_duration};
pub(crate) use crate::go::number::{bytes_si, parse_int, parse_uint};
pub(crate) use crate::go::quote::{quote, unquote};

/// An error of the operating system in Go's words: `no such file or directory`.
pub(crate) fn io_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
