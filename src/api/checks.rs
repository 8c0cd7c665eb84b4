//! What the texts of both kinds must be: words, durations, regions, filters, globs, paths and names. Pure.
//!
//! The reconcilers' specs hold every object against this, so `opsy validate`, a commit and an object edited
//! in a cluster hear the same. What the operator accepted stays accepted: its empty texts and zeros meant
//! "not set" and still do.

use std::fmt::Display;
use std::time::Duration;

use globset::Glob;

use super::builder::AmiFilter;
use super::glob::Matcher;
use super::{Region, duration};

/// How alike two names must be to be offered as "did you mean" (Jaro-Winkler, 1 is equal).
const ALIKE: f64 = 0.83;
/// Most characters of an object's name.
const NAME_LIMIT: usize = 253;
/// Most characters of a DNS label.
const LABEL_LIMIT: usize = 63;

/// A field path and what is wrong with it.
pub type Problem = (String, String);

/// Collects problems while reading goes on.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let problem = (path.into(), message.into());
        if !self.0.contains(&problem) {
            self.0.push(problem);
        }
    }

    /// The value, or its problem noted.
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

    /// One of these words. Another is answered with the one that was probably meant.
    pub fn word(&mut self, path: impl Into<String>, text: &str, words: &[&str]) {
        if !words.contains(&text) {
            let meant = closest(text, words.iter().copied());
            let meant = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
            self.add(path, format!("{text:?} is not one of {}{meant}", words.join(", ")));
        }
    }

    /// A path below the repository's root, without `./` and a closing `/`.
    pub fn path(&mut self, field: &str, text: &str) -> String {
        if let Some(why) = leaves(text) {
            self.add(field, format!("{text:?} {why}; write it relative to the repository's root"));
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
    }

    /// The globs of a list, as far as they are any.
    pub fn globs(&mut self, path: &str, texts: &[String]) -> Vec<Glob> {
        let read = |(index, text): (usize, &String)| {
            let at = format!("{path}[{index}]");
            if text.is_empty() {
                self.add(at, "an empty glob matches nothing");
                return None;
            }
            // Short ones alone are read, and only what has a matcher.
            let read = Matcher::new(text).and_then(|_| Glob::new(text).map_err(|bad| bad.kind().to_string()));
            self.read(&at, read.map_err(|why| format!("{} is not a valid glob: {why}", shown(text))))
        };
        texts.iter().enumerate().filter_map(read).collect()
    }

    /// The name of another object, where one is written.
    pub fn name(&mut self, path: &str, text: Option<&String>) {
        if let Some(name) = written(text).filter(|name| !is_object_name(name)) {
            self.add(path, format!("{name:?} is not the name of an object (a-z, 0-9, '-' and '.')"));
        }
    }

    /// Name and values of an EC2 filter.
    pub fn filter(&mut self, path: &str, filter: &AmiFilter) -> Option<(String, Vec<String>)> {
        let before = self.0.len();
        let name = filter.name.as_deref().map(str::trim).unwrap_or_default();
        if name.is_empty() {
            let words = "a filter needs the name of an EC2 filter, like `name` or `tag:status`";
            self.add(format!("{path}.name"), words);
        }
        let values = filter.values.clone().unwrap_or_default();
        if values.is_empty() {
            self.add(format!("{path}.values"), "a filter without values finds nothing");
        }
        for (index, _) in values.iter().enumerate().filter(|(_, value)| value.is_empty()) {
            self.add(format!("{path}.values[{index}]"), "an empty value finds nothing");
        }
        (self.0.len() == before).then(|| (name.to_owned(), values))
    }
}

/// A text in a message, in quotes and cut: anybody may write a long one.
fn shown(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// A text that is written: an empty one is not.
pub fn written(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

/// The known name a text was probably meant to be.
pub fn closest<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_lowercase();
    names
        .map(|name| (strsim::jaro_winkler(&lower, &name.to_lowercase()), name))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

/// Why a path does not stay below the root it is relative to.
pub fn leaves(path: &str) -> Option<&'static str> {
    if path.starts_with('/') {
        return Some("is an absolute path");
    }
    if path.contains(['\0', '\\']) {
        return Some("holds a character that no path in a repository has");
    }
    path.split('/').any(|step| step == "..").then_some("leaves the repository")
}

/// Does a URL carry what belongs in a Secret? A user alone is a token over http, and harmless over ssh.
pub fn has_credentials(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, _)) => user.contains(':') || scheme != "ssh",
        None => false,
    }
}

/// An address without scheme, user, `.git` and trailing slashes: equal for the same repository.
pub fn plain_url(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let rest = rest.trim_end_matches('/');
    rest.strip_suffix(".git").unwrap_or(rest).replacen(':', "/", 1).to_lowercase()
}

/// A name Kubernetes gives to objects: labels of a DNS name, separated by dots.
pub fn is_object_name(name: &str) -> bool {
    name.len() <= NAME_LIMIT && name.split('.').all(|label| is_label_of(label, NAME_LIMIT))
}

/// A DNS label, as namespaces are named.
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

/// What is wrong with the address of a service.
pub fn endpoint(url: &str) -> Result<(), &'static str> {
    let uri: http::Uri = url.parse().map_err(|_| "is not a URL; write it like https://ec2.example.com")?;
    match (uri.scheme_str(), uri.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => Ok(()),
        _ => Err("must begin with https:// or http:// and a host"),
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
            assert!(leaves(path).is_some(), "{path:?}");
        }
        for path in [".", "a", "a/b.c", "a..b", "./a", "a/"] {
            assert!(leaves(path).is_none(), "{path:?}");
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
