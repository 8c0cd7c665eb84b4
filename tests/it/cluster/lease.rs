//! The Lease on a real API server: who holds it, who takes over and when, and that a holder that is cut off stops
//! before another replica may start.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{Patch, PatchParams};
use opsy::engine::kubernetes::Cluster;
use opsy::engine::kubernetes::lease::{Held, Tenure, Terms, acquire};
use serde_json::json;

use super::{ControlPlane, Place, SOON, until};

/// Short, so that the tests are, and long enough for a busy machine.
const DURATION: Duration = Duration::from_secs(3);
/// A standby reads the Lease every tenth of the duration; a busy machine takes longer.
const A_BIT: Duration = Duration::from_secs(2);

pub fn tenure(identity: &str) -> Tenure {
    Tenure { lease: "opsy".to_owned(), identity: identity.to_owned() }
}

pub fn terms(identity: &str, duration: Duration) -> Terms {
    Terms {
        tenure: tenure(identity),
        repository: "git.example/images".to_owned(),
        blocked: tokio::sync::watch::Sender::new(None),
        duration,
        now: || Timestamp::from_second(Timestamp::now().as_second()).expect("whole seconds"),
    }
}

fn leases(place: &Place) -> Api<Lease> {
    Api::namespaced(place.admin.clone(), &place.namespace)
}

async fn holder(place: &Place) -> Option<String> {
    let lease = leases(place).get_opt("opsy").await.expect("the API server answers");
    lease.and_then(|lease| lease.spec?.holder_identity)
}

