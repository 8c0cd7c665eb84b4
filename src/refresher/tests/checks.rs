//! Scenarios of the checks while a wave soaks, in the simulated world, and how they are parsed.

use serde_json::{Value, json};

use super::driving::{events, passes_until};
use super::scenarios::message;
use super::world::{Event, Mishap, SimPolicy, World, reason};
use crate::api::refresher::HealthCheck;
use crate::engine::ObjectHealth;
use crate::refresher::spec;

/// A canary (group-0) that soaks for ten minutes, with one check per minute.
fn world(more: Value) -> World {
    let mut world = World::new(2, false);
    world.set_policy(SimPolicy { soak: Some(600), ..SimPolicy::default() });
    let mut check = json!({"checks": [{"name": "shop", "url": "https://shop.example.com/healthz"}]});
    check.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
    world.object.spec.rollout.as_mut().expect("a policy").health_check =
        Some(serde_json::from_value::<HealthCheck>(check).expect("a check"));
    world.happens(&Event::NewImage);
    world
}

fn until_soaking(world: &mut World) {
    passes_until(world, "soaking", |_, pass| reason(pass) == "Soaking");
}

#[test]
fn a_good_check_is_evaluated_at_its_interval_and_once_more_before_the_next_wave() {
    let mut world = world(json!({}));
    until_soaking(&mut world);
    let began = world.asked.get();
    let passes = passes_until(&mut world, "the next wave", |world, _| world.started.len() == 2);
    let asked = world.asked.get() - began;
    assert!((10..=13).contains(&asked), "{asked}");
    assert_eq!(events(&passes, "CheckFailed"), Vec::<String>::new());
    let pass = passes_until(&mut world, "settled", |_, pass| pass.health == ObjectHealth::Settled);
    let rollout = pass.last().and_then(|pass| pass.status.rollout.clone()).expect("a rollout");
    assert_eq!((rollout.checks, rollout.failure), (None, None));
    let settled = world.asked.get();
    world.pass(Mishap::None);
    assert_eq!(world.asked.get(), settled);
}

#[test]
fn a_check_that_fails_too_often_fails_the_rollout_once_and_for_all() {
    let mut world = world(json!({}));
    until_soaking(&mut world);
    world.bad_checks.insert("shop".to_owned());
    // However often it is reconciled, a check fails once per interval.
    for _ in 0..5 {
        world.pass(Mishap::None);
    }
    let counted =
        world.object.status.as_ref().and_then(|status| status.rollout.clone()?.checks).expect("counted");
    assert_eq!((counted[0].failures, counted[0].last_response.as_deref()), (Some(1), Some("HTTP 503")));
    let passes = passes_until(&mut world, "failed", |_, pass| pass.health == ObjectHealth::Stalled);
    let why = "check \"shop\" failed while wave \"canary\" soaks: HTTP 503";
    let last = format!("{why} (failed 3 times, failureThreshold is 2)");
    assert_eq!(
        events(&passes, "CheckFailed"),
        [format!("{why} (2 of 2 failures that are allowed)"), last.clone()]
    );
    let pass = passes.last().expect("some");
    assert!(reason(pass) == "UpdateFailed" && message(pass).contains(&last), "{}", message(pass));
    let record = &pass.status.history.as_ref().expect("a history")[0];
    assert_eq!((record.result.as_str(), record.failures.clone()), ("Failed", Some(vec![last])));
    world.bad_checks.clear();
    world.advance(7200);
    assert_eq!(world.pass(Mishap::None).health, ObjectHealth::Stalled, "nothing has changed");
    assert_eq!(world.started, ["group-0"]);
    world.happens(&Event::Ask);
    passes_until(&mut world, "settled", |_, pass| pass.health == ObjectHealth::Settled);
    assert_eq!(world.started, ["group-0", "group-1"]);
}

#[test]
fn a_check_that_recovers_lets_the_next_wave_start_only_while_it_is_good() {
    let mut world = world(json!({"failureThreshold": 5}));
    until_soaking(&mut world);
    world.advance(570);
    world.bad_checks.insert("shop".to_owned());
    world.pass(Mishap::None);
    world.advance(40);
    let pass = world.pass(Mishap::None);
    let expected = "wave \"canary\" soaks until check \"shop\" is good again: HTTP 503";
    assert_eq!((reason(&pass).as_str(), message(&pass).as_str()), ("Soaking", expected));
    assert_eq!(world.started.len(), 1);
    world.bad_checks.clear();
    passes_until(&mut world, "settled", |_, pass| pass.health == ObjectHealth::Settled);
    assert_eq!(world.started, ["group-0", "group-1"]);
}

#[test]
fn failures_are_counted_through_crashes() {
    let mut world = world(json!({"failureThreshold": 1}));
    until_soaking(&mut world);
    world.bad_checks.insert("shop".to_owned());
    for mishap in [Mishap::DiesAfter, Mishap::None, Mishap::DiesAfter, Mishap::None] {
        world.pass(mishap);
        world.happens(&Event::Restart);
        world.advance(61);
    }
    passes_until(&mut world, "failed", |_, pass| pass.health == ObjectHealth::Stalled);
    assert_eq!(world.started, ["group-0"]);
}

#[test]
fn every_problem_of_a_check_is_named_with_its_field() {
    let problems = |check: Value| {
        let mut object = world(json!({})).object;
        let policy = object.spec.rollout.as_mut().expect("a policy");
        policy.health_check = Some(serde_json::from_value(check).expect("a check"));
        let problems = spec::parse(&object).err().unwrap_or_default();
        problems.into_iter().map(|(path, what)| format!("{path}: {what}")).collect::<Vec<_>>().join("; ")
    };
    let checks = |check: Value| problems(json!({"checks": [check]}));
    let prometheus = json!({"address": "http://prometheus.monitoring.svc:9090", "query": "up == 1"});
    assert_eq!(checks(json!({"name": "up", "prometheus": prometheus})), "");
    for (check, words) in [
        (json!({"name": "a b", "url": "https://x.example.com"}), "checks[0].name: is required"),
        (json!({"name": "a"}), "checks[0]: must have either url or prometheus"),
        (
            json!({"name": "a", "url": "https://u:p@x.example.com"}),
            "checks[0].url: the URL must not contain a user name",
        ),
        (json!({"name": "a", "url": "http://169.254.169.254/"}), "checks[0].url: link-local addresses"),
        (
            json!({"name": "a", "prometheus": {"query": "up"}}),
            "checks[0].prometheus.address: not a valid URL",
        ),
        (
            json!({"name": "a", "prometheus": {"address": "http://x"}}),
            "checks[0].prometheus.query: is required",
        ),
    ] {
        let found = checks(check);
        assert!(found.contains(words), "{found}");
    }
    assert!(problems(json!({"interval": "1s"})).contains("interval: must be at least 10s"));
    assert!(problems(json!({"failureThreshold": -1})).contains("failureThreshold: must not be negative"));
    let mut object = world(json!({})).object;
    object.spec.rollout.as_mut().expect("a policy").waves = None;
    let found = spec::parse(&object).expect_err("invalid");
    assert!(found.iter().any(|(_, what)| what.contains("no wave has a soak")), "{found:?}");
}
