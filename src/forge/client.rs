//! The client of a forge: sends requests, reads pages, waits for short rate limits, and explains refusals.

use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use super::contract::{Author, Call, Comment, Forge, Listing, Need, PullRequest};
use super::error::ForgeError;
use super::gitea::Gitea;
use super::github::GitHub;
use super::gitlab::GitLab;
use super::http::{Http, Response};
use super::place::Place;
use super::status::Status;
use super::text::one_line;
use super::token::Token;
use crate::api::git_host::GitHost;
use crate::api::network::Network;
use crate::wait;

/// How long a request waits for rate limits, in sum. A job of a CI system costs money while it waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How often such a request is repeated at most.
const LIMITS: u32 = 5;
/// Wait before a request is repeated that had no response.
const REPEAT: Duration = Duration::from_secs(1);
/// How often such a request is repeated.
const REPEATS: u32 = 2;
/// GitHub asks to wait at least a minute if it does not say how long.
const UNKNOWN: Duration = Duration::from_secs(60);
/// Rate limits are for an hour. A server that names a longer time is not believed.
const LONGEST_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// A server that says that the wait is over, and refuses all the same, is not asked again at once.
const SHORTEST_LIMIT: Duration = Duration::from_secs(1);
/// 10,000 comments on one pull request. Beyond that, the one comment cannot be found.
const COMMENT_PAGES: usize = 100;
/// Maximum length of what a server says, in an error.
const MOST_SAID: usize = 200;

/// A client of one repository of a forge.
#[derive(Debug)]
pub struct Client {
    http: Http,
    forge: Box<dyn Forge>,
    place: Place,
    token: Token,
    /// The name of the token's user, if it is set instead of asked for.
    author: Option<String>,
    now: fn() -> Timestamp,
}

impl Client {
    /// `author` is the name of the token's user, for tokens that cannot ask for it, such as those of GitHub Apps.
    ///
    /// # Errors
    /// The certificate authorities cannot be used.
    pub fn new(
        network: &Network,
        place: Place,
        token: Token,
        author: Option<String>,
        now: fn() -> Timestamp,
    ) -> Result<Self, ForgeError> {
        let forge: Box<dyn Forge> = match place.kind {
            GitHost::GitHub => Box::new(GitHub::new(&place)),
            GitHost::GitLab => Box::new(GitLab::new(&place)),
            GitHost::Gitea => Box::new(Gitea::new(&place)),
        };
        Ok(Self { http: Http::new(network)?, forge, place, token, author, now })
    }

    /// Returns the user of the token. A token that a CI system issued may not ask for it, so its names are known.
    ///
    /// # Errors
    /// The forge does not say it, and the names are not known.
    pub async fn author(&self) -> Result<Author, ForgeError> {
        if let Some(name) = &self.author {
            return Ok(Author::new([name]));
        }
        match self.object(&self.forge.identity(), |user| self.forge.read_identity(user)).await {
            Ok(name) => Ok(Author::new([name])),
            Err(error) => match &error {
                ForgeError::Right { said, .. } if !self.forge.automation(said).is_empty() => {
                    Ok(Author::new(self.forge.automation(said).iter().copied()))
                }
                _ => Err(error),
            },
        }
    }

    /// # Errors
    /// It cannot be read.
    pub async fn pull_request(&self, number: u64) -> Result<PullRequest, ForgeError> {
        let read = |document: &Value| self.forge.read_pull_request(document);
        self.object(&self.forge.pull_request(number), read).await
    }

    /// Returns the comments on a pull request, of all pages.
    ///
    /// # Errors
    /// They cannot be read completely.
    pub async fn comments(&self, number: u64) -> Result<Vec<Comment>, ForgeError> {
        let listing = Listing { call: self.forge.comments(number), pages: COMMENT_PAGES, is_whole: true };
        self.list(&listing, |document| self.forge.read_comment(document)).await
    }

    pub(super) async fn comment(&self, number: u64, id: u64) -> Result<Comment, ForgeError> {
        let read = |document: &Value| self.forge.read_comment(document);
        self.object(&self.forge.comment(number, id), read).await
    }

    /// Creates a comment whose text does not become outdated.
    pub(super) async fn add_comment(&self, number: u64, body: &str) -> Result<(), ForgeError> {
        self.send(&self.forge.create_comment(number, body), None).await.map(drop)
    }

    /// Creates a comment now: a rate limit is an error, because the text may be outdated after the wait.
    pub(super) async fn create_comment(&self, number: u64, body: &str) -> Result<Comment, ForgeError> {
        self.write_now(&self.forge.create_comment(number, body)).await
    }

    /// Updates a comment now: a rate limit is an error, because the text may be outdated after the wait.
    pub(super) async fn update_comment(
        &self,
        number: u64,
        id: u64,
        body: &str,
    ) -> Result<Comment, ForgeError> {
        self.write_now(&self.forge.update_comment(number, id, body)).await
    }

