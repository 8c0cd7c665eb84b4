//! Tables: which images tagged as active count, and which are only reported.

use super::*;
use crate::api::tags;
use crate::api::words::RunResult;

/// The observation of a builder that recorded image 1, with these images.
fn knows_one(images: Vec<Located>) -> Observed {
    altered(settled(), |observed| {
        observed.images = Seen::Is(images);
        observed.status.history = Some(vec![RunRecord {
            images: Some(vec!["ami-00000001".into()]),
            ..record(1, RunResult::Succeeded, at_hour(0))
        }]);
    })
}

/// An image whose template set the tag `status` itself, in addition to the tags that every build receives.
fn of_template(number: u32, created: Timestamp) -> Located {
    let mut image = active(number, created);
    image.image.tags.remove(tags::JOB);
    image
}

fn message(observed: &Observed) -> String {
    let plan = plan::plan(observed, observed.now);
    let outcome = crate::builder::outcome::Outcome::Nothing;
    let pass = crate::builder::report::pass(observed, &plan, &outcome, observed.now);
    let mut ready =
        pass.status.conditions.into_iter().flatten().filter(|c| c.r#type == crate::api::conditions::READY);
    ready.next().and_then(|ready| ready.message).unwrap_or_default()
}

#[test]
fn an_active_image_that_no_run_recorded_is_reported_and_not_used() {
    let observed = knows_one(vec![active(1, at_hour(0)), active(2, at_hour(1))]);
    assert_eq!(planned(&observed), "done ami-00000001", "and nothing is demoted");
    let message = message(&observed);
    assert!(message.contains("ami-00000002") && message.contains("not used"), "{message}");
}

#[test]
fn an_image_of_a_failed_build_never_counts_whatever_its_tags_say() {
    let failed = |mut observed: Observed| {
        let history = observed.status.history.get_or_insert_default();
        history.insert(0, record(2, RunResult::Failed, at_hour(1)));
        observed.now = at_hour(9);
        observed
    };
    let good = failed(knows_one(vec![active(1, at_hour(0)), active(2, at_hour(1))]));
    let Step::Demote(tagging) = step(&good) else { panic!("the image of the failed build is demoted") };
    assert_eq!(tagging.images, ["ami-00000002"]);
    let alone =
        failed(altered(observed(), |observed| observed.images = Seen::Is(vec![active(2, at_hour(1))])));
    assert_eq!(planned(&alone), "start Retry", "there is no other image, and it is not a result");
    let gone = failed(knows_one(vec![active(2, at_hour(1))]));
    assert_eq!(planned(&gone), "start Retry");
}

#[test]
fn what_the_tags_of_a_promotion_show_is_adopted_where_the_status_names_none() {
    let sees = |image: Located| altered(observed(), |observed| observed.images = Seen::Is(vec![image]));
    assert_eq!(planned(&sees(active(2, at_hour(0)))), "done ami-00000002");
    let of_template = sees(of_template(2, at_hour(0)));
    assert_eq!(planned(&of_template), "start Missing", "the template set the tag");
}

#[test]
fn a_newer_image_that_is_not_recorded_is_not_built_over_when_the_recorded_one_is_gone() {
    let newer = knows_one(vec![active(2, at_hour(1))]);
    assert_eq!(planned(&newer), "stalled Unrecorded");
    assert!(message(&newer).contains("ami-00000002"), "{}", message(&newer));
    let older = knows_one(vec![active(2, start_of_time())]);
    assert_eq!(planned(&altered(older, |observed| observed.now = at_hour(2))), "start Missing");
    let deprecated = tagged(active(2, at_hour(1)), tags::STATUS, tags::DEPRECATED);
    assert_eq!(planned(&knows_one(vec![deprecated])), "start Missing");
}

#[test]
fn older_images_that_are_not_recorded_are_demoted_as_before() {
    let observed =
        knows_one(vec![active(1, at_hour(0)), active(2, at_hour(0).checked_sub(HOUR).expect("in range"))]);
    let Step::Demote(tagging) = step(&observed) else { panic!("the older one is demoted") };
    assert_eq!(tagging.images, ["ami-00000002"]);
}

#[test]
fn the_result_of_a_run_counts_before_it_is_recorded() {
    let ended = run(3, succeeded(&[3]));
    let mut made = located(image(3, at_hour(1)));
    made.image.tags =
        crate::builder::inputs::image_tags(&subject(), &ended, wanted().base_ami.as_deref(), tags::ACTIVE);
    let observed = altered(knows_one(vec![active(1, at_hour(0)), made]), |observed| {
        observed.runs = Seen::Is(vec![ended.clone()])
    });
    let Step::Demote(tagging) = step(&observed) else { panic!("the older one is demoted") };
    assert_eq!(tagging.images, ["ami-00000001"]);
}
