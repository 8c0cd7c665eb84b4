//! An API server that restarts, stops, hangs or loses its history: nothing is lost, and nothing is repeated.

use std::time::{Duration, Instant};

use opsy::engine::Home;
use serde_json::{Value, json};

use super::world::Agent;
use super::{ControlPlane, Ends, Place, SOON, until};

fn region(region: &str) -> Value {
    json!({"region": region})
}

/// Deadline after an outage, in which the backoff has grown.
const AFTER_OUTAGE: Duration = Duration::from_secs(120);

async fn has_region(place: &Place, name: &str, region: &str) -> bool {
    place.builder(name).await.is_some_and(|web| web.data["spec"]["region"] == region)
}

async fn started() -> (&'static ControlPlane, Place, Ends) {
    let (plane, ends) = ControlPlane::own().await;
    plane.install_definitions().await;
    (plane, Place::on(plane).await, ends)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_comes_back_is_caught_up_with() {
    let (plane, place, _ends) = started().await;
    let agent = Agent::start(&place).await;
    let mut documents: Vec<_> =
        (0..40).map(|n| place.document(&format!("b{n}"), region("us-east-1"))).collect();
    agent.load(&documents).await.expect("loaded");
    agent.settle().await;

    plane.act("apiserver/restart");
    let before = agent.passes("b1");
    agent.requests.all();
    place.kubectl(&["annotate", "pb", "b1", "note=x"], "");
    until("a reconcile", AFTER_OUTAGE, async || (agent.passes("b1") > before).then_some(())).await;
    assert!(
        agent.requests.writes().iter().all(|line| !line.contains("force=true")),
        "nothing is applied again"
    );

    // A commit is loaded during an outage: what cannot be sent is sent later, by itself.
    plane.act("apiserver/stop");
    for document in &mut documents {
        *document = place.document(&document.object.key.name, region("eu-west-1"));
    }
    let start = Instant::now();
    agent.load(&documents).await.expect("the commit is loaded");
    assert!(start.elapsed() < SOON, "an outage does not delay the load: {:?}", start.elapsed());
    assert_eq!(agent.home.failing(), 40);
    // Reconciles that already run may write a status meanwhile.
    let applied = agent.requests.writes().iter().filter(|line| line.contains("force=true")).count();
    assert!(applied < 40, "an unreachable API server does not get a request for each object: {applied}");
    plane.act("apiserver/start");
    until("all objects", AFTER_OUTAGE, async || (agent.home.failing() == 0).then_some(())).await;
    for document in &documents {
        assert!(has_region(&place, &document.object.key.name, "eu-west-1").await, "{}", document.object);
    }
    until("the store", AFTER_OUTAGE, async || {
        let mut all = agent.objects.builders.all();
        all.all(|builder| builder.spec.region.as_deref() == Some("eu-west-1")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_whose_history_is_gone_lists_anew() {
    let (plane, place, _ends) = started().await;
    let agent = Agent::start(&place).await;
    agent
        .load(&[place.document("web", region("us-east-1")), place.document("gone", region("us-east-1"))])
        .await
        .expect("loaded");
    agent.settle().await;
    agent
        .load_as(super::world::OWNER, &[place.document("web", region("us-east-1"))], &[])
        .await
        .expect("loaded");
    agent.settle().await;
    agent.requests.all();
    // The history is compacted, and while the agent reconnects, one object is deleted and one is changed.
    plane.act("etcd/compact");
    plane.act("apiserver/restart");
    place.kubectl(&["delete", "pb", "gone"], "");
    place.kubectl(&["patch", "pb", "web", "--type=merge", "-p", r#"{"spec":{"region":"mars-1"}}"#], "");
    until("one object to be deleted", AFTER_OUTAGE, async || {
        agent.objects.builders.get(&place.key("gone").key).is_none().then_some(())
    })
    .await;
    until("the old region", AFTER_OUTAGE, async || {
        has_region(&place, "web", "us-east-1").await.then_some(())
    })
    .await;
    let asked = agent.requests.all();
    let lists = asked.iter().filter(|line| line.starts_with("GET ") && line.contains("/packerbuilders?"));
    assert!(lists.clone().any(|line| !line.contains("watch=true")), "its history was not gone: {asked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_api_server_holds_up_nothing_for_ever() {
    let (plane, place, _ends) = started().await;
    let agent = Agent::start(&place).await;
    agent.load(&[place.document("web", region("us-east-1"))]).await.expect("loaded");
    agent.settle().await;
    plane.act("apiserver/pause");
    let start = Instant::now();
    agent.load(&[place.document("web", region("eu-west-1"))]).await.expect("the commit is loaded");
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    let (reason, words) = agent.home.out_of_sync(&place.key("web")).expect("it is reported");
    assert_eq!(reason, "ApplyFailed");
    assert!(words.contains("cannot be reached"), "{words}");
    plane.act("apiserver/resume");
    until("the change", AFTER_OUTAGE, async || has_region(&place, "web", "eu-west-1").await.then_some(()))
        .await;
    until("no failures", AFTER_OUTAGE, async || {
        agent.home.out_of_sync(&place.key("web")).is_none().then_some(())
    })
    .await;
}
