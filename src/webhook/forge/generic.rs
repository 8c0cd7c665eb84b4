//! Anything that can compute an HMAC, such as `curl` in a post-receive hook: `X-Signature: sha256=<hex>`. The body is
//! optional; a document names the repository and the branch. Pure.

use http::HeaderMap;

use super::super::payload::{self, Place};
use super::super::proof;
use super::{Delivery, Event, Forge, header, pushes, shown};
use crate::api::Pushed;

const PLACES: &[Place] = &[
    &["repository"],
    &["url"],
    &["repository", "url"],
    &["repository", "clone_url"],
    &["repository", "html_url"],
    &["repository", "ssh_url"],
    &["repository", "git_http_url"],
    &["repository", "git_ssh_url"],
    &["ref"],
];
const REFERENCE: usize = 8;

pub fn recognize(headers: &HeaderMap) -> Option<Delivery> {
    let signature =
        ["x-signature", "x-hub-signature-256"].into_iter().find_map(|name| header(headers, name))?;
    Some(Delivery {
        forge: Forge::Generic,
        event: Event::Push,
        event_name: String::new(),
        id: shown(headers, "x-request-id"),
        proof: proof::prefixed(Some(signature)),
    })
}

/// A body without known fields can concern every repository.
pub fn pushed(body: &[u8]) -> Vec<Pushed> {
    let found = payload::read(body, PLACES);
    found.map_or_else(|_| vec![Pushed::default()], |found| pushes(&found, REFERENCE))
}
