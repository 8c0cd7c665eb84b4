//! The record in a Lease: when it may be acquired, who holds it, and the next record. Pure.
//!
//! Its times are for people (`kubectl get lease`). They decide nothing, because the clocks of machines differ.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// The characters of generated suffixes in Kubernetes: no vowels, and no digits that look like them.
const GENERATED: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Finest step of the times in a record.
const TICK: SignedDuration = SignedDuration::from_micros(1);

/// Whether a Lease may be acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Acquire,
    /// Its holder may still work for this long.
    Wait(Duration),
}

/// Judges a record that has not changed for `unchanged` by the own monotonic clock. Its holder stops according to the
/// duration in the record, which may differ from the own one: the longer of both counts.
pub fn judge(record: &LeaseSpec, unchanged: Duration, own: Duration) -> Verdict {
    if holder(record).is_none() {
        return Verdict::Acquire;
    }
    let recorded = record.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let valid = recorded.map_or(own, |seconds| own.max(Duration::from_secs(seconds)));
    match valid.saturating_sub(unchanged) {
        Duration::ZERO => Verdict::Acquire,
        left => Verdict::Wait(left),
    }
}

/// The identity of the holder.
pub fn holder(record: &LeaseSpec) -> Option<&str> {
    record.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// Whether both replicas are pods of one Deployment. Their identities begin with the names of the pods, and these with
/// the name of the Deployment, which is unique in the namespace of the Lease.
pub fn of_one_deployment(one: &str, other: &str) -> bool {
    deployment(one).is_some_and(|name| deployment(other) == Some(name))
}

/// The Deployment in the identity `<Deployment>-<hash>-<suffix>_<random>`. `None` for an identity of another form.
fn deployment(identity: &str) -> Option<&str> {
    let is_generated = |text: &str| text.bytes().all(|byte| GENERATED.contains(&byte));
    let pod = identity.split_once('_').map_or(identity, |(pod, _)| pod);
    let (set, suffix) = pod.rsplit_once('-')?;
    let (deployment, hash) = set.rsplit_once('-')?;
    let is_pod = suffix.len() == 5 && is_generated(suffix);
    let is_set = (1..=10).contains(&hash.len()) && is_generated(hash);
    (is_pod && is_set && !deployment.is_empty()).then_some(deployment)
}

/// The record of a new holder. Every acquisition counts as a transition, so that two holders with the same identity can
/// be distinguished.
pub fn acquired(before: Option<&LeaseSpec>, identity: &str, duration: Duration, now: Timestamp) -> LeaseSpec {
    let seconds = duration.as_secs_f64().ceil();
    #[expect(clippy::cast_possible_truncation, reason = "a lease of more than 68 years is not meant")]
    let seconds = (seconds as i32).max(1);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(seconds),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(before.map_or(0, |before| before.lease_transitions.unwrap_or(0) + 1)),
        ..before.cloned().unwrap_or_default()
    }
}

/// The renewed record. It always differs from the one before, even if the clock does not advance: an equal write would
/// change nothing, and others would conclude that the holder is gone.
pub fn renewed(record: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    let last = record.renew_time.as_ref().and_then(|time| time.0.checked_add(TICK).ok());
    let time = last.map_or(now, |last| last.max(now));
    LeaseSpec { renew_time: Some(MicroTime(time)), ..record.clone() }
}

/// The record without a holder, which the next contender can acquire at once.
pub fn released(record: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    let record = renewed(record, now);
    LeaseSpec { holder_identity: None, lease_duration_seconds: Some(1), ..record }
}

/// Whether both records are of the same tenure.
pub fn same_tenure(one: &LeaseSpec, other: &LeaseSpec) -> bool {
    let tenure = |record: &LeaseSpec| {
        let since = record.acquire_time.as_ref().map(|time| time.0);
        (record.holder_identity.clone(), since, record.lease_transitions)
    };
    tenure(one) == tenure(other)
}
