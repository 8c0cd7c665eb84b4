//! The checks that failed during the soak of a wave. A part of the memory of a rollout: typed here, lenient values in
//! status. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::api::refresher as crd;

/// The failures of each check, by its name.
pub type CheckFailures = BTreeMap<String, Failures>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failures {
    /// The wave that soaked.
    pub wave: String,
    pub count: u32,
    pub last: Timestamp,
    pub response: String,
}

pub fn read(written: Option<&Vec<crd::CheckFailures>>) -> CheckFailures {
    let read = |check: &crd::CheckFailures| {
        let failures = Failures {
            wave: check.wave.clone(),
            count: check.failures.and_then(|count| u32::try_from(count).ok())?,
            last: check.last_failed_at?,
            response: check.last_response.clone().unwrap_or_default(),
        };
        Some((check.name.clone(), failures))
    };
    written.into_iter().flatten().filter_map(read).collect()
}

pub fn write(checks: &CheckFailures) -> Option<Vec<crd::CheckFailures>> {
    let write = |(name, failures): (&String, &Failures)| crd::CheckFailures {
        name: name.clone(),
        wave: failures.wave.clone(),
        failures: Some(i32::try_from(failures.count).unwrap_or(i32::MAX)),
        last_failed_at: Some(failures.last),
        last_response: Some(failures.response.clone()),
    };
    (!checks.is_empty()).then(|| checks.iter().map(write).collect())
}
