//! Plain scalars: how the YAML 1.2 core schema reads a string without quotes.

use serde_json::{Number, Value as Json};

/// Resolves a plain scalar with the YAML 1.2 core schema.
pub fn resolve(text: &str) -> Json {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Json::Null,
        "true" | "True" | "TRUE" => Json::Bool(true),
        "false" | "False" | "FALSE" => Json::Bool(false),
        _ => number(text).map_or_else(|| Json::String(text.to_owned()), Json::Number),
    }
}

/// Parses a number of the core schema. Infinities and "not a number" stay strings, since JSON does not have them.
fn number(text: &str) -> Option<Number> {
    if let Some(digits) = text.strip_prefix("0x") {
        return i64::from_str_radix(digits, 16).ok().map(Number::from);
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return i64::from_str_radix(digits, 8).ok().map(Number::from);
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let digit = |c: char| c.is_ascii_digit();
    if !unsigned.starts_with(|c| digit(c) || c == '.') || !unsigned.contains(digit) {
        return None;
    }
    if unsigned.chars().all(digit) {
        let whole = text.parse::<i64>().ok().map(Number::from);
        return whole.or_else(|| text.parse().ok().and_then(Number::from_f64));
    }
    let float = unsigned.chars().all(|c| digit(c) || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    float.then(|| text.parse().ok().and_then(Number::from_f64)).flatten()
}

/// Returns the core schema's name for the type of a resolved scalar.
pub fn kind_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "bool",
        Json::Number(number) if number.is_f64() => "float",
        Json::Number(_) => "int",
        _ => "str",
    }
}
