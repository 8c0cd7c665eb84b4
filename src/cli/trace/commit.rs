//! How a commit is shown: with its author and subject, if a clone on this machine has it. Pure.

use serde::Serialize;

use crate::cli::table::short;
use crate::git::Described;

/// Author and subject of a commit. They are shown beside its ID, since they are as trustworthy as what names the commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    author: String,
    subject: String,
}

impl From<Described> for Message {
    fn from(Described { author, subject, .. }: Described) -> Self {
        Self { author, subject }
    }
}

/// The line of a commit.
pub fn line(commit: &str, repository: Option<&str>, message: Option<&Message>) -> String {
    let repository = repository.map_or(String::new(), |url| format!(" of {url}"));
    let message =
        message.map_or(String::new(), |Message { author, subject }| format!("  {subject}  by {author}"));
    format!("commit {}{repository}{message}", short(commit))
}
