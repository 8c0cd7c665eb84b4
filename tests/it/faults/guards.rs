//! Limits and guards: what may be touched, how much at once, and how often a failing build is tried.

use serde_json::json;

use super::{base, building, building_all, builds, on, refresher, rolls, settles};
use crate::world::fixture;

#[test]
fn another_account_than_allowed_is_not_touched() {
    let world = building_all(&["node"], "", "accounts: [\"999999999999\"]\n");
    let text = refresher(&base(&world, "v20260801"), "");
    world.push(&[("refreshers/demo.yaml", Some(text.as_str()))], "policy: roll");
    let outcome = world.once();
    assert_eq!(outcome.status.code(), Some(2), "{outcome:#?}");
    for (reason, message) in [builds(&world, "node"), rolls(&world)] {
        assert_eq!(reason, "AccountNotAllowed", "{message}");
        assert!(message.contains(&world.account.id), "{message}");
    }
    assert_eq!(world.account.writes(), Vec::<String>::new());

    world.edit("opsy.yaml", "999999999999", &world.account.id, "policy: the right account");
    settles(&world);
    assert!(world.active_image().is_some());
    assert_eq!(on(&world, &base(&world, "v20260801")), ["batch", "system", "web"]);
}

#[test]
fn many_images_gone_at_once_are_not_built_again_until_a_person_allows_it() {
    let names = ["a", "b", "c", "d"];
    let world = building_all(&names, "", "");
    settles(&world);
    let images = world.our_images();
    assert_eq!((images.len(), world.account.count("ec2:RunInstances")), (4, 4));
    let image_of = |name: &str| {
        let status = world.status("PackerBuilder", name).expect("a status");
        status["images"][0]["id"].as_str().expect("an image").to_owned()
    };
    let kept = image_of("d");
    for name in ["a", "b", "c"] {
        world.account.delete("image", json!({ "id": image_of(name) }));
    }

    for _ in 0..2 {
        assert_eq!(world.once().status.code(), Some(2));
        for name in ["a", "b", "c"] {
            let (reason, message) = builds(&world, name);
            assert_eq!(reason, "MassBuildRefused", "{name}: {message}");
            assert!(message.contains("3 of 4") && message.contains("limits.allowMassBuild"), "{message}");
        }
        assert_eq!(builds(&world, "d").0, "ImageReady");
        assert_eq!(world.account.count("ec2:RunInstances"), 4);
    }

    let settings = format!("{}limits:\n  allowMassBuild: true\n", fixture("opsy.yaml"));
    world.push(&[("opsy.yaml", Some(settings.as_str()))], "policy: yes, build them");
    settles(&world);
    assert_eq!(world.account.count("ec2:RunInstances"), 7);
    assert_eq!(world.our_images().iter().filter(|(_, status)| status == "active").count(), 4);
    assert_eq!(image_of("d"), kept);
}

#[test]
fn no_more_builds_run_at_once_than_allowed() {
    let names = ["a", "b", "c"];
    let world = building_all(&names, "", "limits:\n  concurrentBuilds: 1\n");
    settles(&world);
    let mut alive = 0;
    for call in world.account.calls() {
        match call.as_str() {
            "ec2:RunInstances" => alive += 1,
            "ec2:TerminateInstances" => alive -= 1,
            _ => {}
        }
        assert!((0..=1).contains(&alive), "{alive} machines at once");
    }
    assert_eq!((alive, world.account.count("ec2:RunInstances")), (0, 3));
    assert_eq!(world.our_images().iter().filter(|(_, status)| status == "active").count(), 3);
}

#[test]
fn a_build_that_fails_is_tried_as_often_as_allowed_and_then_waits_for_other_inputs() {
    let world = building("  failurePolicy:\n    limit: 2\n    backoff: 1s\n");
    let refused = json!({ "kind": "error", "operation": "RunInstances", "code": "InvalidParameterCombination", "status": 400 });
    world.account.fault(refused);
    let agent = world.agent();
    let message = world.wait("the limit", || {
        let (reason, message) = builds(&world, "node");
        (reason == "RetryLimit").then_some(message)
    });
    agent.stop();
    assert!(message.contains("2 builds") && message.contains("InvalidParameterCombination"), "{message}");
    let runs = || world.history("node");
    assert_eq!(runs().iter().filter(|(_, result)| result == "Failed").count(), 2, "{:?}", runs());
    let status = world.status("PackerBuilder", "node").expect("a status");
    assert_eq!((&status["failedJobCount"], &status["maxNumberOfFailedJobs"]), (&json!(2), &json!(2)));

    world.account.clear_faults();
    let tried = world.account.count("ec2:RunInstances");
    assert_eq!(world.once().status.code(), Some(2), "a restart changes nothing");
    assert_eq!(
        (builds(&world, "node").0.as_str(), world.account.count("ec2:RunInstances")),
        ("RetryLimit", tried)
    );
    assert_eq!(world.account.orphans(), Vec::<String>::new());

    world.edit("packer/node/node.pkr.hcl", "default = \"1\"", "default = \"2\"", "policy: fixed");
    settles(&world);
    assert!(world.active_image().is_some());
    assert_eq!(runs().len(), 3, "{:?}", runs());
}
