//! What is due, who may look, and when failures are repeated.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::api::{Class, Key, Kind};
use crate::engine::kubernetes::ownership;
use crate::manifest::{Document, Json};

fn object(name: &str) -> ObjectKey {
    let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
    ObjectKey { kind: Kind::PackerBuilder, key }
}

fn document(name: &str, region: &str) -> Document {
    let json = json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"region": region}});
    Document { object: object(name), json: Json::from(&json), file: format!("{name}.yaml"), line: 1 }
}

fn owner(name: &str) -> Owner {
    Owner::parse(name).expect("an owner")
}

fn load(ledger: &mut Ledger, documents: &[Document], remove: &[&str]) -> Loaded {
    let commit = Load {
        documents: documents.to_vec(),
        owner: owner("us"),
        remove: remove.iter().map(|name| object(name)).collect(),
        kept: Vec::new(),
        seed: Box::new(|_| None),
    };
    ledger.load(&commit, &Scope::Namespaces(vec!["default".to_owned()]))
}

/// The object as it is after the document was applied.
fn applied(document: &Document, version: u64) -> Live {
    let labelled = ownership::labelled(&document.json.value(), &document.file, &owner("us"));
    let print = Some(ownership::of_document(&labelled));
    Live { uid: "u".into(), version, owner: Some("us".into()), print, has_status: true, ..Live::default() }
}

fn saw(ledger: &mut Ledger, name: &str, live: Live, news: bool) -> Sight {
    ledger.saw(&object(name), live, None, news, false, Instant::now())
}

fn due(ledger: &Ledger) -> Vec<String> {
    ledger.due(Instant::now()).into_iter().map(|object| object.key.name).collect()
}

const WAKE: Sight = Sight::Ours { wake: true, mend: false };
const QUIET: Sight = Sight::Ours { wake: false, mend: false };
const MEND: Sight = Sight::Ours { wake: false, mend: true };

#[test]
fn nothing_is_due_for_an_object_that_is_as_it_should_be() {
    let (mut ledger, wanted) = (Ledger::default(), document("a", "x"));
    assert_eq!(saw(&mut ledger, "a", applied(&wanted, 1), true), QUIET, "nothing is loaded");
    load(&mut ledger, &[wanted.clone(), document("b", "x")], &[]);
    assert_eq!(due(&ledger), ["b"]);
    load(&mut ledger, &[document("a", "y")], &[]);
    assert_eq!(due(&ledger), ["a"], "a changed document; b is no longer wanted");
    load(&mut ledger, &[wanted], &[]);
    assert!(due(&ledger).is_empty(), "and back again");
}

#[test]
fn a_manifest_that_moved_is_applied_with_its_new_file() {
    let (mut ledger, wanted) = (Ledger::default(), document("a", "x"));
    load(&mut ledger, std::slice::from_ref(&wanted), &[]);
    saw(&mut ledger, "a", Live { file: Some("a.yaml".into()), ..applied(&wanted, 1) }, true);
    let moved = Document { file: "moved/a.yaml".to_owned(), ..wanted };
    load(&mut ledger, std::slice::from_ref(&moved), &[]);
    assert_eq!(due(&ledger), ["a"]);
    let job = ledger.job(&object("a"));
    assert!(matches!(&job, Some(Job::Apply { file, .. }) if file == "moved/a.yaml"), "{job:?}");
    let us = owner("us");
    let files: Vec<_> = ledger.owned_by(&us).map(|(_, live)| live.file.clone()).collect();
    assert_eq!(files, [Some("a.yaml".to_owned())]);
}

#[test]
fn a_pass_looks_once_at_what_was_applied() {
    let (mut ledger, wanted) = (Ledger::default(), document("a", "x"));
    load(&mut ledger, std::slice::from_ref(&wanted), &[]);
    ledger.hold(&[object("a")]);
    assert_eq!(saw(&mut ledger, "a", applied(&wanted, 5), true), QUIET);
    assert!(ledger.done(&object("a"), Some(5)), "it was seen already, so it looks now");
    assert_eq!(saw(&mut ledger, "a", applied(&wanted, 6), false), QUIET, "its status");

    load(&mut ledger, &[document("a", "y")], &[]);
    ledger.hold(&[object("a")]);
    assert!(!ledger.done(&object("a"), Some(9)), "it looks when that is seen");
    assert_eq!(ledger.awaits(), 1);
    assert_eq!(saw(&mut ledger, "a", applied(&document("a", "y"), 9), false), WAKE);
    assert_eq!(ledger.awaits(), 0);
}

