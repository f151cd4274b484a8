//! `cargo xtask bench`: this server and a real etcd, side by side, the same work on both in turn.
//!
//! Ratios within one run are what counts: the machine is shared and its speed drifts. Each round runs
//! a row on one server right after the other, the order changes from round to round, and the median
//! of the rounds' ratios stands in the table. Everything goes into one HTML page without outside
//! parts.

mod page;
pub(crate) mod rows;
pub(crate) mod server;
mod svg;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::stopwatch::Stopwatch;
use rows::{Measure, PRELOAD, ROWS, Row, STALLS, Store};
use server::{Server, build, words};

const HELP: &str = "\
usage: cargo xtask bench [options]

  --rows a,b,...       only these rows (see --list)
  --list               name the rows
  --rounds N           rounds of each row (default 5)
  --quick              a tenth of the work, 100,000 keys, 1 round
  --keys N             keys of the large store (default 1,000,000)
  --members N          members of the clusters (default 3)
  --out FILE           the page (default bench-report.html)
  --server PROGRAM     what to measure (default: this workspace, built with --release)
  --reference PROGRAM  what to measure against (default: $ETCD_BIN or .testenv/bin/etcd)
  --keep               leave data and logs in the temporary folder
";

/// Keys of one group of `benchmark-rs fill`.
const PER_GROUP: u64 = 500;
const STALL_RUNS: usize = 3;
/// The rounds rewrite the same keys without compaction, which is more than etcd's default quota
/// holds.
const QUOTA: &str = "--quota-backend-bytes 8589934592";

struct Options {
    rows: Vec<&'static Row>,
    rounds: usize,
    quick: bool,
    keys: u64,
    members: usize,
    out: PathBuf,
    server: Option<PathBuf>,
    reference: PathBuf,
    keep: bool,
}

/// What was found for a row.
pub(crate) struct Outcome {
    row: &'static Row,
    /// One entry per round: ours and the reference's.
    rounds: Vec<[f64; 2]>,
    /// Ours and the reference's last full report, where the load generator gave one.
    reports: [Option<Value>; 2],
    error: Option<String>,
}

impl Outcome {
    fn new(row: &'static Row) -> Self {
        Self { row, rounds: Vec::new(), reports: [None, None], error: None }
    }

    /// Median of one side.
    fn median(&self, side: usize) -> f64 {
        median(self.rounds.iter().map(|r| r[side]))
    }

    /// What is compared with the bar: the median ratio, or our stall in milliseconds.
    fn score(&self) -> f64 {
        match self.row.measure {
            Measure::Stall => self.median(0),
            _ => median(self.rounds.iter().map(|[ours, reference]| ours / reference)),
        }
    }

    fn verdict(&self) -> &'static str {
        match (self.rounds.is_empty(), self.row.meets(self.score(), self.row.bar)) {
            (true, _) => "FAILED",
            (_, true) if self.row.meets(self.score(), self.row.moonshot) => "MOON",
            (_, true) => "PASS",
            (_, false) => "MISS",
        }
    }
}

/// Everything a run found.
pub(crate) struct Results {
    outcomes: Vec<Outcome>,
    /// Reports of loading the large store, ours and the reference's.
    fills: [Option<Value>; 2],
    disk: [u64; 2],
    took: std::time::Duration,
    keys: u64,
    rounds: usize,
    members: usize,
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    match all.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => all[n / 2],
        n => (all[n / 2 - 1] + all[n / 2]) / 2.0,
    }
}

/// Runs the task.
pub(crate) fn run(root: &Path, args: &[String]) -> anyhow::Result<()> {
    let Some(options) = parse(root, args)? else { return Ok(()) };
    let load = build(root, options.server.is_none())?;
    let ours = options.server.clone().unwrap_or_else(|| root.join("target/release/etcd-rs"));
    let folder = std::env::temp_dir().join(format!("etcd-rs-bench-{}", std::process::id()));
    let watch = Stopwatch::start();
    let mut bench = Bench { options: &options, load: &load, fills: [None, None], disk: [0; 2] };
    let mut outcomes = Vec::new();
    // Followers are part of a cluster's rows, in the order of the table.
    let stores: [&[Store]; 3] =
        [&[Store::Small], &[Store::Million], &[Store::Cluster, Store::Followers]];
    for stores in stores {
        let rows = options.rows.iter().copied().filter(|r| stores.contains(&r.store));
        let rows: Vec<&'static Row> = rows.collect();
        if !rows.is_empty() {
            let store = stores[0];
            let folder = folder.join(format!("{store:?}").to_lowercase());
            outcomes.extend(bench.store(&rows, store, [&ours, &options.reference], &folder)?);
        }
    }
    let results = Results {
        outcomes,
        fills: bench.fills,
        disk: bench.disk,
        took: watch.elapsed(),
        keys: options.keys,
        rounds: options.rounds,
        members: options.members,
    };
    if options.keep {
        println!("data and logs: {}", folder.display());
    } else {
        std::fs::remove_dir_all(&folder)?;
    }
    print_table(&results);
    std::fs::write(&options.out, page::render(&results))?;
    println!("page: {}", options.out.display());
    Ok(())
}

