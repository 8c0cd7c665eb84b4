//! Tables: which base image a build is made from, which one a result was made from, and what is reported about missing
//! ones.

use std::collections::BTreeSet;

use super::*;
use crate::api::builder::BaseImage;
use crate::api::tags;
use crate::builder::base;
use crate::builder::outcome;
use crate::builder::outcome::Outcome;
use crate::builder::report;

fn of(number: u32, hour: u64, architecture: &str) -> Image {
    Image { architecture: architecture.into(), ..image(number, at_hour(hour)) }
}

/// Status and message after a reconcile without a step.
fn status_and_message(observed: &Observed) -> (PackerBuilderStatus, String) {
    let plan = plan::plan(observed, observed.now);
    let status = report::pass(observed, &plan, &Outcome::Nothing, observed.now).status;
    let ready = status.conditions.iter().flatten().find(|c| c.r#type == "Ready");
    let message = ready.and_then(|ready| ready.message.clone()).unwrap_or_default();
    (status, message)
}

#[test]
fn the_lanes_of_a_builder_decide_among_several_architectures() {
    let newest_first = [of(3, 9, "arm64"), of(2, 8, "x86_64"), of(1, 7, "x86_64")];
    let chosen = |found: &[Image], lanes: &[&str], recorded| {
        let lanes: BTreeSet<&str> = lanes.iter().copied().collect();
        let (chosen, several) = base::choose(found, &lanes, recorded, at_hour(10));
        (chosen.map(|image| image.id), several.len())
    };
    assert_eq!(chosen(&newest_first, &["x86_64"], None), (Some(image_id(2)), 2));
    assert_eq!(chosen(&newest_first, &["arm64"], None), (Some(image_id(3)), 2));
    assert_eq!(chosen(&newest_first, &[], None), (Some(image_id(3)), 2), "a first build takes the newest");
    let both = ["arm64", "x86_64"];
    assert_eq!(
        chosen(&newest_first, &both, Some("x86_64")),
        (Some(image_id(2)), 2),
        "the recorded architecture"
    );
    assert_eq!(chosen(&newest_first, &both, None), (Some(image_id(3)), 2));
    assert_eq!(
        chosen(&newest_first[1..], &["arm64"], None),
        (Some(image_id(2)), 0),
        "a person changed filters"
    );
    assert_eq!(chosen(&[], &["arm64"], None), (None, 0));
    let mut old = newest_first.clone();
    old[0].deprecated = Some(at_hour(9));
    assert_eq!(chosen(&old, &["x86_64"], None), (Some(image_id(2)), 0), "a deprecated image is not a choice");
    old[1].state = ImageState::Pending;
    assert_eq!(
        chosen(&old, &["x86_64"], None),
        (Some(image_id(1)), 0),
        "an image that cannot be launched is not chosen"
    );
}

#[test]
fn a_choice_among_architectures_is_said() {
    let ambiguous = altered(settled(), |observed| {
        let Seen::Is(base) = &mut observed.base else { panic!("known") };
        base.architectures = vec!["arm64".into(), "x86_64".into()];
    });
    let (_, message) = status_and_message(&ambiguous);
    assert!(
        message.contains("match images of arm64 and x86_64") && message.contains("add a filter"),
        "{message}"
    );
}

#[test]
fn a_base_image_of_another_architecture_is_another_one_whatever_its_age() {
    let changed = altered(settled(), |observed| {
        let found = Some(of(0xba5d, 0, "arm64"));
        observed.base =
            Seen::Is(Base { found, recorded: vec![image(0xba5e, at_hour(9))], ..Base::default() });
    });
    assert_eq!(planned(&changed), "start BaseImage");
}

#[test]
fn a_result_is_made_from_the_image_that_ec2_names() {
    let with = |number: u32, source: Option<u32>| {
        let mut image = raw(number);
        image.image.source = source.map(image_id);
        image
    };
    let (requested, gone) = ("ami-0000ba5e", image_id(7));
    let base = Base { looked_up: [gone].into(), recorded: vec![image(6, at_hour(0))], ..Base::default() };
    let base = Some(&base);
    let original = with(1, Some(6));
    let copy = with(2, Some(1));
    let made = [&original, &copy];
    let from = |image: &Located, requested| base::made_from(image, &made, requested, base);
    assert_eq!(from(&original, Some(requested)).as_deref(), Some("ami-00000006"), "not the requested one");
    assert_eq!(from(&copy, Some(requested)).as_deref(), Some("ami-00000006"), "a copy is traced back");
    assert_eq!(from(&original, None).as_deref(), Some("ami-00000006"));
    assert_eq!(from(&with(3, None), Some(requested)).as_deref(), Some(requested), "EC2 reports none");
    assert_eq!(from(&with(3, None), None), None);
    assert_eq!(
        from(&with(3, Some(7)), Some(requested)).as_deref(),
        Some(requested),
        "an intermediate image is not a base image"
    );
    assert_eq!(from(&with(3, Some(7)), None), None);
    assert_eq!(base::made_from(&with(3, Some(7)), &made, None, None).as_deref(), Some("ami-00000007"));
}

#[test]
fn another_base_than_the_one_asked_for_is_tagged_said_and_no_reason_to_build_again() {
    let mut image = raw(1);
    image.image.source = Some(image_id(6));
    let mut observed = altered(observed(), |observed| {
        observed.runs = Seen::Is(vec![run(1, succeeded(&[1]))]);
        observed.images = Seen::Is(vec![image]);
    });
    let Step::Activate(tagging) = step(&observed) else { panic!("it is activated") };
    assert_eq!(tagging.tags[tags::BASE], "ami-00000006");
    assert_eq!(tagging.tags[tags::BASE_ASKED], "ami-0000ba5e");
    images_of(&mut observed)[0].image.tags = tagging.tags;
    let plan = plan::plan(&observed, observed.now);
    let status = report::pass(&observed, &plan, &Outcome::Did(outcome::Done::AsPlanned), observed.now).status;
    assert_eq!(status.last_run_base_image_id.as_deref(), Some("ami-00000006"));
    assert_eq!(status.inputs, Some(wanted()), "the requested base image is compared");
    let settled = altered(observed, |observed| {
        observed.runs = Seen::Is(Vec::new());
        observed.status = PackerBuilderStatus { sweeps: None, ..status };
    });
    assert_eq!(planned(&settled), "done ami-00000001");
    let (_, message) = status_and_message(&settled);
    assert!(message.contains("made from ami-00000006, not from ami-0000ba5e"), "{message}");
}

#[test]
fn a_base_image_that_is_gone_is_said_and_its_successor_compared_with_its_date() {
    let known = altered(settled(), |observed| observed.status.inputs = Some(wanted()));
    let (status, _) = status_and_message(&known);
    let remembered = status.base_image.clone().expect("what the image was built from");
    assert_eq!((remembered.created, remembered.gone), (Some(start_of_time()), None));
    // Created after the missing one, and before the build of the active image.
    let successor = |created: Timestamp| {
        altered(known.clone(), |observed| {
            images_of(observed)[0].image.created = Some(at_hour(5));
            images_of(observed)[0].image.tags.insert(tags::CREATED.into(), at_hour(5).to_string());
            observed.now = at_hour(6);
            observed.status = status.clone();
            let looked_up = [image_id(0xba5e)].into();
            observed.base =
                Seen::Is(Base { found: Some(image(0xba5f, created)), looked_up, ..Base::default() });
        })
    };
    assert_eq!(planned(&successor(at_hour(2))), "start BaseImage");
    let before = Timestamp::from_second(start_of_time().as_second() - 1).expect("in range");
    let predecessor = successor(before);
    assert_eq!(planned(&predecessor), "done ami-00000001");
    let (status, message) = status_and_message(&predecessor);
    assert!(message.contains("base image ami-0000ba5e is gone"), "{message}");
    assert_eq!(status.base_image, Some(BaseImage { gone: Some(true), ..remembered }));
}