#[test]
fn an_edit_by_hand_is_put_back_before_anybody_looks() {
    let (mut ledger, wanted) = (Ledger::default(), document("a", "x"));
    load(&mut ledger, std::slice::from_ref(&wanted), &[]);
    saw(&mut ledger, "a", applied(&wanted, 1), true);
    let edited = Live { print: None, ..applied(&wanted, 2) };
    assert_eq!(saw(&mut ledger, "a", edited.clone(), true), MEND);
    assert_eq!(due(&ledger), ["a"]);
    ledger.failed(&object("a"), Trouble::new(Class::Denied, "Denied", "no".into()), Instant::now());
    let again = Live { version: 3, ..edited };
    assert_eq!(saw(&mut ledger, "a", again, true), WAKE, "while it cannot be put back, it counts as it is");
}

#[test]
fn an_object_is_in_sync_only_as_the_generation_that_equals_its_document() {
    let (mut ledger, wanted) = (Ledger::default(), document("a", "x"));
    let at = |version, generation| Live { generation: Some(generation), ..applied(&wanted, version) };
    let in_sync = |ledger: &Ledger, generation| ledger.is_in_sync(&object("a"), Some(generation));
    assert!(in_sync(&ledger, 1), "no document declares it");
    load(&mut ledger, std::slice::from_ref(&wanted), &[]);
    assert!(!in_sync(&ledger, 1), "it was not seen yet");
    saw(&mut ledger, "a", at(1, 1), true);
    assert!(in_sync(&ledger, 1));
    saw(&mut ledger, "a", Live { print: None, ..at(2, 2) }, true);
    assert!(!in_sync(&ledger, 2), "somebody edited it");
    ledger.failed(&object("a"), Trouble::new(Class::Denied, "Denied", "no".into()), Instant::now());
    assert!(!in_sync(&ledger, 2), "nor does it count while it cannot be reverted");
    ledger.done(&object("a"), Some(3));
    assert!(!in_sync(&ledger, 2), "what the revert made was not seen yet");
    saw(&mut ledger, "a", at(3, 3), true);
    assert_eq!(
        (in_sync(&ledger, 2), in_sync(&ledger, 3)),
        (false, true),
        "a pass may have begun with the edit"
    );
}

#[test]
fn what_the_server_takes_for_the_same_is_the_same() {
    let (mut ledger, wanted) = (Ledger::default(), document("a", "x"));
    load(&mut ledger, std::slice::from_ref(&wanted), &[]);
    let defaulted = ownership::of_document(&json!({"spec": {"region": "x", "more": 1}}));
    let odd = |version| Live { print: Some(defaulted), ..applied(&wanted, version) };
    saw(&mut ledger, "a", odd(4), true);
    assert_eq!(due(&ledger), ["a"]);
    ledger.done(&object("a"), Some(4));
    assert!(due(&ledger).is_empty(), "applying it changed nothing");
    saw(&mut ledger, "a", odd(5), false);
    assert!(due(&ledger).is_empty(), "nor does a status");

    let mut ledger = Ledger::default();
    load(&mut ledger, std::slice::from_ref(&wanted), &[]);
    ledger.done(&object("a"), Some(7));
    assert_eq!(saw(&mut ledger, "a", odd(7), true), WAKE, "this is what applying it makes");
    assert!(due(&ledger).is_empty());

    // Somebody else slipped in right before.
    for seen_first in [false, true] {
        let mut ledger = Ledger::default();
        load(&mut ledger, std::slice::from_ref(&wanted), &[]);
        let theirs = Live { others: true, ..odd(7) };
        if seen_first {
            saw(&mut ledger, "a", theirs.clone(), true);
        }
        ledger.done(&object("a"), Some(7));
        if !seen_first {
            saw(&mut ledger, "a", theirs, true);
        }
        assert_eq!(due(&ledger), ["a"], "their part in it is no doing of the server's");
    }
}

