//! Durations as Go writes them: `300ms`, `1h30m`, `1.5s`.

use std::time::Duration;

/// Reads a duration; `None` if it is none. Negative ones are none either.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut nanos = 0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        nanos += number
            * match &rest[..unit] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    // Go's durations end at about 292 years.
    (nanos < 9.2e18).then(|| Duration::from_nanos(nanos as u64))
}

/// Writes a duration as Go does for the whole units that flags use.
pub(crate) fn format(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".into();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let seconds = (millis % 60_000) as f64 / 1000.0;
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_write_like_go() {
        let millis = |text| parse(text).map(|duration| duration.as_millis());
        assert_eq!(millis("300ms"), Some(300));
        assert_eq!(millis("1h30m"), Some(5_400_000));
        assert_eq!(millis("1.5s"), Some(1500));
        assert_eq!(millis("0"), Some(0));
        for bad in ["", "5", "s", "-1s", "1 s", "1x"] {
            assert_eq!(millis(bad), None, "{bad}");
        }
        assert_eq!(format(Duration::from_secs(7200)), "2h0m0s");
        assert_eq!(format(Duration::from_secs(600)), "10m0s");
        assert_eq!(format(Duration::from_millis(100)), "100ms");
        assert_eq!(format(Duration::from_secs(20)), "20s");
    }
}
