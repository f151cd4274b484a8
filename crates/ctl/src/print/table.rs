//! `-w table`: the box that etcdctl has drawn with ASCII characters up to 3.6.

use crate::print::{Answer, rows};

/// Cells with spaces in them are broken into lines of at most this many characters.
const CELL_WIDTH_MAX: usize = 30;

pub(super) fn render(answer: &Answer<'_>) -> Option<String> {
    let (header, rows) = rows(answer)?;
    Some(draw(header, &rows))
}

/// A box: header in capitals and centred, cells to the right.
fn draw(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> =
        header.iter().map(|name| name.to_uppercase().replace(['_', '.'], " ")).collect();
    let rows: Vec<Vec<Vec<String>>> =
        rows.iter().map(|row| row.iter().map(|cell| wrap(cell)).collect()).collect();
    let widths: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(column, name)| {
            let cells = rows.iter().flat_map(|row| &row[column]).map(|line| width(line));
            cells.chain([width(name)]).max().unwrap_or_default()
        })
        .collect();
    let rule: String = widths.iter().map(|width| format!("+-{}-", "-".repeat(*width))).collect();
    let rule = format!("{rule}+\n");
    let mut out = rule.clone();
    for (name, &column) in header.iter().zip(&widths) {
        let gap = column - width(name);
        let (left, right) = (gap / 2, gap - gap / 2);
        out += &format!("| {}{name}{} ", " ".repeat(left), " ".repeat(right));
    }
    out += "|\n";
    out += &rule;
    for row in &rows {
        let height = row.iter().map(Vec::len).max().unwrap_or_default();
        for line in 0..height {
            for (cell, &column) in row.iter().zip(&widths) {
                let text = cell.get(line).map_or("", String::as_str);
                out += &format!("| {}{text} ", " ".repeat(column - width(text)));
            }
            out += "|\n";
        }
    }
    if !rows.is_empty() {
        out += &rule;
    }
    out
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Breaks a text at its spaces into lines that are as long as the longest word or as allowed.
fn wrap(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let longest = words.iter().map(|word| width(word)).max().unwrap_or_default();
    let limit = longest.max(CELL_WIDTH_MAX);
    let mut lines = vec![String::new()];
    for word in words {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if width(line) + 1 + width(word) <= limit => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
