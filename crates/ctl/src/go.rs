//! Texts as Go's standard library reads and writes them, on which scripts rely: quoted strings,
//! durations, numbers and their errors, sizes.

mod duration;
mod number;
mod quote;

pub(crate) use crate::go::duration::{format_duration, parse_duration};
pub(crate) use crate::go::number::{bytes_si, parse_int, parse_uint};
pub(crate) use crate::go::quote::{quote, unquote};
