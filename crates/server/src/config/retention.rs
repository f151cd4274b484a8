//! How much history is kept: `--auto-compaction-mode` and `--auto-compaction-retention`.

use std::time::Duration;

use super::{Config, duration};

const HOUR: Duration = Duration::from_secs(3600);

/// What the leader compacts by itself (CP-06).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Nothing.
    Everything,
    /// What is older than this.
    Period(Duration),
    /// What lies so many revisions behind the newest.
    Revisions(i64),
}

impl Config {
    /// What the two flags say together.
    ///
    /// # Errors
    ///
    /// A text that names what is wrong.
    pub fn retention(&self) -> Result<Retention, String> {
        let text = self.auto_compaction_retention.as_str();
        let number = text.parse::<u32>().ok();
        let unreadable = |expected: &str| {
            format!(
                "error parsing CompactionRetention: {text:?} of --auto-compaction-retention is not {expected}"
            )
        };
        match self.auto_compaction_mode.as_str() {
            "periodic" => {
                let hours = number.map(|hours| HOUR * hours);
                let period = hours.or_else(|| duration::parse(text));
                match period
                    .ok_or_else(|| unreadable("a number of hours or a duration such as 30m"))?
                {
                    Duration::ZERO => Ok(Retention::Everything),
                    period => Ok(Retention::Period(period)),
                }
            }
            "revision" => match number.ok_or_else(|| unreadable("a number of revisions"))? {
                0 => Ok(Retention::Everything),
                revisions => Ok(Retention::Revisions(revisions.into())),
            },
            "" => Err("undefined auto-compaction-mode".into()),
            mode => Err(format!("unknown auto-compaction-mode {mode:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retention(mode: &str, text: &str) -> Result<Retention, String> {
        let config = Config {
            auto_compaction_mode: mode.into(),
            auto_compaction_retention: text.into(),
            ..Config::default()
        };
        config.retention()
    }

    #[test]
    fn cp_06_row_062_what_the_flags_say() {
        let period = |seconds| Ok(Retention::Period(Duration::from_secs(seconds)));
        assert_eq!(retention("periodic", "0"), Ok(Retention::Everything));
        assert_eq!(retention("periodic", "0s"), Ok(Retention::Everything));
        assert_eq!(retention("periodic", "2"), period(7200));
        assert_eq!(retention("periodic", "30m"), period(1800));
        assert_eq!(retention("revision", "0"), Ok(Retention::Everything));
        assert_eq!(retention("revision", "1000"), Ok(Retention::Revisions(1000)));
        for (mode, text) in [("periodic", "soon"), ("periodic", "-1"), ("revision", "5m")] {
            let error = retention(mode, text).expect_err("refused");
            assert!(error.starts_with("error parsing CompactionRetention: "), "{error}");
        }
        assert_eq!(retention("", "0"), Err("undefined auto-compaction-mode".into()));
        assert_eq!(retention("foo", "0"), Err("unknown auto-compaction-mode \"foo\"".into()));
    }
}
