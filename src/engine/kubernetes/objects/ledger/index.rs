//! Which objects of the ledger a commit or an event can concern, kept with every change of the ledger: if each commit
//! looked at all objects, its cost would be that of all objects. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ledger, Live};
use crate::api::{ObjectKey, Owner};
use crate::engine::Owned;
use crate::manifest::Documents;

/// Objects by what is true of them. Most objects are in none of the sets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Index {
    /// Their document must be sent.
    pub differing: BTreeSet<ObjectKey>,
    /// They exist with the label of another owner.
    pub of_others: BTreeSet<ObjectKey>,
    /// They exist with the label of this owner, and no document declares them.
    pub undeclared: BTreeSet<ObjectKey>,
    /// A document declares them, and they do not exist or have no status.
    pub lacking: BTreeSet<ObjectKey>,
    /// The number of objects that exist with the label of this owner.
    pub own: usize,
}

impl Ledger {
    /// Records the live object, or that there is none.
    pub(super) fn set_live(&mut self, object: &ObjectKey, live: Option<Live>) {
        let was_own = self.is_own(object);
        match live {
            Some(live) => drop(self.live.insert(object.clone(), live)),
            None => drop(self.live.remove(object)),
        }
        self.index.own = self.index.own + usize::from(self.is_own(object)) - usize::from(was_own);
    }

    /// Finds out again what is true of an object, after a change of the live or the desired one.
    pub(super) fn index(&mut self, object: &ObjectKey) {
        let (differs, of_other, own) = (self.differs(object), self.is_of_other(object), self.is_own(object));
        let is_desired = self.desired.contains_key(object);
        let has_status = self.live.get(object).is_some_and(|live| live.has_status);
        let index = &mut self.index;
        note(&mut index.differing, object, differs);
        note(&mut index.of_others, object, of_other);
        note(&mut index.undeclared, object, own && !is_desired);
        note(&mut index.lacking, object, is_desired && !has_status);
    }

    /// Finds out again what is true of all objects, because the owner is another one.
    pub(super) fn index_all(&mut self) {
        let all: BTreeSet<ObjectKey> = self.live.keys().chain(self.desired.keys()).cloned().collect();
        self.index =
            Index { own: all.iter().filter(|object| self.is_own(object)).count(), ..Index::default() };
        all.iter().for_each(|object| self.index(object));
    }

    /// Compares the live objects with this owner's label with documents.
    pub fn compare(&self, owner: &Owner, documents: &Documents) -> Owned {
        let is_undeclared = |object: &&ObjectKey| documents.get(object).is_none();
        if self.owner.as_ref() != Some(owner) {
            let owned = self.owned_by(owner).map(|(object, live)| (object.clone(), live.file.clone()));
            let mut owned: BTreeMap<_, _> = owned.collect();
            let count = owned.len();
            owned.retain(|object, _| is_undeclared(&object));
            return Owned { count, undeclared: owned };
        }
        let candidates = self.documents.differing(documents).chain(&self.index.undeclared);
        let owned = candidates.filter(is_undeclared).filter(|object| self.is_own(object));
        let with_file = |object: &ObjectKey| Some((object.clone(), self.live.get(object)?.file.clone()));
        Owned { count: self.index.own, undeclared: owned.filter_map(with_file).collect() }
    }
}

