//! The places that are watched, one per kind and namespace, and which of them can be read. Pure.
//!
//! If one of several namespaces is deleted, or the agent loses its role there, only that namespace's objects are
//! affected, and nothing waits for it. If a kind is not installed, or the cluster as a whole cannot be listed, all
//! objects wait.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::{Class, Kind, ObjectKey};
use crate::engine::kubernetes::Scope;

/// How long a readable place still counts as readable after a refusal. An API server that has just started denies
/// requests until it has read its roles.
const GRACE: Duration = Duration::from_secs(5);

/// What one watch covers: one kind in one namespace, or in all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectPlace {
    pub kind: Kind,
    /// `None` for all namespaces.
    pub namespace: Option<String>,
}

impl ObjectPlace {
    /// The place of an object, if namespaces are watched one by one.
    pub fn of(object: &ObjectKey) -> Self {
        Self { kind: object.kind, namespace: Some(object.key.namespace.clone()) }
    }

    pub fn contains(&self, object: &ObjectKey) -> bool {
        self.kind == object.kind && self.namespace.as_ref().is_none_or(|name| *name == object.key.namespace)
    }
}

impl fmt::Display for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}s in namespace {namespace}", self.kind),
            None => write!(f, "{}s in all namespaces", self.kind),
        }
    }
}

/// All places of a scope.
pub fn places(scope: &Scope) -> Vec<ObjectPlace> {
    let namespaces: Vec<Option<String>> = match scope {
        Scope::All => vec![None],
        Scope::Namespaces(names) => {
            names.iter().collect::<BTreeSet<_>>().into_iter().cloned().map(Some).collect()
        }
    };
    let of = |kind: Kind| namespaces.iter().cloned().map(move |namespace| ObjectPlace { kind, namespace });
    [Kind::PackerBuilder, Kind::AMIRefresher].into_iter().flat_map(of).collect()
}

/// Why a place could not be listed or watched.
#[derive(Clone, Debug, PartialEq)]
pub struct PlaceFailure {
    pub class: Class,
    pub message: String,
    /// The kind itself is unknown to the API server.
    pub without_definition: bool,
}

impl PlaceFailure {
    /// Whether it concerns one namespace only.
    fn is_of_namespace(&self) -> bool {
        !self.without_definition && matches!(self.class, Class::Denied | Class::NotFound)
    }
}

/// What is known of one place.
#[derive(Clone, Debug, Default)]
struct PlaceState {
    /// Listed at least once.
    listed: bool,
    /// The last failure before the first list.
    failure: Option<PlaceFailure>,
    /// Since when the API server refuses to list it.
    refused: Option<Instant>,
    /// The message of a definite refusal, until the place is listed again.
    unreadable: Option<String>,
}

/// Whether commits can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// All places are listed, except those of namespaces that cannot be read.
    Ready,
    /// Something is not listed yet.
    Wait(String),
    /// Only a person can help.
    Refused(String),
}

/// All places and what is known of them.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<ObjectPlace, PlaceState>);

impl Places {
    pub fn new(places: &[ObjectPlace]) -> Self {
        Self(places.iter().map(|place| (place.clone(), PlaceState::default())).collect())
    }

    /// Records a complete list. Returns whether the place was unreadable before.
    pub fn listed(&mut self, place: &ObjectPlace) -> bool {
        let state = PlaceState { listed: true, ..PlaceState::default() };
        self.0.insert(place.clone(), state).is_some_and(|before| before.unreadable.is_some())
    }

    /// Records a failure. Returns why the place cannot be read, if that is new.
    pub fn failed(&mut self, place: &ObjectPlace, failure: PlaceFailure, now: Instant) -> Option<String> {
        let state = self.0.entry(place.clone()).or_default();
        let mut news = None;
        if let Some(namespace) = place.namespace.as_ref().filter(|_| failure.is_of_namespace()) {
            let since = *state.refused.get_or_insert(now);
            let message = unreadable(namespace, place.kind, &failure.message);
            // The grace period is for a server that has just restarted. A place that was never listed has none.
            if !state.listed || now.duration_since(since) >= GRACE {
                news = (state.unreadable.as_ref() != Some(&message)).then(|| message.clone());
                state.unreadable = Some(message);
            }
        }
        if !state.listed {
            state.failure = Some(failure);
        }
        news
    }

    /// Namespaces that cannot be read, and why.
    pub fn unreadable(&self) -> BTreeMap<String, String> {
        // Reversed, so that of two kinds in one namespace the message of the first remains.
        let all = self.0.iter().rev();
        all.filter_map(|(place, state)| Some((place.namespace.clone()?, state.unreadable.clone()?))).collect()
    }

