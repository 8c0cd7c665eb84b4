//! Relative paths of a repository, separated by `/`. Pure.

use std::borrow::Cow;

/// Returns whether `path` is the directory itself or below it. For the root (`""`) it returns false, so that an empty
/// setting excludes nothing.
pub fn is_within(path: &str, folder: &str) -> bool {
    !folder.is_empty()
        && path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns a path and every directory above it: `a/b/c` gives `a`, `a/b`, `a/b/c`.
pub fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain(std::iter::once(path))
}

/// Returns a name for a message, with the bytes that are not UTF-8 as `\xff`, so that two names never become one.
pub fn shown_name(bytes: &[u8]) -> String {
    bytes.utf8_chunks().fold(String::new(), |shown, chunk| {
        let odd = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
        shown + chunk.valid() + &odd.collect::<String>()
    })
}

/// Returns a path or the target of a link for a message. A long one is truncated.
pub fn short(path: &str) -> Cow<'_, str> {
    const SHOWN: usize = 200;
    match path.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &path[..end]).into(),
        None => path.into(),
    }
}

/// Joins two relative paths. Either may be empty.
pub fn join(folder: &str, path: &str) -> String {
    match (folder, path) {
        ("", path) => path.to_owned(),
        (folder, "") => folder.to_owned(),
        (folder, path) => format!("{folder}/{path}"),
    }
}

/// Returns a path without `.` and `..` and without doubled or trailing slashes, or `None` if it is absolute or leaves
/// the root.
pub fn plain(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    if path.starts_with('/') {
        return None;
    }
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths() {
        assert_eq!(plain("./a//b/../c/"), Some("a/c".to_owned()));
        assert_eq!(plain("."), Some(String::new()));
        assert_eq!(plain("../a"), None);
        assert_eq!(plain("a/../../b"), None);
        assert_eq!(plain("/etc/passwd"), None);
    }
}