    async fn write_now(&self, call: &Call) -> Result<Comment, ForgeError> {
        let response = self.send_within(Duration::ZERO, call, None).await?;
        self.forge.read_comment(&response.json()).ok_or_else(|| self.unreadable(call))
    }

    pub(super) async fn delete_comment(&self, number: u64, id: u64) -> Result<(), ForgeError> {
        self.send(&self.forge.delete_comment(number, id), None).await.map(drop)
    }

    /// Returns a text in which the forge finds no commands.
    pub(super) fn without_commands(&self, text: String) -> String {
        self.forge.without_commands(text)
    }

    /// Sets the status of a commit of a pull request.
    ///
    /// # Errors
    /// The forge refuses it.
    pub async fn set_status(
        &self,
        pull: &PullRequest,
        commit: &str,
        status: &Status,
    ) -> Result<(), ForgeError> {
        match self.send(&self.forge.set_status(commit, status), None).await {
            Err(ForgeError::Rejected { said, .. }) if self.forge.has_status(&said) => Ok(()),
            result => result.map(drop).map_err(|error| error.in_fork(pull.from_fork)),
        }
    }

    /// Returns the pull requests from a branch of the repository itself, open and closed ones.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn pull_requests_from(&self, branch: &str) -> Result<Vec<PullRequest>, ForgeError> {
        let mut found = Vec::new();
        for listing in self.forge.pull_requests_from(branch) {
            found.extend(self.list(&listing, |document| self.forge.read_pull_request(document)).await?);
        }
        // Not every forge has a filter.
        found.retain(|pull| pull.branch == branch && !pull.from_fork);
        Ok(found)
    }

    pub(super) async fn create_pull_request(
        &self,
        branch: &str,
        base: &str,
        title: &str,
        body: &str,
    ) -> Result<PullRequest, ForgeError> {
        let call = self.forge.create_pull_request(branch, base, title, body);
        self.object(&call, |document| self.forge.read_pull_request(document)).await
    }

    pub(super) async fn update_pull_request(
        &self,
        number: u64,
        title: &str,
        body: &str,
    ) -> Result<(), ForgeError> {
        self.send(&self.forge.update_pull_request(number, title, body), None).await.map(drop)
    }

    pub(super) async fn close_pull_request(&self, number: u64, body: &str) -> Result<(), ForgeError> {
        self.send(&self.forge.close_pull_request(number, body), None).await.map(drop)
    }

    async fn object<T>(&self, call: &Call, read: impl Fn(&Value) -> Option<T>) -> Result<T, ForgeError> {
        let response = self.send(call, None).await?;
        read(&response.json()).ok_or_else(|| self.unreadable(call))
    }

    async fn list<T>(
        &self,
        listing: &Listing,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, ForgeError> {
        let (call, mut items, mut page) = (&listing.call, Vec::new(), None);
        for _ in 0..listing.pages {
            let response = self.send(call, page.as_deref()).await?;
            let Value::Array(documents) = response.json() else { return Err(self.unreadable(call)) };
            for document in &documents {
                items.push(read(document).ok_or_else(|| self.unreadable(call))?);
            }
            page = response.next_page(call);
            if page.is_none() {
                return Ok(items);
            }
        }
        if listing.is_whole {
            let (forge, action, pages) = (self.forge.name(), &call.action, listing.pages);
            let message = format!("{forge}: the request to {action} has more than {pages} pages of results");
            return Err(ForgeError::Incomplete(message));
        }
        Ok(items)
    }

    /// Sends a request, and repeats it if that is safe: if the forge refused it because of a rate limit, or if it only
    /// reads or was never sent.
    async fn send(&self, call: &Call, page: Option<&str>) -> Result<Response, ForgeError> {
        self.send_within(PATIENCE, call, page).await
    }

    /// Waits for rate limits no longer than `patience`.
    async fn send_within(
        &self,
        patience: Duration,
        call: &Call,
        page: Option<&str>,
    ) -> Result<Response, ForgeError> {
        let (mut waited, mut repeats) = (Duration::ZERO, 0);
        loop {
            let error = match self.once(call, page).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let pause = match &error {
                ForgeError::Limited { after, .. }
                    if repeats < LIMITS && waited.saturating_add(*after) <= patience =>
                {
                    *after
                }
                ForgeError::Unreachable { .. } if repeats < REPEATS => REPEAT,
                ForgeError::Unclear { .. } | ForgeError::Busy { .. }
                    if call.is_read() && repeats < REPEATS =>
                {
                    REPEAT
                }
                _ => return Err(error),
            };
            (waited, repeats) = (waited + pause, repeats + 1);
            tracing::debug!(forge = self.forge.name(), %error, "the request is repeated");
            wait::pause(pause).await;
        }
    }

    async fn once(&self, call: &Call, page: Option<&str>) -> Result<Response, ForgeError> {
        let response = self.http.send(&*self.forge, &self.place.api, &self.token, call, page).await?;
        match response.status {
            200..=299 => Ok(response),
            _ => Err(self.refusal(call, &response)),
        }
    }

    fn refusal(&self, call: &Call, response: &Response) -> ForgeError {
        let (forge, status) = (self.forge.name(), response.status);
        let said = self.said(response);
        if let Some(after) = self.limited(response, &said) {
            return ForgeError::Limited { forge, after };
        }
        let (action, from) = (call.action.clone(), self.token.from().to_owned());
        let remedy = || self.forge.remedy(call.need).to_owned();
        // The first request of a run says nothing about what the others need.
        let of_new = || self.forge.remedy(if call.is_read() { Need::WriteComment } else { call.need });
        let what = format!("{} at {}", self.place.repository, self.place.api);
        match status {
            300..=399 => ForgeError::Moved { forge, what },
            401 => ForgeError::Token { forge, from, remedy: format!("create a new one, and {}", of_new()) },
            403 => ForgeError::Right { forge, from, action, said, remedy: remedy() },
            // A comment that was just read, and then does not exist, was deleted.
            404 | 410 if call.need == Need::WriteComment && call.method != Method::POST => {
                ForgeError::Conflict { forge, action, said }
            }
            404 => ForgeError::Hidden { forge, what, from, remedy: format!("correct it, or {}", remedy()) },
            409 => ForgeError::Conflict { forge, action, said },
            // GitHub.
            422 if said.contains("already exists") => ForgeError::Conflict { forge, action, said },
            500.. => ForgeError::Busy { forge, status },
            _ => ForgeError::Rejected { forge, action, said },
        }
    }

    /// Returns how long to wait if a response refuses a request because of a rate limit. GitHub does so with 403 too.
    fn limited(&self, response: &Response, said: &str) -> Option<Duration> {
        let number = |name: &str| response.header(name)?.trim().parse::<u64>().ok();
        let is_used_up = response.header("x-ratelimit-remaining") == Some("0");
        let is_limit = match response.status {
            429 => true,
            403 => is_used_up || response.header("retry-after").is_some() || said.contains("rate limit"),
            _ => false,
        };
        let reset = number("x-ratelimit-reset").filter(|_| is_used_up);
        is_limit.then(|| until(number("retry-after"), reset, (self.now)()))
    }

    /// Returns the status of a response and what the server says about it, without the token.
    fn said(&self, response: &Response) -> String {
        let document = response.json();
        let mut parts: Vec<String> = vec![format!("HTTP {}", response.status)];
        parts.extend(messages(&document));
        let said = parts.join(": ").replace(self.token.secret(), "…");
        let clean: String = said.chars().filter(|c| !c.is_control()).collect();
        one_line(&clean, MOST_SAID)
    }

    fn unreadable(&self, call: &Call) -> ForgeError {
        ForgeError::Unreadable { forge: self.forge.name(), action: call.action.clone() }
    }
}

