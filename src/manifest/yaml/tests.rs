//! YAML as people write it: lines of fields, scalars, anchors, and what is refused.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn one(text: &str) -> Parsed {
    let mut stream = parse(text);
    assert_eq!(stream.broken, [], "{text}");
    assert_eq!(stream.documents.len(), 1, "{text}");
    stream.documents.remove(0)
}

#[test]
fn plain_scalars_follow_the_core_schema_and_quoted_ones_are_text() {
    for (text, json) in [
        ("yes", json!("yes")),
        ("on", json!("on")),
        ("true", json!(true)),
        ("FALSE", json!(false)),
        ("~", json!(null)),
        ("''", json!("")),
        ("12", json!(12)),
        ("-7", json!(-7)),
        ("0x1F", json!(31)),
        ("0o17", json!(15)),
        ("1.5", json!(1.5)),
        ("1e3", json!(1000.0)),
        ("1.31", json!(1.31)),
        ("1.2.3", json!("1.2.3")),
        ("2025-01-01", json!("2025-01-01")),
        ("1_000", json!("1_000")),
        ("12h", json!("12h")),
        (".", json!(".")),
        (".inf", json!(".inf")),
        ("\"12\"", json!("12")),
        ("'true'", json!("true")),
        ("!!str 12", json!("12")),
        ("99999999999999999999", json!(99999999999999999999.0)),
        ("|\n  a\n  b\n", json!("a\nb\n")),
    ] {
        assert_eq!(one(&format!("k: {text}")).root.entry("k").unwrap().value.json(), json, "{text}");
    }
}

#[test]
fn every_field_knows_its_line() {
    let root = one("# head\nspec:\n  a: 1\n\n  list:\n    - x: 1\n    -\n      y: 2\n").root;
    assert_eq!(root.line_of("spec"), 2);
    assert_eq!(root.line_of("spec.a"), 3);
    assert_eq!(root.line_of("spec.list"), 5);
    assert_eq!(root.line_of("spec.list[0]"), 6);
    assert_eq!(root.line_of("spec.list[1].y"), 8);
    assert_eq!(root.line_of("spec.list[1].missing.deeper"), 8);
    assert_eq!(root.line_of("nothing"), 2);
}

#[test]
fn anchors_aliases_and_merge_keys_are_resolved() {
    let root = one("base: &b {x: 1, y: 1}\nother: &o {y: 5, z: 5}\none:\n  <<: *b\n  y: 2\ntwo:\n  <<: [*b, *o]\nlist: [*b]\nquoted:\n  '<<': text\n").root;
    assert_eq!(
        root.json(),
        json!({
            "base": {"x": 1, "y": 1}, "other": {"y": 5, "z": 5}, "one": {"x": 1, "y": 2},
            "two": {"x": 1, "y": 1, "z": 5}, "list": [{"x": 1, "y": 1}], "quoted": {"<<": "text"},
        })
    );
    assert_eq!(root.line_of("one.x"), 1, "a merged field is where it is written");
}

#[test]
fn nulls_in_maps_are_absent() {
    assert_eq!(one("a: null\nb: {c: ~, d: [null]}\n").root.json(), json!({"b": {"d": [null]}}));
}

#[test]
fn duplicate_keys_name_both_lines() {
    let parsed = one("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n");
    assert_eq!(parsed.complaints, [(5, "duplicate key `c`: it is already on line 3".to_owned())]);
}

#[test]
fn odd_keys_and_merges_are_complaints() {
    for (text, line, words) in [
        ("? [a]\n: 1\n", 1, "a key must be a string"),
        ("a: 1\n<<: 5\n", 2, "`<<` merges maps"),
        ("a: &x [*x]\n", 1, "a value that contains it"),
        ("a: !!int hello\n", 1, "!!int"),
    ] {
        let complaints = one(text).complaints;
        assert_eq!(complaints.len(), 1, "{text}: {complaints:?}");
        assert_eq!(complaints[0].0, line, "{text}");
        assert!(complaints[0].1.contains(words), "{complaints:?}");
    }
}

#[test]
fn foreign_tags_are_kept_for_the_check() {
    let root = one("a: !vault |\n  x\nb: ! 12\n").root;
    assert_eq!(root.get("a").unwrap().tag.as_deref(), Some("!vault"));
    assert_eq!(root.get("b").unwrap().tag, None);
}

#[test]
fn a_broken_document_spares_its_neighbours() {
    let stream = parse("a: 1\n---\nb: [1,\n---\nc: 3\n");
    let read: Vec<_> = stream.documents.iter().map(|parsed| parsed.root.json()).collect();
    assert_eq!(read, [json!({"a": 1}), json!({"c": 3})]);
    assert_eq!(stream.broken.len(), 1);
    assert!(!stream.broken[0].1.is_empty(), "the message of the parser");
}

#[test]
fn breakage_has_a_line() {
    for (text, line) in [("a: 1\n b: 2\n", 2), ("a: 'x\nb: 1\n", 1), ("a: *missing\n", 1)] {
        let broken = parse(text).broken;
        assert!(!broken.is_empty(), "{text:?}");
        assert!(broken[0].0 >= line, "{text:?}: {broken:?}");
    }
}

#[test]
fn alias_bombs_and_deep_nesting_are_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let previous = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{previous}]\n"));
    }
    assert!(parse(&bomb).broken[0].1.contains("more than 100000 values"));
    let mut chain = "a0: &a0 x\n".to_owned();
    for level in 1..60 {
        chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    assert!(parse(&chain).broken[0].1.contains("levels deep"), "{:?}", parse(&chain).broken);
    assert!(!parse(&"[".repeat(10_000)).broken.is_empty());
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "[ -~\n\t\u{e9}]{0,200}") {
        let stream = parse(&text);
        for parsed in &stream.documents {
            let _ = parsed.root.json();
        }
    }

    #[test]
    fn yaml_like_text_is_read_without_panic(parts in proptest::collection::vec(
        prop_oneof!["- ", "\n", "  ", "a: ", "b", "\\[", "\\]", "\\{", "\\}", "&x ", "\\*x", "<<: ", "\\|\n", "'", "\"", "---\n", "# ", "!t ", "\\? "], 0..60)) {
        let _ = parse(&parts.concat());
    }
}
