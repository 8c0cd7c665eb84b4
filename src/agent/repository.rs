//! The repository as one that can be in trouble: how it stands, what its people are told of it, and the
//! digest of the day. What was told is kept by the engine, as an object's is in its status.

mod judge;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Mutex, watch};

use super::now;
use super::render::name_of;
use super::takeover::{Outcome, Takeover};
use super::telling::{Telling, note};
use crate::announce::digest::{self, Inventory};
use crate::announce::{Message, Story, repository};
use crate::api::status::{LastDigest, RepositoryStatus};
use crate::api::{Key, Kind};
use crate::engine::{Home, HomeError};
use crate::git::backoff;
use crate::notify::fences::Addressed;
use crate::notify::{Pending, Told};
use crate::publish::{Publisher, Publishing};
use crate::sync::{Accepts, Outputs, SyncState, Synced};
use judge::{Facts, Judged, note_conditions};

/// What wakes nobody is seen this soon: an object that is refused, a digest's time, what could be kept now.
const LOOK: Duration = Duration::from_secs(60);

/// Between two digests.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Everything that is looked at.
struct Sources {
    home: Arc<dyn Home>,
    telling: Arc<Telling>,
    synced: watch::Receiver<Option<Arc<Synced>>>,
    loaded: watch::Receiver<Option<Arc<Synced>>>,
    state: watch::Receiver<SyncState>,
    publishing: watch::Receiver<Publishing>,
    taken: watch::Receiver<Outcome>,
}

/// The repository.
pub struct Repository {
    sources: Sources,
    known: Mutex<Known>,
}

/// What is known from one look to the next.
#[derive(Default)]
struct Known {
    /// As it was kept last; nothing before it was read.
    status: Option<RepositoryStatus>,
    digest: Option<Digest>,
}

/// The digest of a day: once made, its words stay the same.
struct Digest {
    message: Message,
    of: LastDigest,
}

impl Repository {
    pub fn new(
        home: Arc<dyn Home>,
        telling: &Arc<Telling>,
        outputs: &Outputs,
        publisher: &Publisher,
        takeover: &Takeover,
    ) -> Arc<Self> {
        let sources = Sources {
            home,
            telling: telling.clone(),
            synced: outputs.synced.clone(),
            loaded: takeover.loaded.subscribe(),
            state: outputs.state.clone(),
            publishing: publisher.state(),
            taken: takeover.last.subscribe(),
        };
        Arc::new(Self { sources, known: Mutex::default() })
    }

    /// Looks whenever something of it changes.
    pub async fn follow(self: Arc<Self>) {
        let Sources { telling, loaded, state, publishing, taken, .. } = &self.sources;
        let mut changes = (loaded.clone(), state.clone(), publishing.clone(), taken.clone());
        loop {
            let pause = self.look().await;
            tokio::select! {
                changed = changes.0.changed() => if changed.is_err() { return },
                changed = changes.1.changed() => if changed.is_err() { return },
                changed = changes.2.changed() => if changed.is_err() { return },
                changed = changes.3.changed() => if changed.is_err() { return },
                () = telling.bell.notified() => {}
                () = backoff::pause(pause) => {}
            }
        }
    }

    /// Looks once, and keeps what is to be remembered before anybody is told. Answers when to look again.
    pub async fn look(&self) -> Duration {
        let mut known = self.known.lock().await;
        let synced = self.sources.synced.borrow().clone();
        let nothing_known =
            self.sources.loaded.borrow().is_none() && self.sources.taken.borrow().failed.is_none();
        let Some(synced) = synced.filter(|_| !nothing_known) else {
            return self.look_unsynced(&mut known).await;
        };
        if let Err(error) = self.recall(&mut known).await {
            return unkept(&error);
        }
        self.sources.telling.commits.learn(synced.commit.as_str()).await;
        let before = known.status.clone().unwrap_or_default();
        for file in before.broken.iter().flatten() {
            self.sources.telling.commits.learn(&file.commit).await;
        }
        let mut status = before.clone();
        self.update(&synced, &mut status, &mut known.digest);
        if status != before {
            let text = serde_json::to_string(&status).expect("a status is plain data");
            if let Err(error) = self.sources.home.keep(text).await {
                return unkept(&error);
            }
        }
        known.status = Some(status);
        self.sources.telling.notifier.written(&self.sources.telling.repository);
        LOOK
    }

    /// Reads what was kept last, once.
    async fn recall(&self, known: &mut Known) -> Result<(), HomeError> {
        if known.status.is_none() {
            let memory = self.sources.home.memory().await?;
            known.status = Some(read(memory.as_deref()));
        }
        Ok(())
    }

