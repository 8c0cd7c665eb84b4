//! Discord by a webhook: messages edited in place. It has no threads of its own, so replies are
//! messages of their own.

use futures::future::BoxFuture;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use crate::announce::{Link, Message, Tone};

use super::http::{Address, Answer, Http};
use super::sink::{Sink, SinkError, Trouble};
use super::text::{address, clean, discord, excerpt, fit, line, plain};

const WHO: &str = "Discord";

/// Discord takes 6000 characters in all parts of an embed together.
const WHOLE: usize = 5_900;
/// Discord's own limit is 256.
const TITLE: usize = 250;
const TEXT: usize = 1_000;
const NEXT: usize = 500;
/// Discord's own limit is 25; what is more is not read.
const FACTS: usize = 10;
const NAME: usize = 50;
const VALUE: usize = 150;
/// Values up to this long stand side by side.
const SHORT: usize = 40;
const LABEL: usize = 75;
/// All links together.
const ADDRESSES: usize = 800;
/// With the other texts below Discord's 4096 of a description.
const LOG: usize = 1_600;

/// A webhook of one channel.
pub struct Hook {
    http: Http,
    address: Address,
    /// Where the address came from, for words: `Secret ops/discord`.
    place: String,
}

impl Hook {
    pub fn new(http: Http, address: Address, place: String) -> Self {
        Self { http, address, place }
    }

    /// What Discord's code for an error means here.
    fn failed(&self, answer: &Answer) -> SinkError {
        if let Some(busy) = answer.busy(WHO) {
            return busy;
        }
        let place = &self.place;
        let (kind, reason, words) = match answer.json()["code"].as_u64() {
            Some(10_015 | 50_027) => (
                Trouble::Closed,
                "DiscordWebhookInvalid",
                format!("Discord knows the webhook no more: put a new address into key url of {place}"),
            ),
            Some(10_003) => (
                Trouble::Closed,
                "DiscordChannelNotFound",
                format!("the webhook's channel is gone: put the address of another into key url of {place}"),
            ),
            Some(50_001 | 50_013) => (
                Trouble::Closed,
                "DiscordWebhookDenied",
                format!(
                    "Discord does not let the webhook of {place} post: allow it in the channel's settings"
                ),
            ),
            Some(220_001 | 220_003) => (
                Trouble::Closed,
                "DiscordForum",
                format!("the webhook of {place} is a forum's: make one in a text channel"),
            ),
            Some(10_008 | 50_005) => {
                (Trouble::MessageGone, "DiscordMessageGone", "the message in Discord is gone".to_owned())
            }
            Some(code @ (50_006 | 50_035 | 50_109)) => {
                (Trouble::Refused, "DiscordMessageRefused", format!("Discord refuses this message ({code})"))
            }
            _ => return answer.odd(&format!("the webhook of {place}")),
        };
        SinkError::new(kind, reason, words)
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
            // Without `wait` Discord says neither the message's id nor whether there is one.
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

/// What is sent; nobody is mentioned, whatever it holds.
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
        json!({ "color": colour(message.tone), "description": description(message, WHOLE - taken) });
    if !title.is_empty() {
        embed["title"] = json!(title);
    }
    if !fields.is_empty() {
        embed["fields"] = json!(fields);
    }
    embed
}

/// Neither may be empty.
fn field((name, value): &(&'static str, String)) -> Value {
    let value = fit(&line(value), VALUE, discord);
    let value = if value.is_empty() { "–".to_owned() } else { value };
    let inline = value.chars().count() <= SHORT;
    json!({ "name": fit(&line(name), NAME, discord), "value": value, "inline": inline })
}

/// All but title and facts, in at most `room` characters: the log gives way.
fn description(message: &Message, room: usize) -> String {
    let text = fit(clean(&message.text).trim(), TEXT, discord);
    let next = message.next.as_deref().map(clean).unwrap_or_default();
    let next = fit(next.trim(), NEXT, discord);
    let next = if next.is_empty() { next } else { format!("**Next:** {next}") };
    let links = links(&message.links);
    // Line ends between the parts, and the fences of the log.
    let taken = [&text, &next, &links].iter().map(|part| part.chars().count() + 2).sum::<usize>() + 10;
    let log = excerpt(&message.excerpt, room.saturating_sub(taken).min(LOG), plain)
        .map(|log| format!("```\n{log}\n```"))
        .unwrap_or_default();
    [text, log, next, links].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

/// Links are whole or not there.
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

fn colour(tone: Tone) -> u32 {
    match tone {
        Tone::Working => 0x34_98_db,
        Tone::Good => 0x2e_cc_71,
        Tone::Bad => 0xe7_4c_3c,
        Tone::Person => 0xe6_7e_22,
    }
}
