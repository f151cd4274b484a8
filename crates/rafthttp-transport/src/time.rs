//! Go's rendering of a time in JSON, which probes carry (RFC 3339, with as many digits as needed).

const DAY_MS: i64 = 86_400_000;

/// Milliseconds since the Unix epoch as UTC.
pub(crate) fn format(unix_ms: u64) -> String {
    let millis = i64::try_from(unix_ms).unwrap_or(i64::MAX / 2);
    let (year, month, day) = date(millis.div_euclid(DAY_MS));
    let rest = millis.rem_euclid(DAY_MS);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60);
    let fraction = match rest % 1000 {
        0 => String::new(),
        millis => format!(".{millis:03}").trim_end_matches('0').to_owned(),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Milliseconds since the Unix epoch, or `None` if the text is no such time.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let (day, time) = text.split_once('T')?;
    let mut parts = day.split('-');
    let (year, month, day) =
        (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    if parts.next().is_some()
        || year > 9999
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
    {
        return None;
    }
    let zone_at = time.find(['Z', '+', '-'])?;
    let (time, zone) = time.split_at(zone_at);
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut parts = seconds.split(':');
    let (hour, minute, second) =
        (number(parts.next()?)?, number(parts.next()?)?, number(parts.next()?)?);
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let millis = number(format!("{fraction:0<3}").get(..3)?)?;
    let day_ms = ((hour * 60 + minute) * 60 + second) * 1000 + millis;
    Some(days(year, month, day) * DAY_MS + day_ms - offset_ms(zone)?)
}

fn offset_ms(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first()? {
        b'Z' => return (zone.len() == 1).then_some(0),
        b'+' => 1,
        _ => -1,
    };
    let (hours, minutes) = zone[1..].split_once(':')?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000)
}

fn number(text: &str) -> Option<i64> {
    let digits = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years are counted from March, so
/// that the leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// The date that is `day` days after 1970-01-01: the inverse of [`days`].
fn date(day: i64) -> (i64, i64, i64) {
    // A guess that is never too late; it is early by a year in five hundred.
    let mut year = 1970 + day.div_euclid(366);
    while days(year + 1, 1, 1) <= day {
        year += 1;
    }
    let month = (1..=12).rev().find(|month| days(year, *month, 1) <= day).unwrap_or(1);
    (year, month, day - days(year, month, 1) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        assert_eq!(format(0), "1970-01-01T00:00:00Z");
        assert_eq!(format(1_795_170_781_100), "2026-11-20T10:33:01.1Z");
        assert_eq!(format(951_782_400_001), "2000-02-29T00:00:00.001Z");
    }

    #[test]
    fn what_is_written_is_read() {
        for millis in
            [0, 1, 999, 951_782_400_001, 951_868_800_000, 1_795_170_781_100, 4_107_542_400_000]
        {
            assert_eq!(parse(&format(millis)), Some(millis as i64), "{millis}");
        }
        assert_eq!(parse("2026-11-20T12:33:01.123456789+02:00"), Some(1_795_170_781_123));
        assert_eq!(parse("1969-12-31T23:59:59Z"), Some(-1000));
    }

    #[test]
    fn other_texts_are_no_times() {
        for text in [
            "",
            "T",
            "2026-11-20",
            "2026-11-20T10:33Z",
            "2026-13-20T10:33:01Z",
            "2026-11-20T10:33:01",
            "2026-11-20T10:33:01+2",
            "2026-11-20T10:33:01.x1Z",
            "2026-11-20T10:33:01.é1Z",
            "-1-11-20T10:33:01Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
