//! Objects as a real API server returned them, reduced to what is compared.

use super::*;

/// The file of the document.
const FILE: &str = "builders/web.yaml";

fn owner() -> Owner {
    Owner::parse("team-a").expect("an owner")
}

fn document() -> Value {
    json!({
        "apiVersion": "ami.opsy.dev/v1alpha1", "kind": "PackerBuilder",
        "metadata": {"name": "web", "namespace": "default", "annotations": {"note": "x"}},
        "spec": {
            "region": "us-east-1", "suspend": null, "gitSync": {},
            "failurePolicy": {"limit": 3},
            "builder": {"dir": "packer", "commands": [{"subCommand": "build", "args": null}]},
        },
    })
}

fn entry(manager: &str, operation: &str, fields: Value) -> ManagedFieldsEntry {
    ManagedFieldsEntry {
        manager: Some(manager.to_owned()),
        operation: Some(operation.to_owned()),
        fields_v1: Some(FieldsV1(fields)),
        ..ManagedFieldsEntry::default()
    }
}

fn applied_fields() -> Value {
    json!({
        "f:metadata": {
            "f:annotations": {"f:note": {}, "f:ami.opsy.dev/file": {}},
            "f:labels": {"f:ami.opsy.dev/owner": {}, "f:app.kubernetes.io/managed-by": {}},
        },
        "f:spec": {
            "f:region": {}, "f:gitSync": {}, "f:failurePolicy": {"f:limit": {}},
            "f:builder": {"f:dir": {}, "f:commands": {}},
        },
    })
}

/// Metadata and spec right after the document was applied.
fn live() -> (ObjectMeta, Value) {
    let sent = labelled(document(), FILE, &owner());
    let metadata = ObjectMeta {
        labels: serde_json::from_value(sent["metadata"]["labels"].clone()).expect("labels"),
        annotations: serde_json::from_value(sent["metadata"]["annotations"].clone()).expect("annotations"),
        managed_fields: Some(vec![entry(MANAGER, "Apply", applied_fields())]),
        resource_version: Some("7".to_owned()),
        ..ObjectMeta::default()
    };
    (metadata, sent["spec"].clone())
}

fn differs(metadata: &ObjectMeta, spec: &Value, document: &Value) -> bool {
    of_live(metadata, spec) != Some(of_document(&labelled(document.clone(), FILE, &owner())))
}

#[test]
fn an_annotation_belongs_to_the_document_if_the_agent_applied_it() {
    let (mut metadata, _) = live();
    assert!(applies_annotation(&metadata, "note"));
    assert!(!applies_annotation(&metadata, "ami.opsy.dev/suspend"));
    let theirs = json!({"f:metadata": {"f:annotations": {"f:ami.opsy.dev/suspend": {}}}});
    metadata.managed_fields.as_mut().expect("fields").push(entry("opsy-cli", "Update", theirs));
    assert!(!applies_annotation(&metadata, "ami.opsy.dev/suspend"));
}

#[test]
fn an_object_is_in_sync_right_after_it_was_applied() {
    let (metadata, spec) = live();
    assert!(!differs(&metadata, &spec, &document()));
}

fn status() -> ManagedFieldsEntry {
    ManagedFieldsEntry {
        subresource: Some("status".to_owned()),
        ..entry(MANAGER, "Update", json!({"f:status": {"f:state": {}}}))
    }
}

#[test]
fn labels_and_annotations_of_others_do_not_differ() {
    let (mut metadata, spec) = live();
    metadata.labels.get_or_insert_default().insert("team".into(), "b".into());
    metadata.annotations.get_or_insert_default().insert("seen".into(), "today".into());
    let others = entry("team-b", "Update", json!({"f:metadata": {"f:labels": {"f:team": {}}}}));
    metadata.managed_fields.get_or_insert_default().extend([status(), others]);
    assert!(!differs(&metadata, &spec, &document()));
    assert!(!has_others(&metadata, &spec) && writer(&metadata).is_none());
}

