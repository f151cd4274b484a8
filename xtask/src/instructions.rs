//! `cargo xtask instructions`: instruction counts of the hot functions, against committed numbers.
//!
//! Times on a shared machine drift by tens of percent; the number of instructions does not, so a
//! regression shows here first. The benches are built as the release is (but for `panic`, which
//! cargo sets to `unwind` for benches) and run under callgrind. Counted is each function of theirs
//! whose name begins with `measured_`, with all it calls on its thread. The numbers belong to one
//! compiler, one C library and one kind of CPU (`memcpy` differs by CPU), so they are compared by
//! hand and not by `cargo xtask ci`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

const HELP: &str = "\
usage: cargo xtask instructions [--update]

  Counts the instructions of the hot functions under valgrind's callgrind and compares them with
  xtask/instructions.txt. Fails if a count is more than 3 % above its number there.

  --update   write the counts to xtask/instructions.txt instead
";

/// The benches that measure, by package.
const BENCHES: &[(&str, &str)] =
    &[("etcdrs-server", "encode_list"), ("etcdrs-apply", "apply_put"), ("etcdrs-mvcc", "fan_out")];
/// The committed numbers.
const NUMBERS: &str = "xtask/instructions.txt";
/// How much more than its number a count may be, percent.
const TOLERANCE: f64 = 3.0;
/// What the names of the measured functions begin with.
const PREFIX: &str = "measured_";

/// Instructions of one operation, by the operation's name.
type Counts = BTreeMap<String, u64>;

/// Runs the task.
pub(crate) fn run(root: &Path, args: &[String]) -> anyhow::Result<()> {
    let update = match args {
        [] => false,
        [arg] if arg == "--update" => true,
        [arg] if arg == "--help" || arg == "-h" => {
            print!("{HELP}");
            return Ok(());
        }
        _ => bail!("unknown options {args:?}\n{HELP}"),
    };
    let valgrind = first_line("valgrind", root)
        .context("valgrind is missing; run ./xtask/setup.sh --tests")?;
    let tools = format!("{}, {valgrind}, {}", first_line("rustc", root)?, std::env::consts::ARCH);
    let mut counts = Counts::new();
    for program in build(root)? {
        counts.extend(measure(&program)?);
    }
    let file = root.join(NUMBERS);
    let text = match std::fs::read_to_string(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other.with_context(|| format!("reading {NUMBERS}"))?,
    };
    if !text.is_empty() && !text.contains(&tools) {
        println!("note: the numbers were not made with {tools}");
    }
    let above = compare(&counts, &numbers(&text)?);
    if update {
        std::fs::write(&file, render(&counts, &tools))?;
        println!("{NUMBERS} is written");
        return Ok(());
    }
    ensure!(above.is_empty(), "above the numbers of {NUMBERS}: {}", above.join(", "));
    Ok(())
}

/// What `program --version` says first.
fn first_line(program: &str, root: &Path) -> anyhow::Result<String> {
    let output = Command::new(program).arg("--version").current_dir(root).output()?;
    let text = String::from_utf8(output.stdout)?;
    text.lines().next().map(String::from).with_context(|| format!("{program} has no version"))
}

/// Builds the benches; gives their programs.
fn build(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut cargo = Command::new("cargo");
    cargo.args(["bench", "--no-run", "--message-format=json-render-diagnostics"]);
    cargo.args(["--features", "etcdrs-server/bench-hooks"]);
    for (package, bench) in BENCHES {
        cargo.args(["--package", package, "--bench", bench]);
    }
    let output = cargo.current_dir(root).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "building the benches failed");
    let messages = String::from_utf8(output.stdout)?;
    let messages: Vec<Value> =
        messages.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let program = |(_, bench): &(&str, &str)| {
        let built = messages.iter().find(|m| m["target"]["name"] == *bench);
        let path = built.and_then(|m| m["executable"].as_str()).map(PathBuf::from);
        path.with_context(|| format!("cargo names no program of bench {bench}"))
    };
    BENCHES.iter().map(program).collect()
}

/// Runs one program under callgrind.
fn measure(program: &Path) -> anyhow::Result<Counts> {
    println!("measuring {}", program.display());
    let out = std::env::temp_dir().join(format!("etcd-rs-instructions-{}", std::process::id()));
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--tool=callgrind"]);
    // Plain names and places, so that the profile can be read line by line.
    valgrind.args(["--compress-strings=no", "--compress-pos=no"]);
    valgrind.arg(format!("--toggle-collect=*::{PREFIX}*"));
    valgrind.arg(format!("--callgrind-out-file={}", out.display())).arg(program);
    let output = valgrind.output()?;
    // Shown after a failure alone: valgrind warns of each system call it does not know.
    let complaints = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed:\n{complaints}", program.display());
    let profile = String::from_utf8_lossy(&std::fs::read(&out)?).into_owned();
    std::fs::remove_file(&out)?;
    per_operation(&profile, &String::from_utf8(output.stdout)?)
}

