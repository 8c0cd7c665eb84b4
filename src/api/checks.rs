//! Validation of the string values of both kinds: words, durations, regions, filters, globs, paths and names. Pure.
//!
//! The specs of the reconcilers check every object with these rules, so `opsy validate`, a commit and an object that
//! was edited in a cluster get the same messages. What the operator accepts stays valid: it treats empty strings and
//! zeros as "not set", and so does Opsy.

use std::fmt::Display;
use std::time::Duration;

use globset::Glob;

use super::filters::AmiFilter;
use super::glob::Matcher;
use super::{Region, duration};

/// Minimum similarity of two names for a "did you mean" (Jaro-Winkler; 1 means equal).
const ALIKE: f64 = 0.83;
/// Maximum length of an object name.
const NAME_LIMIT: usize = 253;
/// Maximum length of a DNS label.
const LABEL_LIMIT: usize = 63;

/// A field path and what is wrong with it.
pub type Problem = (String, String);

/// Collects problems, so that a check reports all of them.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let problem = (path.into(), message.into());
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// Returns the value, or records the problem.
    pub fn read<T, E: Display>(&mut self, path: &str, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.add(path, error.to_string())).ok()
    }

    pub fn duration(&mut self, path: &str, text: Option<&String>) -> Option<Duration> {
        let read = duration::parse(written(text)?);
        self.read(path, read)
    }

    pub fn region(&mut self, path: &str, text: &str) -> Option<Region> {
        self.read(path, Region::parse(text))
    }

    /// Requires one of these words. The message about another one suggests the closest of them.
    pub fn word(&mut self, path: impl Into<String>, text: &str, words: &[&str]) {
        if !words.contains(&text) {
            let meant = closest(text, words.iter().copied());
            let meant = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
            self.add(path, format!("{text:?} is not one of {}{meant}", words.join(", ")));
        }
    }

    /// Returns a path relative to the repository root, without `./` and a trailing `/`.
    pub fn path(&mut self, field: &str, text: &str) -> String {
        if let Some(why) = escapes_root(text) {
            self.add(field, format!("{text:?} {why}; write it relative to the repository's root"));
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
    }

    /// Returns the valid globs of a list.
    pub fn globs(&mut self, path: &str, texts: &[String]) -> Vec<Glob> {
        let read = |(index, text): (usize, &String)| {
            let at = format!("{path}[{index}]");
            if text.is_empty() {
                self.add(at, "an empty glob matches nothing");
                return None;
            }
            // `Matcher` refuses a glob that is too long or whose matcher would be too large.
            let read = Matcher::new(text).and_then(|_| Glob::new(text).map_err(|bad| bad.kind().to_string()));
            self.read(&at, read.map_err(|why| format!("{} is not a valid glob: {why}", shown(text))))
        };
        texts.iter().enumerate().filter_map(read).collect()
    }

    /// Checks the name of another object, if there is one.
    pub fn name(&mut self, path: &str, text: Option<&String>) {
        if let Some(name) = written(text).filter(|name| !is_object_name(name)) {
            self.add(path, format!("{name:?} is not a valid object name (a-z, 0-9, '-' and '.')"));
        }
    }

    /// Returns the name and values of an EC2 filter.
    pub fn filter(&mut self, path: &str, filter: &AmiFilter) -> Option<(String, Vec<String>)> {
        let before = self.0.len();
        let name = filter.name.as_deref().map(str::trim).unwrap_or_default();
        if name.is_empty() {
            let words = "is required: name an EC2 filter, for example `name` or `tag:status`";
            self.add(format!("{path}.name"), words);
        }
        let values = filter.values.clone().unwrap_or_default();
        if values.is_empty() {
            self.add(format!("{path}.values"), "a filter without values matches nothing");
        }
        for (index, _) in values.iter().enumerate().filter(|(_, value)| value.is_empty()) {
            self.add(format!("{path}.values[{index}]"), "an empty value matches nothing");
        }
        (self.0.len() == before).then(|| (name.to_owned(), values))
    }
}

