//! Digests of fields and their values, for `ownership`. They are made from an object where it is: every event of a watch
//! needs several, and copies of the parts would cost more than the digests. Pure.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// A digest of fields and their values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 16]);

/// A value, or a part of one.
pub enum Part<'a> {
    Whole(&'a Value),
    /// The part of a live value that a field set contains. A map without fields in the set is an empty one: what is in it
    /// belongs to others. A list is owned as a whole or not at all.
    Owned(&'a Value, &'a Value),
    Map(Vec<(&'a str, Part<'a>)>),
}

impl<'a> Part<'a> {
    /// The part of a live value that these fields of a field set contain.
    pub fn owned(fields: &'a Value, live: &'a Value) -> Self {
        if live.is_object() { Self::Owned(fields, live) } else { Self::Whole(live) }
    }

    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = Sha256::new();
        self.feed(&mut hash);
        let digest = hash.finalize();
        Fingerprint(std::array::from_fn(|index| digest[index]))
    }

    /// Hashes the value. Fields that are null or empty maps are left out, 1 and 1.0 are equal, and order does not matter.
    /// Each part begins with its type and length, so that different values never produce the same input.
    fn feed(&self, hash: &mut Sha256) {
        match self {
            Self::Whole(value) => feed(hash, value),
            Self::Owned(fields, live) => feed_map(hash, owned(fields, live).collect()),
            Self::Map(parts) => {
                feed_map(hash, parts.iter().map(|(name, part)| (*name, Part::of(part))).collect());
            }
        }
    }

    /// Another reference to the same part.
    fn of(part: &'a Part<'a>) -> Self {
        match part {
            Self::Whole(value) => Self::Whole(value),
            Self::Owned(fields, live) => Self::Owned(fields, live),
            Self::Map(parts) => Self::Map(parts.iter().map(|(name, part)| (*name, Self::of(part))).collect()),
        }
    }

    fn is_nothing(&self) -> bool {
        match self {
            Self::Whole(value) => is_nothing(value),
            Self::Owned(fields, live) => owned(fields, live).all(|(_, part)| part.is_nothing()),
            Self::Map(parts) => parts.iter().all(|(_, part)| part.is_nothing()),
        }
    }
}

/// The fields of a live map that a field set contains.
fn owned<'a>(fields: &'a Value, live: &'a Value) -> impl Iterator<Item = (&'a str, Part<'a>)> {
    let named = fields.as_object().into_iter().flatten();
    named.filter_map(|(name, inner)| {
        let name = name.strip_prefix("f:")?;
        Some((name, Part::owned(inner, live.get(name)?)))
    })
}

fn feed(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Null => hash.update(b"n"),
        Value::Bool(value) => hash.update([b'b', u8::from(*value)]),
        Value::Number(number) => {
            hash.update(b"d");
            hash.update(number.as_f64().unwrap_or(f64::NAN).to_bits().to_be_bytes());
        }
        Value::String(text) => feed_text(hash, text),
        Value::Array(items) => {
            hash.update(b"l");
            hash.update((items.len() as u64).to_be_bytes());
            items.iter().for_each(|item| feed(hash, item));
        }
        Value::Object(fields) => {
            feed_map(hash, fields.iter().map(|(name, value)| (name.as_str(), Part::Whole(value))).collect());
        }
    }
}

fn feed_map(hash: &mut Sha256, mut fields: Vec<(&str, Part<'_>)>) {
    fields.retain(|(_, part)| !part.is_nothing());
    fields.sort_unstable_by_key(|(name, _)| *name);
    hash.update(b"m");
    hash.update((fields.len() as u64).to_be_bytes());
    for (name, part) in &fields {
        feed_text(hash, name);
        part.feed(hash);
    }
}

fn feed_text(hash: &mut Sha256, text: &str) {
    hash.update(b"s");
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_nothing),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_part_has_the_fingerprint_of_its_copy() {
        let live = json!({"a": {"b": 1, "c": [1, {"d": null}]}, "e": "x", "g": {"h": {}}, "i": null});
        let fields = json!({"f:a": {"f:c": {}, ".": {}}, "f:e": {}, "f:g": {"f:h": {}}, "f:i": {}, "f:missing": {}, "k:e": {}});
        let copy = json!({"a": {"c": [1, {"d": null}]}, "e": "x"});
        assert_eq!(Part::Owned(&fields, &live).fingerprint(), Part::Whole(&copy).fingerprint());
        let map = Part::Map(vec![("z", Part::Whole(&copy)), ("a", Part::owned(&fields, &live))]);
        assert_eq!(map.fingerprint(), Part::Whole(&json!({"a": copy, "z": copy})).fingerprint());
        assert_ne!(Part::Owned(&fields, &live).fingerprint(), Part::Whole(&live).fingerprint());
        assert_eq!(Part::owned(&fields, &json!([1])).fingerprint(), Part::Whole(&json!([1.0])).fingerprint());
    }
}
