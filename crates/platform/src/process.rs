//! What the system tells about a process: processor time, memory, file descriptors.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit};

/// Use of resources of one process so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in user mode, all threads.
    pub user: Duration,
    /// Processor time in the kernel, all threads.
    pub system: Duration,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Largest resident memory so far, bytes.
    pub resident_bytes_max: u64,
    /// Virtual memory, bytes.
    pub virtual_bytes: u64,
    /// Number of threads.
    pub threads: u64,
}

impl Usage {
    /// Processor time, user and kernel.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }
}

/// The use of resources of process `pid`, from `/proc`. `NotFound` if there is no such process.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    parse_usage(&stat, &status, rustix::param::clock_ticks_per_second()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "unknown form of /proc/<pid>/stat")
    })
}

fn parse_usage(stat: &str, status: &str, ticks_per_second: u64) -> Option<Usage> {
    // The name in parentheses may contain spaces and parentheses; fields are counted behind it,
    // where the first one is field 3 of proc(5).
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = |ticks: u64| {
        Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / ticks_per_second.max(1)))
    };
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Usage {
        user: ticks(field(14)?),
        system: ticks(field(15)?),
        resident_bytes: kib("VmRSS").unwrap_or(0) * 1024,
        resident_bytes_max: kib("VmHWM").unwrap_or(0) * 1024,
        virtual_bytes: field(23)?,
        threads: field(20)?,
    })
}

/// Memory of the machine in bytes (`MemTotal`).
pub fn machine_memory_bytes() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?.split_ascii_whitespace().next()?.parse::<u64>().ok()
        })
        .map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no MemTotal in /proc/meminfo"))
}

/// File descriptors of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileDescriptors {
    /// How many are open.
    pub open: u64,
    /// The soft limit; `u64::MAX` if there is none.
    pub limit: u64,
}

/// How many file descriptors this process has open, and its limit.
pub fn file_descriptors() -> io::Result<FileDescriptors> {
    // Reading the directory opens one more, which is gone when the answer is.
    let open = fs::read_dir("/proc/self/fd")?.count().saturating_sub(1) as u64;
    Ok(FileDescriptors {
        open,
        limit: rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
    })
}

/// Raises the soft limit of file descriptors to the hard one and gives the new limit, as Go's
/// runtime does at start.
pub fn raise_file_descriptor_limit() -> io::Result<u64> {
    let Rlimit { maximum, .. } = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_usage_is_known() {
        let usage = usage(std::process::id()).unwrap();
        assert!(usage.resident_bytes > 0 && usage.threads > 0);
        assert!(usage.resident_bytes_max >= usage.resident_bytes / 2);
        assert!(machine_memory_bytes().unwrap() > usage.resident_bytes);
    }

    #[test]
    fn names_with_parentheses_do_not_shift_the_fields() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194304 1 2 3 4 250 50 0 0 20 0 9 0 100 4096 3 0 0";
        let usage = parse_usage(stat, "Name:\tx\nVmHWM:\t  12 kB\nVmRSS:\t  8 kB\n", 100).unwrap();
        assert_eq!(usage.user, Duration::from_millis(2500));
        assert_eq!(usage.cpu(), Duration::from_secs(3));
        assert_eq!((usage.threads, usage.virtual_bytes), (9, 4096));
        assert_eq!((usage.resident_bytes, usage.resident_bytes_max), (8192, 12_288));
    }

    #[test]
    fn descriptors_are_counted() {
        let before = file_descriptors().unwrap();
        assert!(before.open >= 3 && before.limit >= before.open);
        assert_eq!(raise_file_descriptor_limit().unwrap(), file_descriptors().unwrap().limit);
    }
}