fn parse(root: &Path, args: &[String]) -> anyhow::Result<Option<Options>> {
    let default_reference =
        std::env::var_os("ETCD_BIN").map_or_else(|| root.join(".testenv/bin/etcd"), PathBuf::from);
    let quick = args.iter().any(|a| a == "--quick");
    let mut options = Options {
        rows: ROWS.iter().collect(),
        rounds: if quick { 1 } else { 5 },
        quick,
        keys: if quick { 100_000 } else { 1_000_000 },
        members: 3,
        out: root.join("bench-report.html"),
        server: None,
        reference: default_reference,
        keep: false,
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value\n{HELP}"));
        match arg.as_str() {
            "--rows" => options.rows = select(value()?)?,
            "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
            "--quick" => {}
            "--keys" => options.keys = value()?.parse().context("--keys")?,
            "--members" => options.members = value()?.parse().context("--members")?,
            "--out" => options.out = value()?.into(),
            "--server" => options.server = Some(value()?.into()),
            "--reference" => options.reference = value()?.into(),
            "--keep" => options.keep = true,
            "--list" => {
                ROWS.iter().for_each(|r| println!("{:<18} {}", r.id, r.title));
                return Ok(None);
            }
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(None);
            }
            other => bail!("unknown option {other:?}\n{HELP}"),
        }
    }
    anyhow::ensure!(
        options.reference.is_file(),
        "{} is missing; run ./xtask/setup.sh --tests",
        options.reference.display()
    );
    Ok(Some(options))
}

fn select(names: &str) -> anyhow::Result<Vec<&'static Row>> {
    let find = |name: &str| {
        let row = ROWS.iter().find(|r| r.id == name);
        row.with_context(|| format!("no row {name:?}; see --list"))
    };
    names.split(',').map(find).collect()
}

/// Runs rows on a pair of servers.
struct Bench<'a> {
    options: &'a Options,
    load: &'a Path,
    fills: [Option<Value>; 2],
    disk: [u64; 2],
}