    pub fn readiness(&self) -> Readiness {
        let missing = self.0.iter().filter(|(_, state)| !state.listed && state.unreadable.is_none());
        let mut missing = missing.peekable();
        let Some((place, state)) = missing.peek() else { return self.readiness_of_listed() };
        let message = match &state.failure {
            Some(failure) => format!("{place} cannot be listed: {}", failure.message),
            None => format!("{place} are not listed yet"),
        };
        let is_final = |state: &PlaceState| {
            state.failure.as_ref().is_some_and(|failure| !matches!(failure.class, Class::Transient { .. }))
        };
        match missing.all(|(_, state)| is_final(state)) {
            true => Readiness::Refused(message),
            false => Readiness::Wait(message),
        }
    }

    /// Nothing is missing. Without a single readable namespace, however, there is nothing to load a commit into.
    fn readiness_of_listed(&self) -> Readiness {
        let unreadable = self.unreadable();
        let namespaces = self.0.keys().map(|place| place.namespace.as_ref());
        let mut readable = namespaces.filter(|name| name.is_none_or(|name| !unreadable.contains_key(name)));
        match unreadable.values().next() {
            Some(message) if readable.next().is_none() => Readiness::Refused(message.clone()),
            _ => Readiness::Ready,
        }
    }
}

fn unreadable(namespace: &str, kind: Kind, message: &str) -> String {
    format!(
        "namespace {namespace} cannot be read: {kind}s cannot be listed: {message}: grant the agent its role in this \
         namespace again, or remove the namespace from --namespaces"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(names: &[&str]) -> Scope {
        Scope::Namespaces(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn failure(class: Class) -> PlaceFailure {
        PlaceFailure { class, message: "no".to_owned(), without_definition: false }
    }

    #[test]
    fn every_kind_is_watched_once_per_namespace() {
        let names = |scope: Scope| places(&scope).iter().map(ObjectPlace::to_string).collect::<Vec<_>>();
        assert_eq!(
            names(Scope::All),
            ["PackerBuilders in all namespaces", "AMIRefreshers in all namespaces"]
        );
        let twice = scope(&["b", "a", "b"]);
        assert_eq!(names(twice)[..2], ["PackerBuilders in namespace a", "PackerBuilders in namespace b"]);
    }

    #[test]
    fn one_namespace_of_several_that_cannot_be_read_is_not_waited_for() {
        let all = places(&scope(&["a", "b"]));
        let mut known = Places::new(&all);
        let now = Instant::now();
        assert!(matches!(known.readiness(), Readiness::Wait(_)));
        let (of_a, of_b): (Vec<_>, Vec<_>) =
            all.iter().partition(|place| place.namespace.as_deref() == Some("a"));
        assert!(known.failed(of_b[0], failure(Class::Denied), now).is_some());
        assert!(known.failed(of_b[0], failure(Class::Denied), now).is_none(), "it is not new");
        assert!(known.failed(of_b[1], failure(Class::NotFound), now).is_some());
        assert!(matches!(known.readiness(), Readiness::Wait(_)), "the other one may still be listed");
        of_a.iter().for_each(|place| assert!(!known.listed(place)));
        assert_eq!(known.readiness(), Readiness::Ready);
        assert_eq!(known.unreadable().into_keys().collect::<Vec<_>>(), ["b"]);
        // An outage says nothing about permissions.
        assert_eq!(known.failed(of_b[0], failure(Class::TRANSIENT), now), None);
        assert_eq!(known.readiness(), Readiness::Ready);
        assert!(known.listed(of_b[0]) && known.listed(of_b[1]), "it is back");
        assert!(known.unreadable().is_empty());
        // Later it may become unreadable again, and so may all, but not by the first refusal of a restarted server.
        assert_eq!(known.failed(of_b[0], failure(Class::Denied), now), None);
        assert!(known.unreadable().is_empty());
        assert!(known.failed(of_b[0], failure(Class::Denied), now + GRACE).is_some());
        assert_eq!(known.readiness(), Readiness::Ready);
        known.failed(of_a[0], failure(Class::Denied), now);
        known.failed(of_a[0], failure(Class::Denied), now + GRACE);
        assert!(
            matches!(known.readiness(), Readiness::Refused(words) if words.contains("namespace a cannot be read"))
        );
    }

    #[test]
    fn what_concerns_all_namespaces_is_waited_for() {
        let without_definition = PlaceFailure { without_definition: true, ..failure(Class::NotFound) };
        for (scope, failure, refused) in [
            (Scope::All, failure(Class::Denied), true),
            (scope(&["a"]), failure(Class::Denied), true),
            (scope(&["a", "b"]), without_definition, true),
            (scope(&["a", "b"]), failure(Class::TRANSIENT), false),
        ] {
            let all = places(&scope);
            let mut known = Places::new(&all);
            all.iter().for_each(|place| drop(known.failed(place, failure.clone(), Instant::now())));
            let readiness = known.readiness();
            assert_eq!(matches!(readiness, Readiness::Refused(_)), refused, "{scope:?}: {readiness:?}");
            assert_ne!(readiness, Readiness::Ready);
            let back = all.iter().filter(|place| known.listed(place)).count();
            assert_eq!(back > 0, failure.is_of_namespace() && scope != Scope::All);
            assert_eq!(known.readiness(), Readiness::Ready);
        }
    }
}
