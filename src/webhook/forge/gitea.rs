//! Gitea, Forgejo and Gogs: `X-Gitea-Event`, or the same with another name, and an HMAC of the body as bare hexadecimal
//! digits. They also send the headers of the projects that they are forks of. Pure.

use http::HeaderMap;

use super::super::payload::{self, Place};
use super::super::proof;
use super::{Delivery, Event, Forge, header, pushes, shown};
use crate::api::Pushed;

const PLACES: &[Place] =
    &[&["repository", "clone_url"], &["repository", "html_url"], &["repository", "ssh_url"], &["ref"]];
const REFERENCE: usize = 3;

/// Forks first: only a fork sends its own headers.
const KINDS: [(Forge, &str); 3] =
    [(Forge::Forgejo, "forgejo"), (Forge::Gitea, "gitea"), (Forge::Gogs, "gogs")];

pub fn recognize(headers: &HeaderMap) -> Option<Delivery> {
    KINDS.iter().find_map(|(forge, name)| {
        let event_header = format!("x-{name}-event");
        let event = match header(headers, &event_header)? {
            "push" => Event::Push,
            "ping" => Event::Ping,
            _ => Event::Other,
        };
        Some(Delivery {
            forge: *forge,
            event,
            event_name: shown(headers, &event_header),
            id: shown(headers, &format!("x-{name}-delivery")),
            proof: proof::bare(header(headers, &format!("x-{name}-signature"))),
        })
    })
}

pub fn pushed(body: &[u8]) -> Result<Vec<Pushed>, String> {
    Ok(pushes(&payload::read(body, PLACES)?, REFERENCE))
}
