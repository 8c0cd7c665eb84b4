//! What is due, which objects may be reconciled, and when failures are retried.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::api::{Class, Key, Kind};
use crate::engine::Wakes;
use crate::engine::kubernetes::objects::ownership;
use crate::manifest::{Document, DocumentText};

fn object(name: &str) -> ObjectKey {
    let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
    ObjectKey { kind: Kind::PackerBuilder, key }
}

fn document(name: &str, region: &str) -> Document {
    let json = json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"region": region}});
    Document { object: object(name), json: DocumentText::from(&json), file: format!("{name}.yaml"), line: 1 }
}

fn owner(name: &str) -> Owner {
    Owner::parse(name).expect("an owner")
}

/// A commit of an owner, with this published status for every object.
fn commit(documents: &[Document], by: &str, status: Option<serde_json::Value>) -> Load {
    Load {
        documents: documents.iter().cloned().collect(),
        owner: owner(by),
        remove: Vec::new(),
        retained: Vec::new(),
        seed: Box::new(move |_| status.clone()),
        wake: Wakes::All,
    }
}

fn load(ledger: &mut Ledger, documents: &[Document], remove: &[&str]) -> Loaded {
    let remove = remove.iter().map(|name| object(name)).collect();
    let commit = Load { remove, ..commit(documents, "us", None) };
    ledger.load(&commit, &Scope::Namespaces(vec!["default".to_owned()]), Instant::now())
}

/// A ledger with one loaded document, `a`.
fn loaded() -> (Ledger, Document) {
    let (mut ledger, desired) = (Ledger::default(), document("a", "x"));
    load(&mut ledger, std::slice::from_ref(&desired), &[]);
    (ledger, desired)
}

/// The live object after the document was applied.
fn applied(document: &Document, version: u64) -> Live {
    let labelled = ownership::labelled(document.json.value(), &document.file, &owner("us"));
    let print = Some(ownership::of_document(&labelled));
    Live { uid: "u".into(), version, owner: Some("us".into()), print, has_status: true, ..Live::default() }
}

fn see(ledger: &mut Ledger, name: &str, live: Live, news: bool) -> Observed {
    ledger.observe(&object(name), live, None, news, false, Instant::now())
}

fn fail(ledger: &mut Ledger, name: &str, class: Class) {
    ledger.failed(&object(name), ApplyFailure::new(class, "Failed", "no".into()), Instant::now());
}

fn due(ledger: &Ledger) -> Vec<String> {
    ledger.due(Instant::now()).into_iter().map(|object| object.key.name).collect()
}

const WAKE: Observed = Observed::Own { wake: true, reapply: false };
const QUIET: Observed = Observed::Own { wake: false, reapply: false };
const REAPPLY: Observed = Observed::Own { wake: false, reapply: true };

#[test]
fn nothing_is_due_for_an_object_that_is_in_sync() {
    let (mut ledger, desired) = (Ledger::default(), document("a", "x"));
    assert_eq!(see(&mut ledger, "a", applied(&desired, 1), true), QUIET, "nothing is loaded");
    load(&mut ledger, &[desired.clone(), document("b", "x")], &[]);
    assert_eq!(due(&ledger), ["b"]);
    load(&mut ledger, &[document("a", "y")], &[]);
    assert_eq!(due(&ledger), ["a"], "a changed document; b is no longer desired");
    load(&mut ledger, &[desired], &[]);
    assert!(due(&ledger).is_empty(), "and back again");
}

#[test]
fn a_manifest_that_moved_is_applied_with_its_new_file() {
    let (mut ledger, desired) = loaded();
    see(&mut ledger, "a", Live { file: Some("a.yaml".into()), ..applied(&desired, 1) }, true);
    let moved = Document { file: "moved/a.yaml".to_owned(), ..desired };
    load(&mut ledger, std::slice::from_ref(&moved), &[]);
    assert_eq!(due(&ledger), ["a"]);
    let action = ledger.action(&object("a"));
    assert!(matches!(&action, Some(Action::Apply { file, .. }) if file == "moved/a.yaml"), "{action:?}");
    let us = owner("us");
    let files: Vec<_> = ledger.owned_by(&us).map(|(_, live)| live.file.clone()).collect();
    assert_eq!(files, [Some("a.yaml".to_owned())]);
}