    /// Before any commit is loaded, only the condition `Synced` is known. It is kept for `opsy status`; which sinks to
    /// notify is in opsy.yaml, which is not known.
    async fn look_unsynced(&self, known: &mut Known) -> Duration {
        let synced = judge::synced(&self.sources.state.borrow());
        let Some(trouble @ (_, Some(_))) = synced else { return LOOK };
        if let Err(error) = self.recall(known).await {
            return unkept(&error);
        }
        let before = known.status.clone().unwrap_or_default();
        let mut status = before.clone();
        note_conditions(status.conditions.get_or_insert_default(), vec![trouble], now());
        if status != before {
            let text = serde_json::to_string(&status).expect("a status is plain data");
            if let Err(error) = self.sources.home.keep(text).await {
                return unkept(&error);
            }
        }
        known.status = Some(status);
        LOOK
    }

    /// How it stands now, and what is remembered of what was told.
    fn update(&self, synced: &Synced, status: &mut RepositoryStatus, words: &mut Option<Digest>) {
        let telling = &self.sources.telling;
        let (errors, commit) = (judge::errors(&synced.set), synced.commit.as_str());
        note_conditions(status.conditions.get_or_insert_default(), self.judge(synced, &errors), now());
        if let Some(last) = self.sources.state.borrow().last.clone() {
            status.last = Some(last);
        }
        remember(&mut status.notifier_secrets, telling.objects.withheld());
        let broken = repository::broken(status.broken.as_deref().unwrap_or_default(), &errors, commit);
        status.broken = (!broken.is_empty()).then_some(broken);
        let digest = self.digest(synced, status, words);
        let subject = &telling.repository;
        let mut stories = telling.around(|around| repository::stories(subject, status, around));
        stories.extend(digest);
        let Some(Addressed { to, refused }) = telling.everybody() else { return };
        let remembered = status.notifications.clone().unwrap_or_default();
        let conditions = status.conditions.clone().unwrap_or_default();
        let pending = Pending { stories, conditions, now: now() };
        let told = Told { about: subject, to: &to, remembered: &remembered, pending };
        let mut marked = telling.notifier.mark(&told);
        marked.trouble = marked.trouble.or(refused);
        note(status, marked, None, now());
        if let Some(digest) = words.as_ref().filter(|digest| is_told(status, &digest.of.day)) {
            status.digest = Some(digest.of.clone());
        }
    }

    fn judge(&self, synced: &Synced, errors: &[(String, String)]) -> Vec<Judged> {
        let Sources { home, telling, state, publishing, taken, loaded, .. } = &self.sources;
        let is_loaded = loaded.borrow().as_ref().is_some_and(|loaded| loaded.commit == synced.commit);
        let unreadable = home.unreadable();
        let objects = synced.set.documents.iter().map(|document| &document.object);
        let refused = objects.filter_map(|object| {
            let (_, words) = home.unapplied(object)?;
            // One that is there says so itself, and of a namespace that cannot be read it is said once.
            let is_told = telling.objects.has(object) || unreadable.contains_key(&object.key.namespace);
            (!is_told).then(|| format!("{object}: {words}"))
        });
        judge::judge(&Facts {
            errors,
            sync: &state.borrow(),
            publishing: &publishing.borrow(),
            taken: &taken.borrow(),
            is_loaded,
            refused: refused.collect(),
            unreadable: unreadable.clone(),
        })
    }

    /// The digest of the day, if there is to be one. The day on which people first ask for it has none.
    fn digest(
        &self,
        synced: &Synced,
        status: &mut RepositoryStatus,
        words: &mut Option<Digest>,
    ) -> Option<Story> {
        let daily = synced.set.settings.digest.as_ref().and_then(|digest| digest.daily().ok());
        let Some(daily) = daily else {
            (status.digest, *words) = (None, None);
            return None;
        };
        // Before that, nobody knows how the objects stand.
        self.sources.loaded.borrow().as_ref()?;
        let (now, today) = (now(), daily.last(now()).to_string());
        let first = LastDigest { day: today.clone(), since: now, until: now };
        let last = status.digest.get_or_insert(first).clone();
        let day = judge::digest_day(&today, &daily.last(tomorrow(now)).to_string(), &last.day);
        let thread = repository::digest_thread(&day);
        let known = status.notifications.iter().flatten().any(|told| told.thread == thread);
        if day == last.day && !known {
            return None;
        }
        if words.as_ref().is_none_or(|digest| digest.of.day != day) {
            // One that only some have got yet tells the others the same.
            let since = if day == last.day { last.since } else { until(last.until, now) };
            let message = self.digest_since(since, status);
            *words = Some(Digest { message, of: LastDigest { day: day.clone(), since, until: now } });
        }
        let message = words.as_ref().map(|digest| digest.message.clone())?;
        Some(repository::digest(&day, message, known))
    }

