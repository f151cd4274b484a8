//! Log lines as etcd writes them: one JSON object each, with `level`, `ts`, `caller` and `msg`.

use std::fmt::{self, Write as _};
use std::sync::OnceLock;

use etcdrs_platform::{Clock as _, SystemClock};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::config::Config;

/// Sends log lines where the configuration says. Only the first call of a process does anything.
pub(crate) fn install(config: &Config) {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    let level = match config.log_level.as_str() {
        "debug" => "debug",
        "info" => "info",
        "warn" => "warn",
        _ => "error",
    };
    // What openraft says at info is for its developers.
    let filter = match level {
        "debug" => EnvFilter::new("debug,h2=info,hyper=info"),
        level => EnvFilter::new(format!("{level},openraft=error")),
    };
    INSTALLED.get_or_init(|| {
        let stdout = config.log_outputs == "stdout";
        let builder = tracing_subscriber::fmt().with_env_filter(filter);
        let writer = move || -> Box<dyn std::io::Write> {
            if stdout { Box::new(std::io::stdout()) } else { Box::new(std::io::stderr()) }
        };
        // An embedding program may have a subscriber of its own, which then stays.
        let result = if config.log_format == "console" {
            builder.with_writer(writer).try_init()
        } else {
            builder.event_format(EtcdJson).with_writer(writer).try_init()
        };
        drop(result);
    });
}

struct EtcdJson;

impl<S, N> FormatEvent<S, N> for EtcdJson
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let level = match *metadata.level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let mut fields = Fields::default();
        event.record(&mut fields);
        let file = metadata.file().unwrap_or_default();
        let caller = file.rsplit('/').take(2).collect::<Vec<_>>();
        let caller = caller.into_iter().rev().collect::<Vec<_>>().join("/");
        write!(
            writer,
            "{{\"level\":\"{level}\",\"ts\":\"{}\",\"caller\":\"{caller}:{}\",\"msg\":{}{}}}",
            timestamp(SystemClock::new().wall_unix_ms()),
            metadata.line().unwrap_or_default(),
            quoted(&fields.message),
            fields.rest
        )?;
        writeln!(writer)
    }
}

/// The message, and everything else as `,"key":value`.
#[derive(Default)]
struct Fields {
    message: String,
    rest: String,
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Fields {
    fn add(&mut self, field: &Field, value: &str) {
        // Go's names have dashes where Rust's have underscores; writing to a string cannot fail.
        let _ = write!(self.rest, ",\"{}\":{value}", field.name().replace('_', "-"));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.add(field, &quoted(&text));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.add(field, &quoted(value));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, &value.to_string());
    }
}

/// `2006-01-02T15:04:05.000Z`.
fn timestamp(unix_ms: u64) -> String {
    let (days, of_day) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days are counted from 1 March of year 0, so that a leap day ends a year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_iso_8601() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(timestamp(1_795_176_000_000), "2026-11-20T12:00:00.000Z");
    }
}
