//! The repository as one that can be in trouble: how it stands, what its people are told of it, and the
//! digest of the day. What was told is kept by the engine, as an object's is in its status.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Mutex, watch};

use super::now;
use super::render::{self, name_of};
use super::takeover::{Outcome, Takeover};
use super::telling::{Telling, note};
use crate::announce::digest::{self, Inventory};
use crate::announce::{Message, Story, repository};
use crate::api::conditions::{self, APPLIED, Condition, PUBLISHED, SYNCED};
use crate::api::status::RepositoryStatus;
use crate::api::{Class, Kind, ObjectKey};
use crate::engine::Home;
use crate::git::backoff;
use crate::manifest::{ObjectSet, Severity};
use crate::notify::{Marked, Pending, Told};
use crate::publish::{Publisher, Publishing};
use crate::sync::{Outputs, SyncState, Synced};

/// What could not be kept is kept later.
const AGAIN: Duration = Duration::from_secs(60);
/// The digest's time may be moved: it is looked at this often at least.
const LONGEST_LOOK: Duration = Duration::from_secs(3600);
/// Problems that are spelled out.
const SPELLED_OUT: usize = 3;

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
    /// The digest of a day, so that its words stay the same.
    digest: Option<(String, Message)>,
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
        let Some(synced) = self.sources.synced.borrow().clone() else { return LONGEST_LOOK };
        if known.status.is_none() {
            match self.sources.home.memory().await {
                Ok(memory) => known.status = Some(read(memory.as_deref())),
                Err(error) => return unkept(&error),
            }
        }
        self.sources.telling.commits.learn(synced.commit.as_str()).await;
        let before = known.status.clone().unwrap_or_default();
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
        next_digest(&synced, now()).min(LONGEST_LOOK)
    }

    /// How it stands now, and what is remembered of what was told.
    fn update(&self, synced: &Synced, status: &mut RepositoryStatus, words: &mut Option<(String, Message)>) {
        let telling = &self.sources.telling;
        let judged = {
            let Sources { state, publishing, taken, loaded, .. } = &self.sources;
            let is_loaded = loaded.borrow().as_ref().is_some_and(|loaded| loaded.commit == synced.commit);
            judge(&synced.set, &state.borrow(), &publishing.borrow(), &taken.borrow(), is_loaded)
        };
        note_conditions(status.conditions.get_or_insert_default(), judged, now());
        let digest = self.digest(synced, status, words);
        let conditions = status.conditions.clone().unwrap_or_default();
        let subject = &telling.repository;
        let mut stories = telling.around(|around| repository::stories(subject, &conditions, around));
        stories.extend(digest);
        let to = telling.everybody();
        let remembered = status.notifications.clone().unwrap_or_default();
        let pending = Pending { stories, conditions, now: now() };
        let marked = if to.is_empty() {
            telling.notifier.forget(subject);
            Marked::default()
        } else {
            telling.notifier.mark(&Told { about: subject, to: &to, remembered: &remembered, pending })
        };
        note(status, marked, None, now());
    }

    /// The digest of the day, if there is to be one. The day on which people first ask for it has none.
    fn digest(
        &self,
        synced: &Synced,
        status: &mut RepositoryStatus,
        words: &mut Option<(String, Message)>,
    ) -> Option<Story> {
        let daily = synced.set.settings.digest.as_ref().and_then(|digest| digest.daily().ok());
        let Some(daily) = daily else {
            status.digest = None;
            return None;
        };
        // Before that, nobody knows how the objects stand.
        self.sources.loaded.borrow().as_ref()?;
        let day = daily.last(now()).to_string();
        let thread = repository::digest_thread(&day);
        let known = status.notifications.iter().flatten().any(|told| told.thread == thread);
        let due = status.digest.as_ref().is_some_and(|last| *last < day);
        status.digest = Some(day.clone());
        if !known && !due {
            return None;
        }
        let message = match words.take().filter(|(of, _)| *of == day) {
            Some((_, message)) => message,
            None => self.digest_now(status),
        };
        *words = Some((day.clone(), message.clone()));
        Some(repository::digest(&day, message, known))
    }

    fn digest_now(&self, status: &RepositoryStatus) -> Message {
        let telling = &self.sources.telling;
        let (builders, refreshers) = (telling.objects.builders.all(), telling.objects.refreshers.all());
        let (no_build, no_rollout) = (Default::default(), Default::default());
        let inventory = Inventory {
            builders: builders
                .iter()
                .map(|object| {
                    (name_of(Kind::PackerBuilder, &**object), object.status.as_ref().unwrap_or(&no_build))
                })
                .collect::<Vec<(ObjectKey, _)>>(),
            refreshers: refreshers
                .iter()
                .map(|object| {
                    (name_of(Kind::AMIRefresher, &**object), object.status.as_ref().unwrap_or(&no_rollout))
                })
                .collect::<Vec<(ObjectKey, _)>>(),
            repository: status.conditions.as_deref().unwrap_or_default(),
        };
        telling.around(|around| digest::message_of(&telling.repository, &inventory, around))
    }
}

