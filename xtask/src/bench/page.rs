//! The bench report: one HTML file with everything in it.

use std::fmt::Write as _;

use serde_json::Value;

use super::rows::Measure;
use super::svg::{self, Axis, Line, Scale};
use super::{Outcome, Results};

const STYLE: &str = "\
:root{color-scheme:light dark;--bg:#fff;--fg:#1c1e21;--dim:#6b7280;--line:#e5e7eb;--ours:#d9480f;\
--ref:#4263eb;--good:#2b8a3e;--bad:#c92a2a;--card:#f8f9fa}\
@media(prefers-color-scheme:dark){:root{--bg:#15171a;--fg:#e6e6e6;--dim:#9aa0a6;--line:#33373d;\
--ours:#ff922b;--ref:#748ffc;--good:#51cf66;--bad:#ff6b6b;--card:#1d2024}}\
body{background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif;max-width:1080px;\
margin:2rem auto;padding:0 1rem}h1{font-size:1.6rem;margin-bottom:0}h2{margin-top:2.5rem}\
p.sub{color:var(--dim);margin-top:.2rem}table{border-collapse:collapse;width:100%}\
td,th{padding:.3rem .5rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}\
td:first-child,th:first-child{text-align:left;white-space:normal}th{color:var(--dim);font-weight:500}\
td.chart{width:430px}.PASS,.MOON{color:var(--good);font-weight:600}.MISS,.FAILED{color:var(--bad);\
font-weight:600}.grid2{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:1rem}\
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.8rem}\
figcaption{font-weight:600;margin-bottom:.3rem}svg{width:100%;height:auto;display:block}\
svg .grid{stroke:var(--line)}svg .label{fill:var(--dim);font-size:11px}\
svg polyline{fill:none;stroke-width:2}svg .ours{stroke:var(--ours);stroke-width:2}\
svg .ref{stroke:var(--ref);stroke-width:2}svg .track{fill:var(--line)}svg .good{fill:var(--good)}\
svg .bad{fill:var(--bad)}svg .goal{stroke:var(--fg);stroke-width:2}svg .moon{stroke:var(--ours);\
stroke-width:2;stroke-dasharray:3 2}svg .even{stroke:var(--dim);stroke-width:1}\
code{background:var(--card);padding:0 .3em;border-radius:4px}";

/// Makes the page.
pub(super) fn render(results: &Results) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>etcd-rs bench</title><style>{STYLE}</style>"
    );
    header(&mut out, results);
    table(&mut out, &results.outcomes);
    latencies(&mut out, &results.outcomes);
    memory(&mut out, results);
    rounds(&mut out, &results.outcomes);
    out.push_str("</html>\n");
    out
}

fn header(out: &mut String, results: &Results) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(": "));
    let cores = cpu.lines().filter(|l| l.starts_with("processor")).count();
    let kernel = read("/proc/sys/kernel/osrelease");
    let met = results.outcomes.iter().filter(|o| matches!(o.verdict(), "PASS" | "MOON")).count();
    let _ = write!(
        out,
        "<h1>etcd-rs against etcd: {met} of {} rows at their bar</h1><p class=\"sub\">{cores} x {}, \
         Linux {}; both servers on the same machine, {} rounds in turn, {} keys in the large store, \
         {} members in a cluster, {:.0} s.</p>",
        results.outcomes.len(),
        escape(model.map_or("unknown processor", |(_, m)| m)),
        escape(kernel.trim()),
        results.rounds,
        results.keys,
        results.members,
        results.took.as_secs_f64()
    );
}

fn table(out: &mut String, outcomes: &[Outcome]) {
    out.push_str(
        "<table><tr><th>work<th>etcd-rs<th>etcd<th><th>ratio<th>bar<th>moonshot<th>\
         <th style=\"text-align:left\">ratio on a log scale: 0.00001 to 10</tr>",
    );
    for outcome in outcomes {
        let row = outcome.row;
        let verdict = outcome.verdict();
        if outcome.rounds.is_empty() {
            let error = escape(outcome.error.as_deref().unwrap_or("not run"));
            let _ = write!(
                out,
                "<tr><td>{}<td colspan=\"8\" class=\"{verdict}\">{error}</tr>",
                row.title
            );
            continue;
        }
        // A stall is absolute; its bar is drawn as a share of the goal's.
        let ratio = outcome.median(0) / outcome.median(1);
        let stall = row.measure == Measure::Stall;
        let goals = if stall { (f64::NAN, f64::NAN) } else { (row.bar, row.moonshot) };
        let _ = write!(
            out,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td class=\"{verdict}\">{verdict}\
             <td class=\"chart\">{}</tr>",
            row.title,
            short(outcome.median(0)),
            short(outcome.median(1)),
            row.unit(),
            short(if stall { ratio } else { outcome.score() }),
            if stall { format!("{} ms", row.bar) } else { row.bar.to_string() },
            if stall { format!("{} ms", row.moonshot) } else { row.moonshot.to_string() },
            svg::ratio(ratio, goals.0, goals.1, verdict != "MISS"),
        );
    }
    out.push_str(
        "</table><p class=\"sub\">Server processor time per operation, of all members of a cluster together, unless the unit says \
         otherwise. \
         Black mark: bar. Dashed: moonshot. Thin: equal to etcd.</p>",
    );
}

