//! A rollout in waves: a canary in a window, its soak, a person's approval, and a window that closes in between. The
//! clocks of AWS and of the refresher are advanced through all of it, and the agent is restarted on the way.

use jiff::{SignedDuration, Timestamp};
use opsy::api::AMIRefresherStatus;
use opsy::engine::{ObjectHealth, Pass};
use serde_json::{Value, json};

use crate::refresher::{Rolling, names, now, reason};

const MINUTE: i64 = 60;
/// The longest wait in these tests is a day, at the interval of the refresher.
const RECONCILES: usize = 200;

/// Reconciles when the last reconcile requested it, until Ready has this reason.
async fn until(rolling: &mut Rolling, wanted: &str) -> Pass<AMIRefresherStatus> {
    until_with_time(rolling, wanted).await.1
}

/// As `until`, with the time at which the last reconcile began.
async fn until_with_time(rolling: &mut Rolling, wanted: &str) -> (Timestamp, Pass<AMIRefresherStatus>) {
    for _ in 0..RECONCILES {
        let began = now();
        let pass = rolling.pass().await;
        if reason(&pass).0 == wanted {
            return (began, pass);
        }
        let health = pass.health;
        assert!(matches!(health, ObjectHealth::Busy | ObjectHealth::Waiting), "{:?}", reason(&pass));
        rolling.step(pass.look.as_secs().max(1));
    }
    panic!("never {wanted}: {:#?}", rolling.object.status);
}

/// The groups whose update was started, in this order.
fn started(rolling: &Rolling) -> Vec<String> {
    let journal = rolling.account.journal();
    let started = journal.iter().filter(|entry| entry["operation"] == "UpdateNodegroupVersion");
    started.filter_map(|entry| entry["params"]["nodegroupName"].as_str()).map(str::to_owned).collect()
}

/// Name, state, and number of updated groups of each wave in status.
fn waves(pass: &Pass<AMIRefresherStatus>) -> Vec<(String, String, i32)> {
    let waves = pass.status.rollout.as_ref().and_then(|rollout| rollout.waves.clone()).unwrap_or_default();
    let row = |wave: opsy::api::refresher::RolloutWave| {
        (wave.name, wave.state.unwrap_or_default(), wave.updated.unwrap_or_default())
    };
    waves.into_iter().map(row).collect()
}

/// A window of 40 minutes that opens half an hour from now, every day.
fn window() -> (Timestamp, Value) {
    let opens = now() + SignedDuration::from_secs(30 * MINUTE);
    let opens = Timestamp::from_second(opens.as_second() / MINUTE * MINUTE).expect("a time");
    let clock = opens.to_zoned(jiff::tz::TimeZone::get("Asia/Kolkata").expect("a time zone"));
    let schedule = format!("{} {} * * *", clock.minute(), clock.hour());
    (opens, json!([{ "schedule": schedule, "duration": "40m", "timeZone": "Asia/Kolkata" }]))
}

#[tokio::test]
async fn a_canary_soaks_and_a_person_approves_in_the_window() {
    let (opens, windows) = window();
    let mut rolling = Rolling::new(json!({
        "timeOuts": { "controllerTimer": "30m" },
        "rollout": {
            "waves": [
                { "name": "canary", "nodeGroups": ["sys*"], "soak": "20m" },
                { "name": "prod", "labels": { "pool": "web" }, "approval": "Required" },
            ],
            "windows": windows,
        },
    }))
    .await;
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());

    let (began, pass) = until_with_time(&mut rolling, "WaitingForWindow").await;
    let (_, message) = reason(&pass);
    assert!(
        message.starts_with("waits for the window \"")
            && message.contains("\" Asia/Kolkata, which opens at "),
        "{message}"
    );
    assert!(
        began + SignedDuration::try_from(pass.look).expect("short") <= opens + SignedDuration::from_secs(1)
    );
    assert_eq!((pass.health, rolling.writes()), (ObjectHealth::Waiting, Vec::new()));
    assert_eq!(pass.status.rollout, None, "nothing pins its target before the window");

    let pass = until(&mut rolling, "Soaking").await;
    assert!(now() >= opens, "started before the window");
    assert_eq!(rolling.on(&image), names(&["system"]));
    let of = |name: &str, state: &str, updated: i32| (name.to_owned(), state.to_owned(), updated);
    assert_eq!(
        waves(&pass),
        [of("canary", "Soaking", 1), of("prod", "Waiting", 0), of("remaining", "Pending", 0)]
    );
    rolling.restart().await;

    let pass = until(&mut rolling, "WaitingForApproval").await;
    let words = format!("run `opsy approve ar/nodes prod {image}`");
    assert!(reason(&pass).1.contains(&words), "{:?}", reason(&pass));
    rolling.step(3600);
    assert_eq!(reason(&rolling.pass().await).0, "WaitingForApproval");
    assert_eq!((started(&rolling), rolling.versions_of_ours()), (vec!["system".to_owned()], 1));

    let approval = [("ami.opsy.dev/approve".to_owned(), format!("prod={image}"))];
    rolling.object.metadata.annotations = Some(approval.into());
    let pass = until(&mut rolling, "WaitingForWindow").await;
    assert_eq!(
        waves(&pass),
        [of("canary", "Done", 1), of("prod", "Waiting", 0), of("remaining", "Pending", 0)]
    );
    assert_eq!(rolling.on(&image), names(&["system"]), "the window has closed");

    let pass = until(&mut rolling, "UpToDate").await;
    let tomorrow = opens + SignedDuration::from_hours(24);
    assert!(now() >= tomorrow && now() < tomorrow + SignedDuration::from_secs(40 * MINUTE), "{}", now());
    assert_eq!(started(&rolling), ["system", "web", "batch"]);
    assert_eq!(rolling.on(&image), names(&["batch", "system", "web"]));
    assert_eq!(waves(&pass), [of("canary", "Done", 1), of("prod", "Done", 1), of("remaining", "Done", 1)]);
    let wave = |name: &str| {
        let rows = pass.status.node_groups.as_deref().unwrap_or_default();
        rows.iter().find(|row| row.name == name).and_then(|row| row.wave.clone())
    };
    assert_eq!(
        ["system", "web", "batch"].map(|name| wave(name).expect("a wave")),
        ["canary", "prod", "remaining"]
    );
}

