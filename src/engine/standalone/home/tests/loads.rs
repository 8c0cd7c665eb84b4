//! A load looks only at what can differ, and has the same results as one that looks at everything.

use std::collections::BTreeSet;

use futures::{FutureExt as _, StreamExt as _};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::api::annotations::SUSPEND;
use crate::engine::ObjectHealth;
use crate::engine::objects::Queues;
use crate::engine::standalone::stored::read_all;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A commit with these documents, each with a number. Of the objects without one, some are removed, others retained.
    Load {
        documents: std::collections::BTreeMap<usize, u8>,
        removed: BTreeSet<usize>,
        retained: BTreeSet<usize>,
        wakes: bool,
    },
    /// A person requests something, or withdraws it. The agent may miss it until the next load.
    Request {
        object: usize,
        value: Option<u8>,
        is_seen: bool,
    },
    /// A reconciler releases an object.
    Release(usize),
    Status(usize, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let index = 0..NAMES.len();
    prop_oneof![
        4 => (btree_map(index.clone(), 0..4_u8, 0..5), btree_set(index.clone(), 0..3), btree_set(index.clone(), 0..3), any::<bool>())
            .prop_map(|(documents, removed, retained, wakes)| Step::Load { documents, removed, retained, wakes }),
        2 => (index.clone(), proptest::option::of(0..2_u8), any::<bool>())
            .prop_map(|(object, value, is_seen)| Step::Request { object, value, is_seen }),
        1 => index.clone().prop_map(Step::Release),
        2 => (index, 0..3_u8).prop_map(|(object, value)| Step::Status(object, value)),
    ]
}

/// An object of either kind: the last one is a refresher.
fn object_at(index: usize) -> ObjectKey {
    let kind = if index + 1 == NAMES.len() { Kind::AMIRefresher } else { Kind::PackerBuilder };
    ObjectKey { kind, ..object(NAMES[index]) }
}

/// Its document. The number selects another file, spec or annotation.
fn document_at(index: usize, number: u8) -> Document {
    let object = object_at(index);
    let region = if number == 1 { "eu-west-1" } else { "us-east-1" };
    let mut json = json!({
        "apiVersion": "ami.opsy.dev/v1alpha1", "kind": object.kind.to_string(),
        "metadata": {"name": object.key.name, "namespace": "default"}, "spec": {"region": region},
    });
    if number == 2 {
        json["metadata"]["annotations"] = json!({"team": "a"});
    }
    let file = if number == 3 { "moved.yaml" } else { "first.yaml" }.to_owned();
    Document { object, json: DocumentText::from(&json), file, line: 1 }
}

struct Agent {
    dir: tempfile::TempDir,
    home: StateHome,
    objects: Arc<Objects>,
    queues: Queues,
    /// Whether each load looks at everything.
    looks_at_all: bool,
}

impl Agent {
    fn new(looks_at_all: bool) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (objects, queues) = Objects::new();
        let now = || Timestamp::UNIX_EPOCH;
        let home = StateHome::open(dir.path(), objects.clone(), Secrets::default(), now).expect("it starts");
        Self { dir, home, objects, queues, looks_at_all }
    }

    fn take(&mut self, step: &Step) {
        let shared = &self.home.shared;
        match step {
            Step::Load { documents, removed, retained, wakes } => {
                if self.looks_at_all {
                    lock(&shared.entries).forget_load();
                }
                let documents: crate::manifest::Documents =
                    documents.iter().map(|(index, number)| document_at(*index, *number)).collect();
                let undeclared =
                    self.home.compare(&Owner::parse("test").expect("an owner"), &documents).undeclared;
                let named = |indexes: &BTreeSet<usize>| -> Vec<ObjectKey> {
                    indexes
                        .iter()
                        .map(|index| object_at(*index))
                        .filter(|it| undeclared.contains_key(it))
                        .collect()
                };
                let (remove, mut retained) = (named(removed), named(retained));
                retained.retain(|object| !remove.contains(object));
                let wake = if *wakes { Wakes::All } else { Wakes::Only(BTreeSet::new()) };
                let load = Load { documents, remove, retained, wake, ..commit(&[], &[]) };
                shared.load_commit(&load).expect("loaded");
            }
            Step::Request { object, value, is_seen } => {
                let value = value.map(|value| value.to_string());
                requests::annotate(self.dir.path(), &object_at(*object), SUSPEND, value.as_deref())
                    .expect("written");
                if *is_seen {
                    shared.read_requests();
                }
            }
            Step::Release(object) => shared.remove(&object_at(*object)).expect("removed"),
            Step::Status(object, value) => {
                let entries = lock(&shared.entries);
                let Some(entry) = entries.get(&object_at(*object)) else { return };
                let changed = entry.with_status(&json!({"state": value.to_string()}));
                let change = changes::Change::new(&object_at(*object), Some(entry), changed).wakes(false);
                drop(entries);
                shared
                    .write(std::slice::from_ref(&change))
                    .into_iter()
                    .for_each(|result| result.expect("written"));
                shared.show(vec![change]);
            }
        }
    }

    /// Everything that can be seen from outside: what is woken, the board, the stored and shown objects, and what is
    /// undeclared or out of sync.
    fn seen(&mut self) -> impl PartialEq + std::fmt::Debug + use<> {
        let mut woken = BTreeSet::new();
        while let Some(Some(key)) = self.queues.builders.keys.next().now_or_never() {
            woken.insert(key.name);
        }
        while let Some(Some(key)) = self.queues.refreshers.keys.next().now_or_never() {
            woken.insert(key.name);
        }
        let board = self.objects.board.health();
        for object in board.keys() {
            self.objects.board.begin(object);
            self.objects.board.end(object, ObjectHealth::Settled);
        }
        let stored: Vec<_> = read_all(&self.home.shared.dir).expect("read").objects.into_iter().collect();
        let entries: Vec<_> = lock(&self.home.shared.entries)
            .iter()
            .map(|(object, entry)| (object.clone(), Entry::clone(entry)))
            .collect();
        let none = crate::manifest::Documents::default();
        let owned = self.home.compare(&Owner::parse("test").expect("an owner"), &none);
        let shown: Vec<_> = (0..NAMES.len()).map(|index| self.objects.has(&object_at(index))).collect();
        (woken, board, stored, entries, owned, shown, self.home.all_out_of_sync())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_load_by_difference_is_like_one_of_everything(steps in vec(step(), 1..20)) {
        let (mut all, mut following) = (Agent::new(true), Agent::new(false));
        for (number, step) in steps.iter().enumerate() {
            all.take(step);
            following.take(step);
            let (expected, seen) = (all.seen(), following.seen());
            prop_assert!(seen == expected, "step {number} of {steps:?}: {seen:?} instead of {expected:?}");
        }
    }
}
