//! What is printed of an image: from status, and from its tags.

use serde_json::{Value, json};

use super::*;
use crate::api::tags::{self, Tags};
use crate::api::{CommitId, Key, ObjectKey};
use crate::aws::Image;

fn traced(image: &str, objects: Option<&[Object]>) -> Origin {
    Origin::of(&ImageId::parse(image).expect("an ID"), objects, true)
}

fn object(kind: Kind, name: &str, spec: Value, status: Value) -> Object {
    let key = Key { namespace: "default".to_owned(), name: name.to_owned() };
    Object::new(ObjectKey { kind, key }, spec, status)
}

fn described(id: CommitId) -> Described {
    Described { id, author: "Ann".to_owned(), subject: "packer: newer kernel".to_owned() }
}

fn objects() -> Vec<Object> {
    let run = |id: &str, image: &str| {
        json!({
            "id": id, "result": "Succeeded", "why": "Template", "commit": "0123456789abcdef0123456789abcdef01234567",
            "inputs": {"baseAMI": "ami-0000000b"}, "images": [image],
            "startedAt": "2026-01-01T00:00:00Z", "endedAt": "2026-01-01T00:05:00Z",
        })
    };
    let lane = json!({"region": "eu-west-1", "architecture": "x86_64", "id": "ami-00000002"});
    let built = json!({"images": [lane], "history": [run("b2", "ami-00000002"), run("b1", "ami-00000001")]});
    let group = |name: &str, image: &str| json!({"name": name, "currentAMI": image});
    let rolled = json!({"targetAMI": "ami-00000002", "nodeGroups": [group("web", "ami-00000002"), group("batch", "ami-00000001")]});
    vec![
        object(Kind::PackerBuilder, "node", Value::Null, built),
        object(Kind::PackerBuilder, "other", Value::Null, Value::Null),
        object(Kind::AMIRefresher, "demo", json!({"clusterName": "prod"}), rolled),
    ]
}

#[test]
fn an_image_leads_back_to_its_commit_and_base_and_to_where_it_runs() {
    let mut origin = traced("ami-00000002", Some(&objects()));
    let id = CommitId::parse(origin.commit().expect("a commit")).expect("an ID");
    origin.described(Some(described(id)));
    let (name, instance, group) = ("ip-1".to_owned(), Some("i-1".to_owned()), Some("web".to_owned()));
    origin.machine = Some(Machine::Node { name, instance, group });
    let expected = "\
node ip-1  instance i-1  node group web
└── ami-00000002  active in eu-west-1/x86_64
    ├── built by PackerBuilder/default/node
    │   └── build b2  Succeeded  reason Template  2026-01-01T00:00:00Z in 5 min
    │       └── commit 0123456789ab  packer: newer kernel  by Ann
    ├── base image ami-0000000b
    └── rolled out by AMIRefresher/default/demo  cluster prod
        └── node group web
";
    assert_eq!(origin.outline().draw(), expected);
    let document = json!(origin);
    assert_eq!((&document["build"]["id"], &document["build"]["author"]), (&json!("b2"), &json!("Ann")));
    assert_eq!(document["build"]["subject"], "packer: newer kernel");
    assert_eq!((&document["author"], &document["subject"]), (&Value::Null, &Value::Null));
}

#[test]
fn an_older_image_still_runs_and_an_unknown_one_is_said_to_be_unknown() {
    let older = traced("ami-00000001", Some(&objects()));
    assert!(older.is_known());
    let expected = "\
ami-00000001
├── built by PackerBuilder/default/node
│   └── build b1  Succeeded  reason Template  2026-01-01T00:00:00Z in 5 min
│       └── commit 0123456789ab
├── base image ami-0000000b
└── still in use by AMIRefresher/default/demo  cluster prod
    └── node group batch
";
    assert_eq!(older.outline().draw(), expected);
    let unknown = traced("ami-00000003", Some(&objects()));
    assert!(!unknown.is_known());
    assert_eq!(unknown.outline().draw(), "ami-00000003\n└── no refresher uses it\n");
    let unread = "ami-00000003\n└── whether a refresher uses it is unknown\n";
    assert_eq!(traced("ami-00000003", None).outline().draw(), unread);
}

