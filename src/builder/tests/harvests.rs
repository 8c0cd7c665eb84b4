//! Tables: what follows from ended runs.

use opsy_runner::request as wire;

use super::*;
use crate::api::tags;
use crate::api::words::RunResult;
use crate::builder::step::Record;
use crate::engine::Failure;

/// The observation of a builder with one ended run and these images.
pub fn after(state: RunState, images: Vec<Located>) -> Observed {
    let mut observed = observed();
    observed.now = at_hour(1);
    observed.runs = Seen::Is(vec![run(1, state)]);
    observed.images = Seen::Is(images);
    observed
}

pub fn recorded(observed: &Observed) -> Record {
    match step(observed) {
        Step::Record(record) => *record,
        other => panic!("expected a record, got {other:?}"),
    }
}

/// The image of run 1 with all the tags of its promotion.
pub fn promoted(number: u32, status: &str) -> Located {
    let mut image = raw(number);
    image.image.tags = crate::builder::inputs::image_tags(
        &subject(),
        &run(1, succeeded(&[number])),
        wanted().base_ami.as_deref(),
        status,
    );
    image
}

fn in_state(number: u32, state: ImageState) -> Located {
    let mut image = raw(number);
    image.image.state = state;
    image
}

#[test]
fn a_success_is_activated_demotes_older_ones_is_recorded_and_forgotten() {
    let older = active(9, start_of_time());
    let mut observed = after(succeeded(&[1]), vec![older.clone(), raw(1)]);
    let Step::Activate(tagging) = step(&observed) else { panic!("first activate") };
    assert_eq!((tagging.images.as_slice(), tagging.region), (&["ami-00000001".to_owned()][..], home()));
    assert_eq!(tagging.snapshots, ["snap-00000001"]);

    observed.images = Seen::Is(vec![older.clone(), promoted(1, tags::ACTIVE)]);
    let Step::Demote(tagging) = step(&observed) else { panic!("then demote") };
    assert_eq!(tagging.images, ["ami-00000009"]);

    let older = tagged(older, tags::STATUS, tags::DEPRECATED);
    observed.images = Seen::Is(vec![older, promoted(1, tags::ACTIVE)]);
    let record = recorded(&observed);
    assert_eq!(
        (record.run.result.as_str(), record.run.images.clone()),
        ("Succeeded", Some(vec!["ami-00000001".into()]))
    );
    assert_eq!(record.images.expect("images count now").len(), 1);

    observed.status.history = Some(vec![record.run]);
    assert!(matches!(step(&observed), Step::Forget(name) if name == run(1, RunState::Pending(None)).name));
}

#[test]
fn the_tags_of_an_image_keep_the_operators_contract() {
    let tags = promoted(1, tags::ACTIVE).image.tags;
    let build = format!("{:016x}", 1);
    let expected = map(&[
        ("base-ami", "ami-0000ba5e"),
        ("brought-to-you-by", "opsy-the-ami-operator"),
        ("build-id", &build),
        ("cluster-name", "demo"),
        ("create-timestamp", "2026-10-01T01:00:00Z"),
        ("created-by", "node"),
        ("job-id", &format!("node-{build}")),
        ("opsy.dev/build", &build),
        ("opsy.dev/builder", "default/node"),
        ("opsy.dev/commit", commit().as_str()),
        ("opsy.dev/owner", "agent-1"),
        ("opsy.dev/spec", &valid().tag),
        ("opsy.dev/template", TEMPLATE),
        ("packer-repo", "https://git.example/platform.git"),
        ("packer-repo-branch", "main"),
        ("status", "active"),
    ]);
    assert_eq!(tags, expected);
}

#[test]
fn a_status_tag_that_the_template_sets_is_no_promotion() {
    let templates_own =
        tagged(tagged(raw(1), tags::STATUS, tags::ACTIVE), tags::BUILD, &format!("{:016x}", 1));
    assert!(matches!(step(&after(succeeded(&[1]), vec![templates_own])), Step::Activate(_)));
}

#[test]
fn nothing_is_promoted_before_every_image_is_available() {
    let two = |second: Option<ImageState>| {
        let images = [Some(raw(1)), second.map(|state| in_state(2, state))];
        after(succeeded(&[1, 2]), images.into_iter().flatten().collect())
    };
    assert_eq!(planned(&two(Some(ImageState::Pending))), "wait ImagePending");
    assert_eq!(planned(&two(Some(ImageState::Other("transient".into())))), "wait ImagePending");
    assert_eq!(planned(&two(None)), "wait ImagePending");
    for (state, words) in [
        (ImageState::Failed, "image ami-00000002 failed: EC2 gives no reason"),
        (ImageState::Deregistered, "image ami-00000002 is gone: EC2 gives no reason"),
        (ImageState::Disabled, "image ami-00000002 is disabled: EC2 gives no reason"),
    ] {
        let record = recorded(&two(Some(state)));
        assert_eq!(record.run.result, RunResult::Failed.as_str());
        assert_eq!(record.run.errors.expect("a reason"), [words]);
        assert!(record.images.is_none() && record.run.images.is_none(), "none of its images counts");
    }
    let mut gone = two(None);
    gone.now = at_hour(2);
    assert_eq!(recorded(&gone).run.errors.expect("a reason"), ["image ami-00000002 is gone"]);
}