#[test]
fn what_was_applied_is_reconciled_once() {
    let (mut ledger, desired) = loaded();
    ledger.hold(&[object("a")]);
    assert_eq!(see(&mut ledger, "a", applied(&desired, 5), true), QUIET);
    assert!(ledger.done(&object("a"), Some(5)), "it is observed already");
    assert_eq!(see(&mut ledger, "a", applied(&desired, 6), false), QUIET, "its status");

    load(&mut ledger, &[document("a", "y")], &[]);
    ledger.hold(&[object("a")]);
    assert!(!ledger.done(&object("a"), Some(9)), "it is reconciled when that is observed");
    assert_eq!(ledger.unobserved(), 1);
    assert_eq!(see(&mut ledger, "a", applied(&document("a", "y"), 9), false), WAKE);
    assert_eq!(ledger.unobserved(), 0);
}

#[test]
fn a_commit_concerns_objects_whose_wakeup_was_withheld_or_whose_failure_ended() {
    let (mut ledger, desired) = loaded();
    see(&mut ledger, "a", applied(&desired, 1), true);
    let documents = [desired, document("b", "x")];
    let concerned = |loaded: Loaded| loaded.concerned.into_iter().collect::<Vec<_>>();
    assert_eq!(concerned(load(&mut ledger, &documents, &[])), [], "nothing is known of them");
    ledger.hold(&[object("a")]);
    assert_eq!(see(&mut ledger, "a", applied(&documents[0], 2), true), QUIET, "it is held");
    assert_eq!(concerned(load(&mut ledger, &documents, &[])), [object("a")]);
    fail(&mut ledger, "b", Class::Invalid);
    assert_eq!(concerned(load(&mut ledger, &documents, &[])), []);
    let others = [documents[0].clone(), document("b", "y")];
    assert_eq!(
        concerned(load(&mut ledger, &others, &[])),
        [object("b")],
        "the failure is of the old document"
    );
}

#[test]
fn an_edit_by_hand_is_reverted_before_a_reconcile() {
    let (mut ledger, desired) = loaded();
    see(&mut ledger, "a", applied(&desired, 1), true);
    let edited = Live { print: None, ..applied(&desired, 2) };
    assert_eq!(see(&mut ledger, "a", edited.clone(), true), REAPPLY);
    assert_eq!(due(&ledger), ["a"]);
    fail(&mut ledger, "a", Class::Denied);
    let again = Live { version: 3, ..edited };
    assert_eq!(see(&mut ledger, "a", again, true), WAKE, "it is reconciled as it is");
}

#[test]
fn an_object_is_in_sync_only_as_the_generation_that_equals_its_document() {
    let (mut ledger, desired) = (Ledger::default(), document("a", "x"));
    let at = |version, generation| Live { generation: Some(generation), ..applied(&desired, version) };
    let in_sync = |ledger: &Ledger, generation| ledger.is_in_sync(&object("a"), Some(generation));
    assert!(in_sync(&ledger, 1), "no document declares it");
    load(&mut ledger, std::slice::from_ref(&desired), &[]);
    assert!(!in_sync(&ledger, 1), "it is not observed yet");
    see(&mut ledger, "a", at(1, 1), true);
    assert!(in_sync(&ledger, 1));
    see(&mut ledger, "a", Live { print: None, ..at(2, 2) }, true);
    assert!(!in_sync(&ledger, 2), "somebody edited it");
    fail(&mut ledger, "a", Class::Denied);
    assert!(!in_sync(&ledger, 2), "nor while it cannot be reverted");
    ledger.done(&object("a"), Some(3));
    assert!(!in_sync(&ledger, 2), "what the revert created is not observed yet");
    see(&mut ledger, "a", at(3, 3), true);
    assert_eq!((in_sync(&ledger, 2), in_sync(&ledger, 3)), (false, true), "a reconcile may observe the edit");
}

