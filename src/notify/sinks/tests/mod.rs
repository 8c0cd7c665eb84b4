//! The sinks without their services: the exact requests, and how responses are classified.

mod aws;
mod discord;
mod http;
mod incoming;
mod messages;
mod plain;
mod server;
mod slack;
mod text;
mod webhook;

/// Formats JSON for snapshots.
fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}

/// Returns all strings in a value, at any depth.
fn texts(value: &serde_json::Value) -> Vec<&str> {
    match value {
        serde_json::Value::String(text) => vec![text],
        serde_json::Value::Array(values) => values.iter().flat_map(texts).collect(),
        serde_json::Value::Object(object) => object.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}
