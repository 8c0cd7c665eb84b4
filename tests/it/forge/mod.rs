//! Pull requests of the emulated GitHub, GitLab and Gitea: the one comment, commit statuses, and pull requests by Opsy.
//! Tests assert on what the forge holds afterwards, and on the requests that it received.

mod agents;
mod comments;
mod environments;
mod limits;
mod proposals;
mod pull_requests;
mod races;
mod refusals;
mod statuses;

use jiff::Timestamp;
use opsy::api::git_host::GitHost;
use opsy::api::network::Network;
use opsy::forge::{Address, Client, Marker, Place, Post, Posted, Token, post};
use serde_json::{Value, json};

use crate::bed::{Process, request};

pub const TOKEN: &str = "forge-demo";
pub const USER: &str = "opsy-bot";

/// The emulated forges. Every test has its own.
pub struct Bed {
    process: Process,
}

/// A pull request of one forge. Each forge has a repository of its own.
pub struct Pull<'a> {
    bed: &'a Bed,
    pub kind: GitHost,
    pub repository: String,
    pub number: u64,
    pub head: String,
}

impl Bed {
    pub fn start() -> Self {
        Self { process: Process::start("forges", &["-m", "forgebed"], &[]) }
    }

    pub fn control(&self, path: &str, body: Value) -> Value {
        let answer = request("POST", &format!("{}/_bed/{path}", self.process.text("url")), Some(body));
        assert!(answer.get("error").is_none(), "{path}: {answer}");
        answer
    }

    pub fn look(&self, path: &str) -> Value {
        request("GET", &format!("{}/_bed/{path}", self.process.text("url")), None)
    }

    /// A pull request from the branch `change` in each of the three forges.
    pub fn pulls(&self) -> Vec<Pull<'_>> {
        [GitHost::GitHub, GitHost::GitLab, GitHost::Gitea]
            .map(|kind| self.pull(kind, &json!({ "branch": "change" })))
            .into()
    }

    /// A pull request that is opened with these parameters.
    pub fn pull(&self, kind: GitHost, asked: &Value) -> Pull<'_> {
        let repository = format!("platform/{}", kind.name().to_lowercase());
        let mut asked = asked.clone();
        asked["repository"] = json!(repository);
        let opened = self.control("pull", asked);
        let head = opened["head"].as_str().expect("a commit").to_owned();
        Pull { bed: self, kind, repository, number: opened["number"].as_u64().expect("a number"), head }
    }

    /// The requests so far, as method and status, and forgets them.
    pub fn requests(&self) -> Vec<(String, u64)> {
        let url = format!("{}/_bed/journal", self.process.text("url"));
        let journal = request("DELETE", &url, None);
        let entries = journal.as_array().expect("a list").iter();
        entries
            .map(|entry| {
                (
                    entry["method"].as_str().unwrap_or_default().to_owned(),
                    entry["status"].as_u64().unwrap_or(0),
                )
            })
            .collect()
    }

    /// The requests so far that were not reads, and forgets all.
    pub fn writes(&self) -> Vec<(String, u64)> {
        self.requests().into_iter().filter(|(method, _)| method != "GET").collect()
    }
}

/// A client of a repository at this API.
fn client(kind: GitHost, api: &str, repository: &str, token: &str, author: Option<&str>) -> Client {
    let api = Address::parse(api, false).expect("an address");
    let place = Place::new(kind, api, repository).expect("a repository");
    let token = Token::new(token, "FORGE_TOKEN").expect("a token");
    let author = author.map(str::to_owned);
    Client::new(&Network::default(), place, token, author, Timestamp::now).expect("a client")
}

impl Pull<'_> {
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    pub fn control(&self, path: &str, mut body: Value) -> Value {
        body["repository"] = json!(self.repository);
        self.bed.control(path, body)
    }

    /// The same with the number of this pull request.
    pub fn on_it(&self, path: &str, mut body: Value) -> Value {
        body["number"] = json!(self.number);
        self.control(path, body)
    }

    /// Pushes a new commit to the branch, and returns it.
    pub fn push(&mut self) -> String {
        self.head = self.on_it("push", json!({}))["head"].as_str().expect("a commit").to_owned();
        self.head.clone()
    }

    /// The address of the API.
    pub fn api(&self) -> String {
        self.bed.process.text(&self.name().to_lowercase())
    }

    pub fn client(&self) -> Client {
        self.client_of(TOKEN, None)
    }

    pub fn client_of(&self, token: &str, author: Option<&str>) -> Client {
        client(self.kind, &self.api(), &self.repository, token, author)
    }

    /// A plan of this commit.
    pub fn plan(&self, head: &str, text: &str) -> Post {
        let marker = Marker { target: "prod".to_owned(), head: head.to_owned(), base: "0".repeat(40) };
        Post { number: self.number, marker, markdown: text.to_owned() }
    }

    /// Posts a plan of this commit.
    pub async fn post(&self, head: &str, text: &str) -> Posted {
        let posted = post(&self.client(), &self.plan(head, text)).await;
        posted.unwrap_or_else(|error| panic!("{}: {error}", self.name()))
    }

    pub fn state(&self) -> Value {
        self.bed.look(&format!("state?repository={}", self.repository))
    }

    pub fn shown(&self, number: u64) -> Value {
        let state = self.state();
        let mut pulls = state["pulls"].as_array().expect("a list").iter();
        pulls.find(|pull| pull["number"] == number).expect("the pull request").clone()
    }

    /// The comments on the pull request: user and text.
    pub fn comments(&self) -> Vec<(String, String)> {
        let shown = self.shown(self.number);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let comments = shown["comments"].as_array().expect("a list").iter();
        comments.map(|comment| (text(&comment["user"]), text(&comment["body"]))).collect()
    }

    /// The comments of the token's user.
    pub fn own_comments(&self) -> Vec<String> {
        self.comments().into_iter().filter(|(user, _)| user == USER).map(|(_, body)| body).collect()
    }
}