/// Adds an object to a set, or removes it.
fn note(set: &mut BTreeSet<ObjectKey>, object: &ObjectKey, belongs: bool) {
    if !belongs {
        set.remove(object);
    } else if !set.contains(object) {
        set.insert(object.clone());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;
    use crate::api::{Class, Key, Kind};
    use crate::engine::kubernetes::Scope;
    use crate::engine::kubernetes::objects::failure::ApplyFailure;
    use crate::engine::kubernetes::objects::ownership;
    use crate::engine::{Load, Wakes};
    use crate::manifest::{Document, DocumentText};

    /// Something that happens to the ledger. Numbers select objects, contents and versions.
    #[derive(Clone, Debug)]
    enum Happening {
        Load {
            documents: Vec<(u8, bool)>,
            remove: Vec<u8>,
            is_ours: bool,
            is_seeded: bool,
        },
        Observe {
            object: u8,
            content: bool,
            version: u64,
            owner: Option<bool>,
            deleting: bool,
            has_status: bool,
        },
        Gone(u8),
        Done(u8, Option<u64>),
        Failed(u8),
    }

    fn happening() -> impl Strategy<Value = Happening> {
        let object = || 0..6_u8;
        let documents = prop::collection::vec((object(), any::<bool>()), 0..6);
        prop_oneof![
            (documents, prop::collection::vec(object(), 0..3), prop::bool::weighted(0.8), any::<bool>())
                .prop_map(|(documents, remove, is_ours, is_seeded)| Happening::Load {
                    documents,
                    remove,
                    is_ours,
                    is_seeded
                }),
            (
                object(),
                any::<bool>(),
                1..9_u64,
                any::<Option<bool>>(),
                prop::bool::weighted(0.2),
                any::<bool>()
            )
                .prop_map(|(object, content, version, owner, deleting, has_status)| {
                    Happening::Observe { object, content, version, owner, deleting, has_status }
                }),
            object().prop_map(Happening::Gone),
            (object(), prop::option::of(1..9_u64)).prop_map(|(object, made)| Happening::Done(object, made)),
            object().prop_map(Happening::Failed),
        ]
    }

    /// The last of the objects is outside the scope.
    fn object(number: u8) -> ObjectKey {
        let namespace = if number == 5 { "far" } else { "default" };
        let key = Key { namespace: namespace.to_owned(), name: number.to_string() };
        ObjectKey { kind: Kind::PackerBuilder, key }
    }

    fn document(number: u8, content: bool) -> Document {
        let json = json!({"metadata": {"name": number.to_string()}, "spec": {"suspend": content}});
        let file = format!("{number}.yaml");
        Document { object: object(number), json: DocumentText::from(&json), file, line: 1 }
    }

    fn owner(is_ours: bool) -> Owner {
        Owner::parse(if is_ours { "us" } else { "them" }).expect("an owner")
    }

    fn happen(ledger: &mut Ledger, happening: Happening) {
        let now = Instant::now();
        match happening {
            Happening::Load { documents, remove, is_ours, is_seeded } => {
                let documents: BTreeMap<u8, bool> = documents.into_iter().collect();
                let remove = remove.into_iter().filter(|number| !documents.contains_key(number));
                let commit = Load {
                    remove: remove.map(object).collect(),
                    documents: documents
                        .into_iter()
                        .map(|(number, content)| document(number, content))
                        .collect(),
                    owner: owner(is_ours),
                    retained: Vec::new(),
                    seed: Box::new(move |_| is_seeded.then(|| json!({}))),
                    wake: Wakes::All,
                };
                ledger.load(&commit, &Scope::Namespaces(vec!["default".to_owned()]), now);
            }
            Happening::Observe { object: number, content, version, owner: by, deleting, has_status } => {
                let document = document(number, content);
                let label = owner(by.unwrap_or(true));
                let labelled = ownership::labelled(document.json.value(), &document.file, &label);
                let live = Live {
                    uid: "u".into(),
                    version,
                    owner: by.map(|_| label.as_str().to_owned()),
                    print: Some(ownership::of_document(&labelled)),
                    deleting,
                    has_status,
                    ..Live::default()
                };
                ledger.observe(&object(number), live, None, true, version == 1, now);
            }
            Happening::Gone(number) => ledger.gone(&object(number), now),
            Happening::Done(number, made) => drop(ledger.done(&object(number), made)),
            Happening::Failed(number) => {
                let failure = ApplyFailure::new(Class::Invalid, "Failed", "no".into());
                ledger.failed(&object(number), failure, now);
            }
        }
    }

    /// Checks what is known against all objects.
    fn check(ledger: &mut Ledger) {
        let known = ledger.index.clone();
        ledger.index_all();
        assert_eq!(known, ledger.index);
        let later = Instant::now() + std::time::Duration::from_secs(100_000);
        let all = ledger.desired.keys().chain(&ledger.removals);
        let due: BTreeSet<&ObjectKey> = all.filter(|object| ledger.is_due(object)).collect();
        let sendable = |object: &&ObjectKey| ledger.failures.get(*object).is_none_or(|it| it.retry.is_some());
        let due: Vec<ObjectKey> = due.into_iter().filter(sendable).cloned().collect();
        assert_eq!(ledger.due(later).into_iter().collect::<BTreeSet<_>>(), due.into_iter().collect());
        let is_of =
            |object: &ObjectKey, document| ledger.desired.get(object).is_some_and(|it| it.is_of(document));
        assert!(ledger.documents.iter().all(|document| is_of(&document.object, document)));
        assert_eq!(ledger.documents.len(), ledger.desired.len());
        for (owner, documents) in
            [(true, [0, 1]), (true, [2, 3]), (false, [0, 5])].map(|(is_ours, numbers)| {
                (
                    owner(is_ours),
                    numbers.map(|number| document(number, true)).into_iter().collect::<Documents>(),
                )
            })
        {
            let owned: BTreeMap<_, _> =
                ledger.owned_by(&owner).map(|(o, live)| (o.clone(), live.file.clone())).collect();
            let count = owned.len();
            let undeclared =
                owned.into_iter().filter(|(object, _)| documents.get(object).is_none()).collect();
            assert_eq!(ledger.compare(&owner, &documents), Owned { count, undeclared });
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_a_look_at_all_objects_finds(
            happenings in prop::collection::vec(happening(), 1..40)
        ) {
            let mut ledger = Ledger::default();
            for happening in happenings {
                happen(&mut ledger, happening);
                check(&mut ledger);
            }
        }
    }
}