#[test]
fn old_news_and_other_owners_are_left_alone() {
    let (mut ledger, wanted) = (Ledger::default(), document("a", "x"));
    saw(&mut ledger, "a", Live { owner: Some("them".into()), ..applied(&wanted, 5) }, true);
    let loaded = load(&mut ledger, std::slice::from_ref(&wanted), &["a"]);
    assert!(loaded.news[0].1.contains("another owner, them"), "{:?}", loaded.news);
    assert!(due(&ledger).is_empty() && ledger.present().next().is_none());
    assert_eq!(
        saw(&mut ledger, "a", Live { owner: Some("them".into()), ..applied(&wanted, 6) }, true),
        Sight::Foreign
    );
    assert_eq!(saw(&mut ledger, "a", applied(&wanted, 4), true), Sight::Stale);
    assert_eq!(
        ledger.saw(&object("a"), applied(&wanted, 4), None, true, true, Instant::now()),
        WAKE,
        "a list is the truth"
    );
}

#[test]
fn only_our_own_objects_are_deleted_and_once() {
    let (mut ledger, gone) = (Ledger::default(), document("a", "x"));
    saw(&mut ledger, "a", applied(&gone, 1), true);
    saw(&mut ledger, "bare", Live { owner: None, ..applied(&gone, 2) }, true);
    load(&mut ledger, &[], &["a", "bare", "absent"]);
    assert_eq!(due(&ledger), ["a"]);
    assert!(matches!(ledger.job(&object("a")), Some(Job::Remove { uid }) if uid == "u"));
    saw(&mut ledger, "a", Live { deleting: true, ..applied(&gone, 3) }, true);
    assert!(due(&ledger).is_empty(), "its finalizer keeps it for now");
    ledger.gone(&object("a"), Instant::now());
    assert!(due(&ledger).is_empty());
}

#[test]
fn a_deleted_object_is_made_again_once_it_is_gone() {
    let (mut ledger, wanted) = (Ledger::default(), document("a", "x"));
    load(&mut ledger, std::slice::from_ref(&wanted), &[]);
    saw(&mut ledger, "a", Live { deleting: true, print: None, ..applied(&wanted, 3) }, true);
    assert!(due(&ledger).is_empty());
    ledger.gone(&object("a"), Instant::now());
    assert_eq!(due(&ledger), ["a"]);
}

#[test]
fn failures_wait_and_a_new_commit_tries_again() {
    let (mut ledger, wanted, now) = (Ledger::default(), document("a", "x"), Instant::now());
    load(&mut ledger, std::slice::from_ref(&wanted), &[]);
    let trouble = |words: &str| Trouble::new(Class::Invalid, "Invalid", words.to_owned());
    assert!(ledger.failed(&object("a"), trouble("bad"), now));
    assert!(!ledger.failed(&object("a"), trouble("bad"), now), "said before");
    assert!(due(&ledger).is_empty());
    assert_eq!(ledger.due(now + Duration::from_secs(3600)).len(), 1);
    assert!(ledger.next_retry().is_some_and(|retry| retry > now));
    assert_eq!(ledger.trouble(&object("a")), Some(("Invalid", "bad".to_owned())));
    load(&mut ledger, &[wanted], &[]);
    assert_eq!(due(&ledger), ["a"]);
    ledger.done(&object("a"), Some(1));
    assert_eq!(ledger.trouble(&object("a")), None);
}

#[test]
fn documents_outside_the_scope_are_reported_and_never_sent() {
    let mut ledger = Ledger::default();
    let mut far = document("a", "x");
    far.object.key.namespace = "far".to_owned();
    assert_eq!(load(&mut ledger, std::slice::from_ref(&far), &[]).news.len(), 1);
    assert_eq!(load(&mut ledger, std::slice::from_ref(&far), &[]).news.len(), 0, "said before");
    assert!(ledger.due(Instant::now() + Duration::from_secs(100_000)).is_empty());
    assert_eq!(ledger.trouble(&far.object).map(|(reason, _)| reason), Some("NamespaceNotWatched"));
}

#[test]
fn a_new_owner_makes_our_objects_foreign_and_back() {
    let (mut ledger, wanted) = (Ledger::default(), document("a", "x"));
    load(&mut ledger, std::slice::from_ref(&wanted), &[]);
    saw(&mut ledger, "a", applied(&wanted, 1), true);
    let commit = Load {
        documents: vec![wanted.clone()],
        owner: owner("them"),
        remove: Vec::new(),
        kept: Vec::new(),
        seed: Box::new(|_| None),
    };
    let loaded = ledger.load(&commit, &Scope::All);
    assert!(!loaded.look_again && loaded.news.len() == 1);
    assert!(load(&mut ledger, &[wanted], &[]).look_again);
}

