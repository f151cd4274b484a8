//! The rows of design.md §9 and how each is measured.

use serde_json::Value;

use super::server::To;

/// How a row's number comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Server processor time per unit, microseconds.
    Cpu,
    /// Operations a second.
    Rate,
    /// Resident memory after the load, MiB.
    Memory,
    /// Milliseconds from start to the first answered read after this signal.
    Restart(&'static str),
    /// Worst stall of a probe, milliseconds: an absolute bar, not a ratio.
    Stall,
}

/// Which servers a row runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    /// Few keys.
    Small,
    /// A million keys.
    Million,
    /// Few keys on several members, on all of which the load is spread.
    Cluster,
    /// The same members, with the load on followers only.
    Followers,
}

impl Store {
    /// Which members the load goes to.
    pub(super) fn to(self) -> To {
        if self == Self::Followers { To::Followers } else { To::All }
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// For `--rows`.
    pub(super) id: &'static str,
    /// For people.
    pub(super) title: &'static str,
    pub(super) measure: Measure,
    pub(super) store: Store,
    /// The ratio to reach (milliseconds for a stall).
    pub(super) bar: f64,
    /// Where we are going.
    pub(super) moonshot: f64,
    /// Arguments of benchmark-rs.
    load: &'static str,
    /// Operations of a full round, and the flag that sets them.
    total: u64,
    total_flag: &'static str,
}

impl Row {
    /// More is better.
    pub(super) fn higher_is_better(&self) -> bool {
        self.measure == Measure::Rate
    }

    /// The number for the table out of a report of benchmark-rs.
    pub(super) fn value(&self, report: &Value) -> Option<f64> {
        match self.measure {
            Measure::Cpu => report["server"]["cpu_us_per_op"].as_f64(),
            Measure::Rate => report["classes"][0]["rate"].as_f64(),
            Measure::Memory => Some(report["server"]["rss"].as_f64()? / f64::from(1 << 20)),
            Measure::Stall => report["extra"]["stall ms"].as_f64(),
            Measure::Restart(_) => None,
        }
    }

    /// Unit of [`Self::value`].
    pub(super) fn unit(&self) -> &'static str {
        match self.measure {
            Measure::Cpu => "us",
            Measure::Rate => "/s",
            Measure::Memory => "MiB",
            Measure::Restart(_) | Measure::Stall => "ms",
        }
    }

    /// Command line of benchmark-rs; a quick run does a tenth. `groups` is how many groups of keys
    /// were loaded.
    pub(super) fn command(&self, quick: bool, groups: u64) -> Vec<String> {
        let total = if quick { self.total.div_ceil(10) } else { self.total };
        let groups = groups.to_string();
        let mut command: Vec<String> =
            self.load.split_whitespace().map(|word| word.replace("GROUPS", &groups)).collect();
        if !self.total_flag.is_empty() {
            command.extend([self.total_flag.to_string(), total.to_string()]);
        }
        command
    }

    /// Whether `ratio` (or the stall in milliseconds) meets `goal`.
    pub(super) fn meets(&self, value: f64, goal: f64) -> bool {
        if self.higher_is_better() { value >= goal } else { value <= goal }
    }
}

/// Puts that go before reads of small keys, and before a kill.
pub(crate) const PRELOAD: &str = "put --conns 16 --clients 256 --total 10000 --key-size 32 \
     --val-size 256 --key-space-size 10000 --sequential-keys";

/// Operations whose stall is measured. Defragmentation comes last: it rewrites etcd's file.
pub(crate) const STALLS: [&str; 4] = ["list", "compact", "snapshot", "defragment"];

macro_rules! rows {
    ($($store:ident $id:literal $title:literal $measure:expr, $bar:literal $moonshot:literal,
       $load:literal $total_flag:literal $total:literal;)*) => {
        &[$(Row {
            id: $id,
            title: $title,
            measure: $measure,
            store: Store::$store,
            bar: $bar,
            moonshot: $moonshot,
            load: $load,
            total: $total,
            total_flag: $total_flag,
        }),*]
    };
}

