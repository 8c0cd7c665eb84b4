//! AWS is unreachable, denies, throttles or loses responses: nothing is done twice, and the status names the cause.

use serde_json::{Value, json};

use super::{base, building, builds, calls_for, on, rolling, rolls, settles, versions_of_ours};
use crate::world::World;

/// The address of a port on which nothing listens.
fn closed_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("its address"))
}

#[test]
fn while_aws_cannot_be_used_nothing_is_built_and_status_says_why() {
    let world = building("");
    let away = world.once_with(&[("AWS_ENDPOINT_URL", &closed_port())]);
    assert_eq!(away.status.code(), Some(2), "{away:#?}");
    let (reason, message) = builds(&world, "node");
    assert_eq!(reason, "AwsUnavailable", "{message}");
    assert!(message.contains("cannot reach") && message.contains("127.0.0.1"), "{message}");

    let cases = [
        (json!({ "kind": "deny" }), "AwsDenied", "permission needed: ec2:DescribeImages"),
        (json!({ "kind": "throttle" }), "AwsUnavailable", "RequestLimitExceeded"),
        (
            json!({ "kind": "error", "code": "InternalError", "status": 500 }),
            "AwsUnavailable",
            "InternalError",
        ),
        (json!({ "kind": "raw", "status": 502 }), "AwsUnavailable", "502"),
        (json!({ "kind": "reset" }), "AwsUnavailable", "cannot reach"),
        (json!({ "kind": "expired" }), "AwsUnavailable", "credentials have expired"),
    ];
    for (mut fault, word, said) in cases {
        fault["operation"] = json!("DescribeImages");
        world.account.clear_faults();
        world.account.fault(fault.clone());
        let outcome = world.once();
        assert_eq!(outcome.status.code(), Some(2), "{fault}: {outcome:#?}");
        let (reason, message) = builds(&world, "node");
        assert_eq!(reason, word, "{fault}: {message}");
        assert!(message.contains(said) && message.contains("ec2:DescribeImages"), "{fault}: {message}");
    }
    assert_eq!(world.account.writes(), Vec::<String>::new());

    world.account.clear_faults();
    settles(&world);
    assert!(world.active_image().is_some());
    assert_eq!(world.account.count("ec2:RunInstances"), 1);
}

#[test]
fn a_denied_update_names_the_permission_and_goes_on_once_it_is_granted() {
    let world = rolling("");
    let image = base(&world, "v20260801");
    // A denied group is tried again after a while, or when a person asks.
    let (name, asked) = ("name: demo\n", "  annotations:\n    ami.opsy.dev/reconcileAt: \"1\"\n");
    world.edit("refreshers/demo.yaml", name, &format!("{name}{asked}"), "policy: ask");
    for (denied, next) in [("CreateLaunchTemplateVersion", "\"2\""), ("UpdateNodegroupVersion", "\"3\"")] {
        world.account.clear_faults();
        world.account.fault(json!({ "kind": "deny", "operation": denied }));
        assert_eq!(world.once().status.code(), Some(2));
        let (reason, message) = rolls(&world);
        assert_eq!(reason, "AwsDenied", "{message}");
        assert!(message.contains(&format!(":{denied}")), "{message}");
        assert_eq!(on(&world, &image), Vec::<&str>::new());
        let before = if denied.starts_with("Create") { "\"1\"" } else { "\"2\"" };
        world.edit("refreshers/demo.yaml", before, next, "policy: ask again");
    }
    assert!(versions_of_ours(&world) <= 3, "{}", versions_of_ours(&world));
    world.account.clear_faults();
    settles(&world);
    assert_eq!(on(&world, &image), ["batch", "system", "web"]);
    assert_eq!(versions_of_ours(&world), 3, "the version that was made before is used");
}

#[test]
fn lost_answers_cost_nothing_twice() {
    let world = World::new();
    // More often than the SDK retries, so that Opsy itself must find out what was done.
    let lost = |operation: &str, params| json!({ "kind": "lost", "operation": operation, "count": 4, "params": params });
    world.account.fault(lost("CreateTags", json!({ "Tags": "active" })));
    world.account.fault(lost("CreateLaunchTemplateVersion", json!({})));
    world.account.fault(lost("UpdateNodegroupVersion", json!({})));
    let codes: Vec<Option<i32>> = std::iter::repeat_with(|| world.once().status.code()).take(4).collect();
    assert_eq!(codes.last(), Some(&Some(0)), "{codes:?}: {:?} {:?}", builds(&world, "node"), rolls(&world));
    let left = world.account.look("faults");
    let met = |fault: &Value| fault["hits"].as_u64() >= Some(3);
    assert!(left.as_array().is_some_and(|left| left.iter().all(met)), "the SDK gave up: {codes:?} {left}");

    let image = world.active_image().expect("one active image");
    assert_eq!(world.our_images().len(), 1);
    assert_eq!((world.account.count("ec2:RunInstances"), world.account.count("ec2:CreateImage")), (1, 1));
    assert_eq!(on(&world, &image), ["batch", "system", "web"]);
    assert_eq!(versions_of_ours(&world), 3, "one version per group");
    assert_eq!(world.account.state()["updates"].as_array().map(Vec::len), Some(3), "one update per group");
    assert!(calls_for(&world, "UpdateNodegroupVersion", "batch") > 1);
    assert_eq!(world.account.orphans(), Vec::<String>::new());
}
