//! Tables: each rule of the plan, what makes an image out of date, and what a start carries.

use super::*;
use crate::builder::history;
use crate::builder::step::On;
use crate::engine::Stop;

fn tag(seen: &mut Observed, name: &str, value: &str) {
    images_of(seen)[0].image.tags.insert(name.into(), value.into());
}

#[test]
fn first_match_wins_in_the_order_of_the_rules() {
    let broken = || Err(vec![("spec.region".to_owned(), "missing".to_owned())]);
    let cases: Vec<(&str, Observed)> = vec![
        ("start Missing", seen()),
        ("done ami-00000001", settled()),
        ("wait Unknown", look(settled(), |seen| seen.runs = unknown())),
        ("wait Unknown", look(settled(), |seen| seen.images = unknown())),
        ("wait Unknown", look(settled(), |seen| seen.base = unknown())),
        ("wait Unknown", look(settled(), |seen| seen.template = unknown())),
        ("wait Unknown", look(seen(), |seen| seen.live = unknown())),
        ("done ami-00000001", look(settled(), |seen| seen.live = unknown())),
        ("wait Run", look(seen(), |seen| seen.runs = Seen::Is(vec![run(1, running())]))),
        (
            "wait Run",
            look(seen(), |seen| {
                seen.runs = Seen::Is(vec![run(1, running())]);
                seen.spec = broken();
            }),
        ),
        ("stalled Invalid", look(seen(), |seen| seen.spec = broken())),
        ("wait Suspended", look(seen(), |seen| seen.suspended = true)),
        ("wait Suspended", look(seen(), |seen| spec_of(seen).suspended = true)),
        (
            "wait Suspended",
            look(seen(), |seen| {
                seen.suspended = true;
                seen.spec = broken();
            }),
        ),
        ("wait Deleted", look(seen(), |seen| seen.deleting = true)),
        ("wait BaseImageNotFound", look(settled(), |seen| seen.base = Seen::Is(Base::default()))),
        (
            "stalled Unreadable",
            look(settled(), |seen| {
                seen.template = Seen::Unknown(Class::Invalid, "packer/node does not exist".into());
            }),
        ),
        ("wait Slot", look(seen(), |seen| seen.live = Seen::Is(4))),
        ("wait LastSlot", look(seen(), |seen| (seen.live, seen.last_slot_is_others) = (Seen::Is(3), true))),
        ("start Missing", look(seen(), |seen| (seen.live, seen.last_slot_is_others) = (Seen::Is(2), true))),
        (
            "start Missing",
            look(seen(), |seen| {
                (seen.live, seen.last_slot_is_others, seen.concurrent_builds) = (Seen::Is(0), true, 1);
            }),
        ),
        ("wait Slot", look(seen(), |seen| seen.fleet.goes_first = Some("few".into()))),
    ];
    for (expected, seen) in cases {
        assert_eq!(planned(&seen), expected, "{seen:?}");
    }
}

#[test]
fn a_live_run_is_stopped_over_its_limit_cancelled_or_without_its_builder() {
    let live = |state: RunState| look(seen(), |seen| seen.runs = Seen::Is(vec![run(1, state)]));
    let cancelled = |state| look(live(state), |seen| seen.cancel = Some(format!("{:016x}", 1)));
    let cases = [
        ("wait Run", live(running())),
        ("wait Run", look(live(running()), |seen| seen.now = at_hour(2))),
        ("do Stop", look(live(running()), |seen| seen.now = at_hour(3))),
        ("do Stop", live(RunState::Pending(None))),
        ("wait Run", look(live(RunState::Pending(None)), |seen| seen.now = at_hour(0))),
        ("do Stop", cancelled(running())),
        ("wait Run", cancelled(RunState::Stopping)),
        ("wait Run", look(live(running()), |seen| seen.cancel = Some("another build".into()))),
        ("do Stop", look(live(running()), |seen| seen.deleting = true)),
    ];
    for (expected, seen) in cases {
        assert_eq!(planned(&seen), expected, "{seen:?}");
    }
}

/// By the wall clock the run is over any limit; it began less than that ago.
#[test]
fn a_clock_that_jumps_ahead_stops_no_build() {
    let limit = valid().limit + HOUR / 3;
    for state in [running(), RunState::Pending(None)] {
        for (lasted, expected) in [
            (Some(Duration::ZERO), "wait Run"),
            (Some(valid().pending_limit.min(limit)), "wait Run"),
            (Some(limit + Duration::from_secs(1)), "do Stop"),
            (None, "do Stop"),
        ] {
            for hour in [3, 30, 100_000] {
                let jumped = look(seen(), |seen| {
                    seen.runs = Seen::Is(vec![run(1, state.clone())]);
                    (seen.now, seen.lasted) = (at_hour(hour), lasted);
                });
                assert_eq!(planned(&jumped), expected, "{state:?} {lasted:?} {hour}");
            }
        }
    }
    // Set back, it has not even begun.
    let early = look(seen(), |seen| {
        seen.runs = Seen::Is(vec![run(1, running())]);
        seen.now = start_of_time();
    });
    assert_eq!(planned(&early), "wait Run");
}

