//! Objects whose state is broken: they are reported, and stop nothing else.

use serde_json::json;

use super::*;
use crate::api::Key;

fn object(name: &str) -> ObjectKey {
    let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
    ObjectKey { kind: Kind::PackerBuilder, key }
}

fn document(name: &str) -> Document {
    let json = json!({
        "apiVersion": "ami.opsy.dev/v1alpha1", "kind": "PackerBuilder",
        "metadata": {"name": name, "namespace": "default"}, "spec": {"region": "us-east-1"},
    });
    Document { object: object(name), json: Json::from(&json), file: format!("{name}.yaml"), line: 1 }
}

fn commit(documents: &[&str], kept: &[&str]) -> Load {
    Load {
        documents: documents.iter().map(|name| document(name)).collect(),
        owner: Owner::parse("test").expect("an owner"),
        remove: Vec::new(),
        kept: kept.iter().map(|name| object(name)).collect(),
        seed: Box::new(|_| None),
    }
}

fn home(state: &Path) -> (StateFolder, Arc<Objects>) {
    let (objects, _) = Objects::new();
    let now = || Timestamp::UNIX_EPOCH;
    let home = StateFolder::open(state, objects.clone(), Secrets::default(), now).expect("it starts");
    (home, objects)
}

/// Which objects are reconciled, and why the others are not.
fn standing(home: &StateFolder, objects: &Objects) -> (Vec<String>, Vec<Option<&'static str>>) {
    let names = objects.board.standings().into_keys().map(|object| object.key.name).collect();
    let reasons = ["good", "bad"].map(|name| home.unapplied(&object(name)).map(|(reason, _)| reason));
    (names, reasons.to_vec())
}

#[test]
fn a_state_file_that_cannot_be_read_is_about_its_object_alone() {
    let state = tempfile::tempdir().expect("a folder");
    home(state.path()).0.take_over(&commit(&["good", "bad"], &[])).expect("taken");
    let file = files::of(&objects_dir(state.path()), &object("bad"));
    std::fs::write(&file, "{\"spec").expect("written");
    let (home, objects) = home(state.path());
    home.take_over(&commit(&["good", "bad"], &[])).expect("taken");
    let due = (vec!["good".to_owned()], vec![None, Some("StateUnreadable")]);
    assert_eq!(standing(&home, &objects), due);
    let (_, why) = home.unapplied(&object("bad")).expect("it is said");
    assert!(why.starts_with("objects/PackerBuilder/default/bad.json in the state directory"), "{why}");
    assert_eq!(std::fs::read_to_string(&file).expect("it is left alone"), "{\"spec");
}

#[test]
fn a_kept_object_that_is_none_any_more_does_not_end_the_agent() {
    let state = tempfile::tempdir().expect("a folder");
    home(state.path()).0.take_over(&commit(&["good", "bad"], &[])).expect("taken");
    let file = files::of(&objects_dir(state.path()), &object("bad"));
    let mut stored: Value = disk::read_json(&file).expect("read").expect("it is there");
    stored["spec"]["region"] = json!(["of", "an", "older", "Opsy"]);
    disk::write_json(&file, &stored).expect("written");
    let (home, objects) = home(state.path());
    home.take_over(&commit(&["good"], &["bad"])).expect("taken");
    assert_eq!(standing(&home, &objects), (vec!["good".to_owned()], vec![None, Some("Undecodable")]));
    home.take_over(&commit(&["good", "bad"], &[])).expect("taken");
    assert_eq!(standing(&home, &objects).0.len(), 2, "a manifest makes it one again");
}
