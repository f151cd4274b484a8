//! `cargo xtask tidy`: the house rules no compiler checks.
//!
//! Crate edges (design.md §3), sizes of files and functions, a `//!` page in every file, names that
//! the deterministic crates must not use, README and CHANGELOG of every crate, a test for every row
//! of the references that was promised (tests/rows). Exceptions to sizes
//! stand in xtask/allow/*.txt; a line there that is no longer needed is an error too, so the lists
//! only shrink.

mod edges;
mod rows;
mod scan;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use scan::Source;

/// Longest file, in lines outside tests.
const FILE_LINES: usize = 600;
/// Longest function, in lines from `fn` to its closing brace.
const FUNCTION_LINES: usize = 70;
/// Longest README of the repository.
const README_LINES: usize = 120;

/// Names that would make the state machine depend on something other than the log, by crate.
const BANNED: &[(&str, &[&str])] = &[
    ("crates/apply", &["Instant", "SystemTime", "HashMap", "HashSet", "rand", "tokio"]),
    ("crates/mvcc", &["Instant", "SystemTime", "rand", "tokio"]),
    ("crates/lease", &["Instant", "SystemTime", "rand", "tokio"]),
    ("crates/auth", &["Instant", "SystemTime", "tokio"]),
    ("crates/membership", &["Instant", "SystemTime", "rand", "tokio"]),
];

/// What may lie in the root beside dot files.
const TOP_LEVEL: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "crates",
    "deploy",
    "proto",
    "rust-toolchain.toml",
    "tests",
    "xtask",
];

/// Runs the task.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let files = tracked_files(root)?;
    let mut problems = edges::check(root)?;
    problems.extend(check_layout(root, &files)?);
    problems.extend(check_sources(root, &files)?);
    problems.extend(rows::check(root, &files)?);
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    if !problems.is_empty() {
        bail!("tidy: {} problems", problems.len());
    }
    println!("tidy: {} files, no problem", files.len());
    Ok(())
}

/// Every file git knows or would add, relative to the root.
fn tracked_files(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("running git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let listed = String::from_utf8(output.stdout)?;
    let paths: BTreeSet<PathBuf> =
        listed.split('\0').filter(|p| !p.is_empty()).map(PathBuf::from).collect();
    Ok(paths.into_iter().filter(|p| root.join(p).is_file()).collect())
}

fn check_layout(root: &Path, files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    let tops: BTreeSet<&str> =
        files.iter().filter_map(|f| f.iter().next()).filter_map(|f| f.to_str()).collect();
    for top in tops {
        if !top.starts_with('.') && !TOP_LEVEL.contains(&top) {
            problems.push(format!("{top}: does not belong in the root"));
        }
    }
    for manifest in files.iter().filter(|f| f.ends_with("Cargo.toml")) {
        let Some(folder) = manifest.parent().filter(|p| !p.as_os_str().is_empty()) else {
            continue;
        };
        let text = std::fs::read_to_string(root.join(manifest))?;
        if !text.contains("[lints]\nworkspace = true") {
            problems.push(format!("{}: no `[lints] workspace = true`", manifest.display()));
        }
        if folder.starts_with("tests") || folder.starts_with("xtask") {
            continue;
        }
        for page in ["README.md", "CHANGELOG.md"] {
            if !root.join(folder).join(page).is_file() {
                problems.push(format!("{}: no {page}", folder.display()));
            }
        }
    }
    let readme = std::fs::read_to_string(root.join("README.md"))?.lines().count();
    if readme > README_LINES {
        problems.push(format!("README.md: {readme} lines, {README_LINES} are allowed"));
    }
    Ok(problems)
}

fn check_sources(root: &Path, files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut long_files = BTreeSet::new();
    let mut long_functions = BTreeSet::new();
    for file in files.iter().filter(|f| is_ours(f)) {
        let name = file.to_string_lossy().into_owned();
        let source = Source::new(&std::fs::read_to_string(root.join(file))?);
        if !source.starts_with_page() {
            problems.push(format!("{name}: does not open with `//!`"));
        }
        if is_test_file(file) {
            continue;
        }
        if source.code_lines() > FILE_LINES {
            long_files.insert(name.clone());
        }
        let long = source.functions().into_iter().filter(|f| f.lines > FUNCTION_LINES);
        long_functions.extend(long.map(|f| format!("{name} {}", f.name)));
        let banned = BANNED.iter().filter(|(folder, _)| file.starts_with(folder));
        for word in banned.flat_map(|(_, words)| *words).filter(|w| source.mentions(w)) {
            problems.push(format!("{name}: uses `{word}`, banned in this crate"));
        }
    }
    let allow = root.join("xtask/allow");
    problems.extend(ratchet(&allow.join("long-files.txt"), FILE_LINES, &long_files)?);
    problems.extend(ratchet(&allow.join("long-functions.txt"), FUNCTION_LINES, &long_functions)?);
    Ok(problems)
}

fn is_ours(file: &Path) -> bool {
    file.extension().is_some_and(|e| e == "rs") && !file.starts_with("proto/src/gen")
}

/// Whole files of tests, benches and examples: their length tells nothing about the product.
fn is_test_file(file: &Path) -> bool {
    file.file_name().is_some_and(|n| n == "tests.rs" || n == "build.rs")
        || file.iter().any(|part| part == "tests" || part == "benches" || part == "examples")
}

/// Compares what was found with the list of what is allowed, in both directions.
fn ratchet(list: &Path, limit: usize, found: &BTreeSet<String>) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(list).unwrap_or_default();
    let allowed: BTreeSet<String> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .map(String::from)
        .collect();
    let list = list.file_name().unwrap_or_default().to_string_lossy();
    let new = found.difference(&allowed).map(|f| format!("{f}: more than {limit} lines"));
    let stale = allowed.difference(found).map(|f| format!("{list}: {f:?} is not needed any more"));
    Ok(new.chain(stale).collect())
}
