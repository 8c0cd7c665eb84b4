//! Tables: which images tagged as active count, and which are only reported.

use super::*;
use crate::builder::history;

/// A builder that recorded image 1, and sees these images.
fn knows_one(images: Vec<Located>) -> Observed {
    look(settled(), |seen| {
        seen.images = Seen::Is(images);
        seen.status.history = Some(vec![RunRecord {
            images: Some(vec!["ami-00000001".into()]),
            ..record(1, history::SUCCEEDED, at_hour(0))
        }]);
    })
}

/// An image of a template that sets `status` itself, beside the tags that every build is given.
fn of_template(number: u32, created: Timestamp) -> Located {
    let mut image = active(number, created);
    image.image.tags.remove(images::JOB);
    image
}

fn message(seen: &Observed) -> String {
    let plan = plan::plan(seen, seen.now);
    let outcome = crate::builder::report::Outcome::Nothing;
    let told = crate::builder::report::pass(seen, &plan, &outcome, seen.now);
    let mut ready =
        told.status.conditions.into_iter().flatten().filter(|c| c.r#type == crate::api::conditions::READY);
    ready.next().and_then(|ready| ready.message).unwrap_or_default()
}

#[test]
fn an_active_image_that_no_run_recorded_is_reported_and_not_used() {
    let seen = knows_one(vec![active(1, at_hour(0)), active(2, at_hour(1))]);
    assert_eq!(planned(&seen), "done ami-00000001", "and nothing is demoted");
    let message = message(&seen);
    assert!(message.contains("ami-00000002") && message.contains("not used"), "{message}");
}

#[test]
fn an_image_of_a_failed_build_never_counts_whatever_its_tags_say() {
    let failed = |mut seen: Observed| {
        let history = seen.status.history.get_or_insert_default();
        history.insert(0, record(2, history::FAILED, at_hour(1)));
        seen.now = at_hour(9);
        seen
    };
    let good = failed(knows_one(vec![active(1, at_hour(0)), active(2, at_hour(1))]));
    let Step::Demote(tagging) = step(&good) else { panic!("the image of the failed build is demoted") };
    assert_eq!(tagging.images, ["ami-00000002"]);
    let alone = failed(look(seen(), |seen| seen.images = Seen::Is(vec![active(2, at_hour(1))])));
    assert_eq!(planned(&alone), "start Retry", "nothing else is there, and it is no result");
    let gone = failed(knows_one(vec![active(2, at_hour(1))]));
    assert_eq!(planned(&gone), "start Retry");
}

#[test]
fn what_the_tags_of_a_promotion_show_is_adopted_where_the_status_names_none() {
    let sees = |image: Located| look(seen(), |seen| seen.images = Seen::Is(vec![image]));
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
    assert_eq!(planned(&look(older, |seen| seen.now = at_hour(2))), "start Missing");
    let deprecated = tagged(active(2, at_hour(1)), images::STATUS, images::DEPRECATED);
    assert_eq!(planned(&knows_one(vec![deprecated])), "start Missing");
}

#[test]
fn older_images_that_are_not_recorded_are_demoted_as_before() {
    let seen =
        knows_one(vec![active(1, at_hour(0)), active(2, at_hour(0).checked_sub(HOUR).expect("in range"))]);
    let Step::Demote(tagging) = step(&seen) else { panic!("the older one is demoted") };
    assert_eq!(tagging.images, ["ami-00000002"]);
}

#[test]
fn the_result_of_a_run_counts_before_it_is_recorded() {
    let ended = run(3, succeeded(&[3]));
    let mut made = located(image(3, at_hour(1)));
    made.image.tags =
        crate::builder::inputs::image_tags(&subject(), &ended, wanted().base_ami.as_deref(), images::ACTIVE);
    let seen =
        look(knows_one(vec![active(1, at_hour(0)), made]), |seen| seen.runs = Seen::Is(vec![ended.clone()]));
    let Step::Demote(tagging) = step(&seen) else { panic!("the older one is demoted") };
    assert_eq!(tagging.images, ["ami-00000001"]);
}
