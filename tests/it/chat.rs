//! Emulated Slack, Discord and webhook receivers, which enforce the rules of the real ones. Every test has its own
//! server, which ends with the test.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{request, wait_for};

/// Startup takes half a second on an idle machine, several seconds on a busy one.
const START: Duration = Duration::from_secs(60);

/// Every new server knows this token and channel, so that tests need not create them.
pub const TOKEN: &str = "xoxb-demo";
pub const CHANNEL: &str = "C0DEMO0001";

pub struct Chat {
    pub url: String,
    child: Child,
}

impl Chat {
    pub fn start() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bed/chat");
        let scratch = tempfile::tempdir().expect("a temporary directory");
        let port_file = scratch.path().join("address.json");
        let python = std::env::var("OPSY_BED_PYTHON").unwrap_or_else(|_| "python3".into());
        let child = Command::new(python)
            .args(["-m", "chatbed", "--port", "0", "--die-with-parent", "--port-file"])
            .arg(&port_file)
            .current_dir(dir)
            .stdout(Stdio::null())
            .spawn()
            .expect("the chat bed starts");
        wait_for("the chat bed", START, || port_file.exists().then_some(()));
        let address: Value =
            serde_json::from_slice(&std::fs::read(&port_file).expect("the address file")).expect("JSON");
        Self { url: address["url"].as_str().expect("an address").to_owned(), child }
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

impl Drop for Chat {
    fn drop(&mut self) {
        // If this fails, it has ended already or ends with this process.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