#[test]
fn an_image_that_another_object_may_use_is_not_said_to_be_unused() {
    let partial = |image: &str| Origin::of(&ImageId::parse(image).expect("an ID"), Some(&objects()), false);
    let unused = partial("ami-00000003");
    let drawn = unused.outline().draw();
    assert_eq!(drawn, "ami-00000003\n└── whether a refresher uses it is unknown\n");
    assert_eq!(json!(unused)["runsOn"], Value::Null);
    let drawn = partial("ami-00000001").outline().draw();
    assert!(drawn.contains("still in use by") && !drawn.contains("is unknown"), "{drawn}");
}

/// An image with these tags, as EC2 reports it.
fn registered(tags: &[(&str, &str)]) -> Registered {
    let id = ImageId::parse("ami-00000003").expect("an ID");
    let mut image = Image::named(id, "node-1".to_owned());
    image.owner_id = "123456789012".to_owned();
    image.created = "2025-01-01T00:00:00Z".parse().ok();
    image.deprecated = "2025-06-01T00:00:00Z".parse().ok();
    image.tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Tags>();
    Registered::new(&Region::parse("eu-west-1").expect("a region"), &image)
}

#[test]
fn what_only_the_tags_of_an_image_name_is_said_to_be_theirs() {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let mut origin = traced("ami-00000003", Some(&objects()));
    origin.registered(Some(registered(&[
        (tags::BUILDER, "default/gone"),
        (tags::OWNER, "other"),
        (tags::BUILD, "0123456789abcdef"),
        (tags::CREATED, "2025-01-01T00:00:00Z"),
        (tags::COMMIT, commit),
        (tags::REPO, "https://git.example.com/images.git"),
        (tags::BASE, "ami-0000000b"),
        (tags::STATUS, tags::DEPRECATED),
    ])));
    origin.note(["a note".to_owned()]);
    assert!(origin.is_known() && !origin.has_build());
    assert_eq!(origin.commit(), Some(commit));
    origin.described(Some(described(CommitId::parse(commit).expect("an ID"))));
    let expected = "\
ami-00000003
├── EC2: node-1  eu-west-1  account 123456789012  available  created 2025-01-01T00:00:00Z  deprecated from 2025-06-01T00:00:00Z
├── according to its tags: built by PackerBuilder/default/gone  owner other  status deprecated
│   └── according to its tags: build 0123456789abcdef  2025-01-01T00:00:00Z
│       └── according to its tags: commit 0123456789ab of https://git.example.com/images.git  packer: newer kernel  by Ann
├── according to its tags: base image ami-0000000b
├── no refresher uses it
└── a note
";
    assert_eq!(origin.outline().draw(), expected);
    let document = json!(origin);
    let by_tags = &document["ec2"]["byTags"];
    assert_eq!((&by_tags["author"], &by_tags["subject"]), (&json!("Ann"), &json!("packer: newer kernel")));
    let of_status = ["builder", "build", "author", "subject", "baseImage"].map(|field| &document[field]);
    assert_eq!(of_status, [&Value::Null; 5], "status does not know the image");
}

#[test]
fn an_active_image_whose_build_left_status_keeps_its_builder_and_lane() {
    let mut all = objects();
    all[0].status["history"] = json!([]);
    let mut origin = traced("ami-00000002", Some(&all));
    assert!(origin.is_known() && !origin.has_build());
    origin
        .registered(Some(registered(&[(tags::BUILDER, "default/other"), (tags::BUILD, "0123456789abcdef")])));
    let drawn = origin.outline().draw();
    for line in [
        "ami-00000002  active in eu-west-1/x86_64\n",
        "├── built by PackerBuilder/default/node\n",
        "├── according to its tags: built by PackerBuilder/default/other\n│   └── according to its tags: build 0123456789abcdef\n",
    ] {
        assert!(drawn.contains(line), "{line}: {drawn}");
    }
}
