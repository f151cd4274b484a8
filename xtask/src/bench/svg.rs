//! Small charts as SVG text. Colours come from the page's style sheet, so that they follow its light
//! or dark theme.

use std::fmt::Write as _;

/// Inner width of every chart, and height of the line charts.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 220.0;
/// Room for labels left and below.
const LEFT: f64 = 60.0;
const BOTTOM: f64 = 30.0;

/// A line: class name in the style sheet, name, points.
pub(super) struct Line {
    pub(super) class: &'static str,
    pub(super) name: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// How values become places.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Log,
}

/// An axis: its scale, its title, and the labels of its marks.
pub(super) struct Axis {
    pub(super) scale: Scale,
    pub(super) title: &'static str,
    pub(super) marks: Vec<(f64, String)>,
}

struct Range {
    scale: Scale,
    low: f64,
    high: f64,
    length: f64,
}

impl Range {
    fn of(scale: Scale, values: impl Iterator<Item = f64>, length: f64) -> Self {
        let (mut low, mut high) = (f64::MAX, f64::MIN);
        for value in values.filter(|v| v.is_finite() && (scale == Scale::Linear || *v > 0.0)) {
            (low, high) = (low.min(value), high.max(value));
        }
        if scale == Scale::Linear {
            low = low.min(0.0);
        }
        if high <= low {
            high = low + 1.0;
        }
        Self { scale, low, high, length }
    }

    fn place(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        };
        part.clamp(0.0, 1.0) * self.length
    }
}

/// Lines over a grid.
pub(super) fn lines(x: &Axis, y: &Axis, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|l| &l.points);
    let across = Range::of(x.scale, points().map(|p| p.0), WIDTH);
    let up = Range::of(y.scale, points().map(|p| p.1), HEIGHT);
    let mut out = open(WIDTH + LEFT + 20.0, HEIGHT + BOTTOM + 20.0);
    for (value, label) in &y.marks {
        if *value < up.low * 0.999 || *value > up.high * 1.001 {
            continue;
        }
        let at = 10.0 + HEIGHT - up.place(*value);
        let right = LEFT + WIDTH;
        let _ = write!(
            out,
            r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1}" y2="{at:.1}"/>"#
        );
        let _ = write!(
            out,
            r#"<text class="label" x="{:.1}" y="{:.1}" text-anchor="end">{label}</text>"#,
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (value, label) in &x.marks {
        if *value < across.low * 0.999 || *value > across.high * 1.001 {
            continue;
        }
        let at = LEFT + across.place(*value);
        let _ = write!(
            out,
            r#"<text class="label" x="{at:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#,
            HEIGHT + 28.0
        );
    }
    for line in lines {
        let path: Vec<String> = line
            .points
            .iter()
            .map(|(a, b)| {
                format!("{:.1},{:.1}", LEFT + across.place(*a), 10.0 + HEIGHT - up.place(*b))
            })
            .collect();
        let _ = write!(out, r#"<polyline class="{}" points="{}"/>"#, line.class, path.join(" "));
    }
    legend(&mut out, lines);
    let _ = write!(
        out,
        r#"<text class="label" x="{LEFT}" y="{:.1}">{} / {}</text></svg>"#,
        HEIGHT + 46.0,
        y.title,
        x.title
    );
    out
}

fn legend(out: &mut String, lines: &[Line]) {
    for (line, i) in lines.iter().zip(0u8..) {
        let x = LEFT + 12.0 + f64::from(i) * 90.0;
        let _ = write!(
            out,
            r#"<line class="{}" x1="{x}" x2="{:.1}" y1="18" y2="18"/>"#,
            line.class,
            x + 18.0
        );
        let _ =
            write!(out, r#"<text class="label" x="{:.1}" y="22">{}</text>"#, x + 24.0, line.name);
    }
}

/// One horizontal bar on a scale from 1/10000 to 10 with marks at a goal and at a farther one.
pub(super) fn ratio(value: f64, bar: f64, moonshot: f64, good: bool) -> String {
    const LOW: f64 = 1e-5;
    const LONG: f64 = 420.0;
    let place = |v: f64| ((v.max(LOW) / LOW).log10() / 6.0).clamp(0.0, 1.0) * LONG;
    let mut out = open(LONG + 4.0, 22.0);
    let class = if good { "good" } else { "bad" };
    let _ = write!(out, r#"<rect class="track" x="0" y="4" width="{LONG}" height="14" rx="3"/>"#);
    let _ = write!(
        out,
        r#"<rect class="{class}" x="0" y="4" width="{:.1}" height="14" rx="3"/>"#,
        place(value)
    );
    for (goal, class) in [(bar, "goal"), (moonshot, "moon"), (1.0, "even")] {
        let at = place(goal);
        let _ = write!(out, r#"<line class="{class}" x1="{at:.1}" x2="{at:.1}" y1="1" y2="21"/>"#);
    }
    out.push_str("</svg>");
    out
}

fn open(width: f64, height: f64) -> String {
    format!(r#"<svg viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img">"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_within_the_chart() {
        let range = Range::of(Scale::Log, [1.0, 10.0, 100.0].into_iter(), 200.0);
        assert!((range.place(10.0) - 100.0).abs() < 1e-6);
        assert_eq!((range.place(0.0), range.place(1e9)), (0.0, 200.0));
        let flat = Range::of(Scale::Linear, [0.0].into_iter(), 100.0);
        assert!(flat.place(0.0).is_finite());
    }

    #[test]
    fn charts_are_closed_and_numbers_finite() {
        let axis = |title| Axis { scale: Scale::Log, title, marks: vec![(1.0, "1".into())] };
        let line = Line { class: "ours", name: "etcd-rs", points: vec![(1.0, 0.0), (2.0, 3.0)] };
        let chart = lines(&axis("x"), &axis("y"), &[line]);
        assert!(chart.starts_with("<svg") && chart.ends_with("</svg>") && !chart.contains("NaN"));
        assert!(ratio(0.0, 0.3, 0.1, true).ends_with("</svg>"));
    }
}
