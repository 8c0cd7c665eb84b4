//! GitHub and GitHub Enterprise Server: `X-GitHub-Event`, and an HMAC of the body in `X-Hub-Signature-256`. Pure.

use http::HeaderMap;

use super::super::payload::{self, Place};
use super::super::proof;
use super::{Delivery, Event, Forge, header, pushes, shown};
use crate::api::Pushed;

const PLACES: &[Place] = &[
    &["repository", "clone_url"],
    &["repository", "html_url"],
    &["repository", "ssh_url"],
    &["repository", "git_url"],
    &["ref"],
];
const REFERENCE: usize = 4;

pub fn recognize(headers: &HeaderMap) -> Option<Delivery> {
    let event = match header(headers, "x-github-event")? {
        "push" => Event::Push,
        "ping" => Event::Ping,
        _ => Event::Other,
    };
    Some(Delivery {
        forge: Forge::GitHub,
        event,
        event_name: shown(headers, "x-github-event"),
        id: shown(headers, "x-github-delivery"),
        proof: match header(headers, "x-hub-signature-256") {
            // A server that is too old for SHA-256 sends only this header.
            None => proof::prefixed(header(headers, "x-hub-signature")),
            signature => proof::prefixed(signature),
        },
    })
}

pub fn pushed(body: &[u8]) -> Result<Vec<Pushed>, String> {
    Ok(pushes(&payload::read(body, PLACES)?, REFERENCE))
}
