//! How the schema of an installed definition differs from that of this program. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

/// Keys of a schema that decide nothing.
const IGNORED: [&str; 1] = ["description"];
const FIELDS: &str = "properties";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// Returns the differences, each as a path and what differs there. Descriptions are not compared.
pub fn differences(path: &str, ours: &Value, installed: &Value) -> Vec<String> {
    let (Some(own), Some(other)) = (ours.as_object(), installed.as_object()) else {
        return if ours == installed { Vec::new() } else { vec![format!("{path} differs")] };
    };
    let keys: BTreeSet<&String> = own.keys().chain(other.keys()).collect();
    // The API server writes this alternative itself.
    let is_implied = |key: &str| key == "anyOf" && own.contains_key(INT_OR_STRING);
    let compared = keys.into_iter().filter(|key| !IGNORED.contains(&key.as_str()) && !is_implied(key));
    let compare = |key: &String| match (own.get(key), other.get(key)) {
        (ours, installed) if ours == installed => Vec::new(),
        (ours, installed) if key == FIELDS => {
            let empty = Value::Object(serde_json::Map::new());
            fields(path, ours.unwrap_or(&empty), installed.unwrap_or(&empty))
        }
        (Some(ours @ Value::Object(_)), Some(installed @ Value::Object(_))) => {
            differences(&format!("{path}[]"), ours, installed)
        }
        _ => vec![format!("{path} differs in {key}")],
    };
    compared.flat_map(compare).collect()
}

fn fields(path: &str, ours: &Value, installed: &Value) -> Vec<String> {
    let names = |schema: &Value| -> BTreeSet<String> {
        schema.as_object().into_iter().flat_map(|fields| fields.keys().cloned()).collect()
    };
    let (own, other) = (names(ours), names(installed));
    let compare = |name: &String| {
        let path = format!("{path}.{name}");
        match (own.contains(name), other.contains(name)) {
            (true, true) => differences(&path, &ours[name], &installed[name]),
            (true, false) => vec![format!("{path} is not in the cluster")],
            _ => vec![format!("{path} is only in the cluster")],
        }
    };
    own.union(&other).flat_map(compare).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_is_named_by_its_path_and_descriptions_are_not_compared() {
        let ours = json!({"type": "object", "description": "new", "properties": {
            "region": {"type": "string", "maxLength": 32},
            "waves": {"type": "array", "items": {"type": "object", "properties": {"soak": {"type": "string"}}}},
            "same": {"type": "string", "description": "a"},
            "limit": {"x-kubernetes-int-or-string": true},
        }});
        let installed = json!({"type": "object", "description": "old", "properties": {
            "region": {"type": "string"},
            "waves": {"type": "array", "items": {"type": "object", "properties": {}}},
            "same": {"type": "string", "description": "b"},
            "limit": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "old": {"type": "string"},
        }});
        let expected = [
            "spec.old is only in the cluster",
            "spec.region differs in maxLength",
            "spec.waves[].soak is not in the cluster",
        ];
        assert_eq!(differences("spec", &ours, &installed), expected);
        assert_eq!(differences("spec", &ours, &ours), Vec::<String>::new());
    }
}