#[tokio::test]
async fn a_canary_that_fails_leaves_every_other_group_untouched() {
    let mut rolling = Rolling::new(json!({ "rollout": { "maxParallel": 3, "waves": [
        { "name": "canary", "tags": { "canary": "yes" } },
    ] } }))
    .await;
    let image = rolling.image();
    rolling.account.post(
        "new-node-group",
        json!({
            "name": "tagged", "image": rolling.seed["initial_image"], "tags": { "canary": "yes" },
        }),
    );
    rolling.account.fault(json!({
        "kind": "nodegroup-update-fails", "operation": "UpdateNodegroupVersion",
        "errorCode": "NodeCreationFailure", "message": "Instances failed to join the kubernetes cluster",
    }));
    rolling.object.spec.ami = Some(image.clone());
    let pass = rolling.rest().await;
    assert_eq!(
        (pass.health, reason(&pass).0.as_str()),
        (ObjectHealth::Stalled, "UpdateFailed"),
        "{:?}",
        reason(&pass)
    );
    assert_eq!((started(&rolling), rolling.on(&image)), (vec!["tagged".to_owned()], names(&[])));
    let states: Vec<_> = waves(&pass).into_iter().map(|(name, state, _)| format!("{name} {state}")).collect();
    assert_eq!(states, ["canary Failed", "remaining Pending"]);
}

/// The update of a group takes longer than the window, and the agent was away when the window opened.
#[tokio::test]
async fn a_window_that_opened_while_the_agent_was_away_starts_one_update_which_ends_after_it() {
    let (opens, windows) = window();
    let mut rolling = Rolling::new(json!({ "rollout": { "windows": windows } })).await;
    rolling.account.post("settings", json!({ "nodegroup_update_seconds": 3600 }));
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());
    until(&mut rolling, "WaitingForWindow").await;
    rolling.step(50 * 60);
    rolling.restart().await;
    while started(&rolling).is_empty() {
        assert!(now() < opens + SignedDuration::from_secs(40 * MINUTE), "{}", now());
        let pass = rolling.pass().await;
        rolling.step(pass.look.as_secs().max(1));
    }
    until(&mut rolling, "WaitingForWindow").await;
    assert!(now() > opens + SignedDuration::from_hours(1), "{}", now());
    assert_eq!((started(&rolling), rolling.on(&image)), (vec!["batch".to_owned()], names(&["batch"])));
}

/// A freeze begins during the first update, which ends, or which fails and is rolled back.
#[tokio::test]
async fn in_a_freeze_an_update_ends_a_rollback_goes_on_and_nothing_else_starts() {
    for fails in [false, true] {
        let at = |minutes: i64| {
            let at = now() + SignedDuration::from_secs(minutes * MINUTE);
            Timestamp::from_second(at.as_second()).expect("a time").to_string()
        };
        let freeze = json!([{ "from": at(2), "to": at(120) }]);
        let mut rolling =
            Rolling::new(json!({ "rollout": { "onFailure": "Rollback", "freezes": freeze } })).await;
        rolling.account.post("settings", json!({ "nodegroup_update_seconds": 300 }));
        if fails {
            rolling.account.fault(json!({
                "kind": "nodegroup-update-fails", "operation": "UpdateNodegroupVersion", "count": 1,
                "errorCode": "NodeCreationFailure", "message": "Instances failed to join the kubernetes cluster",
            }));
        }
        let ends = now() + SignedDuration::from_hours(2);
        let image = rolling.image();
        rolling.object.spec.ami = Some(image.clone());
        let pass = if fails { rolling.rest().await } else { until(&mut rolling, "Frozen").await };
        let batch = || "batch".to_owned();
        let (why, expected, on) = match fails {
            true => ("ImageHeld", vec![batch(), batch()], names(&[])),
            false => ("Frozen", vec![batch()], names(&["batch"])),
        };
        assert_eq!((reason(&pass).0.as_str(), started(&rolling), rolling.on(&image)), (why, expected, on));
        assert!(now() < ends, "the freeze has not ended: {}", now());
        if !fails {
            assert_eq!(until(&mut rolling, "UpToDate").await.health, ObjectHealth::Settled);
            assert!(now() >= ends - SignedDuration::from_secs(1), "{}", now());
            assert_eq!(started(&rolling), ["batch", "system", "web"]);
        }
    }
}