fn read(memory: Option<&str>) -> RepositoryStatus {
    let read = memory.map(serde_json::from_str::<RepositoryStatus>).transpose();
    read.unwrap_or_else(|error| {
        tracing::warn!(%error, "what the agent remembers cannot be read: people may be told things twice");
        None
    })
    .unwrap_or_default()
}

fn unkept(error: &crate::engine::HomeError) -> Duration {
    tracing::warn!(%error, "what people are told of the repository waits");
    AGAIN
}

fn next_digest(synced: &Synced, now: Timestamp) -> Duration {
    let daily = synced.set.settings.digest.as_ref().and_then(|digest| digest.daily().ok());
    let until = daily.map(|daily| daily.next(now).duration_since(now));
    until.and_then(|until| Duration::try_from(until).ok()).unwrap_or(LONGEST_LOOK)
}

/// A condition that is known: the reason and the words of what is not as it should be, if anything.
type Judged = (&'static str, Option<(&'static str, String)>);

/// What is known of each condition. After a start little is, and what was kept stays as it was.
fn judge(
    set: &ObjectSet,
    sync: &SyncState,
    publishing: &Publishing,
    taken: &Outcome,
    is_loaded: bool,
) -> Vec<Judged> {
    let synced = sync.error.as_ref().map(|(class, words)| {
        let reason = match class {
            Class::Transient { .. } | Class::Conflict => "RepositoryUnavailable",
            Class::Denied => "RepositoryDenied",
            Class::NotFound | Class::Invalid => "RepositoryUnreadable",
        };
        (reason, words.clone())
    });
    let broken = broken(set).map(|words| ("ManifestBroken", words));
    let failed = taken.failed.clone().map(|words| ("CommitNotTaken", words));
    let kept = taken.kept.clone().filter(|_| is_loaded).map(|words| ("PruneRefused", words));
    let applied = broken.or(failed).or(kept);
    let published = render::published(publishing).filter(|(status, ..)| *status == "False");
    let published = published.map(|(_, reason, words)| (reason, words));
    let is_known = [sync.looked.is_some(), applied.is_some() || is_loaded, *publishing != Publishing::Idle];
    let judged = [(SYNCED, synced), (APPLIED, applied), (PUBLISHED, published)];
    judged.into_iter().zip(is_known).filter_map(|(judged, known)| known.then_some(judged)).collect()
}

/// The files that cannot be read, the first of many.
fn broken(set: &ObjectSet) -> Option<String> {
    let errors = set.problems.iter().filter(|problem| problem.severity == Severity::Error);
    let errors: Vec<String> = errors.map(ToString::to_string).collect();
    let more = errors.len().saturating_sub(SPELLED_OUT);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let first = errors.iter().take(SPELLED_OUT).cloned().collect::<Vec<_>>().join("; ");
    (!errors.is_empty()).then(|| format!("{first}{more}"))
}

