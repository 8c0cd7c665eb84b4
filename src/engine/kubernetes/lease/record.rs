//! The record in a Lease, pure: when it may be taken, whose it is, and what it says next.
//!
//! Its times are for people (`kubectl get lease`). Nothing is decided by them: clocks of machines differ.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// What Kubernetes generates suffixes of names from: no vowels, and no digits that look like them.
const GENERATED: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Finest step of the times in a record.
const TICK: SignedDuration = SignedDuration::from_micros(1);

/// May a record be taken?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Take,
    /// Its holder may still be at work for this long.
    Wait(Duration),
}

/// Judges a record that has not changed for `unchanged` by our own monotonic clock. Its holder stops
/// by the duration it promised, whatever ours is.
pub fn judge(record: &LeaseSpec, unchanged: Duration, ours: Duration) -> Verdict {
    if holder(record).is_none() {
        return Verdict::Take;
    }
    let promised = record.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let valid = promised.map_or(ours, |seconds| ours.max(Duration::from_secs(seconds)));
    match valid.saturating_sub(unchanged) {
        Duration::ZERO => Verdict::Take,
        left => Verdict::Wait(left),
    }
}

/// Who holds it.
pub fn holder(record: &LeaseSpec) -> Option<&str> {
    record.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// Are both of these replicas pods of one Deployment? Their identities begin with the names of their pods, and those with
/// the name of the Deployment, of which there is one in the namespace of the Lease.
pub fn of_one_deployment(one: &str, other: &str) -> bool {
    deployment(one).is_some_and(|name| deployment(other) == Some(name))
}

/// `<Deployment>-<hash>-<suffix>_<random>`; `None` if it is not named like that.
fn deployment(identity: &str) -> Option<&str> {
    let is_generated = |text: &str| text.bytes().all(|byte| GENERATED.contains(&byte));
    let pod = identity.split_once('_').map_or(identity, |(pod, _)| pod);
    let (set, suffix) = pod.rsplit_once('-')?;
    let (deployment, hash) = set.rsplit_once('-')?;
    let is_pod = suffix.len() == 5 && is_generated(suffix);
    let is_set = (1..=10).contains(&hash.len()) && is_generated(hash);
    (is_pod && is_set && !deployment.is_empty()).then_some(deployment)
}

/// The record of a new holder. Every take-over counts as a transition, so that two holders of one name
/// can be told apart.
pub fn taken(before: Option<&LeaseSpec>, identity: &str, duration: Duration, now: Timestamp) -> LeaseSpec {
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

/// The record, renewed. It always differs from the one before, even if the clock stands still or steps
/// back: an equal write would change nothing, and others would see a holder that is gone.
pub fn renewed(record: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    let last = record.renew_time.as_ref().and_then(|time| time.0.checked_add(TICK).ok());
    let time = last.map_or(now, |last| last.max(now));
    LeaseSpec { renew_time: Some(MicroTime(time)), ..record.clone() }
}

/// The record without a holder: whoever looks next takes it.
pub fn given_up(record: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    let record = renewed(record, now);
    LeaseSpec { holder_identity: None, lease_duration_seconds: Some(1), ..record }
}

/// Do both records tell of one and the same tenure?
pub fn same_tenure(one: &LeaseSpec, other: &LeaseSpec) -> bool {
    let tenure = |record: &LeaseSpec| {
        let since = record.acquire_time.as_ref().map(|time| time.0);
        (record.holder_identity.clone(), since, record.lease_transitions)
    };
    tenure(one) == tenure(other)
}
