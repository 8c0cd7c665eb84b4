//! Every case shows the whole file before and after, because nothing else may change.

use super::*;
use crate::api::{Key, Kind};

fn object(name: &str) -> ObjectKey {
    let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
    ObjectKey { kind: Kind::AMIRefresher, key }
}

fn image(number: u32) -> ImageId {
    ImageId::parse(format!("ami-{number:08x}")).expect("an ID")
}

fn held() -> Pin {
    Pin { ami: image(1), held: Some((image(2), "bad: \"disk\"".to_owned())) }
}

fn edited(text: &str, change: &Pin) -> Result<Option<String>, String> {
    pin(text, &object("demo"), "default", change)
}

const HEAD: &str =
    "# policy\napiVersion: ami.opsy.dev/v1alpha1\nkind: AMIRefresher\nmetadata: {name: demo}\n";

#[test]
fn only_the_named_fields_change() {
    let cases = [
        (
            "spec:\n  # where\n  region: us-east-1\n  clusterName: demo # main\n  amiFrom:\n    packerBuilder: node\n",
            "spec:\n  # where\n  region: us-east-1\n  clusterName: demo # main\n  held:\n    - ami: ami-00000002\n      \
             reason: \"bad: \\\"disk\\\"\"\n  ami: ami-00000001\n  amiFrom:\n    packerBuilder: node\n",
        ),
        (
            "spec:\n    ami:   \"ami-00000002\"   # newest\n    region: us-east-1\n    clusterName: demo\n",
            "spec:\n    ami:   ami-00000001   # newest\n    region: us-east-1\n    clusterName: demo\n    held:\n      \
             - ami: ami-00000002\n        reason: \"bad: \\\"disk\\\"\"\n",
        ),
        (
            "spec:\r\n  region: us-east-1\r\n  held:\r\n  - ami: ami-00000003 # slow\r\n  clusterName: demo",
            "spec:\r\n  region: us-east-1\r\n  held:\r\n  - ami: ami-00000002\r\n    reason: \"bad: \\\"disk\\\"\"\r\n  - \
             ami: ami-00000003 # slow\r\n  clusterName: demo\r\n  ami: ami-00000001\r\n",
        ),
        (
            "spec:\n  region: us-east-1\n  clusterName: demo\n  ami: ami-00000009\n  held:\n    - {ami: ami-00000002}\n",
            "spec:\n  region: us-east-1\n  clusterName: demo\n  ami: ami-00000001\n  held:\n    - {ami: ami-00000002}\n",
        ),
    ];
    for (before, after) in cases {
        let text = edited(&format!("{HEAD}{before}"), &held()).expect("edited").expect("declared");
        assert_eq!(text, format!("{HEAD}{after}"));
    }
}

#[test]
fn the_right_document_of_a_file_or_list_changes() {
    let spec = "spec:\n  region: us-east-1\n  clusterName: demo\n";
    let other = HEAD.replace("demo", "other");
    let elsewhere = HEAD.replace("{name: demo}", "{name: demo, namespace: team}");
    let text = format!("{other}{spec}---\n{elsewhere}{spec}---\n{HEAD}{spec}");
    let change = Pin { ami: image(1), held: None };
    let after = format!("{other}{spec}---\n{elsewhere}{spec}---\n{HEAD}{spec}  ami: ami-00000001\n");
    assert_eq!(edited(&text, &change), Ok(Some(after)));
    assert_eq!(edited(&format!("{other}{spec}"), &change), Ok(None));
    assert_eq!(edited("{", &change), Ok(None), "a file that cannot be read declares nothing");
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: ami.opsy.dev/v1alpha1\n  kind: AMIRefresher\n  \
                metadata:\n    name: demo\n  spec:\n    clusterName: demo\n    region: us-east-1\n- kind: Other\n";
    let after = list.replace("demo\n    region", "demo\n    ami: ami-00000001\n    region");
    assert_eq!(edited(list, &change), Ok(Some(after)));
}

#[test]
fn a_layout_that_cannot_be_edited_is_refused() {
    let change = Pin { ami: image(1), held: None };
    for spec in [
        "spec: {region: us-east-1, clusterName: demo}\n",
        "spec:\n  {region: us-east-1, clusterName: demo}\n",
        "spec:\n  region: us-east-1\n  clusterName: demo\n  ami: >-\n    ami-00000002\n",
        "spec: &spec\n  region: us-east-1\n  clusterName: demo\n  ami: &image ami-00000002\n",
    ] {
        assert!(edited(&format!("{HEAD}{spec}"), &change).is_err(), "{spec}");
    }
    let shared = "spec:\n  <<: {ami: ami-00000003}\n  region: us-east-1\n  clusterName: demo\n";
    let text = edited(&format!("{HEAD}{shared}"), &change);
    assert!(
        text.as_ref().is_err()
            || text.is_ok_and(|text| text.is_some_and(|text| text.contains("ami-00000001")))
    );
}
