//! Tables: each rule of the plan, and what makes an image out of date.

use super::*;
use crate::api::tags;
use crate::api::words::RunResult;
use crate::builder::history;
use crate::builder::step::WaitReason;
use crate::engine::Stop;

fn tag(observed: &mut Observed, name: &str, value: &str) {
    images_of(observed)[0].image.tags.insert(name.into(), value.into());
}

#[test]
fn first_match_wins_in_the_order_of_the_rules() {
    let broken = || Err(vec![("spec.region".to_owned(), "missing".to_owned())]);
    let cases: Vec<(&str, Observed)> = vec![
        ("start Missing", observed()),
        ("done ami-00000001", settled()),
        ("wait Unknown", altered(settled(), |observed| observed.runs = unknown())),
        ("wait Unknown", altered(settled(), |observed| observed.images = unknown())),
        ("wait Unknown", altered(settled(), |observed| observed.base = unknown())),
        ("wait Unknown", altered(settled(), |observed| observed.template = unknown())),
        ("wait Unknown", altered(observed(), |observed| observed.live = unknown())),
        ("done ami-00000001", altered(settled(), |observed| observed.live = unknown())),
        ("wait Run", altered(observed(), |observed| observed.runs = Seen::Is(vec![run(1, running())]))),
        (
            "wait Run",
            altered(observed(), |observed| {
                observed.runs = Seen::Is(vec![run(1, running())]);
                observed.spec = broken();
            }),
        ),
        ("stalled Invalid", altered(observed(), |observed| observed.spec = broken())),
        ("wait Suspended", altered(observed(), |observed| observed.suspended = true)),
        ("wait Suspended", altered(observed(), |observed| spec_of(observed).suspended = true)),
        (
            "wait Suspended",
            altered(observed(), |observed| {
                observed.suspended = true;
                observed.spec = broken();
            }),
        ),
        ("wait Deleted", altered(observed(), |observed| observed.deleting = true)),
        ("wait BaseImageNotFound", altered(settled(), |observed| observed.base = Seen::Is(Base::default()))),
        (
            "stalled Unreadable",
            altered(settled(), |observed| {
                observed.template = Seen::Unknown(Class::Invalid, "packer/node does not exist".into());
            }),
        ),
        ("wait Slot", altered(observed(), |observed| observed.live = Seen::Is(4))),
        (
            "wait LastSlot",
            altered(observed(), |observed| {
                (observed.live, observed.last_slot_is_reserved) = (Seen::Is(3), true)
            }),
        ),
        (
            "start Missing",
            altered(observed(), |observed| {
                (observed.live, observed.last_slot_is_reserved) = (Seen::Is(2), true)
            }),
        ),
        (
            "start Missing",
            altered(observed(), |observed| {
                (observed.live, observed.last_slot_is_reserved, observed.concurrent_builds) =
                    (Seen::Is(0), true, 1);
            }),
        ),
        ("wait Slot", altered(observed(), |observed| observed.fleet.goes_first = Some("few".into()))),
    ];
    for (expected, observed) in cases {
        assert_eq!(planned(&observed), expected, "{observed:?}");
    }
}

#[test]
fn a_live_run_is_stopped_over_its_limit_cancelled_or_without_its_builder() {
    let live =
        |state: RunState| altered(observed(), |observed| observed.runs = Seen::Is(vec![run(1, state)]));
    let cancelled = |state| altered(live(state), |observed| observed.cancel = Some(format!("{:016x}", 1)));
    let cases = [
        ("wait Run", live(running())),
        ("wait Run", altered(live(running()), |observed| observed.now = at_hour(2))),
        ("do Stop", altered(live(running()), |observed| observed.now = at_hour(3))),
        ("do Stop", live(RunState::Pending(None))),
        ("wait Run", altered(live(RunState::Pending(None)), |observed| observed.now = at_hour(0))),
        ("do Stop", cancelled(running())),
        ("wait Run", cancelled(RunState::Stopping)),
        ("wait Run", altered(live(running()), |observed| observed.cancel = Some("another build".into()))),
        ("do Stop", altered(live(running()), |observed| observed.deleting = true)),
    ];
    for (expected, observed) in cases {
        assert_eq!(planned(&observed), expected, "{observed:?}");
    }
}

/// By the wall clock, the run is over every limit, but less time has passed.
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
                let jumped = altered(observed(), |observed| {
                    observed.runs = Seen::Is(vec![run(1, state.clone())]);
                    (observed.now, observed.lasted) = (at_hour(hour), lasted);
                });
                assert_eq!(planned(&jumped), expected, "{state:?} {lasted:?} {hour}");
            }
        }
    }
    // With a clock that was set back, the run has not started yet.
    let early = altered(observed(), |observed| {
        observed.runs = Seen::Is(vec![run(1, running())]);
        observed.now = start_of_time();
    });
    assert_eq!(planned(&early), "wait Run");
}

