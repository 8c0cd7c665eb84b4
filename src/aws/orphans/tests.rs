//! What counts as an orphan of a build, and what is never touched.

use jiff::Timestamp;

use super::evidence::{PACKERS_GROUP, PACKERS_INSTANCE};
use super::*;
use crate::api::tags::{BUILD, OWNER, STATUS};
use crate::aws::ImageState;

const MARK: Mark<'_> = Mark { owner: "me", build: "00000000000000aa" };
const NAME: &str = "packer_6b032da1-e184-c969-72d7-b21df4dba73c";

fn tagged(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn image(tags: &[(&str, &str)]) -> Image {
    Image {
        id: ImageId::parse("ami-0123456789abcdef0").expect("an id"),
        name: "node".to_owned(),
        owner_id: "123456789012".to_owned(),
        architecture: "x86_64".to_owned(),
        state: ImageState::Available,
        state_reason: None,
        created: Some(Timestamp::UNIX_EPOCH),
        deprecated: None,
        tags: tagged(tags),
        snapshots: Vec::new(),
        source: None,
        machine: crate::aws::Machine::default(),
    }
}

#[test]
fn only_a_name_of_packers_making_is_one() {
    assert!(is_packers_name(NAME));
    for other in ["packer_", "packer_mine", "packer_6b032da1e184c96972d7b21df4dba73c", "admin"] {
        assert!(!is_packers_name(other), "{other}");
    }
    assert!(!is_packers_name(&format!("x{NAME}")) && !is_packers_name(&format!("{NAME}-2")));
}

#[test]
fn the_tags_of_this_build_and_owner_decide() {
    let ours = [(BUILD, MARK.build), (OWNER, MARK.owner)];
    assert!(MARK.covers(&tagged(&ours), false));
    assert!(!MARK.covers(&tagged(&[(BUILD, MARK.build), (OWNER, "you")]), false), "of another owner");
    assert!(!MARK.covers(&tagged(&[(BUILD, MARK.build)]), false), "without an owner");
    assert!(!MARK.covers(&tagged(&[(BUILD, "00000000000000bb"), (OWNER, "me")]), true), "of another build");
    assert!(MARK.covers(&tagged(&[("Name", "x")]), true), "announced, and looks like Packer's");
    assert!(!MARK.covers(&tagged(&[("Name", "x")]), false), "announced, but does not look like Packer's");
}

fn region(name: &str) -> Region {
    Region::parse(name).expect("a region")
}

/// Classifies an image of a build with these announcements. EC2 shows the build's instance `i-1` and the instance `i-2`
/// of another build, and no source of copies.
fn is_orphan(announced: &Announced, image: Image, instance: Option<&str>, source: Option<&str>) -> bool {
    let (instance, source) = (instance.map(str::to_owned), source.map(str::to_owned));
    let found = [Found { image, instance, source, source_region: None }];
    let named = evidence::announced_sources(&found, announced, &region("us-east-1"));
    let evidence = evidence(announced);
    let sources = Sources::of(named, &[], &evidence);
    Evidence { sources, ..evidence }.is_orphan(&found[0])
}

fn evidence(announced: &Announced) -> Evidence<'_> {
    let machines = Machines { own: ["i-1".to_owned()].into(), others: ["i-2".to_owned()].into() };
    Evidence { mark: MARK, announced, sources: Sources::default(), machines }
}

#[test]
fn an_image_is_left_over_only_while_it_is_no_result() {
    let ours = [(BUILD, MARK.build), (OWNER, MARK.owner)];
    let announced = Announced { images: vec!["ami-0123456789abcdef0".into()], ..Announced::default() };
    let is_orphan = |image: Image| is_orphan(&announced, image, None, None);
    assert!(is_orphan(image(&ours)));
    assert!(is_orphan(image(&[])), "an interrupted Packer 1.6 leaves it without tags");
    assert!(!is_orphan(image(&[ours[0], ours[1], (STATUS, "active")])));
    assert!(is_orphan(image(&[ours[0], ours[1], (STATUS, "golden")])), "a value that the template sets");
    assert!(!is_orphan(image(&[(STATUS, "deprecated")])));
    assert!(!is_orphan(image(&[("Name", "golden")])), "announced, but tagged by somebody");
    assert!(!is_orphan(image(&[(BUILD, MARK.build), (OWNER, "you")])));
    assert!(!is_orphan(Image { state: ImageState::Deregistered, ..image(&ours) }));
}