#[test]
fn failures_are_recorded_with_their_words() {
    let packer = |exit, errors: &[&str]| {
        let errors = errors.iter().map(|line| (*line).to_owned()).collect();
        RunState::Failed(Failure::Packer { exit, errors })
    };
    let cases: Vec<(RunState, &str, Option<&str>)> = vec![
        (packer(Some(1), &["a", "b"]), RunResult::Failed.as_str(), Some("a")),
        (packer(Some(1), &[]), RunResult::Failed.as_str(), Some("packer exited with 1")),
        (packer(None, &[]), RunResult::Failed.as_str(), Some("packer was killed")),
        (
            RunState::Failed(Failure::TimedOut),
            RunResult::TimedOut.as_str(),
            Some("the build took too long and was stopped"),
        ),
        (RunState::Failed(Failure::Cancelled), RunResult::Cancelled.as_str(), None),
        (
            RunState::Failed(Failure::NoArtifact { errors: Vec::new() }),
            RunResult::Failed.as_str(),
            Some("packer exited with 0 but reported no image"),
        ),
        (
            RunState::Failed(Failure::NotStarted("packer is not installed".into())),
            RunResult::Failed.as_str(),
            Some("packer is not installed"),
        ),
        (
            RunState::Failed(Failure::OutOfMemory),
            RunResult::Failed.as_str(),
            Some("the build ran out of memory: raise spec.builder.pod.resources.limits.memory"),
        ),
        (
            RunState::Failed(Failure::Evicted("low on disk".into())),
            RunResult::Failed.as_str(),
            Some("the build's pod was evicted: low on disk"),
        ),
        (RunState::Lost("killed".into()), RunResult::Lost.as_str(), Some("the result was lost: killed")),
    ];
    for (state, result, error) in cases {
        let record = recorded(&after(state.clone(), Vec::new()));
        assert_eq!(record.run.result, result, "{state:?}");
        assert_eq!(record.run.errors.unwrap_or_default().first().map(String::as_str), error, "{state:?}");
        assert_eq!(record.run.inputs, Some(wanted()), "the inputs of the run, not the desired ones");
    }
}

#[test]
fn a_failure_is_recorded_even_while_aws_cannot_be_reached() {
    let mut observed = after(RunState::Failed(Failure::TimedOut), Vec::new());
    observed.images = unknown();
    assert_eq!(planned(&observed), "do Record");
    observed.runs = Seen::Is(vec![run(1, succeeded(&[1]))]);
    assert_eq!(planned(&observed), "wait Unknown");
}

#[test]
fn a_success_without_an_image_in_the_builders_region_is_a_failure() {
    let elsewhere = artifact(&Region::parse("eu-west-1").expect("a region"), 1);
    let record = recorded(&after(RunState::Succeeded(vec![elsewhere]), Vec::new()));
    assert_eq!(record.run.result, RunResult::Failed.as_str());
    assert!(record.run.errors.expect("a reason")[0].contains("no image in us-east-1"));
}

#[test]
fn a_lost_result_is_found_again_by_tag_where_it_is_unmistakable() {
    let of_build = |number: u32| tagged(raw(number), tags::BUILD, &format!("{:016x}", 1));
    let lost = |images| after(RunState::Lost("the pod is gone".into()), images);
    assert!(matches!(step(&lost(vec![of_build(1)])), Step::Activate(_)));
    assert_eq!(recorded(&lost(vec![])).run.result, RunResult::Lost.as_str());
    assert_eq!(recorded(&lost(vec![raw(1)])).run.result, RunResult::Lost.as_str());
    assert_eq!(
        recorded(&lost(vec![of_build(1), of_build(2)])).run.result,
        RunResult::Lost.as_str(),
        "two in one lane"
    );
    let pending = tagged(in_state(1, ImageState::Pending), tags::BUILD, &format!("{:016x}", 1));
    assert_eq!(recorded(&lost(vec![pending])).run.result, RunResult::Lost.as_str());
}

