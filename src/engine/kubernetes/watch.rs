//! Watches custom resources: every event goes into the ledger and the feeds, and wakes whom it concerns.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch as level;
use tokio::time::Instant;

use super::error::Refusal;
use super::home::Shared;
use super::kinds::{Custom, Raw, is_news, object_key, typed};
use super::ledger::{Live, Sight, version};
use super::places::{Failure, Place};
use super::requests::{is_without_definition, without_definition};
use super::{Cluster, apply};
use crate::api::{Class, ObjectKey};

/// Objects asked for at once: a page is in memory whole, a thousand objects would be 14 MB.
const PAGE: u32 = 250;
/// First and longest pause after a failure. kube's own pause starts anew with every attempt to list.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// A definition is often installed within seconds of being missed.
const LONGEST_WITHOUT_DEFINITION: Duration = Duration::from_secs(5);
/// Failures further apart than this do not follow from each other.
const APART: Duration = Duration::from_secs(300);

/// Watches a place for ever. `again` has everything listed anew.
pub async fn watch<K: Custom>(shared: Arc<Shared>, place: Place, mut again: level::Receiver<u64>) {
    let mut failures = Failures::default();
    loop {
        let api = api::<K>(&shared.cluster, &place);
        let config = watcher::Config::default().page_size(PAGE);
        let mut view = View { shared: &shared, place: &place, listed: None, failures: &mut failures };
        let mut events = watcher(api, config).boxed();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => view.take::<K>(event),
                    // A watch that may go on says so only by its next event: a new list does at once.
                    Some(Err(error)) => if view.fail(error).await { break },
                    None => break,
                },
                asked = again.changed() => match asked {
                    Ok(()) => break,
                    Err(_) => return,
                },
            }
        }
    }
}

fn api<K: Custom>(cluster: &Cluster, place: &Place) -> Api<Raw<K>> {
    match &place.namespace {
        Some(namespace) => Api::namespaced(cluster.client.clone(), namespace),
        None => Api::all(cluster.client.clone()),
    }
}

/// One place, as its events come in.
struct View<'a> {
    shared: &'a Shared,
    place: &'a Place,
    /// What a running list has brought so far.
    listed: Option<BTreeSet<ObjectKey>>,
    failures: &'a mut Failures,
}

impl View<'_> {
    fn take<K: Custom>(&mut self, event: Event<Raw<K>>) {
        match event {
            Event::Init => self.listed = Some(BTreeSet::new()),
            Event::InitApply(raw) => {
                let object = self.shared.seen(raw, true);
                self.listed.get_or_insert_default().insert(object);
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                self.shared.forget::<K>(|object| self.place.holds(object) && !listed.contains(object));
                self.shared.listed(self.place, self.failures.end().is_some());
            }
            Event::Apply(raw) => {
                self.shared.seen(raw, false);
                self.failures.end();
            }
            Event::Delete(raw) => {
                let gone = object_key::<K>(&raw.metadata);
                self.shared.forget::<K>(|object| *object == gone);
                self.failures.end();
            }
        }
    }

    /// Waits until it is worth another try. True if the place is to be listed anew.
    async fn fail(&mut self, error: watcher::Error) -> bool {
        let refusal = refusal(error);
        // The server forgot where we were: that is its right, and a new list follows.
        if refusal.code == Some(410) {
            return false;
        }
        let bare = is_without_definition(&refusal);
        let words = if bare { without_definition() } else { refusal.message };
        let (pause, news) = self.failures.next(&words, bare, Instant::now());
        if news {
            let place = self.place.to_string();
            tracing::warn!(place, error = %words, "cannot be watched; trying again");
        }
        let failure = Failure { class: refusal.class, words, without_definition: bare };
        let unreadable = matches!(failure.class, Class::Denied | Class::NotFound);
        self.shared.unlisted(self.place, failure);
        wait(pause).await;
        unreadable
    }
}

/// Failures in a row.
#[derive(Default)]
pub(super) struct Failures {
    count: u32,
    last: Option<(Instant, String)>,
}

impl Failures {
    /// The next pause, and whether these words are new.
    pub(super) fn next(&mut self, words: &str, bare: bool, now: Instant) -> (Duration, bool) {
        let last = self.last.replace((now, words.to_owned()));
        let follows = last.filter(|(at, _)| now.duration_since(*at) < APART);
        self.count = if follows.is_some() { self.count.saturating_add(1) } else { 1 };
        let (first, longest) = PAUSES;
        let longest = if bare { LONGEST_WITHOUT_DEFINITION } else { longest };
        let pause = first.saturating_mul(1u32.checked_shl(self.count - 1).unwrap_or(u32::MAX)).min(longest);
        (pause, follows.is_none_or(|(_, before)| before != words))
    }

    /// It works again: what was wrong, if anything.
    pub(super) fn end(&mut self) -> Option<String> {
        self.count = 0;
        self.last.take().map(|(_, words)| words)
    }
}