#[test]
fn what_others_add_to_the_spec_differs_and_is_taken_over() {
    for (path, value) in [
        ("suspend", json!(true)),
        ("builder/image", json!("evil/packer")),
        ("builder/pod", json!({"env": [{"name": "A", "value": "b"}]})),
        ("gitSync/image", json!("theirs")),
    ] {
        let (mut metadata, mut spec) = live();
        let names: Vec<&str> = path.split('/').collect();
        let (last, outer) = names.split_last().expect("a name");
        let inner = outer.iter().fold(&mut spec, |at, name| &mut at[*name]);
        inner[*last] = value;
        let fields = names.iter().rev().fold(json!({}), |inner, name| json!({format!("f:{name}"): inner}));
        assert!(differs(&metadata, &spec, &document()), "{path}: of no manager");
        assert!(has_others(&metadata, &spec), "{path}: of no manager");
        let patched =
            entry("kubectl-patch", "Update", json!({"f:spec": fields, "f:metadata": {"f:labels": {}}}));
        let with_labels =
            |fields: Value| json!({"f:metadata": {"f:labels": {"f:team": {}}}, "f:spec": fields});
        let labelled = entry("team-b", "Apply", with_labels(json!({"f:region": {}})));
        let both = [status(), patched, labelled];
        metadata.managed_fields.get_or_insert_default().extend(both);
        assert!(differs(&metadata, &spec, &document()) && has_others(&metadata, &spec), "{path}");
        let patch = takeover(&metadata, &spec);
        let kept: Vec<ManagedFieldsEntry> =
            serde_json::from_value(patch[0]["value"].clone()).expect("entries");
        let left: Vec<_> =
            kept.iter().map(|entry| (entry.manager.as_deref(), entry.subresource.as_deref())).collect();
        let expected = [
            (Some(MANAGER), Some("status")),
            (Some("kubectl-patch"), None),
            (Some("team-b"), None),
            (Some(MANAGER), None),
        ];
        assert_eq!(left, expected, "{path}");
        assert!(kept[..3].iter().all(|entry| super::fields(entry)["f:spec"].is_null()), "{path}");
        assert_eq!(super::fields(&kept[2])["f:metadata"]["f:labels"], json!({"f:team": {}}));
        let own = names.iter().fold(&super::fields(&kept[3])["f:spec"], |at, name| &at[format!("f:{name}")]);
        assert!(own.is_object(), "{path}: {kept:?}");
        metadata.managed_fields = Some(kept);
        assert!(!has_others(&metadata, &spec), "{path}");
    }
}

#[test]
fn the_last_writer_of_a_field_of_the_document_is_named() {
    let (mut metadata, _) = live();
    let at = |second: i64, entry: ManagedFieldsEntry| ManagedFieldsEntry {
        time: Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            jiff::Timestamp::from_second(second).expect("a time"),
        )),
        ..entry
    };
    let spec = json!({"f:spec": {"f:region": {}}});
    let owner = json!({"f:metadata": {"f:labels": {"f:ami.opsy.dev/owner": {}}}});
    metadata.managed_fields.get_or_insert_default().extend([
        at(2, entry("kubectl-edit", "Update", spec.clone())),
        at(1, entry("argocd", "Apply", spec)),
        at(3, entry("team", "Update", json!({"f:metadata": {"f:labels": {"f:team": {}}}}))),
        status(),
    ]);
    assert_eq!(writer(&metadata), Some("kubectl-edit"));
    metadata.managed_fields.get_or_insert_default().push(at(4, entry("kubectl-label", "Update", owner)));
    assert_eq!(writer(&metadata), Some("kubectl-label"));
}

#[test]
fn an_overwritten_field_differs_even_with_the_same_value() {
    let (mut metadata, spec) = live();
    let mut fields = applied_fields();
    fields["f:spec"].as_object_mut().expect("a map").remove("f:region");
    metadata.managed_fields = Some(vec![entry(MANAGER, "Apply", fields)]);
    assert!(differs(&metadata, &spec, &document()));
}

