//! The pull request that Opsy opens for a target: its branch and marker, and whether it is created, updated or closed. Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::contract::PullRequest;
use super::error::ForgeError;
use super::text::{self, one_line};

/// Maximum size of the text in bytes, as for comments.
const MOST_BYTES: usize = 60_000;
/// GitLab refuses longer titles.
const LONGEST_TITLE: usize = 255;
/// Maximum length of the part of a branch's name that is taken from its target.
const LONGEST_SLUG: usize = 60;
const NAME: &str = "opsy:pull";

/// A change that Opsy proposes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    pub target: String,
    /// The branch to merge into.
    pub base: String,
    pub title: String,
    /// The text without the marker. Everything in it that a repository or AWS contains must be escaped.
    pub text: String,
    /// What the branch would change, for example the ID of its tree. A declined change is not proposed again.
    pub content: String,
}

/// What is wanted of the pull request of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The branch is pushed, and this is the change.
    Open(Proposal),
    /// There is nothing to propose any more, for this reason.
    Obsolete { why: String },
}

#[derive(Serialize, Deserialize)]
struct Marker {
    target: String,
    content: String,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Create {
        title: String,
        body: String,
    },
    Update {
        number: u64,
        title: String,
        body: String,
    },
    /// `body` is the text without its marker, so that the change does not count as declined by a person.
    Close {
        number: u64,
        why: String,
        body: String,
    },
    Leave(Why),
}

/// Why nothing is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is open and says this already.
    Same(u64),
    /// A person closed this change.
    Declined(u64),
    /// None is open, and none is wanted.
    Absent,
}

impl Proposal {
    fn title(&self) -> String {
        one_line(&self.title, LONGEST_TITLE)
    }

    /// Returns the text with its marker.
    ///
    /// # Errors
    /// It is too long.
    pub fn body(&self) -> Result<String, ForgeError> {
        let marker = Marker { target: self.target.clone(), content: self.content.clone() };
        let body = format!(
            "{}
{}
",
            text::marker(NAME, &marker),
            self.text.trim_end()
        );
        if body.len() > MOST_BYTES {
            let (what, unit) = ("text of the pull request", "bytes");
            return Err(ForgeError::TooLong { what, size: body.len(), most: MOST_BYTES, unit });
        }
        Ok(body)
    }
}

/// Returns the name of the branch of a target below a prefix. It is always the same, so there is one pull request.
pub fn branch(prefix: &str, target: &str) -> String {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut slug = String::new();
    for c in target.chars().map(|c| c.to_ascii_lowercase()) {
        match is_plain(c) {
            true => slug.push(c),
            false if slug.is_empty() || slug.ends_with('-') => {}
            false => slug.push('-'),
        }
    }
    let slug: String = slug.trim_end_matches('-').chars().take(LONGEST_SLUG).collect();
    if slug == target && !slug.is_empty() {
        return format!("{prefix}{slug}");
    }
    // Two targets never share a branch.
    let digest = Sha256::digest(target.as_bytes());
    let digest: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let dash = if slug.is_empty() { "" } else { "-" };
    format!("{prefix}{slug}{dash}{digest}")
}

/// The pull requests from the branch of a target, as far as they decide whether to push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// One for this base is open.
    pub is_open: bool,
    /// The changes that a person closed. Nothing is pushed for them while no pull request is open.
    pub declined: BTreeSet<String>,
}

impl Known {
    /// All of them are given, also closed ones. The target and the base are the same branch.
    pub fn of(pulls: &[PullRequest], target: &str) -> Self {
        let declined =
            |pull: &PullRequest| content_of(&pull.body, target).filter(|_| is_declined(pull, target));
        Self {
            is_open: pulls.iter().any(|pull| pull.is_open && pull.base_branch == target),
            declined: pulls.iter().filter_map(declined).collect(),
        }
    }
}

fn is_declined(pull: &PullRequest, base: &str) -> bool {
    !pull.is_open && !pull.is_merged && pull.base_branch == base
}

/// Decides the next step for the pull requests from the branch of a target, of which all are given, also closed ones.
/// A closed one is never reopened, and the change that it contained is not proposed again; a merged one does not count.
///
/// # Errors
/// The text is too long.
pub fn decide(wish: &Wish, pulls: &[PullRequest]) -> Result<Decision, ForgeError> {
    let mut open = pulls.iter().filter(|pull| pull.is_open);
    let proposal = match wish {
        Wish::Obsolete { why } => {
            return Ok(open.next().map_or(Decision::Leave(Why::Absent), |pull| close(pull, why.clone())));
        }
        Wish::Open(proposal) => proposal,
    };
    let base = &proposal.base;
    if let Some(other) = open.clone().find(|pull| pull.base_branch != *base) {
        let why = format!("Changes are now proposed for the branch `{}`.", base.replace('`', ""));
        return Ok(close(other, why));
    }
    let (title, body) = (proposal.title(), proposal.body()?);
    if let Some(pull) = open.next() {
        let number = pull.number;
        let is_same = pull.title == title && text::is_same(&pull.body, &body);
        let update = Decision::Update { number, title, body };
        return Ok(if is_same { Decision::Leave(Why::Same(number)) } else { update });
    }
    let is_same = |pull: &&PullRequest| {
        is_declined(pull, base)
            && content_of(&pull.body, &proposal.target).as_ref() == Some(&proposal.content)
    };
    let declined = pulls.iter().filter(is_same).max_by_key(|pull| pull.number);
    Ok(match declined {
        Some(pull) => Decision::Leave(Why::Declined(pull.number)),
        None => Decision::Create { title, body },
    })
}

/// Returns the target that a pull request of Opsy names, also a closed one; `None` if it is one of others.
pub fn target(pull: &PullRequest) -> Option<String> {
    text::read_marker(NAME, &pull.body).map(|marker: Marker| marker.target)
}

/// Returns the text of a pull request that Opsy closes: without the marker, so that its change does not count as declined
/// by a person.
pub(super) fn closed_body(pull: &PullRequest) -> String {
    text::without_marker(NAME, &pull.body)
}

fn close(pull: &PullRequest, why: String) -> Decision {
    Decision::Close { number: pull.number, why, body: closed_body(pull) }
}

/// The change that a pull request of this target proposed.
fn content_of(body: &str, target: &str) -> Option<String> {
    let marker: Marker = text::read_marker(NAME, body)?;
    (marker.target == target).then_some(marker.content)
}
