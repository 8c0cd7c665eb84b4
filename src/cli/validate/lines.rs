//! The lines of the files that have problems, read when they are shown.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;

use super::STDIN;

/// The lines of files by their names. A file with many problems is read once.
#[derive(Default)]
pub struct Lines(RefCell<BTreeMap<String, Vec<String>>>);

impl Lines {
    /// Returns a line of a file, counted from 1. Standard input cannot be read again.
    pub fn get(&self, file: &str, number: usize) -> Option<String> {
        let mut files = self.0.borrow_mut();
        let read = || match file {
            file if file == STDIN.0 => Vec::new(),
            file => fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect(),
        };
        files.entry(file.to_owned()).or_insert_with(read).get(number.checked_sub(1)?).cloned()
    }
}
