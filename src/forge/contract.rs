//! What every forge can do: requests without a client, and the types of their responses. Pure.

use std::fmt;

use http::Method;
use serde_json::Value;

use super::status::Status;

/// What a request is for. It decides which right is missing if it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    Identity,
    Read,
    WriteComment,
    WriteStatus,
    WritePullRequest,
}

/// A request to a forge.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub method: Method,
    /// Below the address of the API, not encoded.
    pub path: Vec<String>,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<Value>,
    pub need: Need,
    /// What it does, after "not allowed to".
    pub action: String,
}

impl Call {
    pub fn is_read(&self) -> bool {
        self.method == Method::GET
    }
}

/// A list with pages.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    pub call: Call,
    /// How many pages are read at most.
    pub pages: usize,
    /// A list that has more pages is an error. Otherwise, only its first pages matter.
    pub is_whole: bool,
}

/// A pull request, or a merge request of GitLab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullRequest {
    pub number: u64,
    pub title: String,
    pub body: String,
    pub url: String,
    pub is_open: bool,
    pub is_merged: bool,
    /// The commit at its head.
    pub head: String,
    pub branch: String,
    pub base_branch: String,
    /// The branch is in another repository, or may be.
    pub from_fork: bool,
}

/// A comment on a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    pub id: u64,
    /// The name of the user who wrote it.
    pub author: String,
    pub body: String,
}

/// The user of the token: one of these names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author(Vec<String>);

impl Author {
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }

    /// Returns whether this user wrote a comment. No forge distinguishes names by case.
    pub fn wrote(&self, comment: &Comment) -> bool {
        self.0.iter().any(|name| name.eq_ignore_ascii_case(&comment.author))
    }

    /// Adds the name that the forge shows for what was just written.
    #[must_use]
    pub(super) fn and(mut self, name: &str) -> Self {
        self.0.push(name.to_owned());
        self
    }
}

/// A forge: how its requests are written, and what its responses mean.
pub trait Forge: fmt::Debug + Send + Sync {
    fn name(&self) -> &'static str;

    /// The headers of every request: name and value.
    fn headers(&self, token: &str) -> Vec<(&'static str, String)>;

    /// Returns what a token needs for a request.
    fn remedy(&self, need: Need) -> &'static str;

    /// Returns the possible names of the user if a refusal to say them is the one that tokens of CI systems get.
    fn automation(&self, said: &str) -> &'static [&'static str];

    fn identity(&self) -> Call;
    fn read_identity(&self, user: &Value) -> Option<String>;

    fn pull_request(&self, number: u64) -> Call;
    fn read_pull_request(&self, document: &Value) -> Option<PullRequest>;

    fn comments(&self, number: u64) -> Call;
    fn comment(&self, number: u64, id: u64) -> Call;
    fn create_comment(&self, number: u64, body: &str) -> Call;
    fn update_comment(&self, number: u64, id: u64, body: &str) -> Call;
    fn delete_comment(&self, number: u64, id: u64) -> Call;
    fn read_comment(&self, document: &Value) -> Option<Comment>;

    /// Returns a text in which the forge finds no commands.
    fn without_commands(&self, text: String) -> String {
        text
    }

    fn set_status(&self, commit: &str, status: &Status) -> Call;
    /// Returns whether a refusal says that the commit has this status already.
    fn has_status(&self, said: &str) -> bool;

    /// The lists that contain the pull requests from a branch of the repository, open and closed ones.
    fn pull_requests_from(&self, branch: &str) -> Vec<Listing>;
    fn create_pull_request(&self, branch: &str, base: &str, title: &str, body: &str) -> Call;
    fn update_pull_request(&self, number: u64, title: &str, body: &str) -> Call;
    fn close_pull_request(&self, number: u64, body: &str) -> Call;
}
