//! Another writer that does not stop: it is named, its changes are reverted with a growing backoff, and other objects
//! are not delayed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::world::Agent;
use super::{Place, SOON, until};

/// The time between two writes of the rival.
const PACE: Duration = Duration::from_millis(20);

fn region(region: &str) -> Value {
    json!({"region": region})
}

#[tokio::test(flavor = "multi_thread")]
async fn who_keeps_writing_over_an_object_is_named_and_slows_down_nobody_else() {
    let place = Place::new().await;
    let agent = Agent::start(&place).await;
    let documents = |region_of_other: &str| {
        [place.document("web", region("us-east-1")), place.document("other", region(region_of_other))]
    };
    agent.load(&documents("us-east-1")).await.expect("loaded");
    agent.settle().await;
    agent.requests.all();
    // As Argo CD with selfHeal does: it applies its own version immediately after every change.
    let theirs = json!({
        "apiVersion": "ami.opsy.dev/v1alpha1", "kind": "PackerBuilder", "metadata": {"name": "web"},
        "spec": {"region": "mars-1", "suspend": true},
    });
    let (builders, seen) = (place.builders(), Arc::new(AtomicUsize::new(0)));
    let count = seen.clone();
    let rival = tokio::spawn(async move {
        loop {
            let params = PatchParams::apply("argocd").force();
            builders.patch("web", &params, &Patch::Apply(&theirs)).await.expect("the apply succeeds");
            count.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PACE).await;
        }
    });
    until("the condition", SOON, async || {
        let web = place.builder("web").await?;
        let conditions = web.data["status"]["conditions"].as_array()?;
        let applied = conditions.iter().find(|found| found["type"] == "Applied")?;
        let told = applied["message"].as_str()?.contains("field manager argocd changed it");
        (applied["reason"] == "AnotherWriter" && applied["status"] == "False" && told).then_some(())
    })
    .await;
    // Other objects are applied and reconciled, while this one is not reconciled.
    let (looked, other) = (agent.passes("web"), agent.passes("other"));
    agent.load(&documents("eu-west-1")).await.expect("loaded");
    assert_eq!(place.region_of("other").await.as_deref(), Some("eu-west-1"));
    agent.passed("other", other).await;
    let rivals = seen.load(Ordering::Relaxed);
    until("some hundred writes of the rival", SOON, async || {
        (seen.load(Ordering::Relaxed) > rivals + 200).then_some(())
    })
    .await;
    let ours = agent.requests.writes();
    let ours: Vec<_> = ours.iter().filter(|line| line.contains("/web?")).collect();
    assert!((3..20).contains(&ours.len()), "{ours:#?}");
    assert!(agent.passes("web") < looked + 8, "{} reconciles", agent.passes("web") - looked);
    rival.abort();
    until("the spec of Git", SOON * 2, async || {
        (place.region_of("web").await.as_deref() == Some("us-east-1")).then_some(())
    })
    .await;
}
