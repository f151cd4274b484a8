//! What a run found, as text in etcd's form and as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::usage::Usage;

/// Percentiles of etcd's text report.
const TEXT_PERCENTILES: [f64; 8] = [10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9];
/// Points of the latency curve in JSON.
const CURVE: [f64; 14] =
    [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999, 100.0];
/// Rows of the response time histogram, and its longest bar.
const BUCKETS: u64 = 10;
const BAR: u64 = 40;

/// Collects the latencies of one kind of operation.
#[derive(Debug, Clone)]
pub struct Recorder {
    /// Nanoseconds.
    latency: Histogram<u64>,
    sum: u128,
    sum_of_squares: f64,
    errors: BTreeMap<String, u64>,
}

impl Default for Recorder {
    fn default() -> Self {
        let latency = Histogram::new(3).expect("three digits are within what the type allows");
        Self { latency, sum: 0, sum_of_squares: 0.0, errors: BTreeMap::new() }
    }
}

impl Recorder {
    /// An operation succeeded.
    pub fn success(&mut self, took: Duration) {
        let nanos = took.as_nanos() as u64;
        self.latency.record(nanos).expect("the histogram resizes itself");
        self.sum += u128::from(nanos);
        self.sum_of_squares += (nanos as f64).powi(2);
    }

    /// An operation failed.
    pub fn error(&mut self, text: impl Into<String>) {
        *self.errors.entry(text.into()).or_default() += 1;
    }

    /// Adds what another one collected.
    pub fn merge(&mut self, other: &Self) {
        self.latency.add(&other.latency).expect("both resize themselves");
        self.sum += other.sum;
        self.sum_of_squares += other.sum_of_squares;
        for (text, count) in &other.errors {
            *self.errors.entry(text.clone()).or_default() += count;
        }
    }

    /// Successful operations.
    pub fn count(&self) -> u64 {
        self.latency.len()
    }

    fn mean(&self) -> f64 {
        if self.count() == 0 { 0.0 } else { self.sum as f64 / self.count() as f64 }
    }

    fn deviation(&self) -> f64 {
        let count = self.count().max(1) as f64;
        (self.sum_of_squares / count - self.mean().powi(2)).max(0.0).sqrt()
    }
}

/// Latencies in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Latency {
    min: f64,
    mean: f64,
    deviation: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
    /// Pairs of percentile and latency.
    curve: Vec<(f64, f64)>,
}

/// One kind of operation.
#[derive(Debug, Clone, Serialize)]
pub struct Class {
    /// What it is.
    pub name: String,
    /// Successful ones.
    pub count: u64,
    /// A second.
    pub rate: f64,
    /// Absent when none succeeded.
    pub latency: Option<Latency>,
    /// How often each error text came.
    pub errors: BTreeMap<String, u64>,
    #[serde(skip)]
    recorder: Recorder,
}

/// What the server spent.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Server {
    /// Processor time, seconds.
    pub cpu_seconds: f64,
    /// Processor time per operation (or per `unit`), microseconds.
    pub cpu_us_per_op: f64,
    /// Resident memory at the end, bytes.
    pub rss: u64,
    /// The most resident memory ever, bytes.
    pub rss_peak: u64,
    /// Pairs of seconds since the start and resident bytes.
    pub rss_over_time: Vec<(f64, u64)>,
}

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The command.
    pub name: String,
    /// Seconds since 1970.
    pub date: u64,
    /// Seconds.
    pub took: f64,
    /// Operations, or deliveries, the server's cost is divided by.
    pub units: u64,
    /// One entry per kind of operation.
    pub classes: Vec<Class>,
    /// Present when process ids were given.
    pub server: Option<Server>,
    /// What only some commands find.
    pub extra: BTreeMap<String, f64>,
}

impl Report {
    /// A report of `recorders` by name, over `took`.
    pub fn new(name: &str, took: Duration, recorders: Vec<(&str, Recorder)>) -> Self {
        let seconds = took.as_secs_f64();
        let classes: Vec<Class> =
            recorders.into_iter().map(|(name, recorder)| class(name, recorder, seconds)).collect();
        Self {
            name: name.into(),
            date: crate::clock::unix_time().as_secs(),
            took: seconds,
            units: classes.iter().map(|c| c.count).sum(),
            classes,
            server: None,
            extra: BTreeMap::new(),
        }
    }

    /// Adds what the server spent between two readings.
    pub fn with_usage(mut self, before: Usage, after: Usage, memory: Vec<(f64, u64)>) -> Self {
        let cpu = after.cpu.saturating_sub(before.cpu).as_secs_f64();
        self.server = Some(Server {
            cpu_seconds: cpu,
            cpu_us_per_op: cpu * 1e6 / self.units.max(1) as f64,
            rss: after.rss,
            rss_peak: after.rss_peak,
            rss_over_time: memory,
        });
        self
    }

    /// Failed operations.
    pub fn errors(&self) -> u64 {
        self.classes.iter().flat_map(|c| c.errors.values()).sum()
    }

    /// The text that etcd's tool prints, and below it what the server spent.
    pub fn text(&self, precise: bool) -> String {
        let mut out = String::new();
        for class in &self.classes {
            if self.classes.len() > 1 {
                let _ = writeln!(out, "\n{} summary:", class.name);
            }
            class_text(&mut out, class, self.took, precise);
        }
        for (name, value) in &self.extra {
            let _ = writeln!(out, "{name}: {value:.3}");
        }
        if let Some(server) = &self.server {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let _ = writeln!(out, "\nServer:");
            let _ = writeln!(out, "  CPU:\t{:.3} secs.", server.cpu_seconds);
            let _ = writeln!(out, "  CPU/op:\t{:.2} us.", server.cpu_us_per_op);
            let _ = writeln!(out, "  RSS:\t{:.1} MiB.", mib(server.rss));
            let _ = writeln!(out, "  RSS peak:\t{:.1} MiB.", mib(server.rss_peak));
        }
        out
    }
}

