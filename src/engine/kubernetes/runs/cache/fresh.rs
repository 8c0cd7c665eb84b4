//! Whether the cache is complete and fresh enough to act on.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::{Cache, CacheState, RunPlace, WatchFailure};
use crate::api::Class;
use crate::engine::EngineError;

/// After a watch has failed for this long, its part of the cache is too old to act on.
pub(super) const STALE: Duration = Duration::from_secs(60);

impl Cache {
    /// Whether the cache is complete and fresh enough to act on, for one namespace.
    pub fn ready(&self, namespace: &str, now: Timestamp) -> Result<(), EngineError> {
        self.state().ready(|place| place.covers(namespace), now)
    }

    /// Whether the runs of all namespaces can be counted. A namespace that the agent may not read counts as last known,
    /// unless there is no other.
    pub fn countable(&self, now: Timestamp) -> Result<(), EngineError> {
        let state = self.state();
        let refused: BTreeSet<&str> = state.failures.iter().filter_map(refused).collect();
        let is_refused = |place: &RunPlace| place.namespace().is_some_and(|name| refused.contains(name));
        let is_all = state.places.iter().all(is_refused);
        state.ready(|place| is_all || !is_refused(place), now)
    }
}

impl CacheState {
    /// Whether the cache is complete and fresh enough to act on, for these places.
    fn ready(&self, concerns: impl Fn(&RunPlace) -> bool, now: Timestamp) -> Result<(), EngineError> {
        let stale = |failure: &WatchFailure| {
            failure.class != Class::TRANSIENT || now.duration_since(failure.since).unsigned_abs() > STALE
        };
        let mut failures = self.failures.iter();
        let failure = failures
            .find(|(place, failure)| concerns(place) && (self.missing.contains(place) || stale(failure)));
        if let Some((place, failure)) = failure {
            let message = format!("{place} cannot be watched: {}", failure.message);
            return Err(EngineError { class: failure.class, message });
        }
        match self.missing.iter().find(|place| concerns(place)) {
            Some(place) => Err(EngineError::transient(format!("{place} are not listed yet"))),
            None => Ok(()),
        }
    }
}

/// The namespace of a place that the agent may not read.
fn refused<'a>((place, failure): (&'a RunPlace, &WatchFailure)) -> Option<&'a str> {
    place.namespace().filter(|_| matches!(failure.class, Class::Denied | Class::NotFound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kubernetes::Scope;
    use crate::engine::kubernetes::runs::place::places;
    use crate::engine::kubernetes::runs::recorded::Recorded;

    #[test]
    fn runs_are_counted_without_a_namespace_that_may_not_be_read_unless_there_is_no_other() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let scope = Scope::Namespaces(vec!["a".into(), "b".into()]);
        let (of_a, of_b): (Vec<_>, Vec<_>) =
            places(&scope, None).into_iter().partition(|place| place.namespace() == Some("a"));
        let cache = Cache::new(places(&scope, None), Box::new(|_| Recorded::default()));
        cache.fails(&of_b[0], Class::Denied, "no".into(), now);
        assert!(cache.countable(now).is_err(), "a is not listed yet");
        cache.end_jobs(&of_a[0], &BTreeSet::new());
        cache.end_pods(&of_a[1], &BTreeSet::new());
        assert!(cache.countable(now).is_ok() && cache.ready("b", now).is_err());
        cache.fails(&of_b[0], Class::TRANSIENT, "away".into(), now);
        assert!(cache.countable(now).is_err(), "it is unknown whether it may be read");
        cache.fails(&of_b[0], Class::NotFound, "no".into(), now);
        cache.fails(&of_a[1], Class::Denied, "no".into(), now);
        assert!(cache.countable(now).is_err(), "nothing can be read");
    }
}
