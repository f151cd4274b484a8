//! The tables of `tests/rows`: which test shows which row of the references (issue 3).
//!
//! Every row that the issue names stands in one of them, with the names of tests in backticks, and
//! there is a function for every name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The rows, as ranges of their numbers: `U`, `R`, `T`, `W` of storage-and-raft.md §6, and `V` for
/// the numbers of v3-api.md §7.
const ROWS: &[(char, &[(u16, u16)])] = &[
    ('U', &[(2, 10), (12, 20), (22, 26), (28, 28), (31, 38), (52, 59), (61, 62)]),
    ('R', &[(2, 12), (15, 27), (29, 40), (43, 49)]),
    ('T', &[(3, 24), (27, 37)]),
    ('W', &[(1, 10), (12, 13)]),
    (
        'V',
        &[
            (6, 6),
            (21, 21),
            (67, 67),
            (71, 72),
            (91, 92),
            (100, 106),
            (110, 110),
            (112, 112),
            (114, 114),
        ],
    ),
];

/// Rows about objects of the Go program, and the page that names their counterparts.
const COUNTERPARTS: &[(&str, &[&str])] = &[
    ("crates/raft-glue/README.md", &["R01", "R13", "R14"]),
    ("crates/server/README.md", &["U27"]),
    ("crates/rafthttp-transport/README.md", &["T01", "T02"]),
];

/// The problems with the tables and pages.
pub(super) fn check(root: &Path, files: &[PathBuf]) -> anyhow::Result<Vec<String>> {
    let read = |file: &Path| {
        std::fs::read_to_string(root.join(file)).with_context(|| file.display().to_string())
    };
    let mut functions = BTreeSet::new();
    for file in files.iter().filter(|file| super::is_ours(file)) {
        functions.extend(functions_of(&read(file)?));
    }
    let (mut problems, mut shown) = (Vec::new(), BTreeSet::new());
    let tables = files.iter().filter(|file| file.starts_with("tests/rows"));
    for file in tables.filter(|file| file.extension().is_some_and(|kind| kind == "md")) {
        let text = read(file)?;
        let found = read_table(&text, &functions);
        problems.extend(found.problems.iter().map(|what| format!("{}: {what}", file.display())));
        shown.extend(found.rows);
    }
    let missing = all_rows().filter(|row| !shown.contains(row));
    problems.extend(missing.map(|row| format!("tests/rows: no line for row {row}")));
    for (page, rows) in COUNTERPARTS {
        let text = read(Path::new(page))?;
        let missing = rows.iter().filter(|row| !text.contains(*row));
        problems.extend(missing.map(|row| format!("{page}: no counterpart of row {row}")));
        let unknown = unknown_in_last_column(&text, &functions);
        problems.extend(unknown.iter().map(|name| format!("{page}: no `fn {name}`")));
    }
    Ok(problems)
}

fn all_rows() -> impl Iterator<Item = String> {
    ROWS.iter().flat_map(|(kind, ranges)| {
        let numbers = ranges.iter().flat_map(|(first, last)| *first..=*last);
        numbers.map(move |number| row(*kind, number))
    })
}

fn row(kind: char, number: u16) -> String {
    format!("{kind}{number:02}")
}

/// What one table has.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    rows: Vec<String>,
    problems: Vec<String>,
}

fn read_table(text: &str, functions: &BTreeSet<String>) -> Table {
    let mut table = Table::default();
    for line in text.lines() {
        let mut cells = line.split('|').skip(1);
        let (Some(first), Some(shown_by)) = (cells.next(), cells.next()) else { continue };
        let rows: Vec<String> = first.split(',').filter_map(|cell| parse(cell.trim())).collect();
        if rows.is_empty() {
            continue;
        }
        let names = names_in(shown_by);
        if names.is_empty() {
            table.problems.push(format!("{}: no test is named", first.trim()));
        }
        let unknown = names.iter().filter(|name| !functions.contains(**name));
        table.problems.extend(unknown.map(|name| format!("{}: no `fn {name}`", first.trim())));
        table.rows.extend(rows);
    }
    table
}

/// Names in the last column of a page's table for which there is no function.
fn unknown_in_last_column<'a>(text: &'a str, functions: &BTreeSet<String>) -> Vec<&'a str> {
    let last = text.lines().filter_map(|line| line.strip_suffix('|')?.rsplit('|').next());
    last.flat_map(names_in).filter(|name| !functions.contains(*name)).collect()
}

/// The names of functions in backticks.
fn names_in(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).filter(|name| is_bare(name)).collect()
}

/// A row of storage-and-raft.md, or a number of v3-api.md.
fn parse(cell: &str) -> Option<String> {
    let kind = cell.chars().next()?;
    let (kind, number) = match kind {
        'U' | 'R' | 'T' | 'W' | 'V' => (kind, &cell[1..]),
        _ => ('V', cell),
    };
    Some(row(kind, number.parse().ok()?))
}

/// The name of a function alone, and no path, text or metric with a dot.
fn is_bare(name: &str) -> bool {
    name.contains('_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Names behind `fn`, wherever they stand, and of the tests that the macro `planted!` makes.
fn functions_of(text: &str) -> impl Iterator<Item = String> {
    let named = text.split("fn ").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !is_name(c))?;
        let is_function = end > 0 && rest[end..].starts_with(['(', '<']);
        is_function.then(|| rest[..end].to_owned())
    });
    let planted = text.match_indices(" =").filter_map(|(at, _)| {
        let is_planted = text[at + 2..].trim_start().starts_with("Planted::");
        let start = text[..at].rfind(|c: char| !is_name(c)).map_or(0, |before| before + 1);
        is_planted.then(|| text[start..at].to_owned())
    });
    named.chain(planted)
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        let functions = functions_of("async fn u_02_a_b() {}\nfn c_d<T>() {}\n// fn no_more\n");
        read_table(text, &functions.collect())
    }

    #[test]
    fn names_need_functions_and_rows_need_names() {
        let good = table("| row | shown by |\n|---|---|\n| U02 | `u_02_a_b`: says `so: much` |\n");
        assert_eq!(good, Table { rows: vec!["U02".into()], problems: vec![] });
        let bad = table("| R3, T10 | `no_more`, `c_d` |\n| 6 | words |\n");
        assert_eq!(bad.rows, ["R03", "T10", "V06"]);
        assert_eq!(bad.problems, ["R3, T10: no `fn no_more`", "6: no test is named"]);
    }

    #[test]
    fn planted_faults_are_tests() {
        let text = "planted! {\n    a_b = Planted::new();\n    c_d =\n        Planted { x };\n}\n";
        assert_eq!(functions_of(text).collect::<Vec<_>>(), ["a_b"]);
    }

    #[test]
    fn pages_name_functions_in_their_last_column() {
        let functions = BTreeSet::from(["a_b".to_owned()]);
        let text = "| `no_matter` | words | `a_b`, `c_d`, `e::f_g` |\nwords `h_i`\n";
        assert_eq!(unknown_in_last_column(text, &functions), ["c_d"]);
    }

    #[test]
    fn the_issue_names_this_many_rows() {
        let of = |kind| all_rows().filter(|row| row.starts_with(kind)).count();
        assert_eq!(['U', 'R', 'T', 'W', 'V'].map(of), [42, 43, 33, 12, 17]);
    }
}
