//! GitLab: `X-Gitlab-Event`, and the secret itself in `X-Gitlab-Token`. Webhooks of a project, of a group, and of the
//! whole server (system hooks). Pure.

use http::HeaderMap;

use super::super::payload::{self, Place};
use super::super::proof;
use super::{Delivery, Event, Forge, header, pushes, shown};
use crate::api::Pushed;

const PLACES: &[Place] = &[
    &["project", "git_http_url"],
    &["project", "git_ssh_url"],
    &["project", "web_url"],
    &["repository", "git_http_url"],
    &["repository", "git_ssh_url"],
    &["repository", "homepage"],
    &["ref"],
    &["object_kind"],
    &["event_name"],
];
const REFERENCE: usize = 6;
const KINDS: std::ops::RangeInclusive<usize> = 7..=8;

pub fn recognize(headers: &HeaderMap) -> Option<Delivery> {
    let event = match header(headers, "x-gitlab-event")? {
        // System hooks also report other events: the body decides.
        "Push Hook" | "System Hook" => Event::Push,
        _ => Event::Other,
    };
    Some(Delivery {
        forge: Forge::GitLab,
        event,
        event_name: shown(headers, "x-gitlab-event"),
        id: shown(headers, "x-gitlab-event-uuid"),
        proof: proof::token(header(headers, "x-gitlab-token")),
    })
}

pub fn pushed(body: &[u8]) -> Result<Vec<Pushed>, String> {
    let found = payload::read(body, PLACES)?;
    let mut kinds = KINDS.flat_map(|place| found.at(place)).peekable();
    if kinds.peek().is_some() && !kinds.any(|kind| kind.text == "push") {
        return Ok(Vec::new());
    }
    Ok(pushes(&found, REFERENCE))
}
