//! The repository as an object of its own: its conditions, the notifications about it, and the daily digest.
//!
//! ```text
//! sync, loader, publisher, engine ─observe─> facts ─judge (pure)─> conditions ─report (pure)─> status ─> memory
//!                                   conditions, digest (pure) ─> stories ─> notifications: mark ──┘      (engine)
//! ```
//! Like a reconciler, it saves what was marked before anything is sent. It acts on nothing. What concerns the repository
//! is reported here, once, and in the status of no object.

mod digest;
mod judge;
mod memory;
mod observe;
mod report;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::announce::{self, Message, Story};
use crate::api::status::{LastDigest, RepositoryStatus};
use crate::engine::EngineError;
use crate::notifications::Notifications;
use crate::sync::Synced;
use crate::wait;
pub use memory::load as load_status;
pub use observe::Sources;

/// For what notifies of no change: an object that is refused, the time of a digest, an engine that can save again.
const INTERVAL: Duration = Duration::from_secs(60);

/// The repository.
pub struct Repository {
    sources: Sources,
    notifications: Arc<Notifications>,
    now: fn() -> Timestamp,
    state: Mutex<State>,
}

/// What is kept from one reconcile to the next.
#[derive(Default)]
struct State {
    /// The status as it was saved last; `None` before it was read.
    saved: Option<RepositoryStatus>,
    digest: Option<PreparedDigest>,
}

/// A digest whose message was made. It does not change, so that all destinations get the same.
struct PreparedDigest {
    message: Message,
    digest: LastDigest,
}

impl Repository {
    pub fn new(sources: Sources, notifications: Arc<Notifications>, now: fn() -> Timestamp) -> Arc<Self> {
        Arc::new(Self { sources, notifications, now, state: Mutex::default() })
    }

    /// Reconciles whenever a source changes, a delivery has to be recorded, or the interval is over.
    pub async fn run(self: Arc<Self>) {
        let mut sources = self.sources.clone();
        loop {
            self.reconcile().await;
            tokio::select! {
                goes_on = sources.changed() => if !goes_on { return },
                () = self.notifications.repository_changed.notified() => {}
                () = wait::pause(INTERVAL) => {}
            }
        }
    }

    /// Brings the status up to date, saves it, and then lets the notifications be sent.
    pub async fn reconcile(&self) {
        let mut state = self.state.lock().await;
        let result = match self.sources.commit() {
            Some(synced) => self.reconcile_commit(&mut state, &synced).await,
            None => self.reconcile_sync(&mut state).await,
        };
        if let Err(error) = result {
            tracing::warn!(%error, "the status of the repository is not saved: its notifications wait");
        }
    }

    async fn reconcile_commit(&self, state: &mut State, synced: &Synced) -> Result<(), EngineError> {
        let saved = self.saved(state).await?;
        let mut commits = announce::repository::commits(&saved);
        commits.insert(synced.commit.to_string());
        self.notifications.look_up(&commits).await;
        let mut status = saved.clone();
        self.update(synced, &mut status, &mut state.digest);
        self.save(state, &saved, status).await?;
        self.notifications.confirm_repository();
        Ok(())
    }

    /// Before any commit is loaded, only the condition `Synced` is known. It is saved for `opsy status`. Nothing is
    /// sent: the destinations are in `opsy.yaml`, which is not known.
    async fn reconcile_sync(&self, state: &mut State) -> Result<(), EngineError> {
        let synced = judge::synced(&self.sources.sync.borrow());
        let Some(failed @ (_, Some(_))) = synced else { return Ok(()) };
        let saved = self.saved(state).await?;
        let mut status = saved.clone();
        report::record_conditions(status.conditions.get_or_insert_default(), vec![failed], (self.now)());
        self.save(state, &saved, status).await
    }

    /// Saves the status, and then publishes what is new in it as Events.
    async fn save(
        &self,
        state: &mut State,
        before: &RepositoryStatus,
        status: RepositoryStatus,
    ) -> Result<(), EngineError> {
        memory::save(&*self.sources.home, before, &status).await?;
        for note in self.notifications.repository_news(before, &status) {
            self.sources.home.publish_agent_event(note).await;
        }
        state.saved = Some(status);
        Ok(())
    }

    /// The saved status; the engine is asked once.
    async fn saved(&self, state: &mut State) -> Result<RepositoryStatus, EngineError> {
        if state.saved.is_none() {
            state.saved = Some(memory::load(&*self.sources.home).await?);
        }
        Ok(state.saved.clone().unwrap_or_default())
    }

    /// Observes, judges and reports. Marks in the status what is to be sent.
    fn update(&self, synced: &Synced, status: &mut RepositoryStatus, prepared: &mut Option<PreparedDigest>) {
        let facts = self.sources.observe(synced);
        report::record(status, synced.commit.as_str(), &facts, (self.now)());
        report::remember_secrets(&mut status.notifier_secrets, &self.sources.objects.withheld());
        let digest = self.digest(synced, status, prepared);
        let subject = &self.notifications.repository;
        let mut stories = self
            .notifications
            .with_context(|context| announce::repository::stories(subject, status, context));
        stories.extend(digest);
        if !self.notifications.mark_repository(status, stories) {
            return;
        }
        if let Some(prepared) = prepared
            && digest::is_delivered(status, &prepared.digest.day)
        {
            status.digest = Some(prepared.digest.clone());
        }
    }

    /// The story of the digest that is due, if any.
    fn digest(
        &self,
        synced: &Synced,
        status: &mut RepositoryStatus,
        prepared: &mut Option<PreparedDigest>,
    ) -> Option<Story> {
        let daily = synced.set.settings.digest.as_ref().and_then(|digest| digest.daily().ok());
        let Some(daily) = daily else {
            (status.digest, *prepared) = (None, None);
            return None;
        };
        if !self.sources.is_loaded() {
            return None;
        }
        let due = digest::due(&daily, status, (self.now)())?;
        let ready = prepared.take().filter(|prepared| prepared.digest.day == due.digest.day);
        let ready = ready.unwrap_or_else(|| PreparedDigest {
            message: self.digest_message(status, due.digest.since),
            digest: due.digest,
        });
        let story = announce::repository::digest(&ready.digest.day, ready.message.clone(), due.is_begun);
        *prepared = Some(ready);
        Some(story)
    }

    fn digest_message(&self, status: &RepositoryStatus, since: Timestamp) -> Message {
        let inventory = self.sources.inventory(status, since);
        let subject = &self.notifications.repository;
        self.notifications.with_context(|context| announce::digest::message_of(subject, &inventory, context))
    }
}
