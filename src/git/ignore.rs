//! `.opsyignore`: files of the repository that Opsy treats as absent, in gitignore syntax. Pure.
//!
//! An ignored file is not read as a manifest, is not an input of a build, and is not copied for a build. `opsy.yaml`
//! and the ignore files themselves cannot be ignored: the owner of the objects must not depend on a pattern.

use std::collections::HashMap;

use super::entry::EntryKind;
use crate::api::files::{POINTER, is_pointer};
use crate::api::glob::Matcher;
use crate::api::paths::{is_within, prefixes};

/// The name of ignore files. The patterns of a file apply to its directory and everything below.
pub const FILE: &str = ".opsyignore";
/// The maximum number of bytes and patterns in all ignore files of a commit: a matcher takes some kilobytes, and every
/// path is compared with every pattern.
pub const SIZE_LIMIT: usize = 256 * 1024;
const RULE_LIMIT: usize = 2_000;
/// The maximum number of comparisons of a path with a pattern, which take some seconds. A hundred patterns and a
/// hundred thousand files need ten million.
const MATCH_LIMIT: usize = 50_000_000;
/// Files that are never ignored, in any directory.
const ALWAYS_READ: [&str; 2] = [FILE, "opsy.yaml"];

/// The patterns of all ignore files of a commit.
#[derive(Debug, Default)]
pub struct Ignore {
    /// Outer directories first. Of the rules that match, the last one applies.
    rules: Vec<Rule>,
    /// Patterns that are not valid: file, line number and error.
    pub broken: Vec<(String, usize, String)>,
    /// Files that cannot be read, and why: it is unknown what they exclude.
    pub unreadable: Vec<(String, String)>,
}

#[derive(Debug)]
struct Rule {
    /// The directory of the ignore file, from the root.
    folder: String,
    matcher: Matcher,
    includes: bool,
    folders_only: bool,
}

impl Ignore {
    /// Parses ignore files, which are given as path from the root and content.
    pub fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let mut files: Vec<_> = files.into_iter().collect();
        files.sort_by_key(|(path, _)| (path.matches('/').count(), *path));
        let mut ignore = Self::default();
        for (path, content) in files {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let text = match text(content) {
                Ok(text) => text,
                Err(why) => {
                    ignore.unreadable.push((path.to_owned(), why.to_owned()));
                    continue;
                }
            };
            for (number, line) in text.lines().enumerate() {
                if ignore.rules.len() >= RULE_LIMIT {
                    ignore.unreadable.push((path.to_owned(), too_many()));
                    break;
                }
                match rule(folder, line) {
                    Ok(rule) => ignore.rules.extend(rule),
                    Err(why) => ignore.broken.push((path.to_owned(), number + 1, why)),
                }
            }
        }
        ignore
    }

    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns the matcher for the paths of a commit.
    pub fn decisions(&self) -> Decisions<'_> {
        Decisions { rules: &self.rules, folders: HashMap::new(), matches: 0 }
    }
}

/// Decides which paths of a commit are ignored. Each directory is decided once.
pub struct Decisions<'a> {
    rules: &'a [Rule],
    folders: HashMap<String, bool>,
    /// The number of comparisons so far.
    matches: usize,
}

impl Decisions<'_> {
    /// Returns true if a file is ignored. Below an ignored directory, no pattern can include a file again.
    pub fn ignores(&mut self, path: &str) -> bool {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if ALWAYS_READ.contains(&name) {
            return false;
        }
        self.ignores_folder(folder) || self.decides(path, false) == Some(false)
    }

    /// Returns true if a directory is ignored. Then everything in it is ignored, including ignore files.
    pub fn ignores_folder(&mut self, folder: &str) -> bool {
        if folder.is_empty() {
            return false;
        }
        if let Some(known) = self.folders.get(folder) {
            return *known;
        }
        let above = folder.rsplit_once('/').map_or("", |(above, _)| above);
        let ignored = self.ignores_folder(above) || self.decides(folder, true) == Some(false);
        self.folders.insert(folder.to_owned(), ignored);
        ignored
    }

    /// Returns true if the limit of comparisons is exceeded. Decisions after that are not valid.
    pub fn are_too_many(&self) -> bool {
        self.matches > MATCH_LIMIT
    }

    /// Returns whether the last pattern that matches includes the path; `Some(false)` means ignored.
    fn decides(&mut self, path: &str, is_folder: bool) -> Option<bool> {
        if self.are_too_many() {
            return None;
        }
        for rule in self.rules.iter().rev().filter(|rule| is_folder || !rule.folders_only) {
            self.matches += 1;
            if rule.matches(path) {
                return Some(rule.includes);
            }
        }
        None
    }
}