fn latencies(out: &mut String, outcomes: &[Outcome]) {
    out.push_str("<h2>Latency by percentile</h2><div class=\"grid2\">");
    for outcome in outcomes.iter().filter(|o| o.row.measure != Measure::Memory) {
        let [Some(ours), Some(reference)] = &outcome.reports else { continue };
        let lines = [
            Line { class: "ours", name: "etcd-rs", points: curve(ours) },
            Line { class: "ref", name: "etcd", points: curve(reference) },
        ];
        if lines.iter().any(|l| l.points.is_empty()) {
            continue;
        }
        let marks = [
            (0.0, "0"),
            (50.0, "50"),
            (90.0, "90"),
            (99.0, "99"),
            (99.9, "99.9"),
            (99.99, "99.99"),
        ];
        let x = Axis {
            scale: Scale::Log,
            title: "percentile",
            marks: marks.iter().map(|(p, label)| (rarity(*p), (*label).into())).collect(),
        };
        let y = Axis { scale: Scale::Log, title: "milliseconds", marks: decades() };
        let title = outcome.row.title;
        let chart = svg::lines(&x, &y, &lines);
        let _ = write!(out, "<figure><figcaption>{title}</figcaption>{chart}</figure>");
    }
    out.push_str("</div>");
}

/// How many operations it takes to see one slower: the usual axis of latency curves.
fn rarity(percentile: f64) -> f64 {
    100.0 / (100.0 - percentile).max(0.001)
}

/// The curve of the last class with one: later pages, events received.
fn curve(report: &Value) -> Vec<(f64, f64)> {
    let classes = report["classes"].as_array().into_iter().flatten();
    let mut curves = classes.filter_map(|c| c["latency"]["curve"].as_array());
    let points = curves.next_back().into_iter().flatten();
    let points = points.filter_map(|p| Some((p[0].as_f64()?, p[1].as_f64()?)));
    // Beyond that a run has too few operations to say anything.
    points.filter(|(percentile, _)| *percentile <= 99.99).map(|(p, ms)| (rarity(p), ms)).collect()
}

fn decades() -> Vec<(f64, String)> {
    (-3..=4).map(|e| 10f64.powi(e)).map(|v| (v, v.to_string())).collect()
}

fn memory(out: &mut String, results: &Results) {
    let [Some(ours), Some(reference)] = &results.fills else { return };
    let mib = f64::from(1 << 20);
    let points = |report: &Value| -> Vec<(f64, f64)> {
        let samples = report["server"]["rss_over_time"].as_array().into_iter().flatten();
        samples.filter_map(|s| Some((s[0].as_f64()?, s[1].as_f64()? / mib))).collect()
    };
    let lines = [
        Line { class: "ours", name: "etcd-rs", points: points(ours) },
        Line { class: "ref", name: "etcd", points: points(reference) },
    ];
    let most = |i: usize| {
        lines
            .iter()
            .flat_map(|l| &l.points)
            .map(|p| if i == 0 { p.0 } else { p.1 })
            .fold(1.0, f64::max)
    };
    let x = Axis { scale: Scale::Linear, title: "seconds", marks: steps(most(0)) };
    let y = Axis { scale: Scale::Linear, title: "MiB", marks: steps(most(1)) };
    let chart = svg::lines(&x, &y, &lines);
    let _ = write!(
        out,
        "<h2>Memory while {} keys of 256 bytes are loaded</h2><figure>{chart}</figure>\
         <p class=\"sub\">On disk after the run: etcd-rs {:.0} MiB, etcd {:.0} MiB.</p>",
        results.keys,
        results.disk[0] as f64 / mib,
        results.disk[1] as f64 / mib
    );
}

/// About five round marks up to `most`.
fn steps(most: f64) -> Vec<(f64, String)> {
    let magnitude = 10f64.powf((most / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * magnitude);
    let step = step.into_iter().find(|s| most / s <= 6.0).unwrap_or(most);
    (0u32..=6).map(|i| f64::from(i) * step).map(|v| (v, short(v))).collect()
}

fn rounds(out: &mut String, outcomes: &[Outcome]) {
    out.push_str(
        "<h2>Rounds</h2><table><tr><th>work<th style=\"text-align:left\">etcd-rs / etcd</tr>",
    );
    for outcome in outcomes.iter().filter(|o| !o.rounds.is_empty()) {
        let all: Vec<String> =
            outcome.rounds.iter().map(|[a, b]| format!("{} / {}", short(*a), short(*b))).collect();
        let _ = write!(
            out,
            "<tr><td>{}<td style=\"text-align:left;white-space:normal\">{} {}</tr>",
            outcome.row.title,
            all.join(", "),
            outcome.row.unit()
        );
    }
    out.push_str("</table>");
}

/// Three or four digits, whatever the size.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 => format!("{value:.2}"),
        v if v >= 0.001 => format!("{value:.4}"),
        _ => format!("{value:.6}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::rows::ROWS;
    use super::*;

    #[test]
    fn a_page_stands_alone_and_names_every_row() {
        let report = serde_json::json!({
            "classes": [{ "latency": { "curve": [[0.0, 0.1], [50.0, 1.0], [100.0, 9.0]] } }],
            "server": { "rss_over_time": [[0.0, 1048576], [1.0, 4194304]] },
        });
        let outcomes = ROWS.iter().map(|row| {
            let reports = [Some(report.clone()), Some(report.clone())];
            Outcome { row, rounds: vec![[1.0, 4.0]], reports, error: None }
        });
        let results = Results {
            outcomes: outcomes.collect(),
            fills: [Some(report.clone()), Some(report.clone())],
            disk: [1, 2],
            took: Duration::from_secs(1),
            keys: 1000,
            rounds: 1,
            members: 3,
        };
        let page = render(&results);
        assert!(ROWS.iter().all(|row| page.contains(row.title)));
        assert!(!page.contains("NaN") && !page.contains("http"), "no outside part, no bad number");
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [12345.6, 12.34, 0.5, 0.00071].map(short),
            ["12346", "12.3", "0.50", "0.000710"]
        );
        assert!(steps(830.0).len() == 7 && steps(830.0)[1].0 == 200.0);
    }
}
