//! What a story is about, how it is named in messages, and which failures have the same cause.

use std::fmt;

use crate::api::{Kind, ObjectKey, steady};

/// Maximum number of names in a list, so that it stays readable in a chat message.
const NAMED: usize = 12;

/// What a story is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Object(ObjectKey),
    /// The repository, by name, for problems that concern no object or all of them.
    Repository(String),
}

impl From<&ObjectKey> for Subject {
    fn from(object: &ObjectKey) -> Self {
        Self::Object(object.clone())
    }
}

/// A unique and stable name for machines.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object) => object.fmt(f),
            Self::Repository(name) => write!(f, "Repository/{name}"),
        }
    }
}

impl Subject {
    /// Returns the name for people.
    pub fn short_name(&self) -> String {
        match self {
            Self::Object(object) => short_name(object),
            Self::Repository(name) => format!("repository {name}"),
        }
    }

    /// Returns the name of the object or repository alone, which is masked in a cause.
    pub fn own_name(&self) -> &str {
        match self {
            Self::Object(object) => &object.key.name,
            Self::Repository(name) => name,
        }
    }
}

/// Returns the name of an object for people: with its namespace unless that is `default`.
pub fn short_name(object: &ObjectKey) -> String {
    match object.key.namespace.as_str() {
        "default" | "" => object.key.name.clone(),
        namespace => format!("{namespace}/{}", object.key.name),
    }
}

/// Returns the names as one line. Of a long list, it returns the first names and the number of the others.
pub fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names[..NAMED.min(names.len())].join(", "))
}

/// Returns the object as an argument of the command `opsy`.
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

/// Returns why something failed, with the name of the object, IDs and numbers masked. The result is equal for all
/// objects that fail for the same cause.
pub fn cause(own_name: &str, reason: &str, text: &str) -> String {
    let anonymous = steady::cause(&without_name(text, own_name));
    let mut cause = format!("{reason}: ");
    for word in anonymous.split_whitespace() {
        let numbered = word.chars().any(|c| c.is_ascii_digit());
        cause.push_str(if numbered { "#" } else { word });
        cause.push(' ');
    }
    cause.truncate(cause.trim_end().len());
    cause
}

/// Masks a name in a text, but only where it is a word of its own: a builder named `a` must not mask every letter a.
fn without_name(text: &str, name: &str) -> String {
    if name.is_empty() {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for (start, _) in text.match_indices(name) {
        let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let alone =
            !inside(text[..start].chars().next_back()) && !inside(text[start + name.len()..].chars().next());
        if alone && start >= end {
            out.push_str(&text[end..start]);
            out.push('*');
            end = start + name.len();
        }
    }
    out.push_str(&text[end..]);
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
        assert_eq!(one, of("e-k-s", 5, "aabbccddeeff"), "a name of one letter occurs in many words");
        assert_eq!(one, of("network-node", 61000, "a1b2"));
        assert_ne!(one, cause("a", "BuildFailed", "no space left on device"));
    }
}
