//! Integers and sizes as text.

/// Why a number is refused, in `strconv`'s words.
fn refuse(function: &str, text: &str, error: &std::num::ParseIntError) -> String {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let why = match error.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    format!("strconv.{function}: parsing {}: {why}", crate::go::quote(text.as_bytes()))
}

/// `strconv.ParseInt(text, radix, 64)`.
pub(crate) fn parse_int(text: &str, radix: u32) -> Result<i64, String> {
    i64::from_str_radix(text, radix).map_err(|error| refuse("ParseInt", text, &error))
}

/// `strconv.ParseUint(text, radix, 64)`, which takes no sign.
pub(crate) fn parse_uint(text: &str, radix: u32) -> Result<u64, String> {
    // A sign makes the text malformed, which an empty one is as well.
    let digits = if text.starts_with('+') { "" } else { text };
    u64::from_str_radix(digits, radix).map_err(|error| refuse("ParseUint", text, &error))
}

/// A size in powers of 1000 with two significant digits: `0 B`, `20 kB`, `2.1 GB`.
pub(crate) fn bytes_si(bytes: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 10 {
        return format!("{bytes} B");
    }
    let exponent = bytes.ilog(1000);
    let unit = 1000_u128.pow(exponent);
    // Tenths of the unit, rounded half up.
    let tenths = (u128::from(bytes) * 10 + unit / 2) / unit;
    let name = UNITS[exponent as usize];
    if tenths < 100 {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    } else {
        // The library rounds once more, half to even, from the tenths.
        let (whole, rest) = (tenths / 10, tenths % 10);
        let up = rest > 5 || (rest == 5 && whole % 2 == 1);
        format!("{} {name}", whole + u128::from(up))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (9, "9 B"),
            (10, "10 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (20_480, "20 kB"),
            (24_576, "25 kB"),
            (81_920, "82 kB"),
            (2_147_483_648, "2.1 GB"),
            (16_384, "16 kB"),
        ] {
            assert_eq!(bytes_si(bytes), text);
        }
    }

    #[test]
    fn numbers_are_refused_in_the_words_of_strconv() {
        let error = parse_int("zz", 16).unwrap_err();
        assert_eq!(error, "strconv.ParseInt: parsing \"zz\": invalid syntax");
        let error = parse_uint("fffffffffffffffff", 16).unwrap_err();
        assert_eq!(error, "strconv.ParseUint: parsing \"fffffffffffffffff\": value out of range");
        assert_eq!(parse_int("-7", 10), Ok(-7));
        assert!(parse_uint("+7", 10).is_err() && parse_uint("", 10).is_err());
    }
}