/// All rows, in the order they are run.
pub(super) const ROWS: &[Row] = rows! {
    Small "put" "put, 256 clients over 16 connections" Measure::Cpu, 0.35 0.20,
        "put --conns 16 --clients 256 --key-size 32 --val-size 256 --key-space-size 10000"
        "--total" 100_000;
    Small "get" "linearizable get, 256 clients" Measure::Cpu, 0.40 0.25,
        "range --conns 16 --clients 256 --key-size 32 --key-space-size 10000"
        "--total" 150_000;
    Small "get-serializable" "serializable get, 256 clients" Measure::Cpu, 0.45 0.30,
        "range --consistency s --conns 16 --clients 256 --key-size 32 --key-space-size 10000"
        "--total" 150_000;
    Small "update" "get-then-txn (kube-apiserver's update)" Measure::Cpu, 0.40 0.25,
        "update --conns 16 --clients 256 --key-size 32 --val-size 256 --key-space-size 10000"
        "--total" 50_000;
    Small "watch" "watch, 100 watchers, per event delivered" Measure::Cpu, 0.30 0.10,
        "watch --conns 10 --streams 10 --watch-per-stream 10 --clients 8 --val-size 256"
        "--put-total" 8_000;
    Small "keepalive" "lease keep-alive" Measure::Cpu, 0.50 0.25,
        "lease-keepalive --conns 16 --clients 256"
        "--total" 300_000;
    Small "grant" "lease grant" Measure::Cpu, 0.35 0.20,
        "lease-grant --conns 16 --clients 256"
        "--total" 30_000;
    Small "put-1000" "puts per second at 1000 clients" Measure::Rate, 2.0 2.5,
        "put --conns 16 --clients 1000 --key-size 32 --val-size 256 --key-space-size 10000"
        "--total" 100_000;
    Million "memory" "resident memory, 1 M keys of 256 B" Measure::Memory, 0.6 0.35,
        "range -" "--total" 10;
    Million "list-500" "list of 500 keys" Measure::Cpu, 0.10 0.05,
        "list --groups GROUPS --conns 4 --clients 16" "--total" 2_000;
    Million "list-limit" "list with limit 500 out of 1 M keys" Measure::Cpu, 0.003 0.0007,
        "list --limit 500 --conns 1 --clients 1 --max-seconds 5" "--total" 10_000;
    Million "count" "count of 1 M keys" Measure::Cpu, 0.0005 0.0001,
        "list --count-only --conns 1 --clients 1 --max-seconds 5" "--total" 100_000;
    Million "pages" "page 2 onward at a pinned revision under writes" Measure::Cpu, 0.02 0.005,
        "list --limit 500 --pages --conns 1 --clients 1 --max-seconds 5" "--total" 10_000;
    Million "restart-term" "restart to first answered read, after SIGTERM" Measure::Restart("TERM"),
        0.3 0.1, "" "" 0;
    Million "restart-kill" "restart after kill -9, 10,000 entries unflushed"
        Measure::Restart("KILL"), 0.3 0.1, "" "" 0;
    Million "stall" "worst stall of a 10 ms probe" Measure::Stall, 100.0 20.0, "stall" "" 0;
    Cluster "cluster-put" "cluster: put, 256 clients over 16 connections" Measure::Cpu, 0.40 0.25,
        "put --conns 16 --clients 256 --key-size 32 --val-size 256 --key-space-size 10000"
        "--total" 50_000;
    Followers "cluster-get" "cluster: linearizable get through followers" Measure::Cpu, 0.40 0.25,
        "range --conns 16 --clients 256 --key-size 32 --key-space-size 10000"
        "--total" 50_000;
    Followers "cluster-keepalive" "cluster: lease keep-alive through followers" Measure::Cpu,
        0.50 0.25,
        "lease-keepalive --conns 16 --clients 256"
        "--total" 50_000;
    // The goal of 0.6 is for a million keys; here a small store and the load's history are weighed.
    Cluster "cluster-memory" "cluster: resident memory of all members" Measure::Memory, 1.0 0.6,
        "range -" "--total" 10;
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_goals_in_order() {
        for (i, row) in ROWS.iter().enumerate() {
            assert!(ROWS[i + 1..].iter().all(|other| other.id != row.id));
            assert!(
                row.meets(row.moonshot, row.bar),
                "{}: the moonshot is the harder goal",
                row.id
            );
        }
    }

    #[test]
    fn commands_are_complete() {
        let list = ROWS.iter().find(|r| r.id == "list-500").unwrap();
        let command = list.command(true, 7).join(" ");
        assert_eq!(command, "list --groups 7 --conns 4 --clients 16 --total 200");
    }
}
