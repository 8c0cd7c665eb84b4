//! Posts a plan: lists the comments, reads the pull request, decides (`comment`), writes once, and looks again.
//!
//! Forges have no conditional writes, so between the last read and the write somebody can push, and a faster run of the
//! newer commit can even have posted. The pull request is therefore read as the last thing before the write, and again
//! after it: if its head has moved and the comment still says what this run wrote, a notice in it says that it is
//! outdated. Two runs that both create a comment find each other's afterwards, and the later one is deleted. After a wait
//! for a rate limit, everything is read again.

use std::fmt;
use std::time::Duration;

use super::client::{Client, PATIENCE};
use super::comment::{self, Marker, Step, Why};
use super::contract::{Author, Comment, PullRequest};
use super::error::ForgeError;
use super::text;
use crate::api::ids::short_commit;
use crate::wait;

/// How often everything is read again after a race, or after a write without a response.
const ROUNDS: usize = 4;
/// How often a write waits for a rate limit. Fewer than the rounds, so that one follows each wait.
const WAITS: u32 = 3;

/// A plan for a pull request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The number of the pull request.
    pub number: u64,
    pub marker: Marker,
    /// The text without the marker. Everything in it that a repository or AWS contains must be escaped.
    pub markdown: String,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    pub step: Done,
    pub pull_request: PullRequest,
    /// Further comments of this target, which are not changed. A person can delete them.
    pub duplicates: Vec<u64>,
    /// The commit that was pushed while the comment was written.
    pub superseded_by: Option<String>,
    /// The user that the forge shows, if it is not the expected one. Every run then writes a comment before it finds the
    /// earlier one, and deletes it again.
    pub unexpected_author: Option<String>,
}

/// The result for the comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Created(u64),
    Updated(u64),
    Left(Why),
}

