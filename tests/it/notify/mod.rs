//! The sinks against services that enforce their rules: what is delivered, and how refusals, rate limits and lost
//! responses are classified.

mod aws;
mod discord;
mod slack;
mod webhook;

use opsy::announce::{Link, Message, Tone, Weight};
use opsy::api::network::Network;
use opsy::notify::sinks::http::{Address, Http};
use opsy::notify::sinks::{SinkError, Trouble};
use serde_json::Value;

use crate::chat::Chat;

const TRANSIENT: Trouble = Trouble::Transient { after: None };

fn message(id: &str, title: &str) -> Message {
    Message {
        id: id.to_owned(),
        reason: "BuildFailed".into(),
        tone: Tone::Bad,
        weight: Weight::Loud,
        title: title.to_owned(),
        text: "Packer ended with 1.".to_owned(),
        facts: vec![("Region", "eu-central-1".to_owned())],
        excerpt: vec!["==> node: E: Unable to locate package".to_owned()],
        next: Some("Correct the package's name.".to_owned()),
        links: vec![Link { label: "Commit".to_owned(), url: "https://git.example.com/c/4f2d1c0".to_owned() }],
    }
}

/// A message with hostile text of excessive length in every part, as a template or log could print it.
fn hostile() -> Message {
    let evil = "<!channel> <@U0DEMO> <#C0DEMO0001> <!here|x> @everyone @channel ``` ` *b* \u{1b}[31m\u{0}\u{202e} &lt;!here&gt; ";
    let long = evil.repeat(50_000 / evil.len());
    Message {
        title: long.clone(),
        text: long.clone(),
        facts: (0..30).map(|_| ("Fact", long.clone())).collect(),
        excerpt: (0..100).map(|_| long.clone()).collect(),
        next: Some(long.clone()),
        links: (0..30)
            .map(|_| Link {
                label: long.clone(),
                url: format!("https://example.com/|<!channel>?{}", "&".repeat(200)),
            })
            .collect(),
        ..message("failed", "")
    }
}

fn http() -> Http {
    Http::new(&Network::default()).expect("a client")
}

fn address(chat: &Chat, path: &str) -> Address {
    Address::parse(&format!("{}{path}", chat.url)).expect("an address")
}

fn closed(error: &SinkError) -> &str {
    assert_eq!(error.kind, Trouble::Closed, "{error:?}");
    error.reason
}

fn texts(messages: &[Value], key: &str) -> Vec<String> {
    messages.iter().map(|message| message[key].as_str().unwrap_or_default().to_owned()).collect()
}
