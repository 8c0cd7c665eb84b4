//! Self-managed groups whose refresh fails, is canceled or started by others, whose response is lost, or that go back.

use opsy::engine::ObjectHealth;
use serde_json::json;

use super::{add, autoscaling, group, images, only, own, refreshes, retry, row};
use crate::refresher::reason;

#[tokio::test]
async fn a_failed_refresh_is_recorded_in_the_words_of_aws_and_not_repeated() {
    let mut rolling = own("workers", json!({})).await;
    add(&rolling, json!({ "count": 3 }));
    let why = "Instances did not pass the health checks in time.";
    rolling.account.fault(json!({ "kind": "refresh-fails", "reason": why, "instances": 1 }));
    let pass = rolling.rest().await;
    let (reason_word, message) = reason(&pass);
    assert_eq!((pass.health, reason_word.as_str()), (ObjectHealth::Stalled, "UpdateFailed"), "{message}");
    assert!(message.contains(why.trim_end_matches('.')), "{message}");
    assert_eq!(refreshes(&rolling, "workers"), ["Failed"]);
    assert_eq!(row(&pass, "workers").0, "Failed");
    let found = group(&rolling, "workers");
    assert_eq!(found["LaunchTemplate"]["Version"], "1", "the configuration stays as it was");
    rolling.account.clear_faults();
    let calls = rolling.writes();
    for _ in 0..3 {
        rolling.step(3600);
        assert_eq!(rolling.rest().await.health, ObjectHealth::Stalled);
    }
    assert_eq!(rolling.writes(), calls, "the same pair is not repeated");

    // A person requests it: nodes that were replaced stay, and the others follow.
    retry(&mut rolling);
    assert_eq!(rolling.rest().await.health, ObjectHealth::Settled);
    assert_eq!(images(&rolling, "workers"), only(&rolling.image()));
    assert_eq!(refreshes(&rolling, "workers"), ["Successful", "Failed"]);
    assert_eq!(rolling.account.count("ec2:CreateLaunchTemplateVersion"), 1, "the version is used again");
}

#[tokio::test]
async fn a_refresh_of_another_writer_is_waited_for_and_named() {
    let mut rolling = own("workers", json!({})).await;
    add(&rolling, json!({}));
    rolling.account.post("auto-scaling-group", json!({ "name": "workers", "refresh": {} }));
    let mut waited = false;
    for _ in 0..120 {
        let pass = rolling.pass().await;
        if pass.health != ObjectHealth::Busy {
            break;
        }
        let (state, why) = row(&pass, "workers");
        waited |= state == "Updating" && why.starts_with("another writer is updating it: instance refresh ");
        rolling.step(pass.look.as_secs().max(1));
    }
    assert!(waited, "the refresh of the other writer is reported");
    assert_eq!(images(&rolling, "workers"), only(&rolling.image()));
    assert_eq!(refreshes(&rolling, "workers"), ["Successful", "Successful"]);
    assert_eq!(rolling.account.count("autoscaling:StartInstanceRefresh"), 1);
    assert_eq!(rolling.account.count("autoscaling:CancelInstanceRefresh"), 0);
}

/// The call has no client token, so a second one would be refused while the first refresh runs, or repeat it after that.
#[tokio::test]
async fn a_refresh_whose_response_was_lost_is_found_again() {
    for (size, lost) in [(2, 1), (2, 3), (0, 3)] {
        let mut rolling = own("workers", json!({})).await;
        add(&rolling, json!({ "count": size }));
        rolling.account.fault(json!({ "kind": "lost", "operation": "StartInstanceRefresh", "count": lost }));
        for _ in 0..120 {
            let pass = rolling.pass().await;
            if pass.health == ObjectHealth::Settled {
                break;
            }
            rolling.step(pass.look.as_secs().max(1));
        }
        let found = group(&rolling, "workers");
        assert_eq!(found["LaunchTemplate"]["Version"], "2", "{size}");
        assert_eq!(refreshes(&rolling, "workers"), ["Successful"], "{size} nodes, {lost} responses lost");
        let id = &found["refreshes"][0]["InstanceRefreshId"];
        let status = rolling.object.status.clone().expect("a status");
        let entry = status.rollout.and_then(|rollout| rollout.groups).expect("groups").remove(0);
        assert_eq!(entry.update_id.as_deref(), id.as_str());
    }
}