#[test]
fn a_templates_tags_do_not_hide_what_a_build_made() {
    let since = |seconds| Some(Timestamp::from_second(seconds).expect("a time"));
    let id = "ami-0123456789abcdef0".to_owned();
    let of = |announced: Announced| Announced { since: since(0), instances: vec!["i-1".into()], ..announced };
    let tagged = || image(&[("Name", "golden"), ("os", "rhel")]);
    let artifact = of(Announced { artifacts: vec![id.clone()], ..Announced::default() });
    let own = Some("i-1");
    assert!(is_orphan(&artifact, tagged(), own, None), "Packer named it, and it was made from its instance");
    assert!(
        !is_orphan(&artifact, tagged(), None, None),
        "a build can name an image of others as its artifact"
    );
    assert!(!is_orphan(&artifact, tagged(), Some("i-2"), None), "made from the instance of others");
    assert!(is_orphan(&artifact, image(&[]), None, None), "nothing shows that it belongs to others");
    assert!(!is_orphan(&artifact, image(&[]), Some("i-2"), None), "its instance shows that");
    assert!(!is_orphan(&artifact, image(&[]), None, Some("ami-00000009")), "its source shows that");
    assert!(
        !is_orphan(&Announced { since: None, ..artifact.clone() }, tagged(), own, None),
        "no start is known"
    );
    assert!(
        !is_orphan(&Announced { since: since(1), ..artifact.clone() }, tagged(), own, None),
        "it existed before"
    );
    assert!(!is_orphan(&artifact, image(&[(BUILD, "00000000000000bb")]), own, None), "of another build");
    assert!(!is_orphan(&artifact, image(&[("Name", "x"), (STATUS, "active")]), own, None), "a result");

    let printed = of(Announced { images: vec![id], ..Announced::default() });
    assert!(!is_orphan(&printed, tagged(), None, None), "a provisioner can print any id");
    assert!(!is_orphan(&printed, tagged(), Some("i-2"), None), "made from another instance");
    let nothing = of(Announced::default());
    assert!(
        is_orphan(&nothing, tagged(), Some("i-1"), Some("ami-base")),
        "made from the instance of the build"
    );

    let copy = of(Announced { images: vec!["ami-00000001".into()], ..Announced::default() });
    assert!(is_orphan(&copy, image(&[]), None, Some("ami-00000001")), "a copy in another region");
    assert!(!is_orphan(&copy, tagged(), None, Some("ami-00000001")), "the owner of its source is unknown");
    assert!(!is_orphan(&copy, tagged(), Some("i-9"), Some("ami-00000001")), "another build on top of it");
    assert!(!is_orphan(&copy, tagged(), None, Some("ami-00000002")));
}

#[test]
fn a_copy_is_the_builds_where_its_source_is() {
    let since = Some(Timestamp::UNIX_EPOCH);
    let announced = Announced { images: vec!["ami-00000001".into()], since, ..Announced::default() };
    let found = |id: &str, tags: &[(&str, &str)], instance: Option<&str>, source: Option<&str>| Found {
        image: Image { id: ImageId::parse(id).expect("an id"), ..image(tags) },
        instance: instance.map(str::to_owned),
        source: source.map(str::to_owned),
        source_region: None,
    };
    let copy = found("ami-00000002", &[("Name", "copy")], None, Some("ami-00000001"));
    let is_orphan = |source: Found| {
        let evidence = evidence(&announced);
        let named =
            evidence::announced_sources(std::slice::from_ref(&copy), &announced, &region("us-east-1"));
        let sources = Sources::of(named, &[source], &evidence);
        Evidence { sources, ..evidence }.is_orphan(&copy)
    };
    let ours = [(BUILD, MARK.build), (OWNER, MARK.owner)];
    let named = [("Name", "node")];
    assert!(is_orphan(found("ami-00000001", &ours, None, None)));
    assert!(
        is_orphan(found("ami-00000001", &named, Some("i-1"), None)),
        "made from the instance of the build"
    );
    assert!(!is_orphan(found("ami-00000001", &named, Some("i-2"), None)), "the instance of others");
    assert!(!is_orphan(found("ami-00000001", &named, None, None)), "only announced");
}