/// Posts a plan.
///
/// # Errors
/// The text is too long, or the forge refuses a request.
pub async fn post(client: &Client, post: &Post) -> Result<Posted, ForgeError> {
    let markdown = client.without_commands(post.markdown.clone());
    let body = comment::compose(&post.marker, &markdown)?;
    let author = client.author().await?;
    let mut run = Run { client, post, body, author, unexpected_author: None, waited: (0, Duration::ZERO) };
    let mut last = None;
    for _ in 0..ROUNDS {
        match run.round().await {
            Ok(Some(posted)) => return Ok(posted),
            Ok(None) => {}
            // It may have been written: what is there now decides.
            Err(error) if error.is_open() => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    let unsettled =
        || ForgeError::Incomplete("other runs keep on writing the same comment: run this again".to_owned());
    Err(last.unwrap_or_else(unsettled))
}

struct Run<'a> {
    client: &'a Client,
    post: &'a Post,
    body: String,
    author: Author,
    unexpected_author: Option<String>,
    /// How often and how long writes waited for rate limits.
    waited: (u32, Duration),
}

impl Run<'_> {
    /// One attempt. Returns nothing if everything must be read again.
    async fn round(&mut self) -> Result<Option<Posted>, ForgeError> {
        let (client, number) = (self.client, self.post.number);
        let comments = client.comments(number).await?;
        let pull = client.pull_request(number).await?;
        let decision = comment::decide(&self.post.marker, &self.body, &pull, &self.author, &comments);
        let written = match decision.step {
            Step::Leave(why) => {
                return Ok(Some(self.posted(Done::Left(why), pull, decision.duplicates, None)));
            }
            Step::Update(id) => client.update_comment(number, id, &self.body).await,
            Step::Create => client.create_comment(number, &self.body).await,
        };
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                self.wait_for(error.in_fork(pull.from_fork)).await?;
                return Ok(None);
            }
        };
        let step = match decision.step {
            Step::Update(id) => Done::Updated(id),
            _ if self.has_lost(&written).await? => return Ok(None),
            _ => Done::Created(written.id),
        };
        let now = client.pull_request(number).await?;
        let superseded_by = (now.head != self.post.marker.head).then(|| now.head.clone());
        if let (Some(head), Done::Created(id) | Done::Updated(id)) = (&superseded_by, &step) {
            self.mark_outdated(*id, head).await?;
        }
        Ok(Some(self.posted(step, now, decision.duplicates, superseded_by)))
    }

    /// Looks for a comment that another run created at the same time. If that was first, deletes the own one.
    async fn has_lost(&mut self, created: &Comment) -> Result<bool, ForgeError> {
        if !self.author.wrote(created) {
            self.unexpected_author = Some(created.author.clone());
            self.author = self.author.clone().and(&created.author);
        }
        let comments = self.client.comments(self.post.number).await?;
        let is_rival = |other: &Comment| {
            let marker = Marker::of(&other.body);
            let is_target = marker.is_some_and(|marker| marker.target == self.post.marker.target);
            other.id < created.id && is_target && self.author.wrote(other)
        };
        let has_lost = comments.iter().any(is_rival);
        if has_lost {
            self.client.delete_comment(self.post.number, created.id).await?;
        }
        Ok(has_lost)
    }

    /// Waits if a write was refused because of a rate limit.
    ///
    /// # Errors
    /// The error that was given, if it is another one, or if the wait is too long.
    async fn wait_for(&mut self, error: ForgeError) -> Result<(), ForgeError> {
        let (count, waited) = self.waited;
        match error {
            ForgeError::Limited { after, .. }
                if count < WAITS && waited.saturating_add(after) <= PATIENCE =>
            {
                self.waited = (count + 1, waited + after);
                tracing::debug!(%error, "the comment is not written yet");
                wait::pause(after).await;
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Says in the comment that it is outdated, unless somebody has changed it since.
    async fn mark_outdated(&mut self, id: u64, head: &str) -> Result<(), ForgeError> {
        let (client, number) = (self.client, self.post.number);
        loop {
            let present = match client.comment(number, id).await {
                // Somebody deleted it.
                Err(ForgeError::Hidden { .. }) => return Ok(()),
                present => present?,
            };
            if !text::is_same(&present.body, &self.body) {
                return Ok(());
            }
            match client.update_comment(number, id, &comment::outdated(&self.body, head)).await {
                Ok(_) => return Ok(()),
                Err(error) => self.wait_for(error).await?,
            }
        }
    }

    fn posted(
        &self,
        step: Done,
        pull_request: PullRequest,
        duplicates: Vec<u64>,
        superseded_by: Option<String>,
    ) -> Posted {
        let unexpected_author = self.unexpected_author.clone();
        Posted { step, pull_request, duplicates, superseded_by, unexpected_author }
    }
}

impl fmt::Display for Posted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, url) = (self.pull_request.number, &self.pull_request.url);
        let fork = if self.pull_request.from_fork { " from a fork" } else { "" };
        match &self.step {
            Done::Created(_) => write!(f, "commented on pull request {number}{fork}: {url}")?,
            Done::Updated(_) => write!(f, "updated the comment on pull request {number}{fork}: {url}")?,
            Done::Left(Why::Same) => {
                write!(f, "the comment on pull request {number}{fork} is up to date: {url}")?
            }
            Done::Left(why) => {
                write!(f, "did not update the comment on pull request {number}{fork}, because {why}: {url}")?
            }
        }
        if let Some(head) = &self.superseded_by {
            write!(
                f,
                "\n{} was pushed in the meantime; the comment is marked as outdated",
                short_commit(head)
            )?;
        }
        if !self.duplicates.is_empty() {
            let ids: Vec<String> = self.duplicates.iter().map(u64::to_string).collect();
            write!(f, "\nolder comments with the same plan can be deleted: {}", ids.join(", "))?;
        }
        if let Some(name) = &self.unexpected_author {
            write!(
                f,
                "\nthe token belongs to {name}: set OPSY_FORGE_AUTHOR to that name, so that the comment is found at once"
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same => f.write_str("it is the same"),
            Self::Closed => f.write_str("the pull request is not open"),
            Self::Outdated { head } => {
                write!(f, "the head of the pull request is now {}", short_commit(head))
            }
            Self::Newer { head } => {
                write!(f, "it is already about the newer commit {}", short_commit(head))
            }
        }
    }
}