/// Acquires the Lease in the background.
fn contend(cluster: Cluster, identity: &str) -> tokio::task::JoinHandle<(Held, Instant)> {
    let terms = terms(identity, DURATION);
    tokio::spawn(async move {
        let held = acquire(&cluster, terms).await;
        (held, Instant::now())
    })
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.unwrap_or_else(|_| panic!("timed out waiting for: {what}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_racers_have_one_winner_and_giving_up_hands_over_at_once() {
    let place = Place::new().await;
    let (cluster, _) = place.cluster(place.scope()).await;
    let mut racers: Vec<_> = (0..8).map(|n| contend(cluster.clone(), &format!("racer-{n}"))).collect();
    for round in 0..3 {
        let (won, index, _) = soon("a winner", futures::future::select_all(&mut racers)).await;
        let (held, _) = won.expect("a racer");
        drop(racers.remove(index));
        let first = holder(&place).await.expect("a holder");
        // Longer than the duration: renewals keep the others out.
        let others = tokio::time::timeout(DURATION + A_BIT, futures::future::select_all(&mut racers)).await;
        assert!(others.is_err(), "two hold the Lease in round {round}");
        assert_eq!(holder(&place).await.as_deref(), Some(first.as_str()));
        let gone = Instant::now();
        held.release.release().await;
        until("a successor", DURATION, async || holder(&place).await.filter(|next| *next != first)).await;
        assert!(gone.elapsed() < DURATION, "a successor does not wait for the Lease to expire");
    }
    let lease = leases(&place).get("opsy").await.expect("the Lease").spec.expect("a record");
    assert_eq!((lease.lease_transitions, lease.lease_duration_seconds), (Some(3), Some(3)));
    for racer in racers {
        racer.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_to_another_repository_is_not_blocked_and_another_release_is() {
    let place = Place::new().await;
    let (cluster, _) = place.cluster(place.scope()).await;
    let _held = acquire(&cluster, terms("opsy-7d9c6b5f4-x2x4z_00", DURATION)).await;
    let stand_by = |identity: &str| {
        let terms = Terms { repository: "git.example/moved".to_owned(), ..terms(identity, DURATION) };
        let (blocked, cluster) = (terms.blocked.subscribe(), cluster.clone());
        (blocked, tokio::spawn(async move { acquire(&cluster, terms).await }))
    };
    let (same, waiting) = stand_by("opsy-5b8f7d9c66-b5b6w_11");
    let (other, stranger) = stand_by("images-5b8f7d9c66-b5b6w_22");
    let words = until("a report", SOON, async || other.borrow().clone()).await;
    assert!(words.contains("git.example/moved") && words.contains("--lease-name"), "{words}");
    // By then, both have read the Lease.
    tokio::time::sleep(A_BIT).await;
    assert_eq!(*same.borrow(), None);
    waiting.abort();
    stranger.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_dies_is_succeeded_after_the_duration_and_not_before() {
    let place = Place::new().await;
    let (cluster, _) = place.cluster(place.scope()).await;
    let (held, _) = contend(cluster.clone(), "first").await.expect("the first");
    let second = contend(cluster, "second");
    // Dropped without a release, as by a process that is killed.
    let died = Instant::now();
    drop(held);
    let (_held, taken) = soon("the next holder", second).await.expect("the second");
    let took = taken - died;
    // The last renewal may be a fifth of the duration old.
    assert!(took >= DURATION * 4 / 5 - Duration::from_millis(100), "{took:?}");
    assert!(took <= DURATION + A_BIT, "{took:?}");
    assert_eq!(holder(&place).await.as_deref(), Some("second"));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_wall_clocks_change_nothing() {
    let place = Place::new().await;
    let (cluster, _) = place.cluster(place.scope()).await;
    for (number, hours) in [(0, 5), (1, -5)] {
        let odd = MicroTime(Timestamp::now() + SignedDuration::from_hours(hours));
        let spec = json!({
            "holderIdentity": "elsewhere", "leaseDurationSeconds": 3, "leaseTransitions": 7,
            "acquireTime": odd, "renewTime": odd,
        });
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "opsy"}, "spec": spec});
        let params = PatchParams::apply("tests").force();
        leases(&place).patch("opsy", &params, &Patch::Apply(&lease)).await.expect("a record");
        let written = Instant::now();
        let taker = contend(cluster.clone(), &format!("taker-{number}"));
        let (held, taken) = soon("the next holder", taker).await.expect("the taker");
        let took = taken - written;
        assert!(
            took >= DURATION - Duration::from_millis(100) && took <= DURATION + A_BIT,
            "{hours} h: {took:?}"
        );
        drop(held);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_written_by_a_person_or_deleted_stays_ours_and_another_holder_ends_it() {
    let place = Place::new().await;
    let (cluster, _) = place.cluster(place.scope()).await;
    let (held, _) = contend(cluster.clone(), "first").await.expect("the first");
    let labelled =
        json!({"metadata": {"labels": {"looked-at": "yes"}, "annotations": {"ami.opsy.dev/memory": "{}"}}});
    leases(&place).patch("opsy", &PatchParams::default(), &Patch::Merge(&labelled)).await.expect("a label");
    let renewed = async |than: Option<MicroTime>| {
        until("a renewal", SOON, async || {
            let spec = leases(&place).get_opt("opsy").await.expect("the API server answers")?.spec?;
            (spec.renew_time > than && spec.holder_identity.as_deref() == Some("first"))
                .then_some(spec.renew_time)
        })
        .await
    };
    let last = leases(&place).get("opsy").await.expect("the Lease").spec.expect("a record").renew_time;
    let last = renewed(last).await;
    leases(&place).delete("opsy", &Default::default()).await.expect("the Lease is deleted");
    renewed(last).await;
    let kept = leases(&place).get("opsy").await.expect("the Lease").metadata.annotations.unwrap_or_default();
    assert_eq!(kept.get("ami.opsy.dev/memory").map(String::as_str), Some("{}"), "the agent's memory");
    let mut lost = held.lost;
    let still = tokio::time::timeout(DURATION, &mut lost).await;
    assert!(still.is_err(), "lost: {still:?}");

    let stolen = Instant::now();
    let thief = json!({"spec": {"holderIdentity": "thief"}});
    leases(&place).patch("opsy", &PatchParams::default(), &Patch::Merge(&thief)).await.expect("a theft");
    let why = soon("the loss", lost).await;
    assert_eq!(why, "thief holds the Lease now");
    assert!(stolen.elapsed() < DURATION * 2 / 3, "{:?}", stolen.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_stops_before_another_may_begin() {
    // A separate control plane, because this test pauses it.
    let (plane, _ends) = ControlPlane::own().await;
    let place = Place::on(plane).await;
    let (cluster, _) = place.cluster(place.scope()).await;
    let (held, _) = contend(cluster.clone(), "first").await.expect("the first");
    let second = contend(cluster, "second");
    // Requests hang now, as on a cut connection: the holder gets no error.
    plane.act("apiserver/pause");
    let cut = Instant::now();
    let why = soon("the loss", held.lost).await;
    let took = cut.elapsed();
    assert!(took <= DURATION * 2 / 3 + Duration::from_millis(500), "{took:?}: {why}");
    assert!(why.starts_with("the Lease could not be renewed for 2.0 s"), "{why}");
    assert!(!second.is_finished());
    plane.act("apiserver/resume");
    let (_held, taken) = soon("the next holder", second).await.expect("the second");
    assert!(taken > cut + took, "the second acquired it after the first had stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_rule_is_waited_for_and_named() {
    let place = Place::new().await;
    place.allow(&place.namespace, |(resource, _)| resource != "leases").await;
    let (cluster, _) = place.cluster(place.scope()).await;
    let first = contend(cluster, "first");
    let refused = leases(&place).get_opt("opsy").await.expect("the admin may read it");
    assert!(refused.is_none());
    place.allow(&place.namespace, |_| true).await;
    let (held, _) = soon("the Lease", first).await.expect("the first");
    held.release.release().await;
    assert_eq!(holder(&place).await, None);
}