#[test]
fn a_field_or_label_the_document_drops_differs() {
    let (metadata, spec) = live();
    let mut less = document();
    less["spec"].as_object_mut().expect("a map").remove("region");
    assert!(differs(&metadata, &spec, &less));
    let mut less = document();
    less["metadata"].as_object_mut().expect("a map").remove("annotations");
    assert!(differs(&metadata, &spec, &less));
}

#[test]
fn changed_values_differ_and_forms_of_the_same_number_do_not() {
    let (metadata, spec) = live();
    let with = |path: &str, value: Value| {
        let mut document = document();
        *document.pointer_mut(path).expect("a field") = value;
        document
    };
    assert!(differs(&metadata, &spec, &with("/spec/region", json!("eu-west-1"))));
    assert!(differs(&metadata, &spec, &with("/spec/builder/commands", json!([]))));
    assert!(differs(&metadata, &spec, &with("/spec/builder/commands/0/args", json!(["-x"]))));
    assert!(differs(&metadata, &spec, &with("/metadata/annotations/note", json!("y"))));
    assert!(!differs(&metadata, &spec, &with("/spec/failurePolicy/limit", json!(3.0))));
}

#[test]
fn another_owner_differs_and_an_object_that_was_never_applied_has_no_fingerprint() {
    let (metadata, spec) = live();
    let other = Owner::parse("team-b").expect("an owner");
    assert_ne!(of_live(&metadata, &spec), Some(of_document(&labelled(document(), FILE, &other))));
    assert_ne!(of_live(&metadata, &spec), Some(of_document(&labelled(document(), "moved.yaml", &owner()))));
    let fresh = ObjectMeta { managed_fields: None, ..metadata };
    assert_eq!(of_live(&fresh, &spec), None);
}

#[test]
fn what_is_sent_has_no_nulls_but_the_agents_labels_and_the_file() {
    let sent = labelled(document(), FILE, &owner());
    assert!(!sent.to_string().contains("null"), "{sent}");
    assert_eq!(sent["metadata"]["labels"]["ami.opsy.dev/owner"], "team-a");
    assert_eq!(sent["metadata"]["labels"]["app.kubernetes.io/managed-by"], "opsy");
    assert_eq!(sent["metadata"]["annotations"], json!({"note": "x", "ami.opsy.dev/file": FILE}));
}

#[test]
fn a_takeover_adds_kubectls_fields_to_the_agents_and_leaves_others_alone() {
    let (mut metadata, spec) = live();
    let kubectl = entry(
        KUBECTL[0],
        "Update",
        json!({"f:spec": {".": {}, "f:clusterName": {}}, "f:metadata": {"f:labels": {"f:team": {}}}}),
    );
    let operator = entry("manager", "Update", json!({"f:metadata": {"f:finalizers": {}}}));
    metadata.managed_fields.get_or_insert_default().extend([kubectl, operator.clone()]);
    assert!(has_others(&metadata, &spec));
    let patch = takeover(&metadata, &spec);
    let kept: Vec<ManagedFieldsEntry> = serde_json::from_value(patch[0]["value"].clone()).expect("entries");
    assert_eq!(kept[0], operator);
    let fields = &kept[1].fields_v1.as_ref().expect("fields").0;
    assert_eq!((kept.len(), kept[1].manager.as_deref()), (2, Some(MANAGER)));
    assert_eq!(fields["f:spec"]["f:clusterName"], json!({}));
    assert_eq!(fields["f:spec"]["f:region"], json!({}));
    assert_eq!(fields["f:metadata"]["f:labels"]["f:team"], json!({}));
    assert_eq!(patch[1]["value"], "7");
}

#[test]
fn only_finalizers_of_opsys_domain_are_removed() {
    let all = ["ami.opsy.dev/run", "ami.opsy.dev/finalizer", "opsy.dev/x", "foregroundDeletion"];
    let all: Vec<String> = [&all[..], &["notopsy.dev/x", "other.io/opsy.dev"]]
        .concat()
        .iter()
        .map(|f| (*f).to_owned())
        .collect();
    assert_eq!(finalizers_of_others(&all), ["foregroundDeletion", "notopsy.dev/x", "other.io/opsy.dev"]);
}