#[test]
fn an_engine_is_told_whether_a_run_is_late_or_unwanted() {
    let live = |state: RunState| look(seen(), |seen| seen.runs = Seen::Is(vec![run(1, state)]));
    let why = |seen: Observed| match plan::plan(&seen, seen.now) {
        Plan::Act { step: Step::Stop { why, .. }, .. } => Some(why),
        _ => None,
    };
    assert_eq!(why(live(RunState::Pending(None))), Some(Stop::Late));
    assert_eq!(why(look(live(running()), |seen| seen.now = at_hour(3))), Some(Stop::Late));
    assert_eq!(why(look(live(running()), |seen| seen.deleting = true)), Some(Stop::Cancelled));
    assert_eq!(why(live(running())), None);
}

#[test]
fn an_image_is_out_of_date_for_exactly_these_reasons() {
    let newer = || {
        Seen::Is(Base {
            found: Some(image(0xba5f, at_hour(2))),
            recorded: vec![image(0xba5e, start_of_time())],
            ..Base::default()
        })
    };
    let template = |seen: &mut Observed, tag: &str| {
        seen.template = Seen::Is(resolved(tag.into()));
    };
    let cases: Vec<(&str, Observed)> = vec![
        ("start Template", look(settled(), |seen| template(seen, "v1-bbbb"))),
        ("done ami-00000001", look(settled(), |seen| template(seen, "v2-bbbb"))),
        ("start Spec", look(settled(), |seen| spec_of(seen).tag = "v2-other".into())),
        ("done ami-00000001", look(settled(), |seen| tag(seen, images::SPEC, "v9-other"))),
        ("start BaseImage", look(settled(), |seen| seen.base = newer())),
        ("start Expired", look(settled(), |seen| seen.now = at_hour(30 * 24))),
        ("done ami-00000001", look(settled(), |seen| seen.now = at_hour(30 * 24 - 1))),
        ("start Missing", look(settled(), |seen| images_of(seen)[0].image.state = ImageState::Disabled)),
        ("start Missing", look(settled(), |seen| tag(seen, images::STATUS, images::DEPRECATED))),
        ("start Missing", look(settled(), |seen| images_of(seen).clear())),
        ("stalled AnotherOwner", look(settled(), |seen| tag(seen, images::OWNER, "agent-2"))),
        ("start Missing", look(settled(), |seen| tag(seen, images::BUILDER, "default/other"))),
    ];
    for (expected, seen) in cases {
        assert_eq!(planned(&seen), expected, "{seen:?}");
    }
    for absent in [images::TEMPLATE, images::SPEC, images::BASE] {
        let seen = look(settled(), |seen| {
            template(seen, if absent == images::TEMPLATE { "v1-bbbb" } else { TEMPLATE });
            images_of(seen)[0].image.tags.remove(absent);
        });
        assert_eq!(planned(&seen), "done ami-00000001", "an absent {absent} compares as equal");
    }
}

#[test]
fn rebuild_on_says_which_reasons_count() {
    let none = |seen: &mut Observed| {
        spec_of(seen).rebuild_on = spec::RebuildOn {
            expired: false,
            base_image: false,
            template: false,
            spec: false,
            written: true,
        };
    };
    let everything_moved = |seen: &mut Observed| {
        seen.now = at_hour(40 * 24);
        seen.base = Seen::Is(Base { found: Some(image(0xba5f, at_hour(2))), ..Base::default() });
        seen.template = Seen::Is(resolved("v1-bbbb".into()));
        spec_of(seen).tag = "v2-other".into();
    };
    let ignored = look(settled(), |seen| {
        everything_moved(seen);
        none(seen);
    });
    assert_eq!(planned(&ignored), "done ami-00000001");
    type Change = fn(&mut Spec);
    let one: [(&str, Change); 4] = [
        ("start Expired", |spec| spec.rebuild_on.expired = true),
        ("start BaseImage", |spec| spec.rebuild_on.base_image = true),
        ("start Template", |spec| spec.rebuild_on.template = true),
        ("start Spec", |spec| spec.rebuild_on.spec = true),
    ];
    for (expected, change) in one {
        let seen = look(ignored.clone(), |seen| change(spec_of(seen)));
        assert_eq!(planned(&seen), expected);
    }
}

