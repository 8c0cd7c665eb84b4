//! Finds fields of a JSON object in its text, without decoding the values: of ten thousand documents that are compared at a
//! start, almost all are equal, and most readers of an object need its status only. Pure.

/// Returns the text of the values of these fields of a JSON object, as far as it has them. `None` if the text is not an
/// object.
pub(super) fn fields<'a, const N: usize>(object: &'a str, names: [&str; N]) -> Option<[Option<&'a str>; N]> {
    let mut found = [None; N];
    let mut rest = space(object).strip_prefix('{')?;
    loop {
        rest = space(rest);
        if rest.starts_with('}') {
            return Some(found);
        }
        let key = string(rest)?;
        let value = space(space(&rest[key..]).strip_prefix(':')?);
        let length = value_length(value)?;
        // A name with an escape is not one of these.
        let name = &rest[1..key - 1];
        if let Some(at) = names.iter().position(|wanted| *wanted == name) {
            found[at] = Some(&value[..length]);
        }
        rest = space(&value[length..]);
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn space(text: &str) -> &str {
    text.trim_start_matches([' ', '\n', '\r', '\t'])
}

/// The length of the string that the text begins with, with its quotes.
fn string(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = bytes.first().filter(|first| **first == b'"').map(|_| 1)?;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The length of the value that the text begins with.
fn value_length(text: &str) -> Option<usize> {
    let (mut at, mut depth) = (0, 0_usize);
    loop {
        match text.as_bytes().get(at)? {
            b'"' => at += string(&text[at..])?,
            b'{' | b'[' => (at, depth) = (at + 1, depth + 1),
            b'}' | b']' => (at, depth) = (at + 1, depth.checked_sub(1)?),
            _ if depth > 0 => at += 1,
            _ => {
                let end = text[at..].find([',', '}', ']', ' ', '\n', '\r', '\t'])?;
                return (end > 0).then_some(at + end);
            }
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a\"\\\\{}\\[\\],: \u{e9}\n]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a\"\\\\{}:]{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_text_of_a_field_is_that_of_its_value(spec in json(), other in json(), is_pretty: bool) {
            let object: Map<String, Value> =
                [("spec", spec.clone()), ("a\"spec", other.clone()), ("z", other)].map(|(key, value)| (key.to_owned(), value)).into_iter().collect();
            let object = Value::Object(object);
            let text = if is_pretty { serde_json::to_string_pretty(&object).expect("a text") } else { object.to_string() };
            let [found, missing] = fields(&text, ["spec", "metadata"]).expect("an object");
            prop_assert_eq!(serde_json::from_str::<Value>(found.expect("a field")).expect("a value"), spec);
            prop_assert_eq!(missing, None);
        }
    }

    #[test]
    fn what_is_no_object_has_no_fields() {
        for text in ["", "1", "[]", "{", "{\"spec\"", "{\"spec\":", "{\"spec\":[", "{\"spec\":\"", "{spec:1}"]
        {
            assert_eq!(fields(text, ["spec"]), None, "{text}");
        }
        assert_eq!(fields("{}", ["spec"]), Some([None]));
        assert_eq!(fields(r#"{"spec":1}"#, ["spec"]), Some([Some("1")]));
        assert_eq!(
            fields(r#" { "a" : [ "}" ] , "spec" : { } } "#, ["a", "spec"]),
            Some([Some(r#"[ "}" ]"#), Some("{ }")])
        );
    }
}
