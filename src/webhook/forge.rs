//! The Git servers that deliver pushes: which of them sent a request, how it proves the secret, and what was pushed.
//! One file per kind of server, for its headers and its payload. Pure.

mod bitbucket;
mod generic;
mod gitea;
mod github;
mod gitlab;

use std::borrow::Cow;

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::payload::Found;
use super::proof::{Proof, Unproven};
use crate::api::Pushed;
use crate::api::pushed::MOST_ADDRESSES;

/// Longer identifiers and event names are cut in the log.
const LONGEST_NAME: usize = 64;
/// The content type that GitHub uses unless the webhook is set to JSON.
const FORM: &str = "application/x-www-form-urlencoded";
const BRANCHES: &str = "refs/heads/";

/// A kind of Git server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forge {
    GitHub,
    GitLab,
    Gitea,
    Forgejo,
    Gogs,
    Bitbucket,
    Generic,
}

/// What a delivery reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Push,
    /// A person tests the webhook.
    Ping,
    /// An event that the agent ignores.
    Other,
}

/// A delivery, as its headers describe it.
pub struct Delivery {
    pub forge: Forge,
    pub event: Event,
    /// The name that the server gives the event. Printable, and of limited length, like `id`, the ID of the delivery.
    pub event_name: String,
    pub id: String,
    pub proof: Result<Proof, Unproven>,
}

/// Why the body of a push cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Unreadable(pub String);

impl Forge {
    pub fn name(self) -> &'static str {
        match self {
            Self::GitHub => "github",
            Self::GitLab => "gitlab",
            Self::Gitea => "gitea",
            Self::Forgejo => "forgejo",
            Self::Gogs => "gogs",
            Self::Bitbucket => "bitbucket",
            Self::Generic => "generic",
        }
    }

    /// Returns what was pushed, one entry per branch. The list is empty if no branch was pushed.
    ///
    /// # Errors
    /// The body is not what the server sends.
    pub fn pushed(self, headers: &HeaderMap, body: &[u8]) -> Result<Vec<Pushed>, Unreadable> {
        let read = match self {
            Self::GitHub => github::pushed,
            Self::GitLab => gitlab::pushed,
            Self::Gitea | Self::Forgejo | Self::Gogs => gitea::pushed,
            Self::Bitbucket => bitbucket::pushed,
            Self::Generic => return Ok(generic::pushed(body)),
        };
        read(&json(headers, body)?).map_err(Unreadable)
    }
}

/// Recognizes the sender of a request; returns `None` if no known server sends such headers. Gitea and Forgejo also
/// send the headers of each other and of GitHub, so they are checked first.
pub fn recognize(headers: &HeaderMap) -> Option<Delivery> {
    gitea::recognize(headers)
        .or_else(|| gitlab::recognize(headers))
        .or_else(|| bitbucket::recognize(headers))
        .or_else(|| github::recognize(headers))
        .or_else(|| generic::recognize(headers))
}

/// The document in a body: the body itself, or the field `payload` of a form.
fn json<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Cow<'a, [u8]>, Unreadable> {
    if !header(headers, CONTENT_TYPE.as_str()).is_some_and(|kind| kind.starts_with(FORM)) {
        return Ok(Cow::Borrowed(body));
    }
    let payload = url::form_urlencoded::parse(body).find(|(name, _)| name == "payload");
    let payload = payload.map(|(_, value)| Cow::Owned(value.into_owned().into_bytes()));
    payload.ok_or_else(|| Unreadable("the form has no field payload".to_owned()))
}

/// The value of a header, if it is visible ASCII.
fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A header for the log: only plain characters, and of limited length.
fn shown(headers: &HeaderMap, name: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "-_.: ".contains(*c);
    header(headers, name).unwrap_or_default().chars().filter(is_plain).take(LONGEST_NAME).collect()
}

/// The pushes of a document. The place at index `reference` holds a ref, `refs/heads/<branch>`; the places before it
/// hold addresses.
fn pushes(found: &Found, reference: usize) -> Vec<Pushed> {
    let mut references = found.at(reference).peekable();
    if found.is_cut || references.peek().is_none() {
        return any_branch(found, reference);
    }
    let branches = references.filter_map(|reference| branch(&reference.text));
    of_branches(found, reference, branches)
}

/// A push to an unknown branch. If only a part of the document was read, the repository is unknown, too.
fn any_branch(found: &Found, addresses: usize) -> Vec<Pushed> {
    let addresses = if found.is_cut { Vec::new() } else { self::addresses(found, addresses) };
    vec![Pushed { addresses, branch: None }]
}

/// One push per branch.
fn of_branches(found: &Found, addresses: usize, branches: impl Iterator<Item = String>) -> Vec<Pushed> {
    let addresses = self::addresses(found, addresses);
    let mut pushes: Vec<Pushed> = Vec::new();
    for branch in branches {
        let pushed = Pushed { addresses: addresses.clone(), branch: Some(branch) };
        if !pushes.contains(&pushed) {
            pushes.push(pushed);
        }
    }
    pushes
}

/// The strings at the first places that can be addresses of a repository.
fn addresses(found: &Found, places: usize) -> Vec<String> {
    let mut addresses: Vec<String> = Vec::new();
    for text in found.texts.iter().filter(|text| text.place < places) {
        let is_address = !text.text.is_empty() && text.text.bytes().all(|byte| byte.is_ascii_graphic());
        if is_address && !addresses.contains(&text.text) && addresses.len() < MOST_ADDRESSES {
            addresses.push(text.text.clone());
        }
    }
    addresses
}

/// The branch of a ref; `None` for a tag. A name without `refs/` is a branch.
fn branch(reference: &str) -> Option<String> {
    match reference.strip_prefix(BRANCHES) {
        Some(branch) => Some(branch.to_owned()),
        None => (!reference.starts_with("refs/") && !reference.is_empty()).then(|| reference.to_owned()),
    }
}

#[cfg(test)]
mod tests;
