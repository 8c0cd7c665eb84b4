//! Strict validation: checks a tree against a schema and reports every finding with its line.
//!
//! The schemas are the ones that API servers and editors get, so all three agree. The reconcilers' specs check what a
//! schema cannot express (durations, regions, paths), and `notes` reports what is valid but probably a mistake.

use std::fmt;

use serde_json::Value as Json;

use crate::api::checks::closest;

use super::Severity;
use super::yaml::{Entry, Node, Scalar, Value};

pub mod annotations;
pub mod notes;

/// Values that YAML 1.1 reads as booleans and YAML 1.2 as strings.
const OLD_BOOLEANS: [&str; 6] = ["yes", "no", "on", "off", "y", "n"];

/// A finding at a line of a file that the caller knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub line: usize,
    pub message: String,
    pub severity: Severity,
}

/// Maximum length of a message, which may quote a key or a value of a megabyte.
const MESSAGE: usize = 600;

impl Finding {
    pub fn error(line: usize, message: impl Into<String>) -> Self {
        Self::new(line, message, Severity::Error)
    }

    pub fn note(line: usize, message: impl Into<String>) -> Self {
        Self::new(line, message, Severity::Note)
    }

    pub fn foreign(line: usize, message: impl Into<String>) -> Self {
        Self::new(line, message, Severity::Foreign)
    }

    fn new(line: usize, message: impl Into<String>, severity: Severity) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(MESSAGE) {
            message.truncate(end);
            message.push('…');
            message.shrink_to_fit();
        }
        Self { line, message, severity }
    }
}

/// The path of a value. It is written only if there is a finding, which most values do not have.
#[derive(Clone, Copy)]
enum Place<'a> {
    Root(&'a str),
    Field(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(path) => f.write_str(path),
            Self::Field(Place::Root(""), key) => f.write_str(key),
            Self::Field(place, key) => write!(f, "{place}.{key}"),
            Self::Item(place, index) => write!(f, "{place}[{index}]"),
        }
    }
}

/// Checks a value against a schema. `path` is the path of the value, and `line` the line of its key.
pub fn against(node: &Node, schema: &Json, path: &str, line: usize, found: &mut Vec<Finding>) {
    value(node, schema, Place::Root(path), line, found);
}

fn value(node: &Node, schema: &Json, place: Place<'_>, line: usize, found: &mut Vec<Finding>) {
    let at = |words: &str| at(&place.to_string(), words);
    if let Some(tag) = &node.tag {
        found.push(Finding::error(node.line, at(&format!("the YAML tag {tag} is not supported"))));
        return;
    }
    match (schema["type"].as_str(), &node.value) {
        (Some("object"), Value::Map(entries)) => map(entries, schema, place, line, found),
        (Some("array"), Value::List(items)) => {
            for (index, item) in items.iter().enumerate() {
                value(item, &schema["items"], Place::Item(&place, index), item.line, found);
            }
        }
        (Some(due), Value::Scalar(scalar)) => {
            let severity = mismatch(due, scalar).or_else(|| out_of_bounds(schema, scalar));
            let severity = severity.or_else(|| not_one_of(schema, scalar));
            if let Some((severity, words)) = severity {
                found.push(Finding::new(line, at(&words), severity));
            }
        }
        (Some(due), other) => {
            let words = format!("must be {}, but is {}", spoken(due), shape(other));
            found.push(Finding::error(line, at(&words)));
        }
        (None, _) => {}
    }
}

/// Returns a message about a field. The root has no path.
fn at(path: &str, words: &str) -> String {
    if path.is_empty() { words.to_owned() } else { format!("{path}: {words}") }
}

