//! The schemas of both kinds for API servers and editors, from the same Rust types.
//!
//! The derived schemas are cleaned: the operator's definition has no `nullable`, no empty lists of names, and does not
//! require `spec`. Any difference would make GitOps tools report drift permanently. Editors get the same schema, closed
//! against unknown fields.

use std::sync::LazyLock;

use kube::CustomResourceExt;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Number, Value, json};

use super::{AMIRefresher, GROUP, Kind, PackerBuilder, VERSION};

/// The custom resource definitions of both kinds.
static CRDS: LazyLock<[(Kind, Value); 2]> = LazyLock::new(|| {
    [
        (Kind::PackerBuilder, definition(&PackerBuilder::crd())),
        (Kind::AMIRefresher, definition(&AMIRefresher::crd())),
    ]
});

/// Returns the custom resource definitions as they are applied.
pub fn crds() -> &'static [(Kind, Value); 2] {
    &CRDS
}

/// Returns the schema of the `spec` of a kind.
pub fn spec(kind: Kind) -> &'static Value {
    &object(kind)["properties"]["spec"]
}

/// Returns the schema with which an editor validates a manifest.
pub fn editor(kind: Kind) -> Value {
    let text = json!({"type": "string"});
    let texts = json!({"type": "object", "additionalProperties": text});
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.to_string(),
        "description": object(kind)["description"],
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": format!("{GROUP}/{VERSION}")},
            "kind": {"const": kind.to_string()},
            "metadata": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": text, "namespace": text, "labels": texts, "annotations": texts},
            },
            "spec": spec(kind),
        },
    });
    closed(schema)
}

/// Returns the schema of any type, in one piece and cleaned like the definitions.
pub fn of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    cleaned(settings.into_generator().into_root_schema_for::<T>().to_value())
}

/// Returns the schema with all unknown fields refused.
pub fn closed(schema: Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let mut fields: Map<_, _> =
                fields.into_iter().map(|(name, value)| (name, closed(value))).collect();
            if fields.get("properties").is_some_and(is_schema_map) {
                fields.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            Value::Object(fields)
        }
        Value::Array(items) => items.into_iter().map(closed).collect(),
        other => other,
    }
}

/// Returns whether this is the map of an object's fields, rather than a field with the name `properties`.
fn is_schema_map(value: &Value) -> bool {
    value.as_object().is_some_and(|fields| fields.values().all(Value::is_object))
}

fn object(kind: Kind) -> &'static Value {
    let found = CRDS.iter().find(|(of, _)| *of == kind);
    let (_, crd) = found.expect("CRDS has an entry for each of the two kinds");
    &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

fn definition(crd: &impl serde::Serialize) -> Value {
    let derived = serde_json::to_value(crd).expect("a definition has string keys only");
    let mut crd = cleaned(derived);
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    if let Some(fields) = schema.as_object_mut() {
        fields.remove("required");
    }
    crd
}

/// Removes nulls: `nullable`, null as a type or as a value of an enum, and empty lists of names.
fn cleaned(schema: Value) -> Value {
    match schema {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(name, value)| !is_noise(name, value))
            .map(|(name, value)| {
                let value =
                    if matches!(name.as_str(), "type" | "enum") { without_null(value) } else { value };
                (name, cleaned(value))
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(items) => items.into_iter().map(cleaned).collect(),
        Value::Number(number) => Value::Number(whole(number)),
        other => other,
    }
}

/// Returns a bound that is a whole number without the derived `.0`.
fn whole(number: Number) -> Number {
    let float = number
        .as_f64()
        .filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < f64::from(i32::MAX));
    float.map_or(number.clone(), |float| Number::from(float as i64))
}

fn is_noise(name: &str, value: &Value) -> bool {
    let empty = value.as_array().is_some_and(Vec::is_empty);
    match name {
        "nullable" => value.is_boolean(),
        "categories" | "shortNames" => empty,
        "default" => value.is_null(),
        _ => false,
    }
}

/// Removes null from a list of types or values. A list with one type becomes that type.
fn without_null(value: Value) -> Value {
    let Value::Array(items) = value else { return value };
    let is_type = items.iter().any(|item| item == "null");
    let mut kept: Vec<Value> = items.into_iter().filter(|item| !item.is_null() && item != "null").collect();
    if is_type && kept.len() == 1 { kept.remove(0) } else { Value::Array(kept) }
}

#[cfg(test)]
mod tests;