#[test]
fn what_the_server_makes_of_a_document_is_in_sync() {
    let (mut ledger, desired) = loaded();
    let defaulted = ownership::of_document(&json!({"spec": {"region": "x", "more": 1}}));
    let of_server = |version| Live { print: Some(defaulted), ..applied(&desired, version) };
    see(&mut ledger, "a", of_server(4), true);
    assert_eq!(due(&ledger), ["a"]);
    ledger.done(&object("a"), Some(4));
    assert!(due(&ledger).is_empty(), "applying it changed nothing");
    see(&mut ledger, "a", of_server(5), false);
    assert!(due(&ledger).is_empty(), "nor does a status");

    let mut ledger = Ledger::default();
    load(&mut ledger, std::slice::from_ref(&desired), &[]);
    ledger.done(&object("a"), Some(7));
    assert_eq!(see(&mut ledger, "a", of_server(7), true), WAKE, "this is what applying it creates");
    assert!(due(&ledger).is_empty());

    // Another writer changed it just before.
    for seen_first in [false, true] {
        let mut ledger = Ledger::default();
        load(&mut ledger, std::slice::from_ref(&desired), &[]);
        let theirs = Live { is_shared: true, ..of_server(7) };
        if seen_first {
            see(&mut ledger, "a", theirs.clone(), true);
        }
        ledger.done(&object("a"), Some(7));
        if !seen_first {
            see(&mut ledger, "a", theirs, true);
        }
        assert_eq!(due(&ledger), ["a"], "their part in it is not the server's doing");
    }
}

#[test]
fn old_events_and_other_owners_are_left_alone() {
    let (mut ledger, desired) = (Ledger::default(), document("a", "x"));
    see(&mut ledger, "a", Live { owner: Some("them".into()), ..applied(&desired, 5) }, true);
    let loaded = load(&mut ledger, std::slice::from_ref(&desired), &["a"]);
    assert!(loaded.news[0].1.contains("another owner, them"), "{:?}", loaded.news);
    assert!(due(&ledger).is_empty() && ledger.present().next().is_none());
    assert_eq!(
        see(&mut ledger, "a", Live { owner: Some("them".into()), ..applied(&desired, 6) }, true),
        Observed::OtherOwner
    );
    assert_eq!(see(&mut ledger, "a", applied(&desired, 4), true), Observed::Stale);
    assert_eq!(
        ledger.observe(&object("a"), applied(&desired, 4), None, true, true, Instant::now()),
        WAKE,
        "a list always counts"
    );
}

#[test]
fn only_our_own_objects_are_deleted_and_once() {
    let (mut ledger, gone) = (Ledger::default(), document("a", "x"));
    see(&mut ledger, "a", applied(&gone, 1), true);
    see(&mut ledger, "unowned", Live { owner: None, ..applied(&gone, 2) }, true);
    load(&mut ledger, &[], &["a", "unowned", "absent"]);
    assert_eq!(due(&ledger), ["a"]);
    assert!(matches!(ledger.action(&object("a")), Some(Action::Remove { uid }) if uid == "u"));
    see(&mut ledger, "a", Live { deleting: true, ..applied(&gone, 3) }, true);
    assert!(due(&ledger).is_empty(), "its finalizer retains it for now");
    ledger.gone(&object("a"), Instant::now());
    assert!(due(&ledger).is_empty());
}

#[test]
fn a_deleted_object_is_created_again_once_it_is_gone() {
    let (mut ledger, desired) = loaded();
    see(&mut ledger, "a", Live { deleting: true, print: None, ..applied(&desired, 3) }, true);
    assert!(due(&ledger).is_empty());
    ledger.gone(&object("a"), Instant::now());
    assert_eq!(due(&ledger), ["a"]);
}

#[test]
fn failures_wait_and_a_new_commit_retries_them() {
    let ((mut ledger, desired), now) = (loaded(), Instant::now());
    let failure = |message: &str| ApplyFailure::new(Class::Invalid, "Invalid", message.to_owned());
    assert!(ledger.failed(&object("a"), failure("bad"), now));
    assert!(!ledger.failed(&object("a"), failure("bad"), now), "reported before");
    assert!(due(&ledger).is_empty());
    assert_eq!(ledger.due(now + Duration::from_secs(3600)).len(), 1);
    assert!(ledger.next_retry().is_some_and(|retry| retry > now));
    assert_eq!(ledger.out_of_sync(&object("a")), Some(("Invalid", "bad".to_owned())));
    load(&mut ledger, &[desired], &[]);
    assert_eq!(due(&ledger), ["a"]);
    ledger.done(&object("a"), Some(1));
    assert_eq!(ledger.out_of_sync(&object("a")), None);
}

#[test]
fn documents_outside_the_scope_are_reported_and_never_sent() {
    let mut ledger = Ledger::default();
    let mut far = document("a", "x");
    far.object.key.namespace = "far".to_owned();
    assert_eq!(load(&mut ledger, std::slice::from_ref(&far), &[]).news.len(), 1);
    assert_eq!(load(&mut ledger, std::slice::from_ref(&far), &[]).news.len(), 0, "reported before");
    assert!(ledger.due(Instant::now() + Duration::from_secs(100_000)).is_empty());
    assert_eq!(ledger.out_of_sync(&far.object).map(|(reason, _)| reason), Some("NamespaceNotWatched"));
}

