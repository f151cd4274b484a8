//! The folder of a run: the record as JSON lines, what was wrong in words, and the members' logs.

mod lines;

use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};

use super::cluster::Cluster;
use super::history::History;
use super::run::Report;

const HISTORY: &str = "history.jsonl";

/// Writes everything.
pub fn write(
    folder: &Path,
    report: &Report,
    history: &History,
    faults: &[String],
    cluster: &Cluster,
) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    save(folder, history)?;
    let verdict = if report.is_clean() { "no violation" } else { "VIOLATIONS" };
    let counts = report.verdict.counts;
    let (layers, replay) = (report.layers.join(", "), &report.replay);
    let text =
        format!("{verdict}\n{counts}\nlayers: {layers}\nagain: {replay}\n\n{}", report.explanation);
    fs::write(folder.join("verdict.txt"), text)?;
    fs::write(folder.join("faults.txt"), faults.join("\n"))?;
    for (at, member) in cluster.members.iter().enumerate() {
        fs::write(folder.join(format!("member-{at}.log")), member.log_text())?;
    }
    Ok(())
}

/// Writes the record alone.
pub fn save(folder: &Path, history: &History) -> Result<()> {
    let mut file = BufWriter::new(fs::File::create(folder.join(HISTORY))?);
    for line in lines::of(history) {
        serde_json::to_writer(&mut file, &line)?;
        file.write_all(b"\n")?;
    }
    file.flush().context("write the history")
}

/// Reads the record of a folder, to check it again.
pub fn load(folder: &Path) -> Result<History> {
    let path = folder.join(HISTORY);
    let file = fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
    let mut history = History::default();
    for (at, line) in BufReader::new(file).lines().enumerate() {
        let line = serde_json::from_str(&line?)?;
        lines::read(&line, &mut history).with_context(|| format!("line {}", at + 1))?;
    }
    Ok(history)
}