/// Only what is not as it should be is there.
fn note_conditions(list: &mut Vec<Condition>, judged: Vec<Judged>, now: Timestamp) {
    for (kind, trouble) in judged {
        match trouble {
            Some((reason, words)) => conditions::set(list, kind, "False", reason, &words, None, now),
            None => list.retain(|condition| condition.r#type != kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Problem;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn state(error: Option<(Class, &str)>) -> SyncState {
        let error = error.map(|(class, words)| (class, words.to_owned()));
        let (commit, looked) = (None, Some(at(0)));
        SyncState { commit, error, from_clone: false, since: at(0), looked, succeeded: None }
    }

    fn problem(file: &str, severity: Severity) -> Problem {
        Problem { file: file.to_owned(), line: Some(3), message: "is not YAML".to_owned(), severity }
    }

    /// One line a condition that is known.
    fn words(set: &ObjectSet, state: &SyncState, publishing: &Publishing, taken: &Outcome) -> Vec<String> {
        let judged = judge(set, state, publishing, taken, true);
        let troubles = judged.into_iter().filter_map(|(kind, trouble)| Some((kind, trouble?)));
        troubles.map(|(kind, (reason, words))| format!("{kind} {reason} {words}")).collect()
    }

    #[test]
    fn each_trouble_has_its_reason() {
        let (well, set, nothing) = (state(None), ObjectSet::default(), Outcome::default());
        assert_eq!(words(&set, &well, &Publishing::Off, &nothing), [""; 0]);
        let reasons = [
            (Class::TRANSIENT, "RepositoryUnavailable"),
            (Class::Denied, "RepositoryDenied"),
            (Class::Invalid, "RepositoryUnreadable"),
        ];
        for (class, reason) in reasons {
            let state = state(Some((class, "why")));
            let due = format!("Synced {reason} why");
            assert_eq!(words(&set, &state, &Publishing::Off, &nothing), [due]);
        }
        let refused = Publishing::Refused { words: "protected".to_owned(), since: at(0) };
        assert_eq!(words(&set, &well, &refused, &nothing), ["Published PushRefused protected"]);
        let failed = Outcome { kept: None, failed: Some("away".to_owned()) };
        assert_eq!(words(&set, &well, &Publishing::Off, &failed), ["Applied CommitNotTaken away"]);
    }

    #[test]
    fn broken_files_come_before_what_follows_from_them_and_notes_are_none() {
        let mut set =
            ObjectSet { problems: vec![problem("note.yaml", Severity::Note)], ..ObjectSet::default() };
        let kept = Outcome { kept: Some("1 object kept".to_owned()), failed: None };
        let said = |set: &ObjectSet| words(set, &state(None), &Publishing::Off, &kept);
        assert_eq!(said(&set), ["Applied PruneRefused 1 object kept"]);
        set.problems.extend(["a", "b", "c", "d", "e"].map(|name| problem(name, Severity::Error)));
        let spelled = "a:3: is not YAML; b:3: is not YAML; c:3: is not YAML; and 2 more";
        assert_eq!(said(&set), [format!("Applied ManifestBroken {spelled}")]);
    }

    #[test]
    fn a_trouble_keeps_its_time_and_goes_when_it_is_over() {
        let mut list = Vec::new();
        let broken = |words: &str| vec![(APPLIED, Some(("ManifestBroken", words.to_owned())))];
        note_conditions(&mut list, broken("a"), at(1));
        note_conditions(&mut list, broken("b"), at(2));
        assert_eq!((list[0].last_transition_time, list[0].message.as_deref()), (Some(at(1)), Some("b")));
        note_conditions(&mut list, Vec::new(), at(3));
        assert_eq!(list.len(), 1, "nothing is known: nothing changes");
        note_conditions(&mut list, vec![(APPLIED, None)], at(4));
        assert_eq!(list, []);
    }

    #[test]
    fn after_a_start_nothing_is_known_but_what_the_files_say() {
        let (set, nothing, kept) = (
            ObjectSet::default(),
            Outcome::default(),
            Outcome { kept: Some("of an older commit".to_owned()), failed: None },
        );
        let fresh = SyncState { looked: None, ..state(None) };
        assert_eq!(judge(&set, &fresh, &Publishing::Idle, &nothing, false), []);
        assert_eq!(judge(&set, &fresh, &Publishing::Idle, &kept, false), []);
        assert_eq!(judge(&set, &fresh, &Publishing::Idle, &nothing, true), [(APPLIED, None)]);
    }
}