#[test]
fn an_engine_is_told_whether_a_run_is_late_or_unwanted() {
    let live =
        |state: RunState| altered(observed(), |observed| observed.runs = Seen::Is(vec![run(1, state)]));
    let why = |observed: Observed| match plan::plan(&observed, observed.now) {
        Plan::Act { step: Step::Stop { why, .. }, .. } => Some(why),
        _ => None,
    };
    assert_eq!(why(live(RunState::Pending(None))), Some(Stop::Late));
    assert_eq!(why(altered(live(running()), |observed| observed.now = at_hour(3))), Some(Stop::Late));
    assert_eq!(why(altered(live(running()), |observed| observed.deleting = true)), Some(Stop::Cancelled));
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
    let template = |observed: &mut Observed, tag: &str| {
        observed.template = Seen::Is(resolved(tag.into()));
    };
    let cases: Vec<(&str, Observed)> = vec![
        ("start Template", altered(settled(), |observed| template(observed, "v1-bbbb"))),
        ("done ami-00000001", altered(settled(), |observed| template(observed, "v2-bbbb"))),
        ("start Spec", altered(settled(), |observed| spec_of(observed).tag = "v2-other".into())),
        ("done ami-00000001", altered(settled(), |observed| tag(observed, tags::SPEC, "v9-other"))),
        ("start BaseImage", altered(settled(), |observed| observed.base = newer())),
        ("start Expired", altered(settled(), |observed| observed.now = at_hour(30 * 24))),
        ("done ami-00000001", altered(settled(), |observed| observed.now = at_hour(30 * 24 - 1))),
        (
            "start Missing",
            altered(settled(), |observed| images_of(observed)[0].image.state = ImageState::Disabled),
        ),
        ("start Missing", altered(settled(), |observed| tag(observed, tags::STATUS, tags::DEPRECATED))),
        ("start Missing", altered(settled(), |observed| images_of(observed).clear())),
        ("stalled AnotherOwner", altered(settled(), |observed| tag(observed, tags::OWNER, "agent-2"))),
        ("start Missing", altered(settled(), |observed| tag(observed, tags::BUILDER, "default/other"))),
    ];
    for (expected, observed) in cases {
        assert_eq!(planned(&observed), expected, "{observed:?}");
    }
    for absent in [tags::TEMPLATE, tags::SPEC, tags::BASE] {
        let observed = altered(settled(), |observed| {
            template(observed, if absent == tags::TEMPLATE { "v1-bbbb" } else { TEMPLATE });
            images_of(observed)[0].image.tags.remove(absent);
        });
        assert_eq!(planned(&observed), "done ami-00000001", "an absent {absent} compares as equal");
    }
}

