//! GitLab's REST API: docs.gitlab.com/api/rest, version 4. Pure.

use http::Method;
use serde_json::{Value, json};

use super::contract::{Call, Comment, Forge, Listing, Need, PullRequest};
use super::place::Place;
use super::shape::{self, text, with_body, with_query};
use super::status::{State, Status};

/// The largest pages.
const PAGE: &str = "100";
/// 5,000 merge requests from one branch.
const PAGES: usize = 50;
/// Longer addresses are refused.
const LONGEST_URL: usize = 255;

#[derive(Debug)]
pub struct GitLab {
    /// One segment of a path, which is encoded.
    project: String,
}

impl GitLab {
    pub fn new(place: &Place) -> Self {
        Self { project: place.repository.clone() }
    }

    fn call(&self, method: Method, path: &[&str], need: Need, action: &str) -> Call {
        shape::call(method, &["projects", &self.project], path, need, action)
    }

    fn notes(&self, method: Method, number: u64, id: Option<u64>, need: Need, action: &str) -> Call {
        let (number, id) = (number.to_string(), id.map(|id| id.to_string()));
        let mut path = vec!["merge_requests", &number, "notes"];
        path.extend(id.as_deref());
        self.call(method, &path, need, action)
    }

    fn edit(&self, number: u64, body: Value) -> Call {
        let (path, action) = (["merge_requests", &number.to_string()], "change merge requests");
        with_body(self.call(Method::PUT, &path, Need::WritePullRequest, action), body)
    }
}

impl Forge for GitLab {
    fn name(&self) -> &'static str {
        "GitLab"
    }

    /// The header for all tokens of users, projects and groups.
    fn headers(&self, token: &str) -> Vec<(&'static str, String)> {
        vec![("private-token", token.to_owned()), ("accept", "application/json".to_owned())]
    }

    fn remedy(&self, need: Need) -> &'static str {
        match need {
            Need::Identity | Need::Read => {
                "use a token with the scope api or read_api (CI_JOB_TOKEN has neither)"
            }
            Need::WriteComment => "use a token with the scope api, whose user has at least the role Reporter",
            Need::WriteStatus | Need::WritePullRequest => {
                "use a token with the scope api, whose user has at least the role Developer"
            }
        }
    }

    fn automation(&self, _said: &str) -> &'static [&'static str] {
        &[]
    }

    fn identity(&self) -> Call {
        shape::call(Method::GET, &["user"], &[], Need::Identity, "read the name of its user")
    }

    fn read_identity(&self, user: &Value) -> Option<String> {
        text(&user["username"])
    }

    fn pull_request(&self, number: u64) -> Call {
        let action = format!("read merge request {number}");
        self.call(Method::GET, &["merge_requests", &number.to_string()], Need::Read, &action)
    }

    fn read_pull_request(&self, document: &Value) -> Option<PullRequest> {
        let state = document["state"].as_str()?;
        Some(PullRequest {
            number: document["iid"].as_u64()?,
            title: text(&document["title"])?,
            body: text(&document["description"]).unwrap_or_default(),
            url: text(&document["web_url"]).unwrap_or_default(),
            // `locked` is a short state during a merge.
            is_open: matches!(state, "opened" | "locked"),
            is_merged: state == "merged",
            head: text(&document["sha"])?,
            branch: text(&document["source_branch"])?,
            base_branch: text(&document["target_branch"])?,
            from_fork: !shape::is_same(&document["source_project_id"], &document["target_project_id"]),
        })
    }

    fn comments(&self, number: u64) -> Call {
        let action = format!("read the comments on merge request {number}");
        let call = self.notes(Method::GET, number, None, Need::Read, &action);
        with_query(call, &[("sort", "asc"), ("order_by", "created_at"), ("per_page", PAGE)])
    }

    fn comment(&self, number: u64, id: u64) -> Call {
        self.notes(Method::GET, number, Some(id), Need::Read, "read a comment")
    }

    fn create_comment(&self, number: u64, body: &str) -> Call {
        let action = "write comments on merge requests";
        let call = self.notes(Method::POST, number, None, Need::WriteComment, action);
        with_body(call, json!({ "body": body }))
    }

    fn update_comment(&self, number: u64, id: u64, body: &str) -> Call {
        let action = "write comments on merge requests";
        let call = self.notes(Method::PUT, number, Some(id), Need::WriteComment, action);
        with_body(call, json!({ "body": body }))
    }

    fn delete_comment(&self, number: u64, id: u64) -> Call {
        let action = "delete its comments on merge requests";
        self.notes(Method::DELETE, number, Some(id), Need::WriteComment, action)
    }

    fn read_comment(&self, document: &Value) -> Option<Comment> {
        Some(Comment {
            id: document["id"].as_u64()?,
            author: text(&document["author"]["username"]).unwrap_or_default(),
            // GitLab writes system notes in the name of users.
            body: match document["system"] == true {
                true => String::new(),
                false => text(&document["body"]).unwrap_or_default(),
            },
        })
    }

    /// GitLab runs the lines of comments and descriptions that start with a slash as commands of their author, for example
    /// `/merge` (docs.gitlab.com/user/project/quick_actions).
    fn without_commands(&self, text: String) -> String {
        let is_command = |line: &str| line.trim_start().starts_with('/');
        let escape =
            |line: &str| if is_command(line) { line.replacen('/', "\\/", 1) } else { line.to_owned() };
        text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
    }

    fn set_status(&self, commit: &str, status: &Status) -> Call {
        let state = match status.state {
            State::Success => "success",
            State::Failure => "failed",
        };
        let mut body = json!({ "state": state, "name": status.context, "description": status.description });
        if let Some(url) = status.url.as_ref().filter(|url| url.len() <= LONGEST_URL) {
            body["target_url"] = json!(url);
        }
        let action = "set the status of a commit";
        with_body(self.call(Method::POST, &["statuses", commit], Need::WriteStatus, action), body)
    }

    /// Versions before 18.3 refuse to set the same state again.
    fn has_status(&self, said: &str) -> bool {
        said.contains("Cannot transition status")
    }

    fn pull_requests_from(&self, branch: &str) -> Vec<Listing> {
        let call = self.call(Method::GET, &["merge_requests"], Need::Read, "list merge requests");
        let query = [("state", "all"), ("source_branch", branch), ("per_page", PAGE)];
        vec![Listing { call: with_query(call, &query), pages: PAGES, is_whole: true }]
    }

    fn create_pull_request(&self, branch: &str, base: &str, title: &str, body: &str) -> Call {
        let body = json!({
            "source_branch": branch, "target_branch": base, "title": title, "description": body,
        });
        let action = "open merge requests";
        with_body(self.call(Method::POST, &["merge_requests"], Need::WritePullRequest, action), body)
    }

    fn update_pull_request(&self, number: u64, title: &str, body: &str) -> Call {
        self.edit(number, json!({ "title": title, "description": body }))
    }

    fn close_pull_request(&self, number: u64, body: &str) -> Call {
        self.edit(number, json!({ "state_event": "close", "description": body }))
    }
}
