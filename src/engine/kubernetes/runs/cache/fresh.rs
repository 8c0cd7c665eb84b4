//! Is the picture of Jobs and pods whole, and fresh enough to act on?

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::{Cache, Place, State, Trouble};
use crate::api::Class;
use crate::engine::RunsError;

/// A watch that fails for longer leaves a picture that is too old to act on.
pub(super) const STALE: Duration = Duration::from_secs(60);

impl Cache {
    /// Is the picture of a namespace whole, and fresh enough to act on?
    pub fn ready(&self, namespace: &str, now: Timestamp) -> Result<(), RunsError> {
        self.state().ready(|place| place.covers(namespace), now)
    }

    /// Can runs be counted? Those of a namespace that may not be read count as they were known last, unless that is
    /// all there is.
    pub fn countable(&self, now: Timestamp) -> Result<(), RunsError> {
        let state = self.state();
        let refused: BTreeSet<&str> = state.troubles.iter().filter_map(refused).collect();
        let is_refused = |place: &Place| place.namespace().is_some_and(|name| refused.contains(name));
        let is_all = state.places.iter().all(is_refused);
        state.ready(|place| is_all || !is_refused(place), now)
    }
}

impl State {
    /// Is the picture of these places whole, and fresh enough to act on?
    fn ready(&self, concerns: impl Fn(&Place) -> bool, now: Timestamp) -> Result<(), RunsError> {
        let stale = |trouble: &Trouble| {
            trouble.class != Class::TRANSIENT || now.duration_since(trouble.since).unsigned_abs() > STALE
        };
        let mut troubles = self.troubles.iter();
        let trouble = troubles
            .find(|(place, trouble)| concerns(place) && (self.missing.contains(place) || stale(trouble)));
        if let Some((place, trouble)) = trouble {
            let message = format!("{place} cannot be watched: {}", trouble.message);
            return Err(RunsError { class: trouble.class, message });
        }
        match self.missing.iter().find(|place| concerns(place)) {
            Some(place) => {
                let message = format!("{place} were not listed yet");
                Err(RunsError { class: Class::TRANSIENT, message })
            }
            None => Ok(()),
        }
    }
}

/// The namespace of a place that may not be read.
fn refused<'a>((place, trouble): (&'a Place, &Trouble)) -> Option<&'a str> {
    place.namespace().filter(|_| matches!(trouble.class, Class::Denied | Class::NotFound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kubernetes::Scope;
    use crate::engine::kubernetes::runs::recorded::Recorded;
    use crate::engine::kubernetes::runs::watch::places;

    #[test]
    fn runs_are_counted_without_a_namespace_that_may_not_be_read_and_not_without_all() {
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
        assert!(cache.countable(now).is_err(), "nobody knows whether it may be read");
        cache.fails(&of_b[0], Class::NotFound, "no".into(), now);
        cache.fails(&of_a[1], Class::Denied, "no".into(), now);
        assert!(cache.countable(now).is_err(), "nothing can be read");
    }
}