impl Rule {
    fn matches(&self, path: &str) -> bool {
        let below = if self.folder.is_empty() {
            Some(path)
        } else {
            path.strip_prefix(&self.folder).filter(|_| is_within(path, &self.folder))
        };
        below.is_some_and(|below| self.matcher.is_match(below.trim_start_matches('/')))
    }
}

/// Returns the path of an ignore file that is not a regular file, and the error for it.
pub fn not_a_file(path: &str, kind: &EntryKind) -> Option<(String, String)> {
    let is_named_so = |path: &&str| path.rsplit('/').next() == Some(FILE);
    let named = prefixes(path).find(is_named_so)?;
    let why = match kind {
        _ if named != path => "is a directory: replace it with a file, or remove it",
        EntryKind::File { .. } => return None,
        EntryKind::Link(_) => "is a link, and links are not followed: commit the file itself",
        EntryKind::Submodule => "is a submodule: commit the file itself",
        EntryKind::Misnamed => "is in a directory whose name is not UTF-8: rename the directory",
        EntryKind::Pointer => POINTER,
    };
    Some((named.to_owned(), why.to_owned()))
}

/// Returns the error for an ignore file that exceeds the limit of bytes together with those before it.
pub fn too_large() -> String {
    format!(
        "has, with the ignore files before it, more than {SIZE_LIMIT} bytes: use patterns for directories instead \
         of files"
    )
}

/// Returns the error for ignore files that have too many patterns for the number of files.
pub fn too_much_work() -> String {
    "has, with the other ignore files, too many patterns for the number of files: use patterns for directories \
     instead of files"
        .to_owned()
}

fn too_many() -> String {
    format!(
        "has, with the ignore files before it, more than {RULE_LIMIT} patterns: use patterns for directories instead \
         of files"
    )
}

/// Returns the text of an ignore file, or why it cannot be read.
fn text(content: &[u8]) -> Result<&str, &'static str> {
    if is_pointer(content) {
        return Err(POINTER);
    }
    if content.contains(&0) {
        // Windows PowerShell writes UTF-16.
        return Err("is UTF-16 or has zero bytes: save it as UTF-8");
    }
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    str::from_utf8(content).map_err(|_| "is not UTF-8 text: save it as UTF-8")
}

/// Parses a line. Returns `None` for a comment and for an empty line.
fn rule(folder: &str, line: &str) -> Result<Option<Rule>, String> {
    let line = without_trailing_spaces(line);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (includes, pattern) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
    let (folders_only, pattern) = pattern.strip_suffix('/').map_or((false, pattern), |rest| (true, rest));
    let anchored = pattern.contains('/');
    let pattern = pattern.trim_start_matches('/');
    if pattern.is_empty() {
        return Ok(None);
    }
    // Braces are alternatives in globset, but literal characters in gitignore.
    let pattern = pattern.replace('{', "[{]").replace('}', "[}]");
    let glob = if anchored { pattern } else { format!("**/{pattern}") };
    let matcher = Matcher::new(&glob).map_err(|why| format!("{line:?} is not a valid pattern: {why}"))?;
    Ok(Some(Rule { folder: folder.to_owned(), matcher, includes, folders_only }))
}