impl Bench<'_> {
    fn store(
        &mut self,
        rows: &[&'static Row],
        store: Store,
        programs: [&Path; 2],
        folder: &Path,
    ) -> anyhow::Result<Vec<Outcome>> {
        let quota = words(QUOTA);
        let count = if store == Store::Cluster { self.options.members } else { 1 };
        let start =
            |name, program| Server::start_cluster(name, program, folder, self.load, &quota, count);
        let mut servers = [start("etcd-rs", programs[0])?, start("etcd", programs[1])?];
        for (side, server) in servers.iter().enumerate() {
            println!("loading {}", server.name);
            match store {
                Store::Small | Store::Cluster | Store::Followers => {
                    drop(self.call(server, &words(PRELOAD))?);
                }
                Store::Million => self.fills[side] = Some(self.fill(server)?),
            }
        }
        let mut outcomes = Vec::new();
        for row in rows {
            println!("{}", row.title);
            let outcome = self.row(row, &mut servers);
            if let Some(error) = &outcome.error {
                eprintln!("bench: {}: {error}", row.id);
            }
            outcomes.push(outcome);
        }
        if store == Store::Million {
            self.disk = [servers[0].disk(), servers[1].disk()];
        }
        Ok(outcomes)
    }

    fn fill(&self, server: &Server) -> anyhow::Result<Value> {
        let keys = self.options.keys.to_string();
        let mut command = words("fill --conns 4 --clients 16 --val-size 256 --keys");
        command.push(keys);
        self.call(server, &command)
    }

    fn row(&self, row: &'static Row, servers: &mut [Server; 2]) -> Outcome {
        let mut outcome = Outcome::new(row);
        let rounds = match row.measure {
            // One load, one number.
            Measure::Memory => 1,
            Measure::Stall => STALL_RUNS.min(self.options.rounds),
            _ => self.options.rounds,
        };
        for round in 0..rounds {
            let mut values = [f64::NAN; 2];
            for turn in 0..2 {
                // Whoever goes first gets the better or the worse moment; so they take turns.
                let side = (round + turn) % 2;
                match self.measure(row, &mut servers[side], &mut outcome.reports[side]) {
                    Ok(value) => values[side] = value,
                    Err(e) => {
                        outcome.error = Some(format!("{}: {e:#}", servers[side].name));
                        return outcome;
                    }
                }
            }
            let [ours, reference] = values;
            println!("  {ours:>12.3} {reference:>12.3} {} {:>9.4}", row.unit(), ours / reference);
            outcome.rounds.push(values);
        }
        outcome
    }

    fn measure(
        &self,
        row: &Row,
        server: &mut Server,
        report: &mut Option<Value>,
    ) -> anyhow::Result<f64> {
        match row.measure {
            Measure::Restart(signal) => {
                if signal == "KILL" {
                    self.call(server, &words(PRELOAD))?;
                }
                server.stop(signal)?;
                Ok(server.restart(self.load)?.as_secs_f64() * 1e3)
            }
            Measure::Stall => {
                let mut worst = 0.0_f64;
                for operation in STALLS {
                    // Something to compact and to write back.
                    self.call(server, &words(PRELOAD))?;
                    let command = ["stall", "--operation", operation].map(String::from);
                    let found = self.call(server, &command)?;
                    let stall = row.value(&found).context("no stall in the report")?;
                    println!("    {:<8} {operation:<11} {stall:>10.1} ms", server.name);
                    worst = worst.max(stall);
                }
                Ok(worst)
            }
            _ => {
                let writes = (row.id == "pages").then(|| self.background_writes(server));
                let groups = self.options.keys.div_ceil(PER_GROUP);
                let command = row.command(self.options.quick, groups);
                let found = server.call_on(self.load, &command, row.store.to());
                if let Some(writes) = writes {
                    let mut writes = writes?;
                    writes.kill()?;
                    writes.wait()?;
                }
                let found = found?;
                let value = row.value(&found).context("the report lacks the number")?;
                *report = Some(found);
                Ok(value)
            }
        }
    }

    /// Puts that go on until killed.
    fn background_writes(&self, server: &Server) -> anyhow::Result<std::process::Child> {
        let mut writes = Command::new(self.load);
        writes.args(words("put --json --rate 200 --total 1000000 --key-size 32 --val-size 256"));
        writes.args(["--endpoints", &server.endpoint()]).stdout(Stdio::null());
        Ok(writes.spawn()?)
    }

    /// Runs the load generator against a server; gives its report.
    fn call(&self, server: &Server, command: &[String]) -> anyhow::Result<Value> {
        server.call(self.load, command)
    }
}

fn print_table(results: &Results) {
    println!("\n{:<50} {:>11} {:>11}      {:>9} {:>7}", "", "etcd-rs", "etcd", "ratio", "bar");
    for outcome in &results.outcomes {
        let row = outcome.row;
        if outcome.rounds.is_empty() {
            println!("{:<50} {}", row.title, outcome.error.as_deref().unwrap_or("not run"));
            continue;
        }
        let score = outcome.score();
        println!(
            "{:<50} {:>11.2} {:>11.2} {:<4} {:>9.5} {:>7} {:<6} {}",
            row.title,
            outcome.median(0),
            outcome.median(1),
            row.unit(),
            score,
            row.bar,
            outcome.verdict(),
            bar(score / row.bar, row.higher_is_better()),
        );
    }
    let count = |v: &str| results.outcomes.iter().filter(|o| o.verdict() == v).count();
    println!(
        "{} of {} rows at their bar ({} at the moonshot), {:.0} s",
        count("PASS") + count("MOON"),
        results.outcomes.len(),
        count("MOON"),
        results.took.as_secs_f64()
    );
}

/// A bar whose mark at ten is the goal.
fn bar(of_goal: f64, higher_is_better: bool) -> String {
    let length = (of_goal * 10.0).round().clamp(0.0, 20.0) as usize;
    let goal = if higher_is_better { '>' } else { '|' };
    (0..21)
        .map(|i| {
            if i == 10 {
                goal
            } else if i < length {
                '#'
            } else {
                ' '
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_ignore_an_outlier() {
        assert_eq!(median([1.0, 9.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([1.0, 2.0].into_iter()), 1.5);
        assert!(median(std::iter::empty()).is_nan());
    }

    #[test]
    fn the_score_is_the_median_of_ratios_and_a_stall_is_absolute() {
        let mut outcome = Outcome::new(&ROWS[0]);
        outcome.rounds = vec![[1.0, 2.0], [3.0, 4.0], [1.0, 10.0]];
        assert_eq!(outcome.score(), 0.5);
        assert_eq!(outcome.verdict(), "MISS");
        let stall = ROWS.iter().find(|r| r.measure == Measure::Stall).unwrap();
        let mut outcome = Outcome::new(stall);
        outcome.rounds = vec![[30.0, 600.0]];
        assert_eq!((outcome.score(), outcome.verdict()), (30.0, "PASS"));
    }
}
