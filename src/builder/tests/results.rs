//! Tables: which images that a run names are results of that run.

use super::*;
use crate::api::tags;
use crate::api::words::RunResult;

/// The observation of a builder whose run ended with this image as its result.
fn ended_with(image: Located) -> Observed {
    altered(observed(), |observed| {
        observed.runs = Seen::Is(vec![run(1, succeeded(&[1]))]);
        observed.images = Seen::Is(vec![image]);
    })
}

fn created(at: Timestamp) -> Located {
    located(image(1, at))
}

fn minutes_before_the_run(minutes: u64) -> Located {
    created(at_hour(0).checked_sub(Duration::from_secs(minutes * 60)).expect("within years"))
}

fn of_account(account: &str) -> Located {
    let mut image = raw(1);
    image.image.owner_id = account.into();
    image
}

#[test]
fn an_image_that_the_run_did_not_make_fails_the_run_and_is_not_tagged() {
    let other_build = format!("{:016x}", 2);
    let cases = [
        (of_account("999999999999"), "belongs to account 999999999999"),
        (of_account(""), "belongs to account"),
        (minutes_before_the_run(6), "before the build started"),
        (tagged(raw(1), tags::BUILD, &other_build), "opsy.dev/build="),
        (tagged(raw(1), tags::BUILDER, "prod/node"), "opsy.dev/builder=prod/node"),
        (tagged(active(1, at_hour(1)), tags::BUILD, &other_build), "opsy.dev/build="),
    ];
    for (image, words) in cases {
        let Step::Record(record) = step(&ended_with(image)) else { panic!("{words}: nothing is tagged") };
        let error = record.run.errors.expect("a reason").remove(0);
        assert!(error.contains("image ami-00000001") && error.contains(words), "{error}");
        assert_eq!((record.run.result.as_str(), record.run.images), (RunResult::Failed.as_str(), None));
        assert!(record.images.is_none(), "none of its images counts");
    }
}

#[test]
fn what_the_run_made_counts_also_where_clocks_differ_a_little() {
    let own_tags =
        tagged(tagged(raw(1), tags::BUILD, &format!("{:016x}", 1)), tags::BUILDER, &key().to_string());
    for image in [raw(1), minutes_before_the_run(4), own_tags] {
        assert!(matches!(step(&ended_with(image.clone())), Step::Activate(_)), "{image:?}");
    }
}

#[test]
fn one_image_of_another_build_fails_the_whole_run() {
    let observed = altered(ended_with(raw(1)), |observed| {
        observed.runs = Seen::Is(vec![run(1, succeeded(&[1, 2]))]);
        images_of(observed).push(tagged(raw(2), tags::BUILD, &format!("{:016x}", 2)));
    });
    assert_eq!(planned(&observed), "do Record");
}

#[test]
fn a_result_waits_until_the_account_is_known() {
    for account in [None, Some(unknown())] {
        let observed = altered(ended_with(raw(1)), |observed| observed.account = account.clone());
        assert_eq!(planned(&observed), "wait Unknown", "{account:?}");
    }
}
