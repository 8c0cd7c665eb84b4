//! Decisions and detection, without a server.

mod comments;
mod detection;
mod pull_requests;
mod refusals;

use super::contract::{Comment, PullRequest};

const OLD: &str = "1111111111111111111111111111111111111111";
const NEW: &str = "2222222222222222222222222222222222222222";

fn pull(head: &str) -> PullRequest {
    PullRequest {
        number: 7,
        title: "Change".to_owned(),
        body: String::new(),
        url: "https://git.example.com/platform/images/pull/7".to_owned(),
        is_open: true,
        is_merged: false,
        head: head.to_owned(),
        branch: "change".to_owned(),
        base_branch: "main".to_owned(),
        from_fork: false,
    }
}

fn comment(id: u64, author: &str, body: &str) -> Comment {
    Comment { id, author: author.to_owned(), body: body.to_owned() }
}