#[test]
fn a_new_owner_makes_own_objects_those_of_another_and_back() {
    let (mut ledger, desired) = loaded();
    see(&mut ledger, "a", applied(&desired, 1), true);
    let commit = commit(std::slice::from_ref(&desired), "them", None);
    let loaded = ledger.load(&commit, &Scope::All, Instant::now());
    assert!(!loaded.relist && loaded.news.len() == 1);
    assert!(load(&mut ledger, &[desired], &[]).relist);
}

#[test]
fn a_request_that_took_effect_without_a_response_is_no_failure() {
    let ((mut ledger, desired), now) = (loaded(), Instant::now());
    ledger.failed(&object("a"), ApplyFailure::new(Class::TRANSIENT, "ApplyFailed", "no answer".into()), now);
    assert_eq!(see(&mut ledger, "a", applied(&desired, 1), false), WAKE, "the condition is removed");
    assert_eq!((ledger.out_of_sync(&object("a")), ledger.next_retry()), (None, None));

    load(&mut ledger, &[], &["a"]);
    ledger.failed(&object("a"), ApplyFailure::new(Class::TRANSIENT, "ApplyFailed", "no answer".into()), now);
    assert!(ledger.next_retry().is_some());
    see(&mut ledger, "a", Live { deleting: true, ..applied(&desired, 2) }, true);
    assert_eq!((ledger.out_of_sync(&object("a")), ledger.next_retry()), (None, None));
}

#[test]
fn a_published_status_is_written_before_a_reconcile() {
    let (mut ledger, desired) = (Ledger::default(), document("a", "x"));
    let without_status = |version| Live { has_status: false, ..applied(&desired, version) };
    see(&mut ledger, "a", without_status(1), true);
    let commit = commit(std::slice::from_ref(&desired), "us", Some(json!({})));
    ledger.load(&commit, &Scope::All, Instant::now());
    assert_eq!(due(&ledger), ["a"]);
    assert!(matches!(ledger.action(&object("a")), Some(Action::Seed { version: 1 })));
    assert_eq!(see(&mut ledger, "a", without_status(2), true), REAPPLY);
    fail(&mut ledger, "a", Class::TRANSIENT);
    assert!(ledger.next_retry().is_some(), "it is retried");
    ledger.done(&object("a"), Some(3));
    assert_eq!(see(&mut ledger, "a", applied(&desired, 3), false), WAKE);
    assert!(due(&ledger).is_empty());
    ledger.load(&commit, &Scope::All, Instant::now());
    assert!(due(&ledger).is_empty(), "a status is never replaced");
}

fn place(name: &str) -> ObjectPlace {
    ObjectPlace { kind: Kind::PackerBuilder, namespace: Some(name.to_owned()) }
}

#[test]
fn nothing_is_sent_while_the_place_cannot_be_read_and_all_of_it_after_that() {
    let (mut ledger, desired) = (Ledger::default(), document("a", "x"));
    see(&mut ledger, "gone", applied(&document("gone", "x"), 1), true);
    ledger.unreadable(&place("default"), "namespace default cannot be read".to_owned());
    load(&mut ledger, std::slice::from_ref(&desired), &["gone"]);
    assert!(due(&ledger).is_empty() && ledger.next_retry().is_none());
    let reason = |ledger: &Ledger, name: &str| ledger.out_of_sync(&object(name)).map(|(reason, _)| reason);
    assert_eq!(reason(&ledger, "a"), Some("NamespaceUnreadable"));
    assert_eq!(
        reason(&ledger, "gone"),
        Some("NamespaceUnreadable"),
        "its condition states it, if it can be written"
    );
    assert_eq!(
        (ledger.failing(), ledger.unread(), ledger.is_frozen(&object("gone"))),
        (1, vec![object("a")], true)
    );
    // An earlier failure is not over when one object is observed again, before the place is readable.
    let failure = ApplyFailure::new(Class::TRANSIENT, "ApplyFailed", "away".into());
    ledger.failed(&object("a"), failure, Instant::now());
    see(&mut ledger, "a", applied(&document("a", "old"), 2), true);
    ledger.readable(&place("default"));
    assert_eq!((reason(&ledger, "a"), ledger.failing()), (Some("ApplyFailed"), 1));
    ledger.retry_all(Instant::now());
    assert_eq!(due(&ledger), ["a", "gone"]);
    ledger.done(&object("a"), Some(3));
    assert_eq!((ledger.failing(), ledger.is_frozen(&object("gone"))), (0, false));
}

