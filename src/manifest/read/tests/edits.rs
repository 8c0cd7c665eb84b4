//! A commit that is read by its difference to the one before gives the same as one that is read as a whole.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::manifest::Edited;

/// A file that is written or removed, with the kind and the name of its content.
type Step = (&'static str, Option<(u8, u8)>);
/// The files of a commit.
type Tree = BTreeMap<&'static str, String>;

const PATHS: [&str; 7] =
    ["a.yaml", "b.yaml", "c/d.yaml", "c/kustomization.yaml", "opsy.yaml", "x.yml", "x.yml/y.yaml"];

/// A content for any of these files. Many of them have problems, or become another's when another file changes.
fn content(kind: u8, name: u8) -> String {
    let named = |text: &str| text.replace("name: node", &format!("name: n{name}"));
    let region = |region: &str| named(BUILDER) + &format!("  region: {region}\n");
    match kind {
        0 => region("us-east-1"),
        1 => region("eu-west-1"),
        2 => format!("# A comment.\n{}", region("us-east-1")),
        3 => region("us-east-1") + "  clusterName: \"\"\n",
        4 => region("us-east-1") + "  regoin: us-east-1\n",
        5 => named(BUILDER) + "  [\n",
        6 => "{{ if .Values.x }}\n".to_owned() + &region("us-east-1"),
        7 => region("us-east-1") + "---\n" + &REFRESHER.replace("name: demo", &format!("name: n{name}")),
        8 => "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n".to_owned(),
        9 => "{ no yaml".to_owned(),
        10 => format!("namespace: ns{name}\n"),
        11 => "patches:\n- path: d.yaml\nresources: [../a.yaml]\n".to_owned(),
        12 => "statusPath: c\n".to_owned(),
        13 => "agentID: refused\n".to_owned(),
        14 => region("us-east-1") + "---\n" + &region("us-west-2"),
        _ => String::new(),
    }
}

fn sources(tree: &Tree) -> Vec<SourceFile> {
    tree.iter().map(|(path, content)| source(path, content)).collect()
}

/// The files that differ.
fn edited(before: &Tree, now: &Tree) -> Edited {
    let differing = |existed: bool| {
        let differs = move |(path, content): &(&&'static str, &String)| {
            before.get(**path) != Some(*content) && before.contains_key(**path) == existed
        };
        now.iter().filter(differs).map(|(path, content)| source(path, content)).collect()
    };
    let removed = before.keys().filter(|path| !now.contains_key(*path)).map(|path| (*path).to_owned());
    Edited { edited: differing(true), added: differing(false), removed: removed.collect() }
}

fn reader() -> Reader {
    let refused = |settings: &RepoSettings| {
        (settings.agent_id.as_deref() == Some("refused")).then(|| "is another agent's".to_owned())
    };
    let errors = |document: &Document| match document.json.as_str().contains("us-west-2") {
        true => vec![("spec.region".to_owned(), "is closed".to_owned())],
        false => Vec::new(),
    };
    Reader::new(errors).with_guard(refused)
}

fn sorted(mut set: ObjectSet) -> ObjectSet {
    set.problems.sort();
    set
}

/// Both readers, and how often a difference sufficed.
struct Readers {
    whole: Reader,
    following: Reader,
    before: Tree,
    followed: usize,
}

impl Readers {
    fn new() -> Self {
        Self { whole: reader(), following: reader(), before: Tree::new(), followed: 0 }
    }

    /// Reads a commit in both ways.
    fn read(&mut self, now: Tree) -> (ObjectSet, ObjectSet) {
        let followed = self.following.reread(&edited(&self.before, &now));
        self.followed += usize::from(followed.is_some());
        let followed = followed.unwrap_or_else(|| self.following.read(&sources(&now)));
        let whole = self.whole.read(&sources(&now));
        self.before = now;
        (sorted(followed), sorted(whole))
    }
}

proptest! {
    #[test]
    fn a_difference_gives_the_same_as_the_whole(
        steps in vec(vec((0..PATHS.len(), proptest::option::weighted(0.9, (0..16_u8, 0..4_u8))), 1..4), 1..40),
    ) {
        let (mut readers, mut tree) = (Readers::new(), Tree::new());
        for step in steps {
            for (path, what) in step {
                let path = PATHS[path];
                tree.remove(path);
                if let Some((kind, name)) = what {
                    // A file takes the place of a directory, and the other way round.
                    tree.retain(|other, _| !is_below(other, path) && !is_below(path, other));
                    tree.insert(path, content(kind, name));
                }
            }
            let (followed, whole) = readers.read(tree.clone());
            prop_assert_eq!(followed, whole, "{:?}", tree);
            let known = |reader: &Reader| -> std::collections::BTreeSet<String> {
                reader.known_files.lock().iter().cloned().collect()
            };
            prop_assert_eq!(known(&readers.following), known(&readers.whole), "{:?}", tree);
        }
    }
}

#[test]
fn manifests_that_come_go_and_move_are_followed_by_their_difference() {
    let mut readers = Readers::new();
    let mut tree: Tree = [("a.yaml", content(0, 0)), ("opsy.yaml", String::new())].into();
    readers.read(tree.clone());
    let steps: [&[Step]; 7] = [
        &[("b.yaml", Some((0, 1)))],
        &[("b.yaml", None), ("c/d.yaml", Some((0, 1)))],
        &[("c/d.yaml", Some((5, 1)))],
        &[("c/d.yaml", None)],
        &[("a.yaml", Some((1, 0))), ("b.yaml", Some((7, 3))), ("x.yml", Some((8, 0)))],
        &[("a.yaml", None), ("x.yml", None)],
        &[("b.yaml", None), ("a.yaml", Some((4, 2)))],
    ];
    for (step, files) in steps.into_iter().enumerate() {
        for (path, what) in files {
            match what {
                Some((kind, name)) => drop(tree.insert(path, content(*kind, *name))),
                None => drop(tree.remove(path)),
            }
        }
        let (followed, whole) = readers.read(tree.clone());
        assert_eq!(followed, whole);
        assert_eq!(readers.followed, step + 1, "{files:?}");
    }
    tree.insert("b.yaml", content(0, 1));
    tree.insert("c/d.yaml", content(0, 1));
    readers.read(tree.clone());
    assert_eq!(readers.followed, 7, "both new files declare the same object");
    tree.remove("c/d.yaml");
    readers.read(tree.clone());
    assert_eq!(readers.followed, 7, "the other file's object counts again");
}

#[test]
fn edits_of_manifests_are_followed_by_their_difference() {
    let mut readers = Readers::new();
    let mut tree: Tree =
        [("a.yaml", content(0, 0)), ("b.yaml", content(0, 1)), ("opsy.yaml", String::new())].into();
    readers.read(tree.clone());
    for (step, (kind, name)) in
        [(1, 1), (3, 1), (4, 1), (5, 1), (0, 2), (8, 0), (7, 3)].into_iter().enumerate()
    {
        tree.insert("b.yaml", content(kind, name));
        let (followed, whole) = readers.read(tree.clone());
        assert_eq!(followed, whole);
        assert_eq!(readers.followed, step + 1, "{}", tree["b.yaml"]);
    }
    tree.insert("b.yaml", content(0, 0));
    readers.read(tree.clone());
    assert_eq!(readers.followed, 7, "another file declares the same object");
    tree.insert("b.yaml", content(0, 1));
    readers.read(tree.clone());
    assert_eq!(readers.followed, 7, "that file's object counts again");
    tree.insert("opsy.yaml", content(10, 0));
    let (followed, _) = readers.read(tree.clone());
    assert_eq!((readers.followed, first(&followed).object.key.namespace.as_str()), (7, "ns0"));
    tree.insert("b.yaml", content(1, 1));
    let (before, _) = (followed, readers.followed);
    let (followed, _) = readers.read(tree);
    assert_eq!(readers.followed, 8);
    let differing: Vec<_> =
        before.documents.differing(&followed.documents).map(|object| &object.key.name).collect();
    assert_eq!(differing, ["n1"]);
}