/// Quotes a string for a message and truncates it: anyone can write a long one.
fn shown(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Returns the string unless it is empty, which counts as not set.
pub fn written(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// Returns the known name that a string was probably meant to be.
pub fn closest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_lowercase();
    names
        .map(|name| (strsim::jaro_winkler(&lower, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

/// Returns why a path does not stay below the root that it is relative to.
pub fn escapes_root(path: &str) -> Option<&'static str> {
    if path.starts_with('/') {
        return Some("is an absolute path");
    }
    if path.contains(['\0', '\\']) {
        return Some("contains a character that is not allowed in a path");
    }
    path.split('/').any(|step| step == "..").then_some("leaves the repository")
}

/// Returns whether a URL contains credentials, which belong in a Secret. A user without a password is a token over
/// HTTP, and harmless over SSH.
pub fn has_credentials(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, _)) => user.contains(':') || scheme != "ssh",
        None => false,
    }
}

/// Returns an address without its user part, which may contain a password, so that it can be stored or shown.
pub fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}/{path}")
}

/// Returns an address without scheme, user, `.git` and trailing slashes: a form that is equal for the same repository.
pub fn plain_url(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let rest = rest.trim_end_matches('/');
    rest.strip_suffix(".git").unwrap_or(rest).replacen(':', "/", 1).to_lowercase()
}

/// Returns whether this is a valid name of a Kubernetes object: DNS labels separated by dots.
pub fn is_object_name(name: &str) -> bool {
    name.len() <= NAME_LIMIT && name.split('.').all(|label| is_label_of(label, NAME_LIMIT))
}

/// Returns whether this is a DNS label, as the name of a namespace must be.
pub fn is_label(name: &str) -> bool {
    is_label_of(name, LABEL_LIMIT)
}

fn is_label_of(label: &str, most: usize) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=most).contains(&label.len())
        && label.chars().all(|c| inner(c) || c == '-')
        && label.starts_with(inner)
        && label.ends_with(inner)
}

/// Checks the address of a service.
pub fn endpoint(url: &str) -> Result<(), &'static str> {
    let uri: http::Uri = url.parse().map_err(|_| "is not a URL (for example https://ec2.example.com)")?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(()),
        _ => Err("must begin with https:// or http:// and name a host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels() {
        for (name, object, label) in [
            ("a", true, true),
            ("a-1", true, true),
            ("a.b", true, false),
            ("-a", false, false),
            ("a-", false, false),
            ("A", false, false),
            ("", false, false),
            ("a..b", false, false),
        ] {
            assert_eq!((is_object_name(name), is_label(name)), (object, label), "{name:?}");
        }
        assert!(is_object_name(&"a".repeat(253)) && !is_object_name(&"a".repeat(254)));
        assert!(is_label(&"a".repeat(63)) && !is_label(&"a".repeat(64)));
    }

    #[test]
    fn paths_that_leave() {
        for path in ["..", "a/../b", "/a", "a\\b", "a\0b"] {
            assert!(escapes_root(path).is_some(), "{path:?}");
        }
        for path in [".", "a", "a/b.c", "a..b", "./a", "a/"] {
            assert!(escapes_root(path).is_none(), "{path:?}");
        }
    }

    #[test]
    fn endpoints() {
        for url in ["https://ec2.us-east-1.amazonaws.com", "http://127.0.0.1:4566/", "http://[::1]:80"] {
            assert_eq!(endpoint(url), Ok(()), "{url}");
        }
        for url in ["", "localhost:4566", "ec2.example.com", "https://", "ftp://h", "http://a b"] {
            assert!(endpoint(url).is_err(), "{url}");
        }
    }

    #[test]
    fn credentials() {
        for url in ["http://u@h/", "https://u:p@h/x?y#z", "ssh://u:p@h"] {
            assert!(has_credentials(url), "{url}");
        }
        for url in ["https://h/x@y", "ssh://git@h/x", "git@h:x", "https://h?u@x", "../x"] {
            assert!(!has_credentials(url), "{url}");
        }
    }

    #[test]
    fn the_closest_name_wins_and_far_ones_are_not_offered() {
        let names = ["region", "clusterName", "repoURL", "branch"];
        for (text, meant) in [
            ("regoin", Some("region")),
            ("repourl", Some("repoURL")),
            ("clustername", Some("clusterName")),
            ("xyz", None),
        ] {
            assert_eq!(closest(text, names.into_iter()), meant, "{text}");
        }
    }
}