#[test]
fn a_writer_that_keeps_changing_an_object_is_reverted_ever_more_rarely() {
    let (mut ledger, desired) = loaded();
    let start = Instant::now();
    let (mut now, mut version) = (start, 1);
    let see =
        |ledger: &mut Ledger, live: Live, now| ledger.observe(&object("a"), live, None, true, false, now);
    see(&mut ledger, applied(&desired, version), now);
    let mut sent = Vec::new();
    while now - start < Duration::from_secs(3600) {
        version += 2;
        let theirs = Live { print: None, writer: Some("argocd".into()), ..applied(&desired, version) };
        assert_eq!(see(&mut ledger, theirs, now), REAPPLY, "no reconcile acts on what they wrote");
        if let Some(at) = ledger.next_retry() {
            assert!(ledger.is_frozen(&object("a")) && ledger.due(now).is_empty());
            assert_eq!(ledger.out_of_sync(&object("a")).map(|(reason, _)| reason), Some("AnotherWriter"));
            assert_eq!(ledger.failing(), 1);
            now = at;
        }
        assert_eq!(ledger.due(now), [object("a")]);
        let Some(Action::Apply { drift: Some(drift), .. }) = ledger.action(&object("a")) else {
            panic!("no drift")
        };
        assert_eq!(drift, "field manager argocd changed it");
        sent.push(ledger.reverted(&object("a"), drift, now));
        ledger.done(&object("a"), Some(version + 1));
        see(&mut ledger, applied(&desired, version + 1), now);
        assert!(!ledger.is_frozen(&object("a")));
    }
    assert!((20..30).contains(&sent.len()), "{}", sent.len());
    assert_eq!(sent.iter().filter(|news| **news).count(), 1, "it is reported once");
    // The other writer stops.
    let at = ledger.next_retry().expect("the end of the contest");
    assert!(ledger.calm(now).is_empty() && at > now);
    assert_eq!(ledger.calm(at), [object("a")]);
    assert_eq!((ledger.out_of_sync(&object("a")), ledger.next_retry()), (None, None));
}

#[test]
fn a_failure_and_a_contest_wait_for_the_longer_of_both() {
    let ((mut ledger, desired), now) = (loaded(), Instant::now());
    see(&mut ledger, "a", applied(&desired, 1), true);
    assert_eq!([(); 3].map(|()| ledger.reverted(&object("a"), "x".into(), now)), [false, false, true]);
    see(&mut ledger, "a", Live { print: None, ..applied(&desired, 2) }, true);
    let contested = ledger.next_retry().expect("a pause");
    ledger.failed(&object("a"), ApplyFailure::new(Class::Denied, "Denied", "no".into()), now);
    let both = ledger.next_retry().expect("a pause");
    assert!(both > contested && ledger.due(contested).is_empty() && ledger.due(both).len() == 1);
    let other = document("a", "y");
    load(&mut ledger, std::slice::from_ref(&other), &[]);
    assert_eq!(due(&ledger), ["a"], "another document is not contested yet");
}

#[test]
fn a_changed_document_is_no_drift_and_a_deleted_object_is() {
    let (mut ledger, desired) = (Ledger::default(), document("a", "x"));
    let drift = |ledger: &Ledger| match ledger.action(&object("a")) {
        Some(Action::Apply { drift, .. }) => drift,
        other => panic!("{other:?}"),
    };
    load(&mut ledger, std::slice::from_ref(&desired), &[]);
    assert_eq!(drift(&ledger), None, "it is new");
    see(&mut ledger, "a", applied(&desired, 1), true);
    load(&mut ledger, &[document("a", "y")], &[]);
    assert_eq!(drift(&ledger), None);
    let theirs = Live { writer: Some("kubectl-patch".into()), ..applied(&desired, 2) };
    see(&mut ledger, "a", theirs, true);
    assert_eq!(drift(&ledger).as_deref(), Some("field manager kubectl-patch changed it"));
    load(&mut ledger, &[desired], &[]);
    see(&mut ledger, "a", applied(&document("a", "x"), 3), true);
    ledger.gone(&object("a"), Instant::now());
    assert_eq!(drift(&ledger).as_deref(), Some("it was deleted"));
}
