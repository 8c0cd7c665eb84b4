//! Bitbucket Cloud and Bitbucket Data Center: `X-Event-Key`, and an HMAC of the body in `X-Hub-Signature`, which is
//! SHA-256 here. One delivery may report several branches. Pure.

use http::HeaderMap;

use super::super::payload::{self, Found, Place};
use super::super::proof;
use super::{Delivery, Event, Forge, any_branch, branch, header, of_branches, shown};
use crate::api::Pushed;

const PLACES: &[Place] = &[
    // The Cloud has the first, Data Center the second. `links.self` of Data Center is a page, not a Git address.
    &["repository", "links", "html", "href"],
    &["repository", "links", "clone", "*", "href"],
    // Data Center.
    &["changes", "*", "ref", "id"],
    // The Cloud: after the push, and before it, for a branch that was deleted.
    &["push", "changes", "*", "new", "type"],
    &["push", "changes", "*", "new", "name"],
    &["push", "changes", "*", "old", "type"],
    &["push", "changes", "*", "old", "name"],
];
const ADDRESSES: usize = 2;
const REFERENCE: usize = 2;
/// The places of type and name: after the push, and before it.
const STATES: [(usize, usize); 2] = [(3, 4), (5, 6)];

pub fn recognize(headers: &HeaderMap) -> Option<Delivery> {
    let event = match header(headers, "x-event-key")? {
        "repo:push" | "repo:refs_changed" => Event::Push,
        "diagnostics:ping" => Event::Ping,
        _ => Event::Other,
    };
    let id = match header(headers, "x-request-uuid") {
        Some(_) => shown(headers, "x-request-uuid"),
        None => shown(headers, "x-request-id"),
    };
    Some(Delivery {
        forge: Forge::Bitbucket,
        event,
        event_name: shown(headers, "x-event-key"),
        id,
        proof: proof::prefixed(header(headers, "x-hub-signature")),
    })
}

pub fn pushed(body: &[u8]) -> Result<Vec<Pushed>, String> {
    let found = payload::read(body, PLACES)?;
    let is_unknown = !found.texts.iter().any(|text| text.place >= REFERENCE);
    if found.is_cut || is_unknown {
        return Ok(any_branch(&found, ADDRESSES));
    }
    let references = found.at(REFERENCE).filter_map(|reference| branch(&reference.text));
    let branches = references.chain(STATES.into_iter().flat_map(|(kind, name)| named(&found, kind, name)));
    Ok(of_branches(&found, ADDRESSES, branches.collect::<Vec<_>>().into_iter()))
}

/// The names of the changes whose type is a branch.
fn named(found: &Found, kind: usize, name: usize) -> Vec<String> {
    let is_branch = |item: usize| {
        let mut kinds = found.at(kind).filter(|kind| kind.item == item);
        kinds.any(|kind| matches!(kind.text.as_str(), "branch" | "named_branch"))
    };
    found.at(name).filter(|name| is_branch(name.item)).map(|name| name.text.clone()).collect()
}
