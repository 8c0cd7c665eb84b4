//! IDs as newtypes, parsed where they enter, so that an image ID is never mistaken for a template ID.

use std::fmt;

use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The error for a string that is not a valid ID.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not {what}")]
pub struct BadId {
    what: &'static str,
    text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Validates a string.
            pub fn parse(text: impl Into<String>) -> Result<Self, BadId> {
                let text = text.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) { Ok(Self(text)) } else { Err(BadId { what: $what, text }) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

id!(
    /// An AMI ID, `ami-…`.
    ImageId, "an image ID (ami-…)", |t| aws_id(t, "ami-"));
id!(
    /// An instance ID, `i-…`.
    InstanceId, "an instance ID (i-…)", |t| aws_id(t, "i-"));
id!(
    /// A launch template ID, `lt-…`.
    TemplateId, "a launch template ID (lt-…)", |t| aws_id(t, "lt-"));
id!(
/// An AWS region name, e.g. `eu-west-1`.
Region, "a region (like eu-west-1)", |t| {
    t.len() <= 32 && t.contains('-') && t.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
});
id!(
    /// A full Git commit ID.
    CommitId, "a full commit ID (40 hex digits)", |t| hex(t, 40));
id!(
    /// ID of one build: a hash of owner, builder, inputs and the previous run.
    BuildId, "a build ID (16 hex digits)", |t| hex(t, 16));
id!(
    /// Name of a run: a DNS label of at most 63 characters.
    RunName, "a run name (a DNS label)", |t| dns_label(t, 63));
id!(
    /// AWS idempotency token: 64 hex digits.
    ClientToken, "a client token (64 hex digits)", |t| hex(t, 64));
id!(
/// The identity that marks images, runs and launch template versions as this agent's: `agentID`, or a hash.
Owner, "an owner (1 to 63 of a-z, A-Z, 0-9, '-', '_', '.')", |t| {
    (1..=63).contains(&t.len()) && t.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
});

/// Length of the commit IDs that people read: enough for the largest repositories.
const SHORT_COMMIT: usize = 12;

/// Returns the start of a commit ID, for people.
pub fn short_commit(commit: &str) -> String {
    commit.chars().take(SHORT_COMMIT).collect()
}

impl BuildId {
    /// Returns the ID for these parts. The same parts always give the same ID.
    pub fn of(parts: &[&str]) -> Self {
        Self(digest(parts)[..16].to_owned())
    }
}

/// Maximum length of a run's prefix: of the 63 characters of a DNS label, a dash and the build ID take 17.
const LONGEST_PREFIX: usize = 63 - 17;

impl RunName {
    /// Returns the run name of a builder's build: `<builder>-<build id>`, truncated to a DNS label.
    pub fn of(builder: &str, build: &BuildId) -> Self {
        Self(format!("{}-{build}", run_prefix(builder)))
    }

    /// Returns the part that identifies the builder (see `run_prefix`), or `None` if this is not the name of a
    /// builder's run.
    pub fn prefix(&self) -> Option<&str> {
        let (prefix, build) = self.0.rsplit_once('-')?;
        BuildId::parse(build).ok().map(|_| prefix)
    }
}

/// Returns the prefix of the run names of a builder. Builders share a prefix if their truncated names are equal, or if
/// they have the same name in different namespaces.
pub fn run_prefix(builder: &str) -> String {
    let label: String = builder
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(LONGEST_PREFIX)
        .collect();
    let label = label.trim_matches('-');
    if label.is_empty() { "build".to_owned() } else { label.to_owned() }
}

impl ClientToken {
    /// Returns the token for these parts. The same parts always give the same token.
    pub fn of(parts: &[&str]) -> Self {
        Self(digest(parts))
    }
}

/// Returns the SHA-256 of length-prefixed parts, so that no two lists of parts collide by concatenation.
pub fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex_digits(&hash.finalize())
}

/// Returns bytes as hex digits.
pub fn hex_digits(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The two kinds of Opsy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    PackerBuilder,
    AMIRefresher,
}

impl Kind {
    /// The short name, as the definitions declare it.
    pub fn short(self) -> &'static str {
        match self {
            Self::PackerBuilder => "pb",
            Self::AMIRefresher => "ar",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PackerBuilder => "PackerBuilder",
            Self::AMIRefresher => "AMIRefresher",
        })
    }
}

/// An object of either kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectKey {
    pub kind: Kind,
    pub key: Key,
}

impl ObjectKey {
    /// Returns the key of an object. The namespace is empty if the object has none.
    pub fn of(kind: Kind, object: &impl ResourceExt) -> Self {
        let key = Key { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
        Self { kind, key }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.key)
    }
}

fn aws_id(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| (8..=17).contains(&rest.len()) && hex(rest, rest.len()))
}

fn hex(text: &str, length: usize) -> bool {
    text.len() == length && text.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c))
}

fn dns_label(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}
