//! Many files together: neighbours, duplicates, files of others, what is remembered between commits.

use proptest::prelude::*;

use super::*;

#[test]
fn neighbours_of_a_broken_object_are_kept() {
    let good = format!("{BUILDER}  region: us-east-1\n");
    let bad = good.replace("name: node", "name: bad").replace("region", "regoin");
    let broken = "apiVersion: ami.opsy.dev/v1alpha1\nkind: [PackerBuilder\n";
    let other = good.replace("name: node", "name: other");
    let set =
        read(&[("a.yaml", &format!("{good}---\n{bad}---\n{broken}---\n{other}")), ("b.yaml", REFRESHER)]);
    let names: Vec<_> = set.documents.iter().map(|document| document.object.key.name.as_str()).collect();
    assert_eq!(names, ["node", "other", "demo"]);
    assert!(!set.complete());
    assert_eq!(set.problems.len(), 2, "{:?}", lines(&set));
}

#[test]
fn of_an_object_that_is_there_twice_neither_is_taken() {
    let one = format!("{BUILDER}  region: us-east-1\n");
    let elsewhere = one.replace("name: node", "name: node\n  namespace: other");
    let set = read(&[
        ("a.yaml", &one),
        ("b.yaml", &format!("# same\n{one}")),
        ("c.yaml", &elsewhere),
        ("d.yaml", REFRESHER),
    ]);
    assert_eq!(
        lines(&set),
        ["b.yaml:2: PackerBuilder/default/node is already at a.yaml:1; neither is taken"]
    );
    let kept: Vec<_> = set.documents.iter().map(|document| document.object.to_string()).collect();
    assert_eq!(kept, ["PackerBuilder/other/node", "AMIRefresher/default/demo"]);
    let same_name = read(&[("opsy.yaml", "namespace: other"), ("a.yaml", &one), ("c.yaml", &elsewhere)]);
    assert!(!same_name.complete(), "the namespace of opsy.yaml makes them the same");
}

#[test]
fn files_of_others_are_ignored_with_a_note() {
    let set = read(&[
        ("comment.yaml", "# nothing\n"),
        ("config.yaml", "apiVersion: v1\nkind: ConfigMap\na: 1\na: 2\n"),
        ("packer/x/cloud-init.yml", "packages: [vim]\n"),
        ("packer/x/template.yaml", "{{ if }}: [\n"),
        ("status/default/packerbuilders/node.yaml", "not: [read"),
        ("README.md", "x"),
    ]);
    assert_eq!(
        lines(&set),
        [
            "note config.yaml:1: ConfigMap is not ours: ignored",
            "note packer/x/cloud-init.yml:1: has no apiVersion and kind, so it is no object: ignored",
            "note packer/x/template.yaml:1: is not valid YAML: unclosed bracket '['; it does not mention ami.opsy.dev: ignored",
        ]
    );
    assert!(set.complete());
}

#[test]
fn unreadable_files_of_ours_are_errors() {
    let mut files = vec![source("large.yaml", &format!("# ami.opsy.dev\n{}", "#".repeat(MAX_FILE_BYTES)))];
    files.push(SourceFile { content: b"kind: PackerBuilder \xff".to_vec(), ..source("latin.yaml", "") });
    let set = Reader::default().read(&files);
    assert_eq!(
        lines(&set),
        [
            "large.yaml:1: has more than 1048576 bytes and is not read",
            "latin.yaml:1: is not UTF-8 text and is not read"
        ]
    );
}

#[test]
fn a_file_is_parsed_once_per_blob() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let mut reader = Reader::new(|_| {
        CALLS.fetch_add(1, Ordering::Relaxed);
        Vec::new()
    });
    let first = reader.read(&[source("a.yaml", REFRESHER)]);
    assert_eq!(
        reader.read(&[source("a.yaml", REFRESHER), source("opsy.yaml", "namespace: default")]).documents,
        first.documents
    );
    assert_eq!(CALLS.load(Ordering::Relaxed), 1);
    reader.read(&[source("a.yaml", &REFRESHER.replace("demo", "other"))]);
    assert_eq!(CALLS.load(Ordering::Relaxed), 2);
    assert_eq!(reader.parsed.len(), 1, "what is gone is forgotten");
}

#[test]
fn rules_of_others_are_reported_with_their_line() {
    let mut reader = Reader::new(|document| match document.json.value()["spec"].get("failurePolicy") {
        Some(_) => vec![("spec.failurePolicy.limit".to_owned(), "is no number of failures".to_owned())],
        None if document.object.key.name == "demo" => Vec::new(),
        None => vec![("spec.builder.dir".to_owned(), "is needed".to_owned())],
    });
    let bad = format!("{BUILDER}  builder:\n    branch: x\n    dir: d\n");
    let none = BUILDER.replace("node", "none") + "  failurePolicy: {limit: 0}\n";
    let set = reader.read(&[source("a.yaml", &bad), source("b.yaml", REFRESHER), source("c.yaml", &none)]);
    assert_eq!(
        lines(&set),
        [
            "a.yaml:8: spec.builder.dir: is needed",
            "c.yaml:6: spec.failurePolicy.limit: 0 is out of bounds: the least is 1"
        ],
        "a field is named once"
    );
    assert_eq!(set.documents.len(), 1);
}

proptest! {
    #[test]
    fn no_text_panics(text in "(apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: \\{name: x\\}\nspec:\n)?[ -~\n]{0,120}") {
        read(&[("a.yaml", &text), ("opsy.yaml", &text)]);
    }
}
