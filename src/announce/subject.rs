//! Whom a story is about.

use std::fmt;

use crate::api::{Kind, ObjectKey, steady};

/// Names that are spelled out.
const NAMED: usize = 12;

/// Whom a story is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Object(ObjectKey),
    /// The repository, by its name: what has no object, or concerns all of them.
    Repository(String),
}

impl From<&ObjectKey> for Subject {
    fn from(object: &ObjectKey) -> Self {
        Self::Object(object.clone())
    }
}

/// As machines sort by it: unique, and the same for ever.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object) => object.fmt(f),
            Self::Repository(name) => write!(f, "Repository/{name}"),
        }
    }
}

impl Subject {
    /// As people call it.
    pub fn short_name(&self) -> String {
        match self {
            Self::Object(object) => short_name(object),
            Self::Repository(name) => format!("repository {name}"),
        }
    }

    /// Its own name, which is no part of why it fails.
    pub fn own_name(&self) -> &str {
        match self {
            Self::Object(object) => &object.key.name,
            Self::Repository(name) => name,
        }
    }
}

/// An object as people call it: its name, and its namespace where that is not `default`.
pub fn short_name(object: &ObjectKey) -> String {
    match object.key.namespace.as_str() {
        "default" | "" => object.key.name.clone(),
        namespace => format!("{namespace}/{}", object.key.name),
    }
}

/// Names in one line, the first of many.
pub fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names[..NAMED.min(names.len())].join(", "))
}

/// An object as `opsy` takes it on its command line.
pub fn argument(object: &ObjectKey) -> String {
    let kind = match object.kind {
        Kind::PackerBuilder => "packerbuilder",
        Kind::AMIRefresher => "amirefresher",
    };
    match object.key.namespace.as_str() {
        "default" | "" => format!("{kind}/{}", object.key.name),
        namespace => format!("{kind}/{} -n {namespace}", object.key.name),
    }
}

/// Why something failed without what is its own: its name, ids and numbers. Those that fail for one cause
/// have equal ones.
pub fn cause(own_name: &str, reason: &str, words: &str) -> String {
    let anonymous = steady::cause(&without_name(words, own_name));
    let mut cause = format!("{reason}: ");
    for word in anonymous.split_whitespace() {
        let numbered = word.chars().any(|c| c.is_ascii_digit());
        cause.push_str(if numbered { "#" } else { word });
        cause.push(' ');
    }
    cause.truncate(cause.trim_end().len());
    cause
}

/// The words with the name masked where it stands by itself: a builder called `a` is not in every word.
fn without_name(words: &str, name: &str) -> String {
    if name.is_empty() {
        return words.to_owned();
    }
    let mut out = String::with_capacity(words.len());
    let mut end = 0;
    for (start, _) in words.match_indices(name) {
        let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let alone = !inside(words[..start].chars().next_back())
            && !inside(words[start + name.len()..].chars().next());
        if alone && start >= end {
            out.push_str(&words[end..start]);
            out.push('*');
            end = start + name.len();
        }
    }
    out.push_str(&words[end..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cause_whatever_the_object_is_called() {
        let words = |template: &str, port: u16, request: &str| {
            format!(
                "Failed to install plugins for packer/{template}: dial tcp 127.0.0.1:{port}->10.0.0.2:53: the network is away (RequestId: {request})"
            )
        };
        let of = |name: &str, port, request| cause(name, "BuildFailed", &words(name, port, request));
        let one = of("a", 40123, "ffeeddccbbaa");
        assert_eq!(one, of("e-k-s", 5, "aabbccddeeff"), "names as short as a letter are in many words");
        assert_eq!(one, of("network-node", 61000, "a1b2"));
        assert_ne!(one, cause("a", "BuildFailed", "no space left on device"));
    }
}
