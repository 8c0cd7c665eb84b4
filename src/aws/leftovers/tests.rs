//! What is believed to be a build's leftover, and what is never touched.

use jiff::Timestamp;

use super::*;

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
    assert!(!MARK.covers(&tagged(&[(BUILD, MARK.build), (OWNER, "you")]), false), "another owner's");
    assert!(!MARK.covers(&tagged(&[(BUILD, MARK.build)]), false), "nobody's");
    assert!(!MARK.covers(&tagged(&[(BUILD, "00000000000000bb"), (OWNER, "me")]), true), "another build's");
    assert!(MARK.covers(&tagged(&[("Name", "x")]), true), "announced, and Packer's by its looks");
    assert!(!MARK.covers(&tagged(&[("Name", "x")]), false), "announced, but not Packer's");
}

#[test]
fn an_image_is_left_over_only_while_it_is_no_result() {
    let ours = [(BUILD, MARK.build), (OWNER, MARK.owner)];
    assert!(MARK.leaves(&image(&ours)));
    assert!(MARK.leaves(&image(&[])), "an interrupted Packer 1.6 leaves it without tags");
    assert!(!MARK.leaves(&image(&[ours[0], ours[1], (STATUS, "active")])));
    assert!(!MARK.leaves(&image(&[(STATUS, "deprecated")])));
    assert!(!MARK.leaves(&image(&[("Name", "golden")])), "announced, but somebody tagged it");
    assert!(!MARK.leaves(&image(&[(BUILD, MARK.build), (OWNER, "you")])));
    assert!(!MARK.leaves(&Image { state: ImageState::Deregistered, ..image(&ours) }));
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