/// Removes spaces at the end, except for one after a backslash.
fn without_trailing_spaces(line: &str) -> &str {
    let trimmed = line.trim_end_matches(['\r', ' ', '\t']);
    if trimmed.ends_with('\\') && trimmed.len() < line.len() { &line[..=trimmed.len()] } else { trimmed }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(patterns: &str, paths: &[&str]) -> Vec<bool> {
        let ignore = Ignore::read([(FILE, patterns.as_bytes())]);
        assert_eq!(ignore.broken, []);
        let mut decisions = ignore.decisions();
        paths.iter().map(|path| decisions.ignores(path)).collect()
    }

    #[test]
    fn patterns_mean_what_they_mean_to_git() {
        for (patterns, path, expected) in [
            ("README.md", "README.md", true),
            ("README.md", "packer/README.md", true),
            ("/README.md", "packer/README.md", false),
            ("*.md", "docs/deep/a.md", true),
            ("docs/", "docs/a/b.txt", true),
            ("docs/", "docs", false),
            ("docs", "docs", true),
            ("packer/docs", "packer/docs/a", true),
            ("packer/docs", "x/packer/docs/a", false),
            ("packer/*", "packer/a/b", true),
            ("packer/*.md", "packer/a/b.md", false),
            ("**/test/**", "a/test/b/c", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/b", true),
            ("# no\n\n  \n", "# no", false),
            ("\\#a", "#a", true),
            ("a\\ ", "a ", true),
            ("a   ", "a", true),
            ("a\r\nb\r\n", "b", true),
            ("{a,b}", "a", false),
            ("{a,b}", "{a,b}", true),
            ("[ab].md", "b.md", true),
            ("/", "a", false),
            ("*", "a/b", true),
            ("*", "fleet/opsy.yaml", false),
            ("*", ".opsyignore", false),
        ] {
            assert_eq!(ignored(patterns, &[path]), [expected], "{patterns:?} and {path:?}");
        }
    }

    #[test]
    fn the_last_pattern_decides_and_nothing_returns_below_an_ignored_folder() {
        let paths = ["a.md", "keep.md", "docs/keep.md", "packer/x"];
        assert_eq!(ignored("*.md\n!keep.md", &paths), [true, false, false, false]);
        assert_eq!(ignored("!keep.md\n*.md", &paths), [true, true, true, false]);
        assert_eq!(ignored("docs/\n!docs/keep.md", &paths), [false, false, true, false]);
        assert_eq!(ignored("/*\n!/packer/", &paths), [true, true, true, false]);
    }

    #[test]
    fn a_folder_can_have_its_own() {
        let files = [(".opsyignore", &b"*.md"[..]), ("packer/.opsyignore", &b"!a.md\n/b"[..])];
        let ignore = Ignore::read(files);
        for (path, expected) in
            [("a.md", true), ("packer/a.md", false), ("packer/b", true), ("packer/c/b", false), ("b", false)]
        {
            assert_eq!(ignore.decisions().ignores(path), expected, "{path}");
        }
    }

    #[test]
    fn a_pattern_that_is_not_valid_is_named() {
        let ignore = Ignore::read([(FILE, &b"a\n[z"[..])]);
        assert_eq!(ignore.broken.len(), 1);
        assert_eq!((ignore.broken[0].0.as_str(), ignore.broken[0].1), (FILE, 2));
        assert!(ignore.decisions().ignores("a"));
        let utf16: Vec<u8> = "a\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(ignored("\u{feff}a", &["a"]), [true], "the byte order mark is not part of the text");
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 812\n".to_vec();
        for (content, why) in [
            (utf16, "save it as UTF-8"),
            (b"caf\xe9/\n".to_vec(), "save it as UTF-8"),
            (pointer, "Git LFS pointer"),
        ] {
            let ignore = Ignore::read([(FILE, content.as_slice())]);
            let [(file, message)] = ignore.unreadable.as_slice() else { panic!("{why}: {ignore:?}") };
            assert!(file == FILE && message.contains(why), "{file}: {message}");
        }
    }

    #[test]
    fn more_patterns_than_a_machine_holds_are_not_read() {
        let many = "a\n".repeat(RULE_LIMIT + 1);
        let few = "a\n".repeat(RULE_LIMIT);
        assert_eq!(Ignore::read([(FILE, few.as_bytes())]).unreadable, []);
        for files in [vec![(FILE, &many)], vec![(FILE, &few), ("b/.opsyignore", &few)]] {
            let ignore = Ignore::read(files.iter().map(|(path, text)| (*path, text.as_bytes())));
            assert!(
                ignore.rules.len() == RULE_LIMIT && ignore.unreadable.len() == 1,
                "{:?}",
                ignore.unreadable
            );
            assert!(ignore.unreadable[0].1.contains("more than 2000 patterns"));
        }
        let long = "?".repeat(1 << 20);
        assert_eq!(Ignore::read([(FILE, long.as_bytes())]).broken.len(), 1);
    }

    #[test]
    fn each_folder_is_decided_once_and_work_has_a_limit() {
        let ignore = Ignore::read([(FILE, "x/\n".repeat(1000).as_bytes())]);
        let mut decisions = ignore.decisions();
        for file in 0..1000 {
            assert!(!decisions.ignores(&format!("a/b/c/d/{file}")));
        }
        assert_eq!(
            decisions.matches,
            4 * 1000,
            "a pattern for directories is compared with four directories"
        );
        decisions.matches = MATCH_LIMIT;
        assert!(decisions.ignores("x/a") && decisions.are_too_many());
        assert!(!decisions.ignores("e/x/a"), "no more comparisons");
    }
}