#[test]
fn a_base_image_counts_only_when_it_is_newer() {
    let found = |created: Timestamp, recorded: Vec<Image>| {
        look(settled(), |seen| {
            seen.base = Seen::Is(Base { found: Some(image(0xba5f, created)), recorded, ..Base::default() })
        })
    };
    let recorded = |hour| vec![image(0xba5e, at_hour(hour))];
    assert_eq!(planned(&found(at_hour(9), recorded(8))), "start BaseImage");
    assert_eq!(planned(&found(at_hour(8), recorded(9))), "done ami-00000001");
    // The recorded one is gone and its date lost: what appeared after our build is newer, what was there before is
    // not.
    assert_eq!(planned(&found(at_hour(1), Vec::new())), "start BaseImage");
    assert_eq!(planned(&found(start_of_time(), Vec::new())), "done ami-00000001");
}

#[test]
fn older_active_images_of_a_lane_are_demoted_one_lane_at_a_time() {
    let older = active(2, start_of_time());
    let other_lane = look_at(active(3, start_of_time()), |image| image.architecture = "arm64".into());
    let seen = look(settled(), |seen| images_of(seen).extend([older.clone(), other_lane]));
    // Without an age of its own at hour 0 both are as old; the higher id would win: make ours newer.
    let seen = look(seen, |seen| images_of(seen)[0].image.created = Some(at_hour(1)));
    let Step::Demote(tagging) = step(&seen) else { panic!("demotion comes first") };
    assert_eq!(tagging.images, [older.image.id.to_string()]);
    assert_eq!(
        (tagging.images, tagging.snapshots),
        (vec![older.image.id.to_string()], older.image.snapshots)
    );
    assert_eq!(tagging.tags, map(&[("status", "deprecated")]));
}

fn look_at(mut located: Located, change: impl FnOnce(&mut Image)) -> Located {
    change(&mut located.image);
    located
}

#[test]
fn the_only_launchable_image_is_never_demoted() {
    let mut seen = settled();
    let newer = look_at(active(2, at_hour(1)), |image| image.state = ImageState::Disabled);
    images_of(&mut seen).push(newer);
    seen.status.last_run_built_image_id = Some("ami-00000002".into());
    let Step::Demote(tagging) = step(&seen) else { panic!("the disabled one goes") };
    assert_eq!(tagging.images, ["ami-00000002"]);
    images_of(&mut seen).remove(0);
    assert_eq!(planned(&seen), "start Missing", "a lone disabled image is not demoted, but does not count");
}

#[test]
fn every_lane_of_the_last_build_needs_a_good_image() {
    let arm = look_at(active(2, at_hour(0)), |image| image.architecture = "arm64".into());
    let mut seen = settled();
    seen.status.images.as_mut().expect("named").push(arm.record());
    assert_eq!(planned(&seen), "start Missing");
    images_of(&mut seen).push(arm);
    assert_eq!(planned(&seen), "done ami-00000002 ami-00000001", "arm64 before x86_64");
    // A builder that moves to another region starts afresh there.
    spec_of(&mut seen).region = Region::parse("eu-west-1").expect("a region");
    assert_eq!(planned(&seen), "start Missing");
}

#[test]
fn a_start_carries_everything_the_run_needs() {
    let mut seen = seen();
    let builder = spec_of(&mut seen);
    (builder.secret, builder.debug) = (Some("packer-env".into()), true);
    let Step::Start { request, query } = step(&seen) else { panic!("a start") };
    assert_eq!(request.name.as_str(), format!("node-{}", request.facts.build));
    assert_eq!(request.facts.inputs, wanted());
    assert_eq!((request.facts.why.as_str(), request.facts.created_at), ("Missing", seen.now));
    assert_eq!(request.secret.as_deref(), Some("packer-env"));
    assert_eq!(query, valid().template);
    assert_eq!(request.env["PACKER_LOG"], "1");
    let tags: BTreeMap<String, String> =
        serde_json::from_str(&request.env["PKR_VAR_opsy_build_tags"]).expect("tags are JSON");
    let build = request.facts.build.to_string();
    assert_eq!(
        tags,
        map(&[
            ("cluster-name", "demo"),
            ("opsy.dev/build", &build),
            ("opsy.dev/builder", "default/node"),
            ("opsy.dev/owner", "agent-1"),
        ])
    );
    let build = request.steps.last().expect("three steps");
    assert_eq!(build.args, ["-var", "ami_id=ami-0000ba5e", "-var", "region=us-east-1", "packer/node/"]);
    // Without a base image nothing is passed that the template may not declare.
    spec_of(&mut seen).base = None;
    seen.base = Seen::Is(Base::default());
    let Step::Start { request, .. } = step(&seen) else { panic!("a start") };
    assert!(request.steps.iter().all(|step| step.args == ["packer/node/"]));
}

