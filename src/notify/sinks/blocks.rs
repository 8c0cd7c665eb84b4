//! Renders a message for Slack: blocks, and a line for clients that show no blocks. Used by the bot and by incoming
//! webhooks. Pure.
//!
//! Slack's limits (3000 characters per section, ten fields of 2000, about 13,200 in total) apply to escaped text, and
//! so do the limits here. All parts together stay below `WHOLE`; the log gets the room that the others leave.

use serde_json::{Value, json};

use crate::announce::{Link, Message, Tone};

use super::text::{self, address, clean, excerpt, fit, line};

/// Maximum number of characters. Slack rejects messages above about 13,200 characters, which is not documented.
const WHOLE: usize = 9_600;

const TITLE: usize = 300;
const TEXT: usize = 1_500;
/// Slack's limit.
const FIELDS: usize = 10;
const NAME: usize = 60;
const VALUE: usize = 240;
/// Limit for all facts without a field.
const OTHERS: usize = 600;
const NEXT: usize = 900;
/// More links than this are not useful in a message.
const LINKS: usize = 8;
const LABEL: usize = 75;
/// Limit for all links together.
const ADDRESSES: usize = 1_800;
/// Limit of the line for notifications, of which clients show less.
const FALLBACK: usize = 400;
/// Slack's limit for a section, minus the fences of the code block.
const LOG: usize = 2_900;

/// Returns the request without channel and thread. Slack parses no names in it and unfurls no links.
pub(super) fn payload(message: &Message) -> Value {
    json!({
        "text": fallback(message),
        "blocks": blocks(message),
        "parse": "none",
        "link_names": false,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

/// Returns the line that phones and screen readers show.
fn fallback(message: &Message) -> String {
    let line = line(&message.line());
    format!("{} {}", sign(message.tone), fit(&line, FALLBACK, text::slack))
}

fn blocks(message: &Message) -> Vec<Value> {
    let (fields, others) = message.facts.split_at(message.facts.len().min(FIELDS));
    let before = [Some(head(message)), facts(fields), rest(others)];
    let after = [next(message), links(&message.links)];
    let taken: usize = before.iter().chain(&after).flatten().map(size).sum();
    let room = WHOLE.saturating_sub(taken + FALLBACK + 2).min(LOG);
    let log = excerpt(&message.excerpt, room, text::slack).map(|log| section(&format!("```\n{log}\n```")));
    before.into_iter().chain([log]).chain(after).flatten().collect()
}

fn head(message: &Message) -> Value {
    let title = fit(&line(&message.title), TITLE, text::slack);
    let text = fit(clean(&message.text).trim(), TEXT, text::slack);
    section(format!("*{} {title}*\n{text}", sign(message.tone)).trim_end())
}

fn facts(facts: &[(&'static str, String)]) -> Option<Value> {
    let field = |(name, value): &(&str, String)| {
        let name = fit(&line(name), NAME, text::slack);
        mrkdwn(format!("*{name}*\n{}", fit(&line(value), VALUE, text::slack)).trim_end())
    };
    let fields: Vec<Value> = facts.iter().map(field).collect();
    (!fields.is_empty()).then(|| json!({ "type": "section", "fields": fields }))
}

/// Returns the facts without a field as one small line.
fn rest(facts: &[(&'static str, String)]) -> Option<Value> {
    let words: Vec<_> = facts.iter().map(|(name, value)| format!("{name}: {}", line(value))).collect();
    (!words.is_empty()).then(|| context(&fit(&words.join(" · "), OTHERS, text::slack)))
}

fn next(message: &Message) -> Option<Value> {
    let next = clean(message.next.as_deref()?);
    (!next.trim().is_empty()).then(|| section(&format!("*Next:* {}", fit(next.trim(), NEXT, text::slack))))
}

/// Returns the links that fit. A link is never shortened.
fn links(links: &[Link]) -> Option<Value> {
    let mut words = String::new();
    for link in links.iter().take(LINKS) {
        let Some(url) = address(&link.url) else { continue };
        let url = fit(&url, ADDRESSES, text::slack);
        let label = fit(&line(&link.label), LABEL, text::slack);
        let word = format!("<{url}|{}>", if label.is_empty() { "link" } else { &label });
        let gap = if words.is_empty() { "" } else { " · " };
        if words.chars().count() + gap.len() + word.chars().count() <= ADDRESSES {
            words.push_str(gap);
            words.push_str(&word);
        }
    }
    (!words.is_empty()).then(|| context(&words))
}

fn sign(tone: Tone) -> &'static str {
    match tone {
        Tone::Working => "⏳",
        Tone::Good => "✅",
        Tone::Bad => "❌",
        Tone::Person => "🚨",
    }
}

fn section(text: &str) -> Value {
    json!({ "type": "section", "text": mrkdwn(text) })
}

fn context(text: &str) -> Value {
    json!({ "type": "context", "elements": [mrkdwn(text)] })
}

/// Returns a text object with `verbatim`, so that Slack does not turn names or addresses in it into links.
fn mrkdwn(text: &str) -> Value {
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

/// Returns the number of characters of all texts of a block.
fn size(block: &Value) -> usize {
    match block {
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| match value {
                Value::String(text) if key == "text" => text.chars().count(),
                value => size(value),
            })
            .sum(),
        Value::Array(values) => values.iter().map(size).sum(),
        _ => 0,
    }
}
