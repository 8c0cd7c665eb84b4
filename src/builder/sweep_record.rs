//! The record of a garbage collection in status: when to check for orphans of an ended run, and which IDs Packer
//! announced, as `kind=id`. Pure.

use std::time::Duration;

use jiff::Timestamp;
use opsy_runner::request::{Resource, ResourceKind};

use crate::api::builder::SweepRecord;
use crate::api::{Region, time};
use crate::aws::Announced;

/// Delays before the checks for orphans, each after the previous check: at once; when the resources of a stopped
/// instance are free; after half an hour and after a day in total, because images and instances appear late.
pub const CHECK_DELAYS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(5 * 60),
    Duration::from_secs(25 * 60),
    Duration::from_secs(23 * 3600 + 30 * 60),
];
/// Delays after checks that AWS refused, so that a person can grant the permission. After one more refusal, no check is
/// made until a person requests one.
const REFUSAL_DELAYS: [Duration; 3] =
    [Duration::from_secs(6 * 3600), Duration::from_secs(24 * 3600), Duration::from_secs(7 * 24 * 3600)];
/// How long a machine is retained that a failed build left on purpose (`onError`): a day to debug it.
pub const RETAINED_MACHINE: Duration = Duration::from_secs(24 * 3600);

/// How much further away than its delay a date may be: a safety margin for clocks that differ.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// Returns whether a check is due.
pub fn is_due(record: &SweepRecord, now: Timestamp) -> bool {
    !is_given_up(record) && record.due.is_none_or(|due| due <= now)
}

/// Returns the delay after a refusal, given the number of refusals before it. `None` if no further check is made.
pub fn delay_after_refusal(before: usize) -> Option<Duration> {
    REFUSAL_DELAYS.get(before).copied()
}

/// Returns whether AWS refused the checks too often to make another one.
pub fn is_given_up(record: &SweepRecord) -> bool {
    refusals(record) > REFUSAL_DELAYS.len()
}

/// Returns the number of consecutive refusals.
pub fn refusals(record: &SweepRecord) -> usize {
    usize::try_from(record.refused.unwrap_or(0)).unwrap_or(0)
}

/// Limits dates that are further away than any delay: the clock was set back since. The delay then starts now.
pub fn limit_due_dates(sweeps: &mut [SweepRecord], now: Timestamp) {
    for record in sweeps {
        let refused = refusals(record).checked_sub(1).and_then(delay_after_refusal);
        let longest = refused.unwrap_or(RETAINED_MACHINE);
        if record.due.is_some_and(|due| time::between(now, due) > longest + CLOCK_SKEW) {
            record.due = time::after(now, longest).map(time::to_second);
        }
    }
}

/// A person requested another attempt: refused checks are due at once.
pub fn retry_refused(sweeps: &mut [SweepRecord]) {
    for record in sweeps.iter_mut().filter(|record| record.refused.is_some()) {
        (record.refused, record.due) = (None, None);
    }
}

/// Returns an announced resource as `kind=id`.
pub fn announced_entry(resource: &Resource) -> String {
    format!("{}={}", kind_name(resource.kind), resource.id)
}

fn kind_name(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Instance => "instance",
        ResourceKind::KeyPair => "keyPair",
        ResourceKind::SecurityGroup => "securityGroup",
        ResourceKind::Image => "image",
        ResourceKind::Volume => "volume",
        ResourceKind::Region => "region",
    }
}

/// The kind of an image that Packer named as a result.
pub const ARTIFACT: &str = "artifact";

/// Parses the announced resources of a record. Unknown kinds are left out.
pub fn parse_announced(words: &[String], since: Option<Timestamp>, home: Option<&Region>) -> Announced {
    let named = |kind: &str| -> Vec<String> {
        let ids = words.iter().filter_map(|word| word.split_once('='));
        ids.filter(|(word, _)| *word == kind).map(|(_, id)| id.to_owned()).collect()
    };
    let of = |kind: ResourceKind| named(kind_name(kind));
    Announced {
        instances: of(ResourceKind::Instance),
        security_groups: of(ResourceKind::SecurityGroup),
        key_pairs: of(ResourceKind::KeyPair),
        images: of(ResourceKind::Image),
        volumes: of(ResourceKind::Volume),
        artifacts: named(ARTIFACT),
        since,
        home: home.cloned(),
    }
}