pub(super) fn refusal(error: watcher::Error) -> Refusal {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error.into(),
        watcher::Error::WatchError(status) => kube::Error::Api(status).into(),
        error @ watcher::Error::NoResourceVersion => {
            Refusal { class: Class::TRANSIENT, message: error.to_string(), code: None }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a watch that fails has nothing else to wait for")]
pub(super) async fn wait(pause: Duration) {
    tokio::time::sleep(pause).await;
}

impl Shared {
    /// Takes an object that is there.
    fn seen<K: Custom>(&self, raw: Raw<K>, listed: bool) -> ObjectKey {
        let object = object_key::<K>(&raw.metadata);
        let feed = K::feed(&self.objects);
        let live = Live::of(&raw.metadata, &raw.spec, &raw.status);
        let (typed, odd) = typed::<K>(raw);
        let mut ledger = self.ledger();
        let before = feed.get(&object.key);
        let shown = before.as_ref().is_some_and(|before| is_shown(before.meta(), typed.meta(), listed));
        match ledger.saw(&object, live, odd, is_news(before.as_ref(), &typed), listed, Instant::now()) {
            Sight::Stale => {}
            Sight::Foreign => {
                feed.remove(&object.key);
                drop(ledger);
                self.objects.board.remove(&object);
            }
            Sight::Ours { wake, mend } => {
                if !shown {
                    feed.put(&typed);
                }
                let loaded = ledger.owner().is_some();
                drop(ledger);
                if loaded {
                    self.objects.board.add(&object);
                }
                if wake {
                    self.objects.wake(&object);
                }
                if mend {
                    self.bell.notify_one();
                }
            }
        }
        self.echoes.send_modify(|count| *count += 1);
        object
    }

    /// Takes objects as gone.
    fn forget<K: Custom>(&self, is_gone: impl Fn(&ObjectKey) -> bool) {
        let now = Instant::now();
        let mut ledger = self.ledger();
        let gone: Vec<ObjectKey> = ledger.all().filter(|object| is_gone(object)).cloned().collect();
        for object in &gone {
            ledger.gone(object, now);
            K::feed(&self.objects).remove(&object.key);
        }
        drop(ledger);
        for object in &gone {
            self.objects.board.remove(object);
        }
        if !gone.is_empty() {
            self.objects.changed.notify_one();
            self.bell.notify_one();
            self.echoes.send_modify(|count| *count += 1);
        }
    }

    /// A list is complete.
    fn listed(&self, place: &Place, after_failure: bool) {
        let mut is_back = false;
        self.places.send_modify(|places| is_back = places.listed(place));
        if after_failure {
            tracing::info!(place = %place, "is watched again");
            let mut ledger = self.ledger();
            ledger.readable(place);
            // What kept the watch away may have kept applies away, too.
            ledger.retry_all(Instant::now());
            drop(ledger);
            self.bell.notify_one();
        }
        if is_back {
            self.wake_place(place);
            self.returned.notify_one();
        }
    }

    /// A list or watch has failed.
    fn unlisted(&self, place: &Place, failure: Failure) {
        let mut news = None;
        self.places.send_modify(|places| news = places.failed(place, failure, Instant::now()));
        if let Some(words) = news {
            self.ledger().unreadable(place, words);
            self.wake_place(place);
            apply::show_absent(self);
        }
    }

    /// Has every object of a place looked at.
    fn wake_place(&self, place: &Place) {
        let ledger = self.ledger();
        let is_loaded = ledger.owner().is_some();
        let objects: Vec<ObjectKey> =
            ledger.present().filter(|object| is_loaded && place.holds(object)).cloned().collect();
        drop(ledger);
        objects.iter().for_each(|object| self.objects.wake(object));
    }
}

/// Is this shown already? Our own status is, before it comes back, and then what came before it is old. A
/// list is the truth: a server whose data was restored counts from an earlier version.
fn is_shown(shown: &ObjectMeta, seen: &ObjectMeta, listed: bool) -> bool {
    let versions = [shown, seen].map(|metadata| version(metadata.resource_version.as_deref()));
    shown.uid == seen.uid && (versions[0] == versions[1] || !listed && versions[0] > versions[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_lists_fail_and_start_anew_after_a_calm() {
        let mut failures = Failures::default();
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        assert_eq!(failures.next("no", false, at(0)), (Duration::from_secs(1), true));
        assert_eq!(failures.next("no", false, at(1)), (Duration::from_secs(2), false));
        assert_eq!(failures.next("why", false, at(3)), (Duration::from_secs(4), true));
        for _ in 0..100 {
            failures.next("why", false, at(4));
        }
        assert_eq!(failures.next("why", false, at(5)).0, PAUSES.1);
        assert_eq!(failures.next("why", true, at(6)).0, LONGEST_WITHOUT_DEFINITION);
        assert_eq!(failures.next("why", false, at(900)), (Duration::from_secs(1), true));
        assert_eq!(failures.end().as_deref(), Some("why"));
        assert_eq!(failures.next("why", false, at(901)), (Duration::from_secs(1), true));
    }
}
