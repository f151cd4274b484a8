//! What a server process spends, read from /proc.

use std::time::Duration;

use serde::Serialize;

/// Ticks of the kernel's accounting a second. Linux has reported 100 to programs since long before
/// anything this runs on.
const TICKS_PER_SECOND: u64 = 100;

/// Processor time and memory of one or more processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// User and system time so far.
    #[serde(skip)]
    pub cpu: Duration,
    /// Resident memory, bytes.
    pub rss: u64,
    /// The most it ever was, bytes.
    pub rss_peak: u64,
}

/// The processes are gone, or this is not Linux.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the usage of process {pid}: {source}")]
pub struct Error {
    pid: u32,
    source: std::io::Error,
}

impl Usage {
    /// The sum over `pids`.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn of(pids: &[u32]) -> Result<Self, Error> {
        let mut sum = Self::default();
        for &pid in pids {
            let read = |file: &str| {
                let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"));
                text.map_err(|source| Error { pid, source })
            };
            sum.cpu += cpu(&read("stat")?);
            let status = read("status")?;
            sum.rss += kib(&status, "VmRSS:") * 1024;
            sum.rss_peak += kib(&status, "VmHWM:") * 1024;
        }
        Ok(sum)
    }
}

/// utime and stime: fields 14 and 15, the first after the name in parentheses being field 3.
fn cpu(stat: &str) -> Duration {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = after_name.split_whitespace().skip(11);
    let mut next = || fields.next().and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    let ticks = next() + next();
    Duration::from_millis(ticks * (1000 / TICKS_PER_SECOND))
}

fn kib(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|l| l.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 5 1 1 1";
        assert_eq!(cpu(stat), Duration::from_secs(3));
    }

    #[test]
    fn own_usage_is_not_zero() {
        let usage = Usage::of(&[std::process::id()]).unwrap();
        assert!(usage.rss > 0 && usage.rss_peak >= usage.rss);
    }

    #[test]
    fn a_missing_process_is_an_error() {
        assert!(Usage::of(&[u32::MAX]).is_err());
    }
}