/// A person cancels the refresh: it is a failure of the group, whose nodes are mixed. A retry replaces the rest.
#[tokio::test]
async fn a_canceled_refresh_leaves_a_mixed_group_that_is_reported() {
    let mut rolling = own("workers", json!({})).await;
    add(&rolling, json!({ "count": 3 }));
    rolling.account.fault(json!({ "kind": "refresh-hangs", "instances": 1 }));
    for _ in 0..20 {
        let pass = rolling.pass().await;
        if images(&rolling, "workers").len() == 2 {
            break;
        }
        rolling.step(pass.look.as_secs().max(1));
    }
    let cancel = autoscaling(&rolling).await;
    cancel.cancel_instance_refresh().auto_scaling_group_name("workers").send().await.expect("canceled");
    let pass = rolling.rest().await;
    let (why, message) = reason(&pass);
    assert_eq!((pass.health, why.as_str()), (ObjectHealth::Stalled, "UpdateFailed"), "{message}");
    assert!(message.contains("was canceled: Cancelled due to user request"), "{message}");
    assert_eq!(images(&rolling, "workers").len(), 2, "mixed");
}

/// A person sees trouble and names the former image: EC2 Auto Scaling rolls its refresh back.
#[tokio::test]
async fn going_back_by_git_rolls_the_refresh_back() {
    let mut rolling = own("workers", json!({})).await;
    let made = add(&rolling, json!({ "count": 3 }));
    let old = made["image"].as_str().expect("an image").to_owned();
    rolling.account.fault(json!({ "kind": "refresh-hangs", "instances": 1 }));
    for _ in 0..20 {
        let pass = rolling.pass().await;
        if images(&rolling, "workers").len() == 2 {
            break;
        }
        rolling.step(pass.look.as_secs().max(1));
    }
    rolling.object.spec.ami = Some(old.clone());
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    assert_eq!(images(&rolling, "workers"), only(&old));
    assert_eq!(refreshes(&rolling, "workers"), ["RollbackSuccessful"]);
    assert_eq!(group(&rolling, "workers")["LaunchTemplate"]["Version"], "1");
    let history = pass.status.history.expect("a history");
    assert_eq!(history[0].result, "Replaced");
}

/// Another group of the wave fails while the refresh replaces nodes: it is rolled back at once, by EC2 Auto Scaling, instead
/// of being finished and undone by another one.
#[tokio::test]
async fn a_refresh_is_rolled_back_as_soon_as_the_rollout_has_failed() {
    let mut rolling = own(
        "workers",
        json!({
            "nodeGroups": { "managed": true, "include": ["web", "workers"] },
            "rollout": { "maxParallel": 2, "onFailure": "Rollback" },
        }),
    )
    .await;
    let made = add(&rolling, json!({ "count": 3 }));
    let old = made["image"].as_str().expect("an image").to_owned();
    rolling.account.fault(json!({ "kind": "refresh-hangs", "instances": 1 }));
    rolling.account.fault(json!({
        "kind": "nodegroup-update-fails", "operation": "UpdateNodegroupVersion", "count": 1,
        "errorCode": "NodeCreationFailure", "message": "Instances failed to join the kubernetes cluster",
    }));
    let (mut turned_back, mut reconciles) = (Vec::new(), 0);
    let pass = loop {
        let pass = rolling.pass().await;
        reconciles += 1;
        let notes = pass.notes.iter().filter(|note| note.reason == "UpdateTurnedBack");
        turned_back.extend(notes.map(|note| note.message.clone()));
        if pass.health == ObjectHealth::Stalled {
            break pass;
        }
        assert!(reconciles < 200, "it never ends: {:#?}", rolling.object.status);
        rolling.step(pass.look.as_secs().max(1));
    };
    assert_eq!(reason(&pass).0, "ImageHeld", "{:?}", reason(&pass));
    let ways = ["UpdateNodegroupVersion", "InstanceRefresh"];
    let mut moves = rolling.writes();
    moves.retain(|call| ways.iter().any(|way| call.contains(way)));
    let expected = [
        "eks:UpdateNodegroupVersion",
        "autoscaling:StartInstanceRefresh",
        "autoscaling:RollbackInstanceRefresh",
        "eks:UpdateNodegroupVersion",
    ];
    assert_eq!(moves, expected, "the refresh is not repeated, and web is updated back");
    assert_eq!(refreshes(&rolling, "workers"), ["RollbackSuccessful"]);
    assert_eq!(images(&rolling, "workers"), only(&old));
    assert_eq!(group(&rolling, "workers")["LaunchTemplate"]["Version"], "1");
    assert!(rolling.on(&rolling.image()).is_empty(), "web is back, too");
    let id =
        group(&rolling, "workers")["refreshes"][0]["InstanceRefreshId"].as_str().expect("an ID").to_owned();
    let words = format!("workers: rolling back instance refresh {id}, because the rollout has failed");
    assert_eq!(turned_back, [words]);
    let results: Vec<String> =
        pass.status.history.into_iter().flatten().map(|record| record.result).collect();
    assert_eq!(results, ["RolledBack", "Failed"]);
}
