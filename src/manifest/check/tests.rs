use super::rules::{has_credentials, is_label, is_object_name, leaves};
use super::*;

#[test]
fn names_and_labels() {
    for (name, object, label) in [
        ("a", true, true),
        ("a-1", true, true),
        ("a.b", true, false),
        ("-a", false, false),
        ("a-", false, false),
        ("A", false, false),
        ("", false, false),
        ("a..b", false, false),
    ] {
        assert_eq!((is_object_name(name), is_label(name)), (object, label), "{name:?}");
    }
    assert!(is_object_name(&"a".repeat(253)) && !is_object_name(&"a".repeat(254)));
    assert!(is_label(&"a".repeat(63)) && !is_label(&"a".repeat(64)));
}

#[test]
fn paths_that_leave() {
    for path in ["..", "a/../b", "/a", "a\\b", "a\0b"] {
        assert!(leaves(path).is_some(), "{path:?}");
    }
    for path in [".", "a", "a/b.c", "a..b", "./a", "a/"] {
        assert!(leaves(path).is_none(), "{path:?}");
    }
}

#[test]
fn credentials() {
    for url in ["http://u@h/", "https://u:p@h/x?y#z", "ssh://u:p@h"] {
        assert!(has_credentials(url), "{url}");
    }
    for url in ["https://h/x@y", "ssh://git@h/x", "git@h:x", "https://h?u@x", "../x"] {
        assert!(!has_credentials(url), "{url}");
    }
}

#[test]
fn the_closest_name_wins_and_far_ones_are_not_offered() {
    let names = ["region", "clusterName", "repoURL", "branch"];
    for (text, meant) in [
        ("regoin", Some("region")),
        ("repourl", Some("repoURL")),
        ("clustername", Some("clusterName")),
        ("xyz", None),
    ] {
        assert_eq!(closest(text, names.into_iter()), meant, "{text}");
    }
}