#[test]
fn what_took_effect_without_an_answer_is_no_trouble_any_more() {
    let (mut ledger, wanted, now) = (Ledger::default(), document("a", "x"), Instant::now());
    load(&mut ledger, std::slice::from_ref(&wanted), &[]);
    ledger.failed(&object("a"), Trouble::new(Class::TRANSIENT, "ApplyFailed", "no answer".into()), now);
    assert_eq!(saw(&mut ledger, "a", applied(&wanted, 1), false), WAKE, "the condition goes");
    assert_eq!((ledger.trouble(&object("a")), ledger.next_retry()), (None, None));

    load(&mut ledger, &[], &["a"]);
    ledger.failed(&object("a"), Trouble::new(Class::TRANSIENT, "ApplyFailed", "no answer".into()), now);
    assert!(ledger.next_retry().is_some());
    saw(&mut ledger, "a", Live { deleting: true, ..applied(&wanted, 2) }, true);
    assert_eq!((ledger.trouble(&object("a")), ledger.next_retry()), (None, None));
}

#[test]
fn a_published_status_is_there_before_anybody_looks() {
    let (mut ledger, wanted) = (Ledger::default(), document("a", "x"));
    let bare = |version| Live { has_status: false, ..applied(&wanted, version) };
    saw(&mut ledger, "a", bare(1), true);
    let commit = Load {
        documents: vec![wanted.clone()],
        owner: owner("us"),
        remove: Vec::new(),
        kept: Vec::new(),
        seed: Box::new(|_| Some(json!({}))),
    };
    ledger.load(&commit, &Scope::All);
    assert_eq!(due(&ledger), ["a"]);
    assert!(matches!(ledger.job(&object("a")), Some(Job::Seed { version: 1 })));
    assert_eq!(saw(&mut ledger, "a", bare(2), true), MEND);
    ledger.failed(&object("a"), Trouble::new(Class::TRANSIENT, "ApplyFailed", "no".into()), Instant::now());
    assert!(ledger.next_retry().is_some(), "it is tried again");
    ledger.done(&object("a"), Some(3));
    assert_eq!(saw(&mut ledger, "a", applied(&wanted, 3), false), WAKE);
    assert!(due(&ledger).is_empty());
    ledger.load(&commit, &Scope::All);
    assert!(due(&ledger).is_empty(), "a status is never replaced");
}

fn place(name: &str) -> Place {
    Place { kind: Kind::PackerBuilder, namespace: Some(name.to_owned()) }
}

#[test]
fn nothing_is_sent_where_nothing_can_be_read_and_all_of_it_when_it_can() {
    let (mut ledger, wanted) = (Ledger::default(), document("a", "x"));
    saw(&mut ledger, "gone", applied(&document("gone", "x"), 1), true);
    ledger.unreadable(&place("default"), "namespace default cannot be read".to_owned());
    load(&mut ledger, std::slice::from_ref(&wanted), &["gone"]);
    assert!(due(&ledger).is_empty() && ledger.next_retry().is_none());
    let words = |ledger: &Ledger, name: &str| ledger.trouble(&object(name)).map(|(reason, _)| reason);
    assert_eq!(words(&ledger, "a"), Some("NamespaceUnreadable"));
    assert_eq!(words(&ledger, "gone"), Some("NamespaceUnreadable"), "it says so itself, if it can");
    assert_eq!(
        (ledger.failing(), ledger.unread(), ledger.is_frozen(&object("gone"))),
        (1, vec![object("a")], true)
    );
    // What failed before is not put right by being seen again, before all of it is.
    let trouble = Trouble::new(Class::TRANSIENT, "ApplyFailed", "away".into());
    ledger.failed(&object("a"), trouble, Instant::now());
    saw(&mut ledger, "a", applied(&document("a", "old"), 2), true);
    ledger.readable(&place("default"));
    assert_eq!((words(&ledger, "a"), ledger.failing()), (Some("ApplyFailed"), 1));
    ledger.retry_all(Instant::now());
    assert_eq!(due(&ledger), ["a", "gone"]);
    ledger.done(&object("a"), Some(3));
    assert_eq!((ledger.failing(), ledger.is_frozen(&object("gone"))), (0, false));
}