#[test]
fn what_carries_the_tags_of_the_build_may_be_a_little_older_than_the_run() {
    let since = |seconds| Some(Timestamp::from_second(seconds).expect("a time"));
    let ours = tagged(&[(BUILD, MARK.build), (OWNER, MARK.owner)]);
    let made = since(1000);
    assert!(!MARK.predates(&ours, made, since(1300)), "clocks differ by five minutes at most");
    assert!(MARK.predates(&ours, made, since(1301)));
    assert!(MARK.predates(&tagged(&[]), made, since(1001)), "what is only announced gets no slack");
    assert!(MARK.predates(&tagged(&[(BUILD, MARK.build)]), made, since(1001)), "of another owner");
    assert!(MARK.predates(&ours, None, since(0)), "what has no time counts as older");
}

#[test]
fn a_copy_comes_from_the_region_that_the_build_made_its_images_in() {
    let announced = Announced { images: vec!["ami-00000001".into()], ..Announced::default() };
    let copied_from = |source: &str, source_region: Option<&str>, instance: Option<&str>| {
        let found = Found {
            image: image(&[]),
            instance: instance.map(str::to_owned),
            source: Some(source.to_owned()),
            source_region: source_region.map(str::to_owned),
        };
        evidence::announced_sources(&[found], &announced, &region("us-east-1")).len()
    };
    assert_eq!(copied_from("ami-00000001", Some("us-east-1"), None), 1);
    assert_eq!(copied_from("ami-00000001", None, None), 1, "EC2 does not always name it");
    assert_eq!(copied_from("ami-00000001", Some("us-west-2"), None), 0, "an image of another region");
    assert_eq!(copied_from("ami-00000001", None, Some("i-1")), 0, "not a copy");
    assert_eq!(copied_from("ami-00000002", None, None), 0, "not announced");
}

#[test]
fn a_snapshot_that_was_there_before_stays() {
    let announced =
        Announced { since: Some("2026-01-01T00:00:00Z".parse().expect("a time")), ..Announced::default() };
    let evidence = evidence(&announced);
    let of = |instance: Option<&str>, source: &str| Found {
        image: image(&[]),
        instance: instance.map(str::to_owned),
        source: Some(source.to_owned()),
        source_region: None,
    };
    let snapshot = |started: i64, description: &str| {
        let started = aws_sdk_ec2::primitives::DateTime::from_secs(started);
        types::Snapshot::builder().start_time(started).description(description).build()
    };
    let made = of(Some("i-1"), "ami-base");
    assert!(evidence.made_with(&made, &snapshot(1_767_225_600, "")), "created since");
    assert!(!evidence.made_with(&made, &snapshot(1, "shared data")));
    assert!(
        evidence.made_with(&made, &snapshot(1, "Created by CreateImage(i-1) for ami-x")),
        "a clock that is behind"
    );
    assert!(!evidence.made_with(&made, &snapshot(1, "Created by CreateImage(i-0) for ami-base")));
    let copied = snapshot(1, "Copied for DestinationAmi ami-y from SourceAmi ami-src");
    assert!(evidence.made_with(&of(None, "ami-src"), &copied));
}

#[test]
fn packers_group_needs_its_name_and_its_description() {
    let group =
        |name: &str, text: &str| types::SecurityGroup::builder().group_name(name).description(text).build();
    assert!(is_packers_group(&group(NAME, PACKERS_GROUP)));
    assert!(!is_packers_group(&group(NAME, "web")) && !is_packers_group(&group("web", PACKERS_GROUP)));
}

#[test]
fn packers_instance_has_one_of_packers_things() {
    let key = types::Instance::builder().key_name(NAME).build();
    let group = types::GroupIdentifier::builder().group_name(NAME).build();
    let group = types::Instance::builder().key_name("admin").security_groups(group).build();
    let name = types::Tag::builder().key("Name").value(PACKERS_INSTANCE).build();
    let name = types::Instance::builder().tags(name).build();
    assert!(is_packers_instance(&key) && is_packers_instance(&group) && is_packers_instance(&name));
    assert!(!is_packers_instance(&types::Instance::builder().key_name("admin").build()));
}
