//! The one comment of a target on a pull request: its marker, and whether it is created, updated or left alone. Pure.
//!
//! The marker is the first line of the comment, so that nothing can cut it off. Anyone can copy it, so only comments of
//! the token's own user count. Forges have no conditional writes, so two runs can race (see `post`).

use serde::{Deserialize, Serialize};

use super::contract::{Author, Comment, PullRequest};
use super::error::ForgeError;
use super::text;
use crate::api::ids::short_commit;

/// Maximum size of a comment in bytes. GitHub says that its maximum is 65,536 characters; the rest is for a notice.
pub const MOST_BYTES: usize = 60_000;
const NAME: &str = "opsy:plan";

/// What the hidden first line of a comment says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Which of several plans of one repository it is.
    pub target: String,
    /// The commit that was planned.
    pub head: String,
    /// The commit that it was compared with.
    pub base: String,
}

impl Marker {
    /// Returns the line. Nothing in it ends the HTML comment.
    pub fn line(&self) -> String {
        text::marker(NAME, self)
    }

    /// Reads the marker of a comment.
    pub fn of(body: &str) -> Option<Self> {
        text::read_marker(NAME, body)
    }
}

/// Returns the text of a comment.
///
/// # Errors
/// It is too long.
pub fn compose(marker: &Marker, markdown: &str) -> Result<String, ForgeError> {
    let body = format!("{}\n{}\n", marker.line(), markdown.trim_end());
    if body.len() > MOST_BYTES {
        let (what, unit) = ("comment with its marker", "bytes");
        return Err(ForgeError::TooLong { what, size: body.len(), most: MOST_BYTES, unit });
    }
    Ok(body)
}

/// Returns the text of a comment with a notice that it is about an older commit.
pub fn outdated(body: &str, head: &str) -> String {
    let (marker, rest) = body.split_once('\n').unwrap_or((body, ""));
    let short = short_commit(head);
    format!(
        "{marker}\n> [!WARNING]\n> This plan is outdated: the head of the pull request is now {short}.\n\n{rest}"
    )
}

/// What to do with the comment of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub step: Step,
    /// Further comments of this target and user, which an interrupted run left.
    pub duplicates: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Create,
    Update(u64),
    Leave(Why),
}

/// Why nothing is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The comment says this already.
    Same,
    /// The pull request is closed or merged.
    Closed,
    /// The planned commit is not the head of the pull request any more.
    Outdated { head: String },
    /// The plan of the commit that is now the head is there already.
    Newer { head: String },
}

/// Decides. A commit does not say whether it is newer than another one, so the head of the pull request decides.
pub fn decide(
    marker: &Marker,
    body: &str,
    pull: &PullRequest,
    author: &Author,
    comments: &[Comment],
) -> Decision {
    let is_own = |comment: &&Comment| {
        author.wrote(comment) && Marker::of(&comment.body).is_some_and(|found| found.target == marker.target)
    };
    let mut own: Vec<&Comment> = comments.iter().filter(is_own).collect();
    own.sort_by_key(|comment| comment.id);
    let last = own.pop();
    let duplicates = own.iter().map(|comment| comment.id).collect();
    let step = match last {
        _ if !pull.is_open => Step::Leave(Why::Closed),
        last if pull.head != marker.head => {
            let head = pull.head.clone();
            let is_newer =
                last.and_then(|last| Marker::of(&last.body)).is_some_and(|found| found.head == head);
            Step::Leave(if is_newer { Why::Newer { head } } else { Why::Outdated { head } })
        }
        Some(last) if text::is_same(&last.body, body) => Step::Leave(Why::Same),
        Some(last) => Step::Update(last.id),
        None => Step::Create,
    };
    Decision { step, duplicates }
}
