//! Opens, updates or closes the pull request of a target: lists those from its branch, decides (`pull_request`), and takes
//! steps until nothing is left to do.

use tracing::warn;

use super::client::Client;
use super::contract::PullRequest;
use super::error::ForgeError;
use super::pull_request::{Decision, Proposal, Why, Wish, closed_body, decide};

/// Steps of one call: closing one for another branch, opening one, and finding it after a response was lost.
const STEPS: usize = 5;

/// What was done, the last step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposed {
    Created { number: u64, url: String },
    Updated(u64),
    Closed(u64),
    Left(Why),
}

/// Makes the pull request from `branch` as it is wanted. The branch must have been pushed before.
///
/// # Errors
/// The text is too long, or the forge refuses a request.
pub async fn propose(client: &Client, branch: &str, wish: &Wish) -> Result<Proposed, ForgeError> {
    propose_after(client, branch, wish, None).await
}

/// The same after the pull requests from `branch` were listed.
///
/// # Errors
/// The text is too long, or the forge refuses a request.
pub async fn propose_after(
    client: &Client,
    branch: &str,
    wish: &Wish,
    mut listed: Option<Vec<PullRequest>>,
) -> Result<Proposed, ForgeError> {
    let wish = &match wish.clone() {
        Wish::Open(proposal) => {
            let text = client.without_commands(proposal.text);
            Wish::Open(Proposal { text, ..proposal })
        }
        obsolete @ Wish::Obsolete { .. } => obsolete,
    };
    let mut done = None;
    let mut last = None;
    for _ in 0..STEPS {
        let pulls = match listed.take() {
            Some(pulls) => pulls,
            None => client.pull_requests_from(branch).await?,
        };
        let decision = decide(wish, &pulls)?;
        if let Decision::Leave(why) = decision {
            return Ok(done.unwrap_or(Proposed::Left(why)));
        }
        match act(client, branch, wish, decision).await {
            // Another one may be open, or must be opened now.
            Ok(closed @ Proposed::Closed(_)) => done = Some(closed),
            // The list may not show it yet, so it is not read again.
            Ok(step) => return Ok(step),
            // It may have taken effect: what is there now decides.
            Err(error) if error.is_open() => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    let unsettled =
        || ForgeError::Incomplete(format!("other writers keep on changing the pull request of {branch}"));
    Err(last.unwrap_or_else(unsettled))
}

async fn act(client: &Client, branch: &str, wish: &Wish, decision: Decision) -> Result<Proposed, ForgeError> {
    match (decision, wish) {
        (Decision::Create { title, body }, Wish::Open(proposal)) => {
            let created = client.create_pull_request(branch, &proposal.base, &title, &body).await?;
            Ok(Proposed::Created { number: created.number, url: created.url })
        }
        (Decision::Update { number, title, body }, _) => {
            client.update_pull_request(number, &title, &body).await?;
            Ok(Proposed::Updated(number))
        }
        (Decision::Close { number, why, body }, _) => {
            explain(client, number, &why).await?;
            client.close_pull_request(number, &body).await?;
            Ok(Proposed::Closed(number))
        }
        (Decision::Create { .. }, Wish::Obsolete { .. }) => Ok(Proposed::Left(Why::Absent)),
        (Decision::Leave(why), _) => Ok(Proposed::Left(why)),
    }
}

/// Says why a pull request is closed, before it is. A run that was interrupted in between has said so already.
async fn explain(client: &Client, number: u64, why: &str) -> Result<(), ForgeError> {
    let comments = client.comments(number).await?;
    let is_last = |body: &str| body.trim_end() == why.trim_end();
    if comments.iter().max_by_key(|comment| comment.id).is_some_and(|last| is_last(&last.body)) {
        return Ok(());
    }
    client.add_comment(number, why).await
}

/// Closes pull requests that are not wanted any more, and then comments why. They are closed even if comments are not allowed.
///
/// # Errors
/// The forge refuses to close one.
pub async fn close_former(client: &Client, pulls: &[&PullRequest], why: &str) -> Result<(), ForgeError> {
    for pull in pulls {
        client.close_pull_request(pull.number, &closed_body(pull)).await?;
        if let Err(error) = client.add_comment(pull.number, why).await {
            warn!(number = pull.number, %error, "the pull request is closed without a comment");
        }
    }
    Ok(())
}
