//! Requests and responses that GitHub and Gitea have in common, and constructors of requests. Pure.

use http::Method;
use serde_json::{Value, json};

use super::contract::{Call, Comment, Need, PullRequest};
use super::place::Place;
use super::status::{State, Status};

/// Returns a request. `path` is what follows `root`.
pub fn call(method: Method, root: &[&str], path: &[&str], need: Need, action: &str) -> Call {
    let path = root.iter().chain(path).map(|part| (*part).to_owned()).collect();
    Call { method, path, query: Vec::new(), body: None, need, action: action.to_owned() }
}

pub fn with_query(mut call: Call, query: &[(&'static str, &str)]) -> Call {
    call.query = query.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    call
}

pub fn with_body(mut call: Call, body: Value) -> Call {
    call.body = Some(body);
    call
}

/// The requests of GitHub, which Gitea has too.
#[derive(Clone, Debug)]
pub struct Repo {
    owner: String,
    name: String,
}

impl Repo {
    pub fn new(place: &Place) -> Self {
        let (owner, name) = place.owner_and_name();
        Self { owner: owner.to_owned(), name: name.to_owned() }
    }

    pub fn owner(&self) -> &str {
        &self.owner
    }

    pub fn call(&self, method: Method, path: &[&str], need: Need, action: &str) -> Call {
        call(method, &["repos", &self.owner, &self.name], path, need, action)
    }

    pub fn pull_request(&self, number: u64) -> Call {
        let action = format!("read pull request {number}");
        self.call(Method::GET, &["pulls", &number.to_string()], Need::Read, &action)
    }

    pub fn comments(&self, number: u64) -> Call {
        let action = format!("read the comments on pull request {number}");
        self.call(Method::GET, &["issues", &number.to_string(), "comments"], Need::Read, &action)
    }

    pub fn comment(&self, id: u64) -> Call {
        self.call(Method::GET, &["issues", "comments", &id.to_string()], Need::Read, "read a comment")
    }

    pub fn create_comment(&self, number: u64, body: &str) -> Call {
        let (path, action) = (["issues", &number.to_string(), "comments"], "write comments on pull requests");
        with_body(self.call(Method::POST, &path, Need::WriteComment, action), json!({ "body": body }))
    }

    pub fn update_comment(&self, id: u64, body: &str) -> Call {
        let (path, action) = (["issues", "comments", &id.to_string()], "write comments on pull requests");
        with_body(self.call(Method::PATCH, &path, Need::WriteComment, action), json!({ "body": body }))
    }

    pub fn delete_comment(&self, id: u64) -> Call {
        let path = ["issues", "comments", &id.to_string()];
        self.call(Method::DELETE, &path, Need::WriteComment, "delete its comments on pull requests")
    }

    pub fn set_status(&self, commit: &str, status: &Status) -> Call {
        let state = match status.state {
            State::Success => "success",
            State::Failure => "failure",
        };
        let mut body =
            json!({ "state": state, "context": status.context, "description": status.description });
        if let Some(url) = &status.url {
            body["target_url"] = json!(url);
        }
        let action = "set the status of a commit";
        with_body(self.call(Method::POST, &["statuses", commit], Need::WriteStatus, action), body)
    }

    pub fn create_pull_request(&self, branch: &str, base: &str, title: &str, body: &str) -> Call {
        let body = json!({ "head": branch, "base": base, "title": title, "body": body });
        with_body(self.call(Method::POST, &["pulls"], Need::WritePullRequest, "open pull requests"), body)
    }

    pub fn edit_pull_request(&self, number: u64, body: Value) -> Call {
        let (path, action) = (["pulls", &number.to_string()], "change pull requests");
        with_body(self.call(Method::PATCH, &path, Need::WritePullRequest, action), body)
    }
}

pub fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Returns whether two IDs of repositories are known and equal. That of a deleted fork is null.
pub fn is_same(one: &Value, other: &Value) -> bool {
    one.is_u64() && one == other
}

pub fn read_pull_request(document: &Value) -> Option<PullRequest> {
    let (head, base) = (&document["head"], &document["base"]);
    Some(PullRequest {
        number: document["number"].as_u64()?,
        title: text(&document["title"])?,
        body: text(&document["body"]).unwrap_or_default(),
        url: text(&document["html_url"]).unwrap_or_default(),
        is_open: document["state"].as_str()? == "open",
        is_merged: document["merged"] == true || document["merged_at"].is_string(),
        head: text(&head["sha"])?,
        branch: branch(head)?,
        base_branch: text(&base["ref"])?,
        from_fork: !is_same(&head["repo"]["id"], &base["repo"]["id"]),
    })
}

/// Returns the branch of a pull request. After the branch was deleted, Gitea names the ref of the head there.
fn branch(head: &Value) -> Option<String> {
    let name = text(&head["ref"])?;
    let label = || text(&head["label"]).filter(|label| !label.is_empty());
    if name.starts_with("refs/pull/") { Some(label().unwrap_or(name)) } else { Some(name) }
}

pub fn read_comment(document: &Value) -> Option<Comment> {
    Some(Comment {
        id: document["id"].as_u64()?,
        // The user of a comment is null if the account was deleted.
        author: text(&document["user"]["login"]).unwrap_or_default(),
        body: text(&document["body"]).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_branch_has_its_name_in_the_label() {
        let name = |head: Value| branch(&head);
        assert_eq!(name(json!({ "ref": "change", "label": "team:change" })).as_deref(), Some("change"));
        let gone = json!({ "ref": "refs/pull/3/head", "label": "opsy/team/main" });
        assert_eq!(name(gone).as_deref(), Some("opsy/team/main"));
        let unnamed = json!({ "ref": "refs/pull/3/head", "label": "" });
        assert_eq!(name(unnamed).as_deref(), Some("refs/pull/3/head"));
    }

    #[test]
    fn a_repository_that_is_not_named_counts_as_a_fork() {
        let side = |id: Value| json!({ "sha": "a", "ref": "main", "repo": { "id": id } });
        let from_fork = |head: Value, base: Value| {
            let document =
                json!({ "number": 1, "title": "", "state": "open", "head": side(head), "base": side(base) });
            read_pull_request(&document).expect("a pull request").from_fork
        };
        assert!(!from_fork(json!(1), json!(1)));
        assert!(from_fork(json!(2), json!(1)));
        assert!(from_fork(Value::Null, json!(1)), "a deleted fork");
        assert!(from_fork(Value::Null, Value::Null));
    }
}