#[test]
fn rebuild_on_says_which_reasons_count() {
    let none = |observed: &mut Observed| {
        spec_of(observed).rebuild_on = spec::RebuildOn {
            expired: false,
            base_image: false,
            template: false,
            spec: false,
            explicit: true,
        };
    };
    let everything_moved = |observed: &mut Observed| {
        observed.now = at_hour(40 * 24);
        observed.base = Seen::Is(Base { found: Some(image(0xba5f, at_hour(2))), ..Base::default() });
        observed.template = Seen::Is(resolved("v1-bbbb".into()));
        spec_of(observed).tag = "v2-other".into();
    };
    let ignored = altered(settled(), |observed| {
        everything_moved(observed);
        none(observed);
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
        let observed = altered(ignored.clone(), |observed| change(spec_of(observed)));
        assert_eq!(planned(&observed), expected);
    }
}

#[test]
fn a_base_image_counts_only_when_it_is_newer() {
    let found = |created: Timestamp, recorded: Vec<Image>| {
        altered(settled(), |observed| {
            observed.base =
                Seen::Is(Base { found: Some(image(0xba5f, created)), recorded, ..Base::default() })
        })
    };
    let recorded = |hour| vec![image(0xba5e, at_hour(hour))];
    assert_eq!(planned(&found(at_hour(9), recorded(8))), "start BaseImage");
    assert_eq!(planned(&found(at_hour(8), recorded(9))), "done ami-00000001");
    // The recorded base image and its date are lost: one that appeared after the build of the active image is newer,
    // one from before is not.
    assert_eq!(planned(&found(at_hour(1), Vec::new())), "start BaseImage");
    assert_eq!(planned(&found(start_of_time(), Vec::new())), "done ami-00000001");
}

#[test]
fn older_active_images_of_a_lane_are_demoted_one_lane_at_a_time() {
    let older = active(2, start_of_time());
    let other_lane = with_image(active(3, start_of_time()), |image| image.architecture = "arm64".into());
    let observed = altered(settled(), |observed| images_of(observed).extend([older.clone(), other_lane]));
    // Both were created at the same time, so the higher ID would win: make the recorded one newer.
    let observed = altered(observed, |observed| images_of(observed)[0].image.created = Some(at_hour(1)));
    let Step::Demote(tagging) = step(&observed) else { panic!("demotion comes first") };
    assert_eq!(tagging.images, [older.image.id.to_string()]);
    assert_eq!(
        (tagging.images, tagging.snapshots),
        (vec![older.image.id.to_string()], older.image.snapshots)
    );
    assert_eq!(tagging.tags, map(&[("status", "deprecated")]));
}

fn with_image(mut located: Located, change: impl FnOnce(&mut Image)) -> Located {
    change(&mut located.image);
    located
}

#[test]
fn the_only_launchable_image_is_never_demoted() {
    let mut observed = settled();
    let newer = with_image(active(2, at_hour(1)), |image| image.state = ImageState::Disabled);
    images_of(&mut observed).push(newer);
    observed.status.last_run_built_image_id = Some("ami-00000002".into());
    let Step::Demote(tagging) = step(&observed) else { panic!("the disabled one goes") };
    assert_eq!(tagging.images, ["ami-00000002"]);
    images_of(&mut observed).remove(0);
    assert_eq!(
        planned(&observed),
        "start Missing",
        "a lone disabled image is not demoted, but does not count"
    );
}

#[test]
fn every_lane_of_the_last_build_needs_a_good_image() {
    let arm = with_image(active(2, at_hour(0)), |image| image.architecture = "arm64".into());
    let mut observed = settled();
    observed.status.images.as_mut().expect("named").push(arm.record());
    assert_eq!(planned(&observed), "start Missing");
    images_of(&mut observed).push(arm);
    assert_eq!(planned(&observed), "done ami-00000002 ami-00000001", "arm64 before x86_64");
    // A builder whose region is changed needs an image in the new one.
    spec_of(&mut observed).region = Region::parse("eu-west-1").expect("a region");
    assert_eq!(planned(&observed), "start Missing");
}

#[test]
fn the_next_look_is_when_the_next_thing_is_due() {
    let wait = |observed: &Observed| match plan::plan(observed, observed.now) {
        Plan::Done { requeue, .. } | Plan::Wait { requeue, .. } | Plan::Stalled { requeue, .. } => requeue,
        Plan::Act { step, .. } => panic!("nothing is due, but {step:?}"),
    };
    let minute = HOUR / 60;
    assert_eq!(wait(&settled()), minute * 10);
    let nearly_expired = altered(settled(), |observed| {
        observed.now = time::after(at_hour(30 * 24 - 1), minute * 57).expect("in range");
    });
    assert_eq!(wait(&nearly_expired), minute * 3);
    let sweep = |due: Timestamp| {
        let mut sweep = crate::api::builder::SweepRecord { id: format!("{:016x}", 1), ..Default::default() };
        (sweep.region, sweep.due) = ("us-east-1".into(), Some(due));
        Some(vec![sweep])
    };
    let due_soon = altered(settled(), |observed| {
        observed.status.sweeps = sweep(time::after(observed.now, minute).expect("in range"))
    });
    assert_eq!(wait(&due_soon), minute);
    let waiting = altered(settled(), |observed| {
        observed.status.sweeps = sweep(at_hour(0));
        observed.complete = false;
    });
    assert_eq!(
        wait(&waiting),
        minute * 10,
        "a garbage collection that must wait causes no constant reconciles"
    );
}

#[test]
fn what_is_waited_for_when_reads_fail_names_the_read() {
    let observed = altered(settled(), |observed| {
        observed.base = Seen::Unknown(Class::Denied, "ec2:DescribeImages: denied".into())
    });
    let Plan::Wait { on: WaitReason::Unknown { class, message, .. }, .. } =
        plan::plan(&observed, observed.now)
    else {
        panic!("a denied read is waited for")
    };
    assert_eq!((class, message.as_str()), (Class::Denied, "ec2:DescribeImages: denied"));
}

#[test]
fn an_agent_that_is_about_to_end_starts_nothing() {
    assert_eq!(planned(&Observed { ending: true, ..observed() }), "wait Ending");
    assert_eq!(planned(&Observed { ending: true, ..settled() }), "done ami-00000001");
}

fn failed(class: &str) -> RunRecord {
    RunRecord { failure: Some(class.into()), ..record(1, RunResult::Failed, at_hour(1)) }
}

fn ten(class: &str) -> Vec<RunRecord> {
    (0..10).map(|number| RunRecord { id: format!("{number:016x}"), ..failed(class) }).collect()
}

#[test]
fn only_failures_of_the_template_stall_and_asking_tries_again() {
    let with = |history: Vec<RunRecord>, hour| {
        let mut observed = Observed { now: at_hour(hour), ..observed() };
        observed.status.history = Some(history);
        observed
    };
    assert_eq!(planned(&with(ten("Template"), 99)), "stalled RetryLimit");
    assert_eq!(planned(&with(ten("Transient"), 99)), "start Retry");
    assert_eq!(planned(&with(ten("Transient"), 2)), "wait Backoff", "the delays grow");
    assert_eq!(planned(&with(vec![failed("Final")], 99)), "stalled NoUse");
    for class in ["Template", "Final"] {
        let mut history = ten(class);
        history::reset(&mut history, None);
        assert_eq!(planned(&with(history, 1)), "start Missing", "at once");
    }
    let mut history = ten("Template");
    history[0].ended_at = Some(at_hour(3));
    history::reset(&mut history, Some(at_hour(2)));
    assert_eq!(planned(&with(history, 99)), "start Retry", "a failure after the request counts");
}
