//! Emulated Slack, Discord and webhook receivers, which enforce the rules of the real ones. Every test has its own
//! server, which ends with the test.

use serde_json::{Value, json};

use crate::bed::{Process, request};

/// Every new server knows this token and channel, so that tests need not create them.
pub const TOKEN: &str = "xoxb-demo";
pub const CHANNEL: &str = "C0DEMO0001";

pub struct Chat {
    pub url: String,
    _process: Process,
}

impl Chat {
    pub fn start() -> Self {
        let process = Process::start("chat", &["-m", "chatbed"], &[]);
        Self { url: process.text("url"), _process: process }
    }

    /// Changes the emulation: `faults`, `channels`, `clock`.
    pub fn control(&self, path: &str, body: Value) -> Value {
        request("POST", &format!("{}/_bed/{path}", self.url), Some(body))
    }

    pub fn look(&self, path: &str) -> Value {
        request("GET", &format!("{}/_bed/{path}", self.url), None)
    }

    /// The messages of a place in order; each contains its replies.
    pub fn messages(&self, place: &str) -> Vec<Value> {
        let places = self.look(&format!("transcript?place={place}"));
        places[0]["messages"].as_array().unwrap_or_else(|| panic!("no place {place}: {places}")).clone()
    }

    /// Requests so far: path, status and error.
    pub fn calls(&self) -> Vec<Value> {
        let journal = self.look("journal");
        let entries = journal.as_array().expect("the journal is a list");
        entries.iter().map(|entry| json!([entry["path"], entry["status"], entry["error"]])).collect()
    }
}

/// The first line of a message; replies that are also sent to the channel are marked.
fn title(message: &Value) -> String {
    let text = message["text"].as_str().unwrap_or_default().lines().next().unwrap_or_default();
    let mark = if message["broadcast"] == true { "(to all) " } else { "" };
    format!("{mark}{text}")
}

/// The threads of the channel, each as the titles of its messages in order.
pub fn threads(chat: &Chat) -> Vec<Vec<String>> {
    let thread = |first: &Value| {
        let replies = first["replies"].as_array().cloned().unwrap_or_default();
        std::iter::once(title(first)).chain(replies.iter().map(title)).collect()
    };
    chat.messages(CHANNEL).iter().map(thread).collect()
}
