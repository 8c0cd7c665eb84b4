//! Discord through a webhook: messages that are edited in place. A webhook has no threads, so replies are separate
//! messages.

use futures::future::BoxFuture;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::announce::{Link, Message, Tone};

use super::http::{Address, Answer, Http};
use super::text::{address, clean, discord, excerpt, fit, line, plain};
use super::{Abilities, CHAT_PACE, DeliveryMode, Sink, SinkError, Trouble};

pub const ABILITIES: Abilities = Abilities { kind: "discord", mode: DeliveryMode::Edits, pace: CHAT_PACE };

const WHO: &str = "Discord";

/// Maximum number of characters in an embed. Discord's limit is 6000.
const WHOLE: usize = 5_900;
/// Discord's limit is 256.
const TITLE: usize = 250;
const TEXT: usize = 1_000;
const NEXT: usize = 500;
/// Maximum number of facts, so that a message stays readable. Discord's limit is 25.
const FACTS: usize = 10;
const NAME: usize = 50;
const VALUE: usize = 150;
/// Maximum length of values that are shown side by side.
const SHORT: usize = 40;
const LABEL: usize = 75;
/// Limit for all links together.
const ADDRESSES: usize = 800;
/// Maximum length of the log. With the other texts it stays below Discord's limit for a description, 4096.
const LOG: usize = 1_600;

/// A webhook of one channel.
pub struct Hook {
    http: Http,
    address: Address,
    /// Where the address comes from, for messages: `Secret ops/discord`.
    place: String,
}

impl Hook {
    pub fn new(http: Http, address: Address, place: String) -> Self {
        Self { http, address, place }
    }

    /// Returns the meaning of an error code of Discord.
    fn failed(&self, answer: &Answer) -> SinkError {
        if let Some(busy) = answer.busy(WHO) {
            return busy;
        }
        let place = &self.place;
        let (kind, reason, message) = match answer.json()["code"].as_u64() {
            Some(10_015 | 50_027) => (
                Trouble::Closed,
                "DiscordWebhookInvalid",
                format!("Discord does not know the webhook any more: put a new URL into key url of {place}"),
            ),
            Some(10_003) => (
                Trouble::Closed,
                "DiscordChannelNotFound",
                format!(
                    "the channel of the webhook was deleted: put the URL of another webhook into key url of \
                     {place}"
                ),
            ),
            Some(50_001 | 50_013) => (
                Trouble::Closed,
                "DiscordWebhookDenied",
                format!(
                    "Discord does not allow the webhook of {place} to post: allow it in the settings of the \
                     channel"
                ),
            ),
            Some(220_001 | 220_003) => (
                Trouble::Closed,
                "DiscordForum",
                format!("the webhook of {place} belongs to a forum: create one in a text channel"),
            ),
            Some(10_008 | 50_005) => {
                (Trouble::MessageGone, "DiscordMessageGone", "the message in Discord was deleted".to_owned())
            }
            Some(code @ (50_006 | 50_035 | 50_109)) => {
                (Trouble::Refused, "DiscordMessageRefused", format!("Discord rejects this message ({code})"))
            }
            _ => return answer.unexpected(&format!("the webhook of {place}")),
        };
        SinkError::new(kind, reason, message)
    }
}

impl Sink for Hook {
    fn post<'a>(
        &'a self,
        message: &'a Message,
        _: Option<&'a str>,
        _: bool,
    ) -> BoxFuture<'a, Result<Option<String>, SinkError>> {
        Box::pin(async move {
            // Without `wait`, Discord returns neither the ID of the message nor an error.
            let address = self.address.with_query("wait", "true");
            let body = payload(message).to_string().into_bytes();
            let answer = self.http.send(WHO, Method::POST, &address, HeaderMap::new(), body).await?;
            match answer.json()["id"].as_str() {
                Some(id) if answer.status.is_success() => Ok(Some(id.to_owned())),
                _ => Err(self.failed(&answer)),
            }
        })
    }

    fn edit<'a>(&'a self, message: &'a Message, id: &'a str) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            let address = self.address.below(&["messages", id]);
            let body = payload(message).to_string().into_bytes();
            let answer = self.http.send(WHO, Method::PATCH, &address, HeaderMap::new(), body).await?;
            if answer.status.is_success() { Ok(()) } else { Err(self.failed(&answer)) }
        })
    }
}

/// Returns the request. `allowed_mentions` prevents that any text in it pings people.
pub(super) fn payload(message: &Message) -> Value {
    json!({ "embeds": [embed(message)], "allowed_mentions": { "parse": [] } })
}

fn embed(message: &Message) -> Value {
    let title = fit(&line(&message.title), TITLE, discord);
    let fields: Vec<Value> = message.facts.iter().take(FACTS).map(field).collect();
    let taken = |field: &Value| -> usize {
        ["name", "value"].iter().filter_map(|key| field[key].as_str()).map(|text| text.chars().count()).sum()
    };
    let taken = title.chars().count() + fields.iter().map(taken).sum::<usize>();
    let mut embed =
        json!({ "color": color(message.tone), "description": description(message, WHOLE - taken) });
    if !title.is_empty() {
        embed["title"] = json!(title);
    }
    if !fields.is_empty() {
        embed["fields"] = json!(fields);
    }
    embed
}

/// Returns a field. Discord rejects an empty name or value.
fn field((name, value): &(&'static str, String)) -> Value {
    let value = fit(&line(value), VALUE, discord);
    let value = if value.is_empty() { "–".to_owned() } else { value };
    let inline = value.chars().count() <= SHORT;
    json!({ "name": fit(&line(name), NAME, discord), "value": value, "inline": inline })
}

/// Returns everything except title and facts, in at most `room` characters. The log is shortened first.
fn description(message: &Message, room: usize) -> String {
    let text = fit(clean(&message.text).trim(), TEXT, discord);
    let next = message.next.as_deref().map(clean).unwrap_or_default();
    let next = fit(next.trim(), NEXT, discord);
    let next = if next.is_empty() { next } else { format!("**Next:** {next}") };
    let links = links(&message.links);
    // Leaves room for the line ends between the parts and for the fences of the log.
    let taken = [&text, &next, &links].iter().map(|part| part.chars().count() + 2).sum::<usize>() + 10;
    let log = excerpt(&message.excerpt, room.saturating_sub(taken).min(LOG), plain)
        .map(|log| format!("```\n{log}\n```"))
        .unwrap_or_default();
    [text, log, next, links].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

/// Returns the links that fit. A link is never shortened.
fn links(links: &[Link]) -> String {
    let mut words = String::new();
    for link in links {
        let Some(url) = address(&link.url) else { continue };
        let label = fit(&line(&link.label), LABEL, discord);
        let word = format!("[{}]({url})", if label.is_empty() { "link" } else { &label });
        let gap = if words.is_empty() { "" } else { " · " };
        if words.chars().count() + gap.len() + word.chars().count() <= ADDRESSES {
            words.push_str(gap);
            words.push_str(&word);
        }
    }
    words
}

fn color(tone: Tone) -> u32 {
    match tone {
        Tone::Working => 0x34_98_db,
        Tone::Good => 0x2e_cc_71,
        Tone::Bad => 0xe7_4c_3c,
        Tone::Person => 0xe6_7e_22,
    }
}