#[test]
fn a_result_whose_inputs_moved_on_counts_only_where_nothing_better_is() {
    let moved = |images| {
        let mut observed = after(succeeded(&[1]), images);
        let mut outdated = run(1, succeeded(&[1]));
        outdated.facts.inputs.template = Some("v1-old".into());
        observed.runs = Seen::Is(vec![outdated]);
        observed
    };
    assert!(matches!(step(&moved(vec![raw(1)])), Step::Activate(_)), "there is no other image");
    let outdated = tagged(active(9, start_of_time()), tags::TEMPLATE, "v1-older");
    assert!(
        matches!(step(&moved(vec![raw(1), outdated])), Step::Activate(_)),
        "the existing image is outdated too"
    );
    let good = active(9, start_of_time());
    let Step::Supersede { kept, superseded } = step(&moved(vec![raw(1), good.clone()])) else {
        panic!("the existing image is good")
    };
    assert_eq!(
        (superseded.images, &superseded.tags[tags::STATUS]),
        (vec![image_id(1).to_string()], &tags::SUPERSEDED.to_owned())
    );
    assert_eq!(
        (kept.images, &kept.tags[tags::STATUS]),
        (vec![image_id(9).to_string()], &tags::ACTIVE.to_owned())
    );
    let record = recorded(&moved(vec![promoted(1, tags::SUPERSEDED), good]));
    assert_eq!(record.run.result, RunResult::Superseded.as_str());
    assert_eq!(record.images.expect("the good one still counts")[0].image.id, image_id(9));
}

#[test]
fn all_regions_are_tagged_each_by_one_call() {
    let europe = Region::parse("eu-west-1").expect("a region");
    let mut copy = raw(2);
    copy.region = europe.clone();
    let mut observed = after(succeeded(&[1]), vec![copy, raw(1)]);
    observed.runs =
        Seen::Is(vec![run(1, RunState::Succeeded(vec![artifact(&home(), 1), artifact(&europe, 2)]))]);
    let mut regions = Vec::new();
    while let Step::Activate(tagging) = step(&observed) {
        regions.push(tagging.region.to_string());
        let Seen::Is(images) = &mut observed.images else { panic!("known") };
        for image in images.iter_mut().filter(|image| image.region == tagging.region) {
            image.image.tags.clone_from(&tagging.tags);
        }
    }
    assert_eq!(regions, ["us-east-1", "eu-west-1"]);
    assert_eq!(recorded(&observed).images.expect("both count").len(), 2);
}

#[test]
fn more_tags_than_ec2_allows_fail_the_run_and_new_inputs_go_on() {
    let of_template = |count: usize| {
        let mut image = raw(1);
        image.image.tags = (0..count).map(|n| (format!("team-{n:02}"), "x".to_owned())).collect();
        image.image.tags.insert("aws:created".into(), "x".into());
        after(succeeded(&[1]), vec![image])
    };
    assert!(matches!(step(&of_template(34)), Step::Activate(_)));
    let mut observed = of_template(35);
    let record = recorded(&observed);
    assert_eq!(
        (record.run.result.as_str(), record.run.failure.as_deref()),
        (RunResult::Failed.as_str(), Some("Template"))
    );
    assert!(
        record.run.errors.as_ref().expect("a reason")[0].contains("at most 34"),
        "{:?}",
        record.run.errors
    );
    assert_eq!(record.sweep.announced, Some(vec!["artifact=ami-00000001".into()]));
    observed.status.history = Some(vec![record.run]);
    observed.runs = Seen::Is(Vec::new());
    observed.template = Seen::Is(resolved("v1-fewer".into()));
    assert_eq!(planned(&observed), "start Missing");
}

#[test]
fn step_build_output_and_advice_of_a_failure_are_recorded() {
    let errors = vec!["Script exited with non-zero exit status: 7".to_owned(), "b".into(), "c".into()];
    let mut failed = run(1, RunState::Failed(Failure::Packer { exit: Some(1), errors: errors.clone() }));
    failed.details = ReportDetails {
        command: Some(wire::Command::Build),
        place: Some(wire::Place { number: 2, of: 2 }),
        build: Some("amazon-ebs.arm".into()),
        output: vec!["mirror.example.com refused us: 403".into()],
        errors,
        ..ReportDetails::default()
    };
    let mut observed = after(failed.state.clone(), Vec::new());
    observed.runs = Seen::Is(vec![failed]);
    let record = recorded(&observed).run;
    assert_eq!(
        record.cause().as_deref(),
        Some(
            "build 2 of 2 (amazon-ebs.arm): Script exited with non-zero exit status: 7 (last output: \
             mirror.example.com refused us: 403)"
        )
    );
    let mut late = run(1, RunState::Failed(Failure::TimedOut));
    late.details.errors = vec!["Error waiting for AMI: RequestExpired: the token has expired".into()];
    observed.runs = Seen::Is(vec![late]);
    let record = recorded(&observed).run;
    assert_eq!(
        (record.result.as_str(), record.failure.as_deref()),
        (RunResult::TimedOut.as_str(), Some("Transient"))
    );
    assert!(record.errors.expect("errors")[1].contains("RequestExpired"), "Packer's own errors are recorded");
}