fn class(name: &str, recorder: Recorder, seconds: f64) -> Class {
    let ms = |nanos: f64| nanos / 1e6;
    let at = |percent: f64| ms(recorder.latency.value_at_percentile(percent) as f64);
    let latency = (recorder.count() > 0).then(|| Latency {
        min: ms(recorder.latency.min() as f64),
        mean: ms(recorder.mean()),
        deviation: ms(recorder.deviation()),
        p50: at(50.0),
        p90: at(90.0),
        p99: at(99.0),
        p999: at(99.9),
        max: ms(recorder.latency.max() as f64),
        curve: CURVE.iter().map(|p| (*p, at(*p))).collect(),
    });
    Class {
        name: name.into(),
        count: recorder.count(),
        rate: recorder.count() as f64 / seconds.max(1e-9),
        latency,
        errors: recorder.errors.clone(),
        recorder,
    }
}

fn class_text(out: &mut String, class: &Class, took: f64, precise: bool) {
    let show = |v: f64| if precise { format!("{v}") } else { format!("{v:4.4}") };
    let recorder = &class.recorder;
    if recorder.count() > 0 {
        let secs = |nanos: f64| show(nanos / 1e9);
        let _ = writeln!(out, "\nSummary:");
        let _ = writeln!(out, "  Total:\t{} secs.", show(took));
        let _ = writeln!(out, "  Slowest:\t{} secs.", secs(recorder.latency.max() as f64));
        let _ = writeln!(out, "  Fastest:\t{} secs.", secs(recorder.latency.min() as f64));
        let _ = writeln!(out, "  Average:\t{} secs.", secs(recorder.mean()));
        let _ = writeln!(out, "  Stddev:\t{} secs.", secs(recorder.deviation()));
        let _ = writeln!(out, "  Requests/sec:\t{}", show(class.rate));
        let _ = writeln!(out, "\nResponse time histogram:");
        for (limit, count, bar) in buckets(&recorder.latency) {
            let bar = "∎".repeat(bar as usize);
            let _ = writeln!(out, "  {} [{count}]\t|{bar}", secs(limit as f64));
        }
        let _ = writeln!(out, "\nLatency distribution:");
        for percent in TEXT_PERCENTILES {
            let value = recorder.latency.value_at_percentile(percent);
            let _ = writeln!(out, "  {percent}% in {} secs.", secs(value as f64));
        }
    }
    if !class.errors.is_empty() {
        let _ = writeln!(out, "\nError distribution:");
        for (text, count) in &class.errors {
            let _ = writeln!(out, "  [{count}]\t{text}");
        }
    }
}

/// Eleven rows from the fastest to the slowest: upper limit, operations up to it, length of bar.
fn buckets(latency: &Histogram<u64>) -> Vec<(u64, u64, u64)> {
    let (min, max) = (latency.min(), latency.max());
    let limits: Vec<u64> = (0..=BUCKETS).map(|i| min + (max - min) * i / BUCKETS).collect();
    let mut rows: Vec<(u64, u64, u64)> = limits.iter().map(|l| (*l, 0, 0)).collect();
    for value in latency.iter_recorded() {
        let at = limits.partition_point(|l| *l < value.value_iterated_to()).min(rows.len() - 1);
        rows[at].1 += value.count_since_last_iteration();
    }
    let most = rows.iter().map(|r| r.1).max().unwrap_or(0).max(1);
    for row in &mut rows {
        row.2 = (row.1 * BAR + most / 2) / most;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut recorder = Recorder::default();
        (1..=100).for_each(|ms| recorder.success(Duration::from_millis(ms)));
        recorder.error("etcdserver: too many requests");
        Report::new("put", Duration::from_secs(2), vec![("put", recorder)])
    }

    #[test]
    fn text_has_the_sections_of_etcds_tool() {
        let text = report().text(false);
        for part in [
            "\nSummary:\n  Total:\t2.0000 secs.\n  Slowest:\t0.1",
            "  Requests/sec:\t50.0000\n",
            "\nResponse time histogram:\n  0.00",
            "\nLatency distribution:\n  10% in 0.0100 secs.\n",
            "  99.9% in 0.1",
            "\nError distribution:\n  [1]\tetcdserver: too many requests\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert_eq!(text.matches('|').count(), 11);
    }

    #[test]
    fn server_cost_is_divided_by_the_operations() {
        let before = Usage::default();
        let after = Usage { cpu: Duration::from_millis(10), rss: 5, rss_peak: 6 };
        let server = report().with_usage(before, after, Vec::new()).server.unwrap();
        assert!((server.cpu_us_per_op - 100.0).abs() < 1e-6);
    }

    #[test]
    fn json_has_numbers_a_program_can_use() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["classes"][0]["count"], 100);
        assert!((json["classes"][0]["latency"]["p50"].as_f64().unwrap() - 50.0).abs() < 0.1);
    }

    #[test]
    fn an_empty_run_prints_nothing_wrong() {
        let report = Report::new("put", Duration::ZERO, vec![("put", Recorder::default())]);
        assert_eq!(report.text(false), "");
    }
}
