//! The places that are watched, and which of them can be read. Pure.
//!
//! A namespace of several that is gone, or that the agent may not read any more, concerns its own objects
//! alone: nobody waits for it. A kind that is not installed, or a cluster that may not be listed, is waited
//! for by all.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::Scope;
use crate::api::{Class, Kind, ObjectKey};

/// An API server that has just started refuses what it does not know the rules of yet: a place that was readable
/// before counts as such for so long.
const GRACE: Duration = Duration::from_secs(5);

/// One kind in one namespace, or in all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub kind: Kind,
    pub namespace: Option<String>,
}

impl Place {
    /// The place of one namespace that an object is in.
    pub fn of(object: &ObjectKey) -> Self {
        Self { kind: object.kind, namespace: Some(object.key.namespace.clone()) }
    }

    pub fn holds(&self, object: &ObjectKey) -> bool {
        self.kind == object.kind && self.namespace.as_ref().is_none_or(|name| *name == object.key.namespace)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}s in namespace {namespace}", self.kind),
            None => write!(f, "{}s in all namespaces", self.kind),
        }
    }
}

/// All places of a scope.
pub fn places(scope: &Scope) -> Vec<Place> {
    let namespaces: Vec<Option<String>> = match scope {
        Scope::All => vec![None],
        Scope::Namespaces(names) => {
            names.iter().collect::<BTreeSet<_>>().into_iter().cloned().map(Some).collect()
        }
    };
    let of = |kind: Kind| namespaces.iter().cloned().map(move |namespace| Place { kind, namespace });
    [Kind::PackerBuilder, Kind::AMIRefresher].into_iter().flat_map(of).collect()
}

/// Why a place could not be listed or watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub class: Class,
    pub words: String,
    /// The kind itself is not known to the API server.
    pub without_definition: bool,
}

impl Failure {
    /// Does this concern one namespace alone?
    fn is_of_namespace(&self) -> bool {
        !self.without_definition && matches!(self.class, Class::Denied | Class::NotFound)
    }
}

/// What is known of one place.
#[derive(Clone, Debug, Default)]
struct Known {
    /// It was listed once.
    listed: bool,
    /// How the attempts fail before it is listed.
    failure: Option<Failure>,
    /// Since when it is refused.
    refused: Option<Instant>,
    /// Since a definite refusal, until it is listed again: why.
    unreadable: Option<String>,
}

/// May the objects of all places be worked with?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All are listed but for namespaces that cannot be read.
    Ready,
    /// This is what is missing.
    Wait(String),
    /// Only a person can help.
    Refused(String),
}

/// How far the places are read.
#[derive(Clone, Debug, Default)]
pub struct Places(BTreeMap<Place, Known>);

impl Places {
    pub fn new(places: &[Place]) -> Self {
        Self(places.iter().map(|place| (place.clone(), Known::default())).collect())
    }

    /// Notes a complete list. True if the place could not be read before.
    pub fn listed(&mut self, place: &Place) -> bool {
        let known = Known { listed: true, ..Known::default() };
        self.0.insert(place.clone(), known).is_some_and(|before| before.unreadable.is_some())
    }

    /// Notes a failure. Answers why the place cannot be read, if that is news.
    pub fn failed(&mut self, place: &Place, failure: Failure, now: Instant) -> Option<String> {
        let known = self.0.entry(place.clone()).or_default();
        let mut news = None;
        if let Some(namespace) = place.namespace.as_ref().filter(|_| failure.is_of_namespace()) {
            let since = *known.refused.get_or_insert(now);
            let words = unreadable(namespace, place.kind, &failure.words);
            if !known.listed || now.duration_since(since) >= GRACE {
                news = (known.unreadable.as_ref() != Some(&words)).then(|| words.clone());
                known.unreadable = Some(words);
            }
        }
        if !known.listed {
            known.failure = Some(failure);
        }
        news
    }

    /// Namespaces that cannot be read, and why.
    pub fn unreadable(&self) -> BTreeMap<String, String> {
        let all = self.0.iter().rev();
        all.filter_map(|(place, known)| Some((place.namespace.clone()?, known.unreadable.clone()?))).collect()
    }

