//! A message as Slack shows it: blocks, and the line for where blocks are not shown. Pure; for the bot
//! and for incoming webhooks alike.
//!
//! Slack's limits (text of a section 3000 characters, ten fields of 2000, some 13,200 in all) count what
//! is escaped, and so do the limits here. The parts together stay below [`WHOLE`]; the log gets what
//! the others leave.

use serde_json::{Value, json};

use crate::announce::{Link, Message, Tone};

use super::text::{self, address, clean, excerpt, fit, line};

/// Above some 13,200 characters Slack refuses a message, by no documented rule: stay clear of it.
const WHOLE: usize = 9_600;

const TITLE: usize = 300;
const TEXT: usize = 1_500;
/// Slack's own limit.
const FIELDS: usize = 10;
const NAME: usize = 60;
const VALUE: usize = 240;
/// All facts that got no field.
const OTHERS: usize = 600;
const NEXT: usize = 900;
/// More links than anybody reads.
const LINKS: usize = 8;
const LABEL: usize = 75;
/// All links together.
const ADDRESSES: usize = 1_800;
/// The line for notifications, which are cut much sooner.
const FALLBACK: usize = 400;
/// Slack's limit for a section, less the fences of the code block.
const LOG: usize = 2_900;

/// What is sent, but for the channel and the thread. Nothing in it is looked through for names, and no
/// address unfolds.
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

/// What phones and screen readers show.
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

/// Facts that got no field, in one small line.
fn rest(facts: &[(&'static str, String)]) -> Option<Value> {
    let words: Vec<_> = facts.iter().map(|(name, value)| format!("{name}: {}", line(value))).collect();
    (!words.is_empty()).then(|| context(&fit(&words.join(" · "), OTHERS, text::slack)))
}

fn next(message: &Message) -> Option<Value> {
    let next = clean(message.next.as_deref()?);
    (!next.trim().is_empty()).then(|| section(&format!("*Next:* {}", fit(next.trim(), NEXT, text::slack))))
}

/// Links are whole or not there.
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

/// Verbatim: what is no control sequence of ours is text, even where it looks like a name or an address.
fn mrkdwn(text: &str) -> Value {
    json!({ "type": "mrkdwn", "text": text, "verbatim": true })
}

/// Characters of all texts of a block.
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
