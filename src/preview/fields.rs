//! The fields in which two versions of a manifest differ. Values are left out: a variable of a template can be a secret.
//! Pure.

use serde_json::Value;

/// The deepest path that is shown: `spec.builder.commands` is enough to find the change.
const DEPTH: usize = 3;
/// At most this many fields are named.
const MOST: usize = 8;

/// The paths at which two documents differ.
pub fn differing(before: &Value, after: &Value) -> Vec<String> {
    let mut found = Vec::new();
    differ(before, after, "", 0, &mut found);
    let more = found.len().saturating_sub(MOST);
    found.truncate(MOST);
    if more > 0 {
        found.push(format!("{more} more"));
    }
    found
}

fn differ(before: &Value, after: &Value, path: &str, depth: usize, found: &mut Vec<String>) {
    if before == after {
        return;
    }
    let (Value::Object(one), Value::Object(two), true) = (before, after, depth < DEPTH) else {
        found.push(path.to_owned());
        return;
    };
    let mut names: Vec<&String> = one.keys().chain(two.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
        differ(&of(one), &of(two), &path, depth + 1, found);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_named_without_their_values() {
        let before = json!({"spec": {"region": "a", "builder": {"commands": [1], "dir": "x"}}});
        let after =
            json!({"spec": {"region": "b", "builder": {"commands": [2], "dir": "x"}, "suspend": true}});
        assert_eq!(differing(&before, &after), ["spec.builder.commands", "spec.region", "spec.suspend"]);
        assert_eq!(differing(&before, &before), Vec::<String>::new());
        let many: Value = (0..20).map(|number| (format!("f{number}"), json!(number))).collect();
        let found = differing(&json!({}), &many);
        assert_eq!((found.len(), found.last().map(String::as_str)), (MOST + 1, Some("12 more")));
    }
}
