//! The schemas in the repository are those that `opsy crds` writes, and they reject unknown fields.

use std::path::Path;

use super::*;

#[test]
fn the_schemas_in_the_repository_are_up_to_date() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    for (name, text) in files().unwrap() {
        let there = fs::read_to_string(folder.join(&name)).unwrap_or_default();
        assert!(there == text, "schemas/{name} is out of date: run `opsy crds --dir schemas`");
    }
}

#[test]
fn editors_refuse_unknown_fields_everywhere() {
    // The output of a command has no author, and new fields may be added to it.
    let is_for_editors = |name: &str| name.ends_with(".json") && !["check.json", "plan.json"].contains(&name);
    for (name, text) in files().unwrap().into_iter().filter(|(name, _)| is_for_editors(name)) {
        let schema: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(schema["additionalProperties"], false, "{name}");
        let mut open = Vec::new();
        find_open(&schema, "", &mut open);
        assert_eq!(open, Vec::<String>::new(), "{name}");
    }
}

/// Finds objects with fields whose schema does not restrict additional fields.
fn find_open(schema: &Value, path: &str, open: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                open.push(path.to_owned());
            }
            for (name, value) in fields {
                find_open(value, &format!("{path}/{name}"), open);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| find_open(item, path, open)),
        _ => {}
    }
}