#[test]
fn who_keeps_changing_an_object_is_answered_ever_more_seldom() {
    let (mut ledger, wanted) = (Ledger::default(), document("a", "x"));
    load(&mut ledger, std::slice::from_ref(&wanted), &[]);
    let start = Instant::now();
    let (mut now, mut version) = (start, 1);
    let saw = |ledger: &mut Ledger, live: Live, now| ledger.saw(&object("a"), live, None, true, false, now);
    saw(&mut ledger, applied(&wanted, version), now);
    let mut sent = Vec::new();
    while now - start < Duration::from_secs(3600) {
        version += 2;
        let theirs = Live { print: None, writer: Some("argocd".into()), ..applied(&wanted, version) };
        assert_eq!(saw(&mut ledger, theirs, now), MEND, "no pass works by what they wrote");
        if let Some(at) = ledger.next_retry() {
            assert!(ledger.is_frozen(&object("a")) && ledger.due(now).is_empty());
            assert_eq!(ledger.trouble(&object("a")).map(|(reason, _)| reason), Some("AnotherWriter"));
            assert_eq!(ledger.failing(), 1);
            now = at;
        }
        assert_eq!(ledger.due(now), [object("a")]);
        let Some(Job::Apply { drift: Some(drift), .. }) = ledger.job(&object("a")) else {
            panic!("no drift")
        };
        assert_eq!(drift, "field manager argocd changed it");
        sent.push(ledger.reverted(&object("a"), drift, now));
        ledger.done(&object("a"), Some(version + 1));
        saw(&mut ledger, applied(&wanted, version + 1), now);
        assert!(!ledger.is_frozen(&object("a")));
    }
    assert!((20..30).contains(&sent.len()), "{}", sent.len());
    assert_eq!(sent.iter().filter(|news| **news).count(), 1, "it is said once");
    // The other one stops.
    let at = ledger.next_retry().expect("a look");
    assert!(ledger.calm(now).is_empty() && at > now);
    assert_eq!(ledger.calm(at), [object("a")]);
    assert_eq!((ledger.trouble(&object("a")), ledger.next_retry()), (None, None));
}

#[test]
fn a_failure_and_a_contest_rest_as_long_as_the_longer_of_both() {
    let (mut ledger, wanted, now) = (Ledger::default(), document("a", "x"), Instant::now());
    load(&mut ledger, std::slice::from_ref(&wanted), &[]);
    saw(&mut ledger, "a", applied(&wanted, 1), true);
    assert_eq!([(); 3].map(|()| ledger.reverted(&object("a"), "x".into(), now)), [false, false, true]);
    saw(&mut ledger, "a", Live { print: None, ..applied(&wanted, 2) }, true);
    let contested = ledger.next_retry().expect("a pause");
    ledger.failed(&object("a"), Trouble::new(Class::Denied, "Denied", "no".into()), now);
    let both = ledger.next_retry().expect("a pause");
    assert!(both > contested && ledger.due(contested).is_empty() && ledger.due(both).len() == 1);
    let other = document("a", "y");
    load(&mut ledger, std::slice::from_ref(&other), &[]);
    assert_eq!(due(&ledger), ["a"], "another document is no contest yet");
}

#[test]
fn a_changed_document_is_no_drift_and_a_deleted_object_is() {
    let (mut ledger, wanted) = (Ledger::default(), document("a", "x"));
    let drift = |ledger: &Ledger| match ledger.job(&object("a")) {
        Some(Job::Apply { drift, .. }) => drift,
        other => panic!("{other:?}"),
    };
    load(&mut ledger, std::slice::from_ref(&wanted), &[]);
    assert_eq!(drift(&ledger), None, "it is new");
    saw(&mut ledger, "a", applied(&wanted, 1), true);
    load(&mut ledger, &[document("a", "y")], &[]);
    assert_eq!(drift(&ledger), None);
    let theirs = Live { writer: Some("kubectl-patch".into()), ..applied(&wanted, 2) };
    saw(&mut ledger, "a", theirs, true);
    assert_eq!(drift(&ledger).as_deref(), Some("field manager kubectl-patch changed it"));
    load(&mut ledger, &[wanted], &[]);
    saw(&mut ledger, "a", applied(&document("a", "x"), 3), true);
    ledger.gone(&object("a"), Instant::now());
    assert_eq!(drift(&ledger).as_deref(), Some("it was deleted"));
}
