//! The sources of the agent as the guard reads them: module, file and code, without tests and comments.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A source file.
pub struct Source {
    /// Module path, such as `builder::plan`.
    pub module: String,
    pub path: PathBuf,
    /// The text without tests; comments are kept.
    pub text: String,
}

impl Source {
    /// The code without comments.
    pub fn code(&self) -> String {
        let code: Vec<&str> =
            self.text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
        code.join("\n")
    }

    /// The paths, from the root of the crate, of everything of the crate that the file imports or names by `crate::`,
    /// `super::` or `self::`.
    pub fn paths(&self, modules: &BTreeSet<String>) -> Vec<String> {
        let mut paths = Vec::new();
        let mut rest = String::new();
        let code = self.code();
        let mut left = code.as_str();
        while let Some(at) = find_use(left) {
            rest.push_str(&left[..at]);
            let (import, after) = left[at + 4..].split_once(';').unwrap_or((&left[at + 4..], ""));
            let import = import.split_whitespace().collect::<Vec<_>>().join(" ");
            paths.extend(expanded(&import));
            left = after;
        }
        rest.push_str(left);
        for word in rest.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
            if ["crate::", "super::", "self::"].iter().any(|start| word.starts_with(start)) {
                paths.push(word.to_owned());
            }
        }
        paths.iter().filter_map(|path| self.absolute(path, modules)).collect()
    }

    /// A path from the root of the crate; `None` if it names another crate.
    fn absolute(&self, path: &str, modules: &BTreeSet<String>) -> Option<String> {
        let mut base: Vec<&str> = self.module.split("::").filter(|part| *part != "lib").collect();
        let mut parts: Vec<&str> = path.split("::").collect();
        match parts[0] {
            "crate" => base.clear(),
            "self" => {}
            "super" => {
                while parts.first() == Some(&"super") {
                    base.pop();
                    parts.remove(0);
                }
                return Some([base, parts].concat().join("::"));
            }
            child => {
                let is_child = modules.contains(&[base.as_slice(), &[child]].concat().join("::"));
                return is_child.then(|| [base, parts].concat().join("::"));
            }
        }
        parts.remove(0);
        Some([base, parts].concat().join("::"))
    }
}

/// The start of the next `use` in code.
fn find_use(code: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = code[from..].find("use ").map(|at| at + from) {
        let before = code[..at].trim_end_matches([' ', '\t']).chars().next_back();
        if before.is_none_or(|c| c == '\n' || c == ')' || code[..at].ends_with("pub ")) {
            return Some(at);
        }
        from = at + 4;
    }
    None
}

/// `a::{b, c::{d, e}}` as one path each.
fn expanded(import: &str) -> Vec<String> {
    let Some((start, list)) = import.split_once('{') else {
        let path = import.split(" as ").next().unwrap_or_default();
        return vec![path.trim().to_owned()];
    };
    let list = list.rsplit_once('}').map_or(list, |(list, _)| list);
    let (mut depth, mut parts, mut part) = (0, Vec::new(), String::new());
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            _ => {}
        }
        part.push(c);
    }
    parts.push(part);
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(|part| expanded(&format!("{}{part}", start.trim()))).collect()
}

/// Every source file of the agent.
pub fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = rust_files(&root).into_iter().filter(|path| !is_test(path));
    let found: Vec<_> = files.map(|path| source(&root, path)).collect();
    assert!(found.len() > 20, "the sources are where they were");
    found
}

fn source(root: &Path, path: PathBuf) -> Source {
    let text = without_tests(&fs::read_to_string(&path).expect("a source file"));
    let relative = path.strip_prefix(root).expect("inside").with_extension("");
    let module = relative.to_string_lossy().replace('/', "::").trim_end_matches("::mod").to_owned();
    Source { module, path, text }
}

/// The text without the items that follow `#[cfg(test)]`; all that comes after them stays.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, item)) = rest.split_once("#[cfg(test)]") {
        kept.push_str(before);
        let indent = before.rsplit('\n').next().unwrap_or_default();
        let (semicolon, brace) = (item.find(';'), item.find('{'));
        rest = match (semicolon, brace) {
            (Some(semicolon), brace) if brace.is_none_or(|brace| semicolon < brace) => &item[semicolon + 1..],
            (_, Some(brace)) => &item[brace + end_of_block(&item[brace..], indent)..],
            _ => "",
        };
    }
    kept + rest
}

/// Where the block that the text begins with ends: at the brace in the column of its item, where rustfmt puts it.
fn end_of_block(text: &str, indent: &str) -> usize {
    let end = format!("\n{indent}}}\n");
    text.find(&end).map_or(text.len(), |at| at + end.len() - 1)
}

pub fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.chain(folders.iter().flat_map(|folder| rust_files(folder))).collect()
}

fn is_test(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.ends_with("/tests.rs")
        || text.contains("/tests/")
        || text.ends_with("/fake.rs")
        || text.ends_with("main.rs")
}
