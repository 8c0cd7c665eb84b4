//! The REST API of Gitea and Forgejo: docs.gitea.com/api, version 1. Pure.

use http::Method;
use serde_json::{Value, json};

use super::contract::{Call, Comment, Forge, Listing, Need, PullRequest};
use super::place::Place;
use super::shape::{self, Repo, with_query};
use super::status::Status;

/// Servers have a maximum of 50 by default.
const PAGE: &str = "50";
/// 5,000 open pull requests of the repository: there is no filter for the branch.
const OPEN_PAGES: usize = 100;
/// The last 500 closed ones.
const CLOSED_PAGES: usize = 10;

#[derive(Debug)]
pub struct Gitea(Repo);

impl Gitea {
    pub fn new(place: &Place) -> Self {
        Self(Repo::new(place))
    }
}

impl Forge for Gitea {
    fn name(&self) -> &'static str {
        "Gitea"
    }

    fn headers(&self, token: &str) -> Vec<(&'static str, String)> {
        vec![("authorization", format!("token {token}")), ("accept", "application/json".to_owned())]
    }

    fn remedy(&self, need: Need) -> &'static str {
        match need {
            Need::Identity => "give it the scope read:user, or set OPSY_FORGE_AUTHOR to the name of its user",
            Need::Read => "give it the scopes read:repository and read:issue",
            Need::WriteComment => "give it the scope write:issue",
            Need::WriteStatus | Need::WritePullRequest => "give it the scope write:repository",
        }
    }

    /// A token of a user is refused because of its scopes.
    fn automation(&self, said: &str) -> &'static [&'static str] {
        if said.contains("required scope") { &[] } else { &["gitea-actions", "forgejo-actions"] }
    }

    fn identity(&self) -> Call {
        shape::call(Method::GET, &["user"], &[], Need::Identity, "read the name of its user")
    }

    fn read_identity(&self, user: &Value) -> Option<String> {
        shape::text(&user["login"])
    }

    fn pull_request(&self, number: u64) -> Call {
        self.0.pull_request(number)
    }

    fn read_pull_request(&self, document: &Value) -> Option<PullRequest> {
        shape::read_pull_request(document)
    }

    /// The list has no pages.
    fn comments(&self, number: u64) -> Call {
        self.0.comments(number)
    }

    fn comment(&self, _number: u64, id: u64) -> Call {
        self.0.comment(id)
    }

    fn create_comment(&self, number: u64, body: &str) -> Call {
        self.0.create_comment(number, body)
    }

    fn update_comment(&self, _number: u64, id: u64, body: &str) -> Call {
        self.0.update_comment(id, body)
    }

    fn delete_comment(&self, _number: u64, id: u64) -> Call {
        self.0.delete_comment(id)
    }

    fn read_comment(&self, document: &Value) -> Option<Comment> {
        shape::read_comment(document)
    }

    fn set_status(&self, commit: &str, status: &Status) -> Call {
        self.0.set_status(commit, status)
    }

    fn has_status(&self, _said: &str) -> bool {
        false
    }

    fn pull_requests_from(&self, _branch: &str) -> Vec<Listing> {
        let list = |state: &str, sort: &str, pages: usize, is_whole: bool| {
            let call = self.0.call(Method::GET, &["pulls"], Need::Read, "list pull requests");
            let call = with_query(call, &[("state", state), ("sort", sort), ("limit", PAGE)]);
            Listing { call, pages, is_whole }
        };
        vec![
            list("open", "recentupdate", OPEN_PAGES, true),
            list("closed", "recentupdate", CLOSED_PAGES, false),
        ]
    }

    fn create_pull_request(&self, branch: &str, base: &str, title: &str, body: &str) -> Call {
        self.0.create_pull_request(branch, base, title, body)
    }

    fn update_pull_request(&self, number: u64, title: &str, body: &str) -> Call {
        self.0.edit_pull_request(number, json!({ "title": title, "body": body }))
    }

    fn close_pull_request(&self, number: u64, body: &str) -> Call {
        self.0.edit_pull_request(number, json!({ "state": "closed", "body": body }))
    }
}
