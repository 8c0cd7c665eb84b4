//! Renders a message as plain text, for mail and topics. Pure.

use crate::announce::Message;

use super::text::{address, clean, excerpt, fit, line, plain};

const TITLE: usize = 300;
const TEXT: usize = 4_000;
const FACTS: usize = 50;
const VALUE: usize = 500;
const LOG: usize = 10_000;
const LINKS: usize = 20;
/// Maximum length of a subject: longer ones are not shown in full by mail clients.
const SUBJECT: usize = 150;

/// Returns the title as one line.
pub(super) fn subject(message: &Message) -> String {
    fit(&line(&message.title), SUBJECT, plain)
}

/// Returns all parts of the message, separated by empty lines.
pub(super) fn body(message: &Message) -> String {
    let text = |text: &str| fit(clean(text).trim(), TEXT, plain);
    let facts = message.facts.iter().take(FACTS);
    let facts: Vec<_> =
        facts.map(|(name, value)| format!("{name}: {}", fit(&line(value), VALUE, plain))).collect();
    let log = excerpt(&message.excerpt, LOG, plain).unwrap_or_default();
    let log: Vec<_> = log.lines().map(|line| format!("    {line}")).collect();
    let next = message.next.as_deref().map(text).filter(|next| !next.is_empty());
    let links = message.links.iter().take(LINKS);
    let links: Vec<_> = links
        .filter_map(|link| {
            Some(format!("{}: {}", fit(&line(&link.label), VALUE, plain), address(&link.url)?))
        })
        .collect();
    let parts = [
        fit(&line(&message.title), TITLE, plain),
        text(&message.text),
        facts.join("\n"),
        log.join("\n"),
        next.map(|next| format!("Next: {next}")).unwrap_or_default(),
        links.join("\n"),
    ];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n\n") + "\n"
}
