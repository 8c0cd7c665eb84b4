//! Documents: which ones are objects of Opsy, their metadata, and what kubectl exports.

use super::*;

#[test]
fn an_object_is_handed_on_as_written_without_nulls_and_with_its_namespace() {
    let text = format!(
        "{BUILDER}  region: us-east-1\n  builder:\n    commands:\n    - subCommand: build\n      args: null\n"
    );
    let set = read(&[("opsy.yaml", "namespace: images\n"), ("b/node.yaml", &text)]);
    assert_eq!(lines(&set), Vec::<String>::new());
    assert_eq!(set.documents.len(), 1);
    let document = first(&set);
    assert_eq!((document.file.as_str(), document.line), ("b/node.yaml", 1));
    assert_eq!(document.object.to_string(), "PackerBuilder/images/node");
    assert_eq!(
        document.json.value(),
        json!({
            "apiVersion": "ami.opsy.dev/v1alpha1",
            "kind": "PackerBuilder",
            "metadata": {"name": "node", "namespace": "images"},
            "spec": {"region": "us-east-1", "builder": {"commands": [{"subCommand": "build"}]}},
        })
    );
}

#[test]
fn wrong_documents_name_their_line() {
    for (text, message) in [
        (
            "apiVersion: ami.opsy.dev/v1\nkind: PackerBuilder\n",
            "a.yaml:1: apiVersion: PackerBuilder has no version v1; write ami.opsy.dev/v1alpha1",
        ),
        (
            "apiVersion: ami.opsi.dev/v1alpha1\nkind: PackerBuilder\n",
            "a.yaml:1: apiVersion: PackerBuilder belongs to ami.opsy.dev/v1alpha1, not to ami.opsi.dev",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuild\n",
            "a.yaml:1: kind: ami.opsy.dev has no kind PackerBuild; did you mean PackerBuilder?",
        ),
        ("apiVersion: ami.opsy.dev/v1alpha1\n", "a.yaml:1: kind: is required but missing"),
        (
            "kind: AMIRefresher\n",
            "a.yaml:1: apiVersion: is required but missing; AMIRefresher belongs to ami.opsy.dev/v1alpha1",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nspec: {}\n",
            "a.yaml:1: metadata: is required but missing",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: {}\nspec: {}\n",
            "a.yaml:3: metadata.name: is required but missing",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: Node_1\nspec: {}\n",
            "a.yaml:4: metadata.name: \"Node_1\" is not a valid name: use a-z, 0-9, '-' and '.', with a letter or digit at both ends",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: x\n  namespace: a.b\nspec: {}\n",
            "a.yaml:5: metadata.namespace: \"a.b\" is not a valid namespace: use at most 63 of a-z, 0-9 and '-'",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: x\n  lables: {}\nspec: {}\n",
            "a.yaml:5: metadata.lables: unknown field; did you mean `labels`?",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: x\n  labels:\n    a: 1\nspec: {}\n",
            "a.yaml:6: metadata.labels.a: must be a string, but 1 is a number; quote it: \"1\"",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: x\n  labels:\n    a: 'x y'\nspec: {}\n",
            "a.yaml:6: metadata.labels.a: \"x y\" is not a valid label value",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: x\n",
            "a.yaml:1: spec: is required but missing",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: x\nspecs: {}\nspec: {}\n",
            "a.yaml:5: specs: unknown field; did you mean `spec`?",
        ),
        (
            "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: [\n",
            "a.yaml:3: is not valid YAML: unclosed bracket '['; if it is not meant for Opsy, list it in .opsyignore",
        ),
    ] {
        expect(text, &[message]);
    }
}

#[test]
fn what_kubectl_exports_is_read() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: ami.opsy.dev/v1alpha1\n  kind: PackerBuilder\n  metadata:\n    name: node\n    uid: u\n    resourceVersion: '5'\n    creationTimestamp: null\n    labels: null\n    annotations:\n      kubectl.kubernetes.io/last-applied-configuration: '{}'\n      keep: me\n  spec: {}\n  status: {state: running}\n- apiVersion: v1\n  kind: Secret\n";
    let set = read(&[("a.yaml", text)]);
    assert_eq!(
        lines(&set),
        [
            "note a.yaml:16: status: is written by Opsy and ignored here",
            "note a.yaml:8: metadata.uid, metadata.resourceVersion: set by the server and ignored here",
            "foreign a.yaml:17: Secret is not a kind of Opsy: ignored",
        ]
    );
    assert_eq!(first(&set).line, 4);
    assert_eq!(
        first(&set).json.value()["metadata"],
        json!({"name": "node", "namespace": "default", "annotations": {"keep": "me"}})
    );
}