#[test]
fn a_build_id_depends_on_the_run_before_it() {
    let id = |seen: &Observed| match step(seen) {
        Step::Start { request, .. } => request.facts.build,
        other => panic!("expected a start, got {other:?}"),
    };
    let first = id(&seen());
    assert_eq!(first, id(&seen()), "the same look gives the same id");
    let after = |record: RunRecord| {
        look(seen(), |seen| {
            seen.status.history = Some(vec![record]);
            seen.now = at_hour(9);
        })
    };
    let second = id(&after(record(1, history::FAILED, at_hour(1))));
    assert_ne!(first, second);
    let by_tag = look(seen(), |seen| {
        let image = tagged(active(1, at_hour(1)), images::STATUS, images::DEPRECATED);
        seen.images = Seen::Is(vec![image]);
    });
    assert_eq!(second, id(&by_tag), "with the status lost, the images remember");
}

#[test]
fn names_of_runs_are_labels_whatever_the_builder_is_called() {
    let build = BuildId::of(&["a"]);
    for name in ["node", "a.b_c", &"x".repeat(200), "-", "Ümlaut", &format!("{}-", "y".repeat(45))] {
        let run = crate::builder::inputs::run_name(name, &build);
        assert!(run.as_str().len() <= 63 && run.as_str().ends_with(build.as_str()), "{run}");
        assert_eq!(run.prefix(), Some(&*crate::api::ids::run_prefix(name)), "an engine tells whose it is");
    }
}

#[test]
fn the_next_look_is_when_the_next_thing_is_due() {
    let wait = |seen: &Observed| match plan::plan(seen, seen.now) {
        Plan::Done { look, .. } | Plan::Wait { look, .. } | Plan::Stalled { look, .. } => look,
        Plan::Act { step, .. } => panic!("nothing is due, but {step:?}"),
    };
    let minute = HOUR / 60;
    assert_eq!(wait(&settled()), minute * 10);
    let nearly_expired = look(settled(), |seen| {
        seen.now = time::after(at_hour(30 * 24 - 1), minute * 57).expect("in range");
    });
    assert_eq!(wait(&nearly_expired), minute * 3);
    let sweep = |due: Timestamp| {
        let mut sweep = crate::api::builder::SweepRecord { id: format!("{:016x}", 1), ..Default::default() };
        (sweep.region, sweep.due) = ("us-east-1".into(), Some(due));
        Some(vec![sweep])
    };
    let due_soon =
        look(settled(), |seen| seen.status.sweeps = sweep(time::after(seen.now, minute).expect("in range")));
    assert_eq!(wait(&due_soon), minute);
    let held_up = look(settled(), |seen| {
        seen.status.sweeps = sweep(at_hour(0));
        seen.complete = false;
    });
    assert_eq!(wait(&held_up), minute * 10, "a sweep that must wait is no reason to look all the time");
}

#[test]
fn what_is_waited_for_when_reads_fail_names_the_read() {
    let seen =
        look(settled(), |seen| seen.base = Seen::Unknown(Class::Denied, "ec2:DescribeImages: denied".into()));
    let Plan::Wait { on: On::Unknown { class, message, .. }, .. } = plan::plan(&seen, seen.now) else {
        panic!("a denied read is waited for")
    };
    assert_eq!((class, message.as_str()), (Class::Denied, "ec2:DescribeImages: denied"));
}

#[test]
fn an_agent_that_is_about_to_end_starts_nothing() {
    assert_eq!(planned(&Observed { ending: true, ..seen() }), "wait Ending");
    assert_eq!(planned(&Observed { ending: true, ..settled() }), "done ami-00000001");
}

fn failed(class: &str) -> RunRecord {
    RunRecord { failure: Some(class.into()), ..record(1, history::FAILED, at_hour(1)) }
}

fn ten(class: &str) -> Vec<RunRecord> {
    (0..10).map(|number| RunRecord { id: format!("{number:016x}"), ..failed(class) }).collect()
}

#[test]
fn only_failures_of_the_template_stall_and_asking_tries_again() {
    let with = |history: Vec<RunRecord>, hour| {
        let mut seen = Observed { now: at_hour(hour), ..seen() };
        seen.status.history = Some(history);
        seen
    };
    assert_eq!(planned(&with(ten("Template"), 99)), "stalled RetryLimit");
    assert_eq!(planned(&with(ten("Transient"), 99)), "start Retry");
    assert_eq!(planned(&with(ten("Transient"), 2)), "wait Backoff", "the pauses grow");
    assert_eq!(planned(&with(vec![failed("Final")], 99)), "stalled NoUse");
    for class in ["Template", "Final"] {
        let mut history = ten(class);
        history::reset(&mut history, None);
        assert_eq!(planned(&with(history, 1)), "start Missing", "at once");
    }
    let mut history = ten("Template");
    history[0].ended_at = Some(at_hour(3));
    history::reset(&mut history, Some(at_hour(2)));
    assert_eq!(planned(&with(history, 99)), "start Retry", "one failed after somebody had asked: it counts");
}
