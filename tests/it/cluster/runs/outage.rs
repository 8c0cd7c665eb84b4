//! An outage of the API server: what is known about builds during it and afterwards.

use std::time::Duration;

use opsy::engine::{RunState, Runs};

use super::super::{ControlPlane, SOON, until};
use super::world::{World, request};

/// Deadline after the outage: watches are retried with a growing backoff.
const AGAIN: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_comes_back_is_watched_again_though_nothing_happened() {
    // A separate control plane, because this test stops it.
    let (plane, _ends) = ControlPlane::own().await;
    plane.install_definitions().await;
    let world = World::on(plane).await;
    let builder = world.builder("node").await;
    world.start(&request(&builder, "")).await.expect("it starts");
    world.until("a pod", SOON, &builder, |state| matches!(state, RunState::Pending(Some(_)))).await;
    plane.act("apiserver/stop");
    until("an unknown state of the runs", AGAIN, async || world.runs.of(&builder).await.err()).await;
    assert!(world.runs.live().await.is_err(), "nothing is started on stale data");
    plane.act("apiserver/start");
    until("the run again", AGAIN, async || world.runs.of(&builder).await.ok()).await;
    assert!(matches!(world.run(&builder).await.state, RunState::Pending(_)), "nothing was lost");
    assert_eq!(world.runs.live().await.expect("a count"), 1);
}