/// Returns how long to wait, by the seconds that a server names, else by the time of the reset.
fn until(seconds: Option<u64>, reset: Option<u64>, now: Timestamp) -> Duration {
    // A reset in the past has been, or the clocks differ.
    let left = |reset: u64| reset.saturating_sub(u64::try_from(now.as_second()).unwrap_or(0));
    let wait = seconds.or_else(|| reset.map(left)).map_or(UNKNOWN, Duration::from_secs);
    wait.clamp(SHORTEST_LIMIT, LONGEST_LIMIT)
}

/// The messages of an error: a string, a list, or an object with lists, by the kind of forge and error.
fn messages(document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for name in ["message", "error", "error_description"] {
        collect(&document[name], &mut found);
    }
    for error in document["errors"].as_array().into_iter().flatten() {
        collect(&error["message"], &mut found);
    }
    found
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        Value::Object(members) => members.values().for_each(|value| collect(value, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_for_a_rate_limit_is_neither_zero_nor_endless() {
        let now = Timestamp::from_second(1000).expect("a time");
        for (seconds, reset, due) in [
            (Some(30), None, 30),
            (Some(30), Some(1002), 30),
            (Some(0), None, 1),
            (None, Some(1030), 30),
            (None, Some(1000), 1),
            (None, Some(900), 1),
            (None, Some(0), 1),
            (None, None, 60),
            (Some(u64::MAX), None, 24 * 3600),
            (None, Some(u64::MAX), 24 * 3600),
        ] {
            assert_eq!(until(seconds, reset, now), Duration::from_secs(due), "{seconds:?} {reset:?}");
        }
    }
}
