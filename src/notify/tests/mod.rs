//! The sinks without their services: what they would send, to the letter, and what they make of answers.

mod aws;
mod discord;
mod http;
mod incoming;
mod messages;
mod plain;
mod plans;
mod server;
mod slack;
mod text;
mod webhook;

/// Shown in full, for golden files.
fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}

/// All texts in a value, however deep.
fn texts(value: &serde_json::Value) -> Vec<&str> {
    match value {
        serde_json::Value::String(text) => vec![text],
        serde_json::Value::Array(values) => values.iter().flat_map(texts).collect(),
        serde_json::Value::Object(object) => object.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}