    pub fn verdict(&self) -> Verdict {
        let missing = self.0.iter().filter(|(_, known)| !known.listed && known.unreadable.is_none());
        let mut missing = missing.peekable();
        let Some((place, known)) = missing.peek() else { return self.without_namespaces() };
        let words = match &known.failure {
            Some(failure) => format!("{place} cannot be listed: {}", failure.words),
            None => format!("{place} are not listed yet"),
        };
        let for_good = |known: &Known| {
            known.failure.as_ref().is_some_and(|failure| !matches!(failure.class, Class::Transient { .. }))
        };
        match missing.all(|(_, known)| for_good(known)) {
            true => Verdict::Refused(words),
            false => Verdict::Wait(words),
        }
    }

    /// Without any namespace that can be read there is nothing to work with.
    fn without_namespaces(&self) -> Verdict {
        let unreadable = self.unreadable();
        let namespaces = self.0.keys().map(|place| place.namespace.as_ref());
        let mut readable = namespaces.filter(|name| name.is_none_or(|name| !unreadable.contains_key(name)));
        match unreadable.values().next() {
            Some(words) if readable.next().is_none() => Verdict::Refused(words.clone()),
            _ => Verdict::Ready,
        }
    }
}

fn unreadable(namespace: &str, kind: Kind, words: &str) -> String {
    format!(
        "namespace {namespace} cannot be read: {kind}s cannot be listed: {words}: give the agent its role in this namespace \
         again, or remove the namespace from --namespaces"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(names: &[&str]) -> Scope {
        Scope::Namespaces(names.iter().map(|name| (*name).to_owned()).collect())
    }

    fn failure(class: Class) -> Failure {
        Failure { class, words: "no".to_owned(), without_definition: false }
    }

    #[test]
    fn every_kind_is_watched_once_per_namespace() {
        let names = |scope: Scope| places(&scope).iter().map(Place::to_string).collect::<Vec<_>>();
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
        assert!(matches!(known.verdict(), Verdict::Wait(_)));
        let (of_a, of_b): (Vec<_>, Vec<_>) =
            all.iter().partition(|place| place.namespace.as_deref() == Some("a"));
        assert!(known.failed(of_b[0], failure(Class::Denied), now).is_some());
        assert!(known.failed(of_b[0], failure(Class::Denied), now).is_none(), "it is no news any more");
        assert!(known.failed(of_b[1], failure(Class::NotFound), now).is_some());
        assert!(matches!(known.verdict(), Verdict::Wait(_)), "the other one may come");
        of_a.iter().for_each(|place| assert!(!known.listed(place)));
        assert_eq!(known.verdict(), Verdict::Ready);
        assert_eq!(known.unreadable().into_keys().collect::<Vec<_>>(), ["b"]);
        // An outage is no news about rights.
        assert_eq!(known.failed(of_b[0], failure(Class::TRANSIENT), now), None);
        assert_eq!(known.verdict(), Verdict::Ready);
        assert!(known.listed(of_b[0]) && known.listed(of_b[1]), "it is back");
        assert!(known.unreadable().is_empty());
        // Later it may go again, and so may all, but not by the first word of a server that has just started.
        assert_eq!(known.failed(of_b[0], failure(Class::Denied), now), None);
        assert!(known.unreadable().is_empty());
        assert!(known.failed(of_b[0], failure(Class::Denied), now + GRACE).is_some());
        assert_eq!(known.verdict(), Verdict::Ready);
        known.failed(of_a[0], failure(Class::Denied), now);
        known.failed(of_a[0], failure(Class::Denied), now + GRACE);
        assert!(
            matches!(known.verdict(), Verdict::Refused(words) if words.contains("namespace a cannot be read"))
        );
    }

    #[test]
    fn what_concerns_all_namespaces_is_waited_for() {
        let bare = Failure { without_definition: true, ..failure(Class::NotFound) };
        for (scope, failure, refused) in [
            (Scope::All, failure(Class::Denied), true),
            (scope(&["a"]), failure(Class::Denied), true),
            (scope(&["a", "b"]), bare, true),
            (scope(&["a", "b"]), failure(Class::TRANSIENT), false),
        ] {
            let all = places(&scope);
            let mut known = Places::new(&all);
            all.iter().for_each(|place| drop(known.failed(place, failure.clone(), Instant::now())));
            let verdict = known.verdict();
            assert_eq!(matches!(verdict, Verdict::Refused(_)), refused, "{scope:?}: {verdict:?}");
            assert_ne!(verdict, Verdict::Ready);
            let back = all.iter().filter(|place| known.listed(place)).count();
            assert_eq!(back > 0, failure.is_of_namespace() && scope != Scope::All);
            assert_eq!(known.verdict(), Verdict::Ready);
        }
    }
}
