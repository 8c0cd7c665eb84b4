//! GitHub's REST API: docs.github.com/en/rest, version 2022-11-28. Pure.

use http::Method;
use serde_json::{Value, json};

use super::contract::{Call, Comment, Forge, Listing, Need, PullRequest};
use super::place::Place;
use super::shape::{self, Repo, with_query};
use super::status::Status;

/// The largest pages.
const PAGE: &str = "100";
/// 5,000 pull requests from one branch.
const PAGES: usize = 50;

#[derive(Debug)]
pub struct GitHub(Repo);

impl GitHub {
    pub fn new(place: &Place) -> Self {
        Self(Repo::new(place))
    }
}

impl Forge for GitHub {
    fn name(&self) -> &'static str {
        "GitHub"
    }

    fn headers(&self, token: &str) -> Vec<(&'static str, String)> {
        vec![
            ("authorization", format!("Bearer {token}")),
            ("accept", "application/vnd.github+json".to_owned()),
            ("x-github-api-version", "2022-11-28".to_owned()),
        ]
    }

    fn remedy(&self, need: Need) -> &'static str {
        match need {
            Need::Identity | Need::Read => {
                "give it the permission Pull requests: read (in a workflow, permissions: pull-requests: read)"
            }
            Need::WriteComment => {
                "give it the permission Pull requests: write (in a workflow, permissions: pull-requests: write)"
            }
            Need::WriteStatus => {
                "give it the permission Commit statuses: write (in a workflow, permissions: statuses: write)"
            }
            Need::WritePullRequest => {
                "give it the permission Pull requests: write; for the token of a workflow, also allow GitHub Actions to \
                 create pull requests (Settings > Actions > General)"
            }
        }
    }

    /// Tokens of workflows and of Apps are refused as integrations. An App has another name, which is seen when it writes.
    fn automation(&self, said: &str) -> &'static [&'static str] {
        if said.contains("by integration") { &["github-actions[bot]"] } else { &[] }
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

    fn comments(&self, number: u64) -> Call {
        with_query(self.0.comments(number), &[("per_page", PAGE)])
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

    fn pull_requests_from(&self, branch: &str) -> Vec<Listing> {
        // Without the owner, GitHub ignores the filter.
        let head = format!("{}:{branch}", self.0.owner());
        let call = self.0.call(Method::GET, &["pulls"], Need::Read, "list pull requests");
        let query = [("state", "all"), ("head", head.as_str()), ("per_page", PAGE)];
        vec![Listing { call: with_query(call, &query), pages: PAGES, is_whole: true }]
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
