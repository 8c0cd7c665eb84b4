//! Names and numbers in words. Pure.

use crate::api::ObjectKey;

/// `pb/NAME` or `ar/NAME`, with the namespace if it is not the default one.
pub fn short(object: &ObjectKey) -> String {
    let kind = object.kind.short();
    match object.key.namespace.as_str() {
        "default" => format!("{kind}/{}", object.key.name),
        namespace => format!("{kind}/{namespace}/{}", object.key.name),
    }
}

/// A number with its noun.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A verb for this number of subjects.
pub fn verb(number: usize, verb: &str) -> String {
    if number == 1 { format!("{verb}s") } else { verb.to_owned() }
}

/// A list with commas.
pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// A number of seconds, as people say it.
pub fn seconds(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}
