//! Objects whose state is damaged are reported and affect no other object.

mod difference;
mod loads;
mod statuses;

use serde_json::{Value, json};

use super::*;
use crate::api::{Key, Kind, Owner};
use crate::engine::standalone::disk;
use crate::engine::{Home, Load, Wakes};
use crate::manifest::{Document, DocumentText};

fn object(name: &str) -> ObjectKey {
    let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
    ObjectKey { kind: Kind::PackerBuilder, key }
}

fn document(name: &str) -> Document {
    let json = json!({
        "apiVersion": "ami.opsy.dev/v1alpha1", "kind": "PackerBuilder",
        "metadata": {"name": name, "namespace": "default"}, "spec": {"region": "us-east-1"},
    });
    Document { object: object(name), json: DocumentText::from(&json), file: format!("{name}.yaml"), line: 1 }
}

fn commit(documents: &[&str], retained: &[&str]) -> Load {
    Load {
        documents: documents.iter().map(|name| document(name)).collect(),
        owner: Owner::parse("test").expect("an owner"),
        remove: Vec::new(),
        retained: retained.iter().map(|name| object(name)).collect(),
        seed: Box::new(|_| None),
        wake: Wakes::All,
    }
}

fn home(state: &Path) -> (StateHome, Arc<Objects>) {
    let (objects, _) = Objects::new();
    let now = || Timestamp::UNIX_EPOCH;
    let home = StateHome::open(state, objects.clone(), Secrets::default(), now).expect("it starts");
    (home, objects)
}

/// The names of the objects that are reconciled, and why the others are not.
fn reconciled(home: &StateHome, objects: &Objects) -> (Vec<String>, Vec<Option<&'static str>>) {
    let names = objects.board.health().into_keys().map(|object| object.key.name).collect();
    let reasons = ["good", "bad"].map(|name| home.out_of_sync(&object(name)).map(|(reason, _)| reason));
    (names, reasons.to_vec())
}

#[test]
fn an_unreadable_state_file_affects_only_its_object() {
    let state = tempfile::tempdir().expect("a folder");
    home(state.path()).0.shared.load_commit(&commit(&["good", "bad"], &[])).expect("loaded");
    let file = files::of(&objects_dir(state.path()), &object("bad"));
    std::fs::write(&file, "{\"spec").expect("written");
    let (home, objects) = home(state.path());
    home.shared.load_commit(&commit(&["good", "bad"], &[])).expect("loaded");
    let due = (vec!["good".to_owned()], vec![None, Some("StateUnreadable")]);
    assert_eq!(reconciled(&home, &objects), due);
    let (_, why) = home.out_of_sync(&object("bad")).expect("it is reported");
    assert!(why.starts_with("objects/PackerBuilder/default/bad.json in the state directory"), "{why}");
    assert_eq!(std::fs::read_to_string(&file).expect("it is retained"), "{\"spec");
}

#[test]
fn a_retained_object_that_cannot_be_decoded_does_not_end_the_agent() {
    let state = tempfile::tempdir().expect("a folder");
    home(state.path()).0.shared.load_commit(&commit(&["good", "bad"], &[])).expect("loaded");
    let file = files::of(&objects_dir(state.path()), &object("bad"));
    let mut stored: Value = disk::read_json(&file).expect("read").expect("it is there");
    stored["spec"]["region"] = json!(["of", "an", "older", "Opsy"]);
    disk::write_json(&file, &stored).expect("written");
    let (home, objects) = home(state.path());
    home.shared.load_commit(&commit(&["good"], &["bad"])).expect("loaded");
    assert_eq!(reconciled(&home, &objects), (vec!["good".to_owned()], vec![None, Some("Undecodable")]));
    home.shared.load_commit(&commit(&["good", "bad"], &[])).expect("loaded");
    assert_eq!(reconciled(&home, &objects).0.len(), 2, "a manifest makes it one again");
}
