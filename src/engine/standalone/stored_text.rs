//! The stored state of an object as JSON text. At a start, the states of all objects are read, and of almost all of them only
//! the text is kept and compared: a tree of each value would be most of the work. Pure.

use std::fmt;

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::api::{GROUP, ObjectKey, VERSION};
use crate::engine::json_text::fields;

/// The same as `Stored`, with its values as text.
pub(super) struct StoredText<'a> {
    pub fixed: Fixed,
    spec: &'a str,
    annotations: Option<&'a str>,
    labels: Option<&'a str>,
    pub status: Option<&'a str>,
}

/// What has the same form for all objects. The other fields are read to learn whether they are valid.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fixed {
    pub generation: i64,
    pub version: u64,
    #[serde(rename = "spec")]
    _spec: Valid,
    #[serde(rename = "annotations", default)]
    _annotations: Valid,
    #[serde(rename = "labels", default)]
    _labels: Valid,
    #[serde(rename = "status", default)]
    _status: Valid,
    #[serde(default)]
    pub file: Option<String>,
    pub created: Timestamp,
    #[serde(default)]
    pub name: Option<String>,
}

impl<'a> StoredText<'a> {
    /// Reads the content of a file.
    ///
    /// # Errors
    /// It is not valid.
    pub fn read(text: &'a str) -> serde_json::Result<Self> {
        let fixed = serde_json::from_str(text)?;
        let found = fields(text, ["spec", "annotations", "labels", "status"]);
        let found = found.ok_or_else(|| serde_json::Error::custom("it is not an object"))?;
        let [spec, annotations, labels, status] = found;
        let spec = spec.ok_or_else(|| serde_json::Error::missing_field("spec"))?;
        let [annotations, labels, status] =
            [annotations, labels, status].map(|value| value.filter(|value| *value != "null"));
        Ok(Self { fixed, spec, annotations, labels, status })
    }

    /// The document of the object, as `rebuilt` makes it.
    pub fn document(&self, object: &ObjectKey) -> String {
        let ObjectKey { kind, key } = object;
        let [name, namespace] = [&key.name, &key.namespace]
            .map(|text| serde_json::to_string(text).expect("a string can be written as JSON"));
        let mut metadata = String::new();
        for (field, value) in [("annotations", self.annotations), ("labels", self.labels)] {
            if let Some(value) = value {
                metadata += &format!(r#""{field}":{value},"#);
            }
        }
        let spec = self.spec;
        format!(
            r#"{{"apiVersion":"{GROUP}/{VERSION}","kind":"{kind}","metadata":{{{metadata}"name":{name},"namespace":{namespace}}},"spec":{spec}}}"#
        )
    }
}

/// A value from which a tree can be made.
#[derive(Default)]
struct Valid;

impl<'de> Deserialize<'de> for Valid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Valid {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{Key, Kind};
    use crate::engine::standalone::object::{Declared, Stored, rebuilt};

    fn object(kind: Kind, name: &str) -> ObjectKey {
        ObjectKey { kind, key: Key { namespace: "default".to_owned(), name: name.to_owned() } }
    }

    #[test]
    fn what_is_read_as_text_is_what_was_stored() {
        let maps = [json!(null), json!({}), json!({"b\"\\": "1", "a": "{\u{e9}\n}"})];
        for (annotations, labels) in maps.iter().zip(maps.iter().rev()) {
            for status in [json!(null), json!({"state": "FlightChecks", "images": [], "n": [1.5, -2, true]})]
            {
                let stored = Stored {
                    generation: 3,
                    version: 7,
                    spec: json!({"region": "us-east-1", "builder": {"commands": [{"subCommand": "build"}]}}),
                    annotations: annotations.clone(),
                    labels: labels.clone(),
                    status: status.clone(),
                    file: Some("a/\"b\".yaml".to_owned()),
                    ..Stored::default()
                };
                let text = serde_json::to_string(&stored).expect("a text");
                let read = StoredText::read(&text).expect("it is valid");
                let Fixed { generation, version, ref file, created, ref name, .. } = read.fixed;
                assert_eq!((generation, version, created), (3, 7, stored.created));
                assert_eq!((file, name), (&stored.file, &stored.name));
                assert_eq!(
                    read.status.map(str::to_owned),
                    Some(status.to_string()).filter(|text| text != "null")
                );
                for object in [object(Kind::PackerBuilder, "a"), object(Kind::AMIRefresher, "\"b\u{e9}")] {
                    let Stored { spec, annotations, labels, .. } = stored.clone();
                    let due = rebuilt(&object, Declared { spec, annotations, labels }, None);
                    assert_eq!(read.document(&object), due.to_string());
                }
            }
        }
    }

    #[test]
    fn what_no_tree_can_be_made_of_is_not_valid() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let values = ["{", "[1,]", "{\"a\"}", "1e999", "\"\\ud800\"", "\"\\x\"", "nul", deep.as_str()];
        let all = [("1", true), ("{\"a\":[null,1e9,\"\\ud83d\\ude00\"]}", true)].into_iter();
        for (value, is_valid) in all.chain(values.map(|value| (value, false))) {
            assert_eq!(serde_json::from_str::<Value>(value).is_ok(), is_valid, "{value}");
            for field in ["spec", "annotations", "labels", "status", "other"] {
                let fields = ["spec", "other"].map(|name| (name, if name == field { value } else { "1" }));
                let fields = fields.into_iter().chain(
                    [(field, value)].into_iter().filter(|(name, _)| !["spec", "other"].contains(name)),
                );
                let fields: Vec<_> = fields.map(|(name, value)| format!("\"{name}\":{value}")).collect();
                let text = format!(
                    r#"{{"generation":1,"version":1,"created":"2026-03-01T12:00:00Z",{}}}"#,
                    fields.join(",")
                );
                let is_checked = field != "other" || serde_json::from_str::<Value>(&text).is_ok();
                if is_checked {
                    assert_eq!(StoredText::read(&text).is_ok(), is_valid, "{text}");
                }
            }
        }
        for text in
            ["", "[]", "{}", "[1,1,1]", r#"{"generation":1,"version":1,"created":"2026-03-01T12:00:00Z"}"#]
        {
            assert!(StoredText::read(text).is_err(), "{text}");
        }
    }
}
