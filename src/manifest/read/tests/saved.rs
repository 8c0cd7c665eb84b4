//! What a reader has parsed, read by another one: the result is the same, and only what has findings is parsed again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::manifest::{Blobs, Content};

/// Contents by blob ID, and those that were read.
#[derive(Default)]
struct Repository {
    contents: BTreeMap<String, String>,
    read: Mutex<Vec<String>>,
}

impl Blobs for Repository {
    fn read(&self, blob: &str) -> Vec<u8> {
        let content = self.contents[blob].clone();
        lock(&self.read).push(content.clone());
        content.into()
    }
}

/// Files whose contents are read when they are needed.
fn stored(files: &[(&str, &str)]) -> (Arc<Repository>, Vec<SourceFile>) {
    let sources: Vec<_> = files.iter().map(|(path, content)| source(path, content)).collect();
    let contents =
        sources.iter().zip(files).map(|(source, (_, content))| (source.blob.clone(), (*content).to_owned()));
    let repository = Arc::new(Repository { contents: contents.collect(), ..Repository::default() });
    let content = || Content::Stored(repository.clone());
    let files = sources.into_iter().map(|source| SourceFile { content: content(), ..source }).collect();
    (repository, files)
}

/// A reader with a rule that depends on the namespace.
fn reader() -> Reader {
    let rule = |document: &Document| match document.object.key.namespace.as_str() {
        "third" => vec![("metadata.name".to_owned(), "is refused there".to_owned())],
        _ => Vec::new(),
    };
    Reader::new(rule)
}

/// Reads files, in a process that saves what it parsed, and in the next one. Both find the same. Returns the contents
/// that the second process reads.
fn read_twice(before: &[(&str, &str)], now: &[(&str, &str)]) -> Vec<String> {
    let due = reader().read(&stored(now).1);
    let mut first = reader();
    first.read(&stored(before).1);
    let lines: Vec<_> = first.lines().collect();
    assert_eq!(first.read(&stored(now).1), due);
    let mut second = reader();
    second.recall(SavedFiles::of_lines(&mut lines.into_iter()).expect("the lines are valid"));
    let (repository, files) = stored(now);
    assert_eq!(second.read(&files), due);
    assert_eq!(second.read(&files), due, "a later reading finds the same");
    lock(&repository.read).clone()
}

fn builder(name: &str) -> String {
    format!("{BUILDER}  region: us-east-1\n").replace("name: node", &format!("name: {name}"))
}

#[test]
fn what_has_no_findings_is_not_parsed_again() {
    let [one, two, three, changed] = ["one", "two", "three", "changed"].map(builder);
    let several = format!("{one}---\n{two}---\n{REFRESHER}");
    let placed = three.replace("name: three", "name: three\n  namespace: \"other\"");
    let wrong = builder("wrong").replace("region", "regoin");
    let noted = format!("{}status: {{}}\n", builder("noted"));
    let before = [
        ("several.yaml", several.as_str()),
        ("a/placed.yaml", &placed),
        ("a/twice.yaml", &changed),
        ("wrong.yaml", &wrong),
        ("noted.yaml", &noted),
        ("foreign.yaml", "a: 1\n"),
        ("unread.yaml", "a: [\n"),
        ("empty.yaml", ""),
    ];
    let not_saved = ["", "a: 1\n", &noted, "a: [\n", &wrong];
    assert_eq!(read_twice(&before, &before), not_saved);
    let mut edited = before;
    edited[0].1 = &changed;
    edited[2].0 = "moved.yaml";
    edited[2].1 = &three;
    let mut read = read_twice(&before, &edited);
    read.retain(|content| !not_saved.contains(&content.as_str()));
    assert_eq!(read, [three], "{changed} was parsed as another file");
}

#[test]
fn everything_is_parsed_again_in_another_namespace() {
    let [one, two] = ["one", "two"].map(builder);
    let two = two.replace("name: two", "name: two\n  namespace: \"own\"");
    let files = |settings| [("one.yaml", one.as_str()), ("opsy.yaml", settings), ("two.yaml", &two)];
    for settings in ["namespace: second\n", "namespace: third\n"] {
        let mut read = read_twice(&files("namespace: \"other\"\n"), &files(settings));
        read.retain(|content| content != settings);
        assert_eq!(read, [one.as_str(), &two], "{settings}");
    }
}

#[test]
fn each_path_has_its_own_file_even_if_the_contents_are_the_same() {
    let one = builder("one");
    assert_eq!(read_twice(&[("a.yaml", &one)], &[("a.yaml", &one), ("b.yaml", &one)]), [one.as_str()]);
    assert_eq!(read_twice(&[("a.yaml", &one), ("b.yaml", &one)], &[("b.yaml", &one)]), [""; 0]);
}

#[test]
fn a_link_is_not_the_file_that_has_its_content() {
    let one = builder("one");
    let mut first = Reader::default();
    first.read(&[source("a.yaml", &one)]);
    let lines: Vec<_> = first.lines().collect();
    let mut second = Reader::default();
    second.recall(SavedFiles::of_lines(&mut lines.into_iter()).expect("valid"));
    let link = SourceFile { form: Form::Unfit("is a link".to_owned()), ..source("a.yaml", &one) };
    let set = second.read(&[link]);
    assert!(set.documents.is_empty() && !set.complete(), "{set:?}");
}

#[test]
fn other_lines_are_not_taken() {
    let one = builder("one");
    let mut reader = Reader::default();
    reader.read(&[source("a.yaml", &one), source("b.yaml", &builder("two"))]);
    let lines: Vec<_> = reader.lines().collect();
    assert!(lines.iter().all(|line| line.starts_with('{') && !line.contains('\n')), "{lines:?}");
    for other in [&[][..], &["{}"], &["x"], &[&lines[0], "{}"], &[&lines[0], &lines[1]]] {
        let mut other = other.iter().map(|line| (*line).to_owned());
        assert!(SavedFiles::of_lines(&mut other).is_none());
    }
}