/// Divides the costs of `profile` by the numbers of operations that the bench told, a line for
/// each: name and number.
fn per_operation(profile: &str, told: &str) -> anyhow::Result<Counts> {
    let costs = costs(profile)?;
    let operations = numbers(told)?;
    ensure!(
        costs.keys().eq(operations.keys()),
        "measured {:?}, but the bench tells of {:?}",
        costs.keys(),
        operations.keys()
    );
    let both = costs.into_iter().zip(operations.into_values());
    Ok(both.map(|((name, cost), times)| (name, cost.div_ceil(times.max(1)))).collect())
}

/// Inclusive costs of the calls of measured functions in a profile of callgrind: the line after
/// `calls=` has place and cost. Together they are all that was counted.
fn costs(profile: &str) -> anyhow::Result<Counts> {
    let mut costs = Counts::new();
    let mut lines = profile.lines();
    while let Some(line) = lines.next() {
        let callee = line.strip_prefix("cfn=").and_then(|name| name.split_once(PREFIX));
        let Some((_, name)) = callee else { continue };
        ensure!(!name.contains(':'), "{line:?}: a closure is taken for a measured function");
        let call = lines.find(|line| !line.starts_with("calls="));
        let cost = call.and_then(|line| line.split_once(' ')).and_then(|(_, n)| n.parse().ok());
        let cost: u64 = cost.with_context(|| format!("no cost after {line:?}"))?;
        *costs.entry(name.to_owned()).or_default() += cost;
    }
    let all: u64 = costs.values().sum();
    let summary = profile.lines().find_map(|line| line.strip_prefix("summary: "));
    ensure!(summary == Some(&all.to_string()), "{all} is not the whole profile, {summary:?}");
    Ok(costs)
}

/// Reads lines of name and number; `#` begins a comment.
fn numbers(text: &str) -> anyhow::Result<Counts> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let number = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    lines
        .map(|line| number(line).with_context(|| format!("{line:?} is no name and number")))
        .collect()
}

/// Prints the table; names what is too much.
fn compare(counts: &Counts, numbers: &Counts) -> Vec<String> {
    println!("\n{:<16} {:>14} {:>14} {:>9}", "operation", "instructions", "committed", "change");
    let mut above = Vec::new();
    for (name, &count) in counts {
        let Some(&number) = numbers.get(name) else {
            println!("{name:<16} {count:>14} {:>14} {:>9}", "-", "new");
            above.push(format!("{name} (no number yet)"));
            continue;
        };
        let change = 100.0 * (count as f64 / number as f64 - 1.0);
        let (mark, too_much) = match change {
            c if c > TOLERANCE => ("  ABOVE", true),
            c if c < -TOLERANCE => ("  better: --update", false),
            _ => ("", false),
        };
        println!("{name:<16} {count:>14} {number:>14} {change:>+8.2}%{mark}");
        if too_much {
            above.push(format!("{name} ({change:+.1} %)"));
        }
    }
    above
}

fn render(counts: &Counts, tools: &str) -> String {
    let mut text = String::from(
        "# Instructions of one operation; written by `cargo xtask instructions --update`.\n",
    );
    text.push_str(&format!("# {tools}\n"));
    for (name, count) in counts {
        text.push_str(&format!("{name} {count}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = "\
events: Ir
summary: 1070

fn=bench::main
12 5
cfi=???
cfn=bench::measured_put
calls=1 0
58 1000
cfn=bench::measured_get
calls=2 0
59 70

fn=bench::measured_put
3 14
cfn=malloc
calls=6 1338
357 986
";

    #[test]
    fn a_profile_gives_the_cost_of_one_operation() {
        let counts = per_operation(PROFILE, "put 10\nget 7\n").unwrap();
        assert_eq!(counts, Counts::from([("get".into(), 10), ("put".into(), 100)]));
        per_operation(PROFILE, "put 10\n").expect_err("get is not told");
        let closure = PROFILE.replace("measured_get", "measured_get::{{closure}}");
        per_operation(&closure, "put 10\nget 7\n").expect_err("a closure");
        let other = PROFILE.replace("1070", "1071");
        per_operation(&other, "put 10\nget 7\n").expect_err("something else was counted");
    }

    #[test]
    fn more_than_the_tolerance_is_above() {
        let committed = numbers("# made by hand\nget 1000\nput 1000\n").unwrap();
        assert_eq!(numbers(&render(&committed, "tools")).unwrap(), committed);
        let counts = Counts::from([("get".into(), 1029), ("put".into(), 1031), ("del".into(), 1)]);
        assert_eq!(compare(&counts, &committed), ["del (no number yet)", "put (+3.1 %)"]);
        assert!(compare(&Counts::from([("get".into(), 1)]), &committed).is_empty());
    }
}
