//! What one process has parsed, the next one need not read. It finds the same objects and the same problems.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use super::*;
use crate::manifest::{Blobs, Content, KeptLines};

/// Lines in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<String>>>);

impl Memory {
    fn lines(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").clone()
    }
}

impl KeptLines for Memory {
    fn read(&self, each: &mut dyn FnMut(&str)) {
        self.lines().iter().for_each(|line| each(line));
    }
    fn replace(&self, lines: &mut dyn Iterator<Item = String>) {
        *self.0.lock().expect("not poisoned") = lines.collect();
    }
}

/// The contents of a commit, and the blobs that were read.
#[derive(Default)]
struct Commit {
    contents: BTreeMap<String, String>,
    read: Mutex<Vec<String>>,
}

impl Blobs for Commit {
    fn read(&self, blob: &str) -> Vec<u8> {
        self.read.lock().expect("not poisoned").push(blob.to_owned());
        self.contents[blob].clone().into_bytes()
    }
}

/// Files with everything that a file can have: objects with and without a namespace, notes, errors, other tools' files,
/// templates, and more findings than are kept.
fn corpus() -> Vec<(String, String)> {
    let spec = |rest: &str| format!("{BUILDER}{rest}");
    let named = |name: &str, text: String| text.replace("name: node", &format!("name: {name}"));
    let unknown: String = (0..file::FINDINGS + 9).map(|number| format!("  x{number}: 1\n")).collect();
    let texts = [
        named("plain", spec("  region: us-east-1\n")),
        named("placed, namespace: prod", spec("  region: us-east-1\n"))
            .replace("name: placed, namespace: prod", "name: placed\n  namespace: prod"),
        named("noted", spec("  region: us-east-1\n  clusterName: \"\"\n")) + "status: {}\n",
        named("ruled", spec("  region: us-west-2\n")),
        named("wrong", spec("  regoin: us-east-1\n")),
        named("many", spec(&unknown)),
        named("broken", spec("  [\n")),
        named("one", spec("  region: us-east-1\n"))
            + "---\n"
            + REFRESHER
            + "---\napiVersion: v1\nkind: ConfigMap\n",
        named("twin", spec("  region: us-east-1\n")),
        named("twin", spec("  region: eu-west-1\n")),
        "{{ if .Values.x }}\n".to_owned() + &named("chart", spec("  region: us-east-1\n")),
        "apiVersion: v1\nkind: Secret\n".to_owned(),
        "{ no yaml".to_owned(),
        "a\0b".to_owned(),
        String::new(),
    ];
    let path = |number: usize| format!("{number:02}.yaml");
    texts.into_iter().enumerate().map(|(number, text)| (path(number), text)).collect()
}

fn sources(corpus: &[(String, String)]) -> (Vec<SourceFile>, Arc<Commit>) {
    let mut commit = Commit::default();
    let mut files: Vec<_> = corpus.iter().map(|(path, text)| source(path, text)).collect();
    for (file, (_, text)) in files.iter().zip(corpus) {
        commit.contents.insert(file.blob.clone(), text.clone());
    }
    let commit = Arc::new(commit);
    for file in &mut files {
        file.content = Content::Stored(commit.clone());
    }
    let link = Form::Unfit("is a link".to_owned());
    files.push(SourceFile { path: "link.yaml".to_owned(), form: link, ..files[0].clone() });
    (files, commit)
}

fn reader(memory: Option<&Memory>) -> Reader {
    let errors = |document: &Document| match document.json.as_str().contains("us-west-2") {
        true => vec![("spec.region".to_owned(), "is closed".to_owned())],
        false => Vec::new(),
    };
    let notes = |_: &Document| vec![("spec.region".to_owned(), "is far away".to_owned())];
    let reader = Reader::with_notes(errors, notes);
    match memory {
        Some(memory) => reader.with_kept(Box::new(memory.clone())),
        None => reader,
    }
}

#[test]
fn the_next_process_reads_nothing_and_finds_the_same() {
    let (memory, corpus) = (Memory::default(), corpus());
    let expected = reader(None).read(&sources(&corpus).0);
    assert!(expected.documents.len() > 4 && expected.problems.len() > file::FINDINGS, "the corpus is rich");
    assert_eq!(reader(Some(&memory)).read(&sources(&corpus).0), expected);
    let (files, commit) = sources(&corpus);
    let mut next = reader(Some(&memory));
    next.known_files().learn(["12.yaml".to_owned()]);
    let mut without = reader(None);
    without.known_files().learn(["12.yaml".to_owned()]);
    assert_eq!(next.read(&files), without.read(&sources(&corpus).0), "a file that contained objects before");
    // The link is not a file, so it is parsed again.
    assert_eq!(*commit.read.lock().expect("not poisoned"), [files[0].blob.clone()]);
}

#[test]
fn only_what_is_new_is_parsed_and_another_namespace_counts() {
    let (memory, mut corpus) = (Memory::default(), corpus());
    reader(Some(&memory)).read(&sources(&corpus).0);
    corpus[0].1.push_str("  suspend: true\n");
    corpus.push(("opsy.yaml".to_owned(), "namespace: images\n".to_owned()));
    let (files, commit) = sources(&corpus);
    assert_eq!(reader(Some(&memory)).read(&files), reader(None).read(&sources(&corpus).0));
    let read = commit.read.lock().expect("not poisoned").clone();
    assert!(read.contains(&files[0].blob) && !read.contains(&files[1].blob), "{read:?}");
}

#[test]
fn lines_that_cannot_be_read_are_dropped() {
    let (memory, corpus) = (Memory::default(), corpus());
    let expected = reader(Some(&memory)).read(&sources(&corpus).0);
    let damaged = |line: String| line.replace("is_ours", "is_theirs");
    *memory.0.lock().expect("not poisoned") =
        memory.lines().into_iter().map(damaged).chain(["{".to_owned()]).collect();
    assert_eq!(reader(Some(&memory)).read(&sources(&corpus).0), expected);
    assert!(memory.lines().iter().all(|line| line.contains("is_ours")), "they are stored again");
}
