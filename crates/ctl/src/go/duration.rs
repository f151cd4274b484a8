//! `time.Duration` as text.

use std::time::Duration;

/// A number of nanoseconds in a unit, exactly, without zeros at the end.
fn decimal(nanos: u128, unit: u128, name: &str) -> String {
    let digits = unit.ilog10() as usize;
    let (whole, rest) = (nanos / unit, nanos % unit);
    let rest = format!("{rest:0digits$}");
    let rest = rest.trim_end_matches('0');
    let dot = if rest.is_empty() { "" } else { "." };
    format!("{whole}{dot}{rest}{name}")
}

/// Writes a duration as Go does: `0s`, `1.5µs`, `12.3ms`, `1m30.5s`, `2h0m0s`.
pub(crate) fn format_duration(duration: Duration) -> String {
    const SECOND: u128 = 1_000_000_000;
    const MINUTE: u128 = 60 * SECOND;
    let nanos = duration.as_nanos();
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => decimal(nanos, 1_000, "µs"),
        1_000_000..SECOND => decimal(nanos, 1_000_000, "ms"),
        _ => {
            let rest = decimal(nanos % MINUTE, SECOND, "s");
            match (nanos / MINUTE / 60, nanos / MINUTE % 60) {
                (0, 0) => rest,
                (0, minutes) => format!("{minutes}m{rest}"),
                (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
            }
        }
    }
}

/// Reads a duration that is not negative; the error is Go's.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..end].parse().map_err(|_| invalid())?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let nanos = match &rest[..end] {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            unit => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        sum += number * nanos;
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(sum / 1e9).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (2_312_910, "2.31291ms"),
            (1_000_376_290, "1.00037629s"),
            (2_000_000_000, "2s"),
            (90_500_000_000, "1m30.5s"),
            (60_250_000_000, "1m0.25s"),
            (7_200_000_000_000, "2h0m0s"),
        ] {
            assert_eq!(format_duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("5").unwrap_err(), "time: missing unit in duration \"5\"");
        assert_eq!(parse_duration("x").unwrap_err(), "time: invalid duration \"x\"");
        let error = "time: unknown unit \"d\" in duration \"5d\"";
        assert_eq!(parse_duration("5d").unwrap_err(), error);
    }
}