fn map(entries: &[Entry], schema: &Json, place: Place<'_>, line: usize, found: &mut Vec<Finding>) {
    let known = schema["properties"].as_object();
    for entry in entries {
        let field = known.and_then(|known| known.get(&entry.key));
        let rest = Some(&schema["additionalProperties"]).filter(|rest| rest.is_object());
        match field.or(rest) {
            Some(_) if entry.value.is_null() => {}
            Some(schema) => value(&entry.value, schema, Place::Field(&place, &entry.key), entry.line, found),
            None => found.push(Finding::error(entry.line, unknown(&entry.key, &place.to_string(), schema))),
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Json::as_str) {
        if !entries.iter().any(|entry| entry.key == name && !entry.value.is_null()) {
            let place = Place::Field(&place, name).to_string();
            found.push(Finding::error(line, at(&place, "is required but missing")));
        }
    }
}

/// Returns the message about an unknown field, with the name that was probably meant.
pub fn unknown(key: &str, path: &str, schema: &Json) -> String {
    let place = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let fields = schema["properties"].as_object();
    let names = fields.into_iter().flatten().map(|(name, _)| name.as_str());
    if let Some(name) = closest(key, names) {
        return format!("{place}: unknown field; did you mean `{name}`?");
    }
    let deeper = fields.into_iter().flatten().find(|(_, inner)| inner["properties"].get(key).is_some());
    match deeper {
        Some((name, _)) => format!("{place}: unknown field here; it belongs under `{name}`"),
        None => format!("{place}: unknown field"),
    }
}

/// Returns why a scalar does not have the expected type.
fn mismatch(due: &str, scalar: &Scalar) -> Option<(Severity, String)> {
    let raw = &scalar.raw;
    let old_boolean = scalar.plain && OLD_BOOLEANS.iter().any(|word| raw.eq_ignore_ascii_case(word));
    let error = |words: String| Some((Severity::Error, words));
    match (due, &scalar.json) {
        ("string", Json::String(_)) if old_boolean => {
            let words = format!("`{raw}` is a string here, but a boolean in YAML 1.1; quote it");
            Some((Severity::Note, words))
        }
        ("string", Json::String(_)) | ("boolean", Json::Bool(_)) | ("number", Json::Number(_)) => None,
        ("integer", Json::Number(number)) if !number.is_f64() => None,
        ("string", Json::Number(_)) => {
            error(format!("must be a string, but {raw} is a number; quote it: \"{raw}\""))
        }
        ("string", Json::Bool(_)) => {
            error(format!("must be a string, but {raw} is a boolean; quote it: \"{raw}\""))
        }
        ("boolean", Json::String(_)) if old_boolean => {
            error(format!("`{raw}` is a boolean in YAML 1.1 only; write true or false"))
        }
        ("boolean" | "integer" | "number", Json::String(text)) if !scalar.plain => {
            error(format!("must be {}, but {text:?} is a string; remove the quotes", spoken(due)))
        }
        (due, Json::Null) => error(format!("must be {}, but is empty", spoken(due))),
        (due, _) => error(format!("must be {}, but is `{raw}`", spoken(due))),
    }
}

fn not_one_of(schema: &Json, scalar: &Scalar) -> Option<(Severity, String)> {
    let values = schema["enum"].as_array().filter(|values| !values.contains(&scalar.json))?;
    let names: Vec<&str> = values.iter().filter_map(Json::as_str).collect();
    Some((Severity::Error, format!("{:?} must be one of {}", scalar.raw, names.join(", "))))
}

fn out_of_bounds(schema: &Json, scalar: &Scalar) -> Option<(Severity, String)> {
    let number = scalar.json.as_f64()?;
    let words = |bound: &Json, side: &str| {
        format!("{} is out of range: {side} is {}", scalar.raw, bound.as_f64().unwrap_or_default())
    };
    let low = &schema["minimum"];
    if low.as_f64().is_some_and(|low| number < low) {
        return Some((Severity::Error, words(low, "the minimum")));
    }
    let high = &schema["maximum"];
    if high.as_f64().is_some_and(|high| number > high) {
        return Some((Severity::Error, words(high, "the maximum")));
    }
    let int32 = schema["format"] == "int32" && i32::try_from(scalar.json.as_i64()?).is_err();
    int32.then(|| (Severity::Error, format!("{} is too large", scalar.raw)))
}

fn spoken(due: &str) -> &'static str {
    match due {
        "string" => "a string",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "array" => "a list",
        _ => "a map",
    }
}

fn shape(value: &Value) -> &'static str {
    match value {
        Value::Scalar(_) => "a single value",
        Value::List(_) => "a list",
        Value::Map(_) => "a map",
    }
}
