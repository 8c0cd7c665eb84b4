//! Tables for people, as kubectl prints them. Pure.

use serde_json::Value;

pub use crate::api::ids::short_commit as short;
use crate::api::text::one_line;

/// A cell for a value of status: the string, or `-`.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// A cell for a value that may be absent.
pub fn optional<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

pub fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// Formats a table with its head, or nothing if it has no other row. Each column is as wide as its widest cell, except
/// for the last cell of a row. A row is one line.
pub fn table(rows: &[Vec<String>]) -> String {
    if rows.len() < 2 {
        return String::new();
    }
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let ends_row = |row: &Vec<String>| row.len() > column + 1;
        rows.iter().filter(|row| ends_row(row)).map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text + "\n"
}