    fn digest_since(&self, since: Timestamp, status: &RepositoryStatus) -> Message {
        let telling = &self.sources.telling;
        let builders = telling.objects.builders.all();
        let refreshers = telling.objects.refreshers.all();
        let inventory = Inventory {
            builders: builders
                .map(|object| (name_of(Kind::PackerBuilder, &object), object.status.unwrap_or_default()))
                .collect(),
            refreshers: refreshers
                .map(|object| (name_of(Kind::AMIRefresher, &object), object.status.unwrap_or_default()))
                .collect(),
            repository: status.conditions.as_deref().unwrap_or_default(),
            since,
        };
        telling.around(|around| digest::message_of(&telling.repository, &inventory, around))
    }
}

/// A day from now.
fn tomorrow(now: Timestamp) -> Timestamp {
    now.checked_add(DAY).unwrap_or(now)
}

/// Where the last digest ended; a day ago where the clock was set back since.
fn until(last: Timestamp, now: Timestamp) -> Timestamp {
    if last <= now { last } else { now.checked_sub(DAY).unwrap_or(now) }
}

fn read(memory: Option<&str>) -> RepositoryStatus {
    let read = memory.map(serde_json::from_str::<RepositoryStatus>).transpose();
    read.unwrap_or_else(|error| {
        tracing::warn!(%error, "what the agent remembers cannot be read: people may be told things twice");
        None
    })
    .unwrap_or_default()
}

/// Most Secrets that are remembered: memory is a few kilobytes, and a repository names a handful.
const MOST_SECRETS: usize = 50;

/// Adds Secrets to those that are remembered. Those that are remembered already stay, whatever a later commit names.
fn remember(known: &mut BTreeSet<Key>, secrets: BTreeSet<Key>) {
    let news: Vec<Key> = secrets.difference(known).cloned().collect();
    let room = MOST_SECRETS.saturating_sub(known.len());
    known.extend(news.into_iter().take(room));
}

fn unkept(error: &HomeError) -> Duration {
    tracing::warn!(%error, "what people are told of the repository waits");
    LOOK
}

/// What the agent remembers from its last life.
pub async fn remembered(home: &dyn Home) -> anyhow::Result<RepositoryStatus> {
    let memory = home.memory().await.context("what the agent remembers cannot be read")?;
    Ok(read(memory.as_deref()))
}

/// The requests of `opsy accept`.
pub fn accepts(home: Arc<dyn Home>) -> Accepts {
    let asked = home.clone();
    Accepts {
        pending: Box::new(move || {
            let home = asked.clone();
            async move {
                let accepted = home.accepted().await;
                accepted.unwrap_or_else(|error| {
                    tracing::warn!(%error, "whether a person accepts a commit is not known");
                    None
                })
            }
            .boxed()
        }),
        remove: Box::new(move |commit| {
            let home = home.clone();
            async move { home.remove_accepted(commit).await.is_ok() }.boxed()
        }),
    }
}

/// Has anybody got the digest of a day?
fn is_told(status: &RepositoryStatus, day: &str) -> bool {
    let thread = repository::digest_thread(day);
    status.notifications.iter().flatten().any(|told| told.thread == thread && told.shown.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_earlier_commits_are_remembered_within_limits() {
        let key = |name: &str| Key { namespace: "default".into(), name: name.into() };
        let many =
            |prefix: &str| (0..MOST_SECRETS).map(|n| key(&format!("{prefix}{n}"))).collect::<BTreeSet<_>>();
        let mut known = BTreeSet::from([key("slack")]);
        remember(&mut known, BTreeSet::from([key("pager")]));
        assert_eq!(known, BTreeSet::from([key("slack"), key("pager")]));
        remember(&mut known, many("a"));
        assert!(
            known.len() == MOST_SECRETS && known.contains(&key("slack")) && known.contains(&key("pager"))
        );
        let text = serde_json::to_string(&RepositoryStatus {
            notifier_secrets: known.clone(),
            ..Default::default()
        });
        assert_eq!(read(Some(&text.expect("JSON"))).notifier_secrets, known, "after a restart");
    }
}
