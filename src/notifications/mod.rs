//! Notifications: who is notified of which status, and what messages need besides it.
//!
//! ```text
//! status of an object ────── announce ─> stories ──────┐
//! spec.notifier, opsy.yaml ─ audience ─> destinations ─┴─> notify ─> sinks
//! status <─ record ─ what was delivered <──────────────────┘
//! ```
//! `announce` writes the text and `notify` delivers it. This module connects both to the reconcile loop: `kinds` reads
//! an object, `audience` finds its destinations, `commits` and `origin` look up what the text names, `record` writes
//! the status, `sinks` opens a destination.

pub mod audience;
mod commits;
mod kinds;
mod origin;
mod record;
pub mod sinks;

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use crate::announce::{self, Change, Context, Origin, Story, Subject};
use crate::api::status::{RepositoryStatus, Status};
use crate::api::{ObjectKey, annotations};
use crate::engine::Note;
use crate::engine::drive::StatusNotifier;
use crate::engine::objects::Objects;
use crate::git::Handle;
use crate::git::templates::Templates;
use crate::notify::fences::{Addressed, Fences};
use crate::notify::{Changed, Notifier, ObjectUpdate, Open, Pending};
use crate::sync::Synced;
use crate::task;
use commits::Commits;
use kinds::Notified;

/// What notifications are made of.
pub struct Parts {
    pub open: Open,
    /// What each namespace may reach with the agent's credentials.
    pub fences: Fences,
    pub objects: Arc<Objects>,
    /// The agent's own repository, and all template repositories: they have the commits that messages name.
    pub git: Handle,
    pub templates: Templates,
    pub synced: watch::Receiver<Option<Arc<Synced>>>,
    pub now: fn() -> Timestamp,
}

/// The notifications of all objects and of the repository.
pub struct Notifications {
    pub notifier: Notifier,
    /// The repository, as messages name it.
    pub repository: Subject,
    /// Notified when a delivery about the repository has to be recorded in its status.
    pub repository_changed: Arc<Notify>,
    fences: Fences,
    objects: Arc<Objects>,
    commits: Commits,
    synced: watch::Receiver<Option<Arc<Synced>>>,
    now: fn() -> Timestamp,
}

impl Notifications {
    /// Starts with no notifications. Those of objects that are deleted are dropped from then on.
    pub fn start(parts: Parts) -> Arc<Self> {
        let Parts { open, fences, objects, git, templates, synced, now } = parts;
        let repository_changed = Arc::<Notify>::default();
        let (wakeable, wakeup) = (objects.clone(), repository_changed.clone());
        let changed: Changed = Arc::new(move |about: &Subject| match about {
            Subject::Object(object) => wakeable.wake(object),
            Subject::Repository(_) => wakeup.notify_one(),
        });
        let notifications = Arc::new(Self {
            notifier: Notifier::new(open, changed),
            repository: Subject::Repository(git.options().address.short_name()),
            repository_changed,
            fences,
            commits: Commits::new(git, templates, synced.clone()),
            synced,
            now,
            objects: objects.clone(),
        });
        task::detach(
            "forgetting deleted objects",
            drop_deleted(Arc::downgrade(&notifications), objects.board.members()),
        );
        notifications
    }

    /// Looks up the commits that the stories of an object name, so that their text does not change once these are
    /// known.
    pub async fn look_up_commits<K: Notified<S>, S>(&self, name: &ObjectKey, object: &K, status: &S) {
        if self.audience(name, object).is_none_or(|addressed| addressed.to.is_empty()) {
            return;
        }
        let mut commits = object.commits(status, &|image| self.origin(image));
        // Other conditions, which are added to the status later, may name the commit in force.
        commits.extend(self.commit());
        self.look_up(&commits).await;
    }

    /// Looks up commits, unless they are known.
    pub async fn look_up(&self, commits: &BTreeSet<String>) {
        for id in commits {
            self.commits.look_up(id).await;
        }
    }

    /// Calls `make` with what texts need besides the status.
    pub fn with_context<T>(&self, make: impl FnOnce(Context<'_>) -> T) -> T {
        let change = |id: &str| -> Option<Change> { self.commits.get(id) };
        let origin = |image: &str| self.origin(image);
        let commit = self.commit();
        make(Context { now: (self.now)(), commit: commit.as_deref(), change: &change, origin: &origin })
    }

    /// Notifies of the repository's stories, and records in its status what was delivered. Returns false, and changes
    /// nothing, while the destinations are unknown.
    pub fn mark_repository(&self, status: &mut RepositoryStatus, stories: Vec<Story>) -> bool {
        let Some(addressed) = self.repository_audience() else { return false };
        self.mark_stories(&self.repository, addressed, stories, None, status);
        true
    }

    /// Returns what is new in the repository's status, as notes for Events.
    pub fn repository_news(&self, before: &RepositoryStatus, after: &RepositoryStatus) -> Vec<Note> {
        if before.conditions == after.conditions && before.broken == after.broken {
            return Vec::new();
        }
        let subject = &self.repository;
        let stories =
            |status| self.with_context(|context| announce::repository::stories(subject, status, context));
        let (old, new) = (stories(before), stories(after));
        announce::news(&old, &new).into_iter().map(|message| record::note(subject, message)).collect()
    }

    /// Confirms that the repository's status was saved as it was marked: what is due may be sent.
    pub fn confirm_repository(&self) {
        self.notifier.written(&self.repository);
    }

    fn mark_stories<S: Status>(
        &self,
        about: &Subject,
        addressed: Addressed,
        stories: Vec<Story>,
        generation: Option<i64>,
        status: &mut S,
    ) {
        let Addressed { to, refused } = addressed;
        let remembered = status.notifications().clone().unwrap_or_default();
        let conditions = status.conditions().clone().unwrap_or_default();
        let pending = Pending { stories, conditions, now: (self.now)() };
        let mut marked =
            self.notifier.mark(&ObjectUpdate { about, to: &to, remembered: &remembered, pending });
        marked.failure = marked.failure.or(refused);
        record::record(status, marked, generation, (self.now)());
    }

    /// The destinations of the repository. They are also those of objects whose spec has no notifier.
    fn repository_audience(&self) -> Option<Addressed> {
        audience::of_repository(&self.synced.borrow().as_ref()?.set, &self.fences)
    }

    /// The destinations of an object; `None` if they are unknown.
    fn audience<K: Notified<S>, S>(&self, name: &ObjectKey, object: &K) -> Option<Addressed> {
        match object.notifier() {
            Some(notifier) => {
                Some(audience::of_object(notifier, &name.key.namespace, object.region(), &self.fences))
            }
            None => self.repository_audience(),
        }
    }

    fn stories<K: Notified<S>, S>(&self, name: &ObjectKey, object: &K, status: &S) -> Vec<Story> {
        let mut stories = self.with_context(|context| object.stories(name, status, context));
        announce::with_runbook(&mut stories, annotations::value(object.metadata(), annotations::RUNBOOK));
        stories
    }

    fn origin(&self, image: &str) -> Option<Origin> {
        origin::of(&self.objects, image)
    }

    /// The commit in force.
    fn commit(&self) -> Option<String> {
        self.synced.borrow().as_ref().map(|synced| synced.commit.to_string())
    }
}

/// Drops the notifications of deleted objects.
async fn drop_deleted(notifications: Weak<Notifications>, mut members: watch::Receiver<u64>) {
    while members.changed().await.is_ok() {
        let Some(notifications) = notifications.upgrade() else { return };
        let objects = notifications.objects.board.health().into_keys().map(Subject::Object);
        notifications.notifier.keep_only(&objects.chain([notifications.repository.clone()]).collect());
    }
}

impl<K, S> StatusNotifier<K, S> for Notifications
where
    K: Notified<S> + Send + Sync,
    S: Status + Clone + PartialEq + Send + Sync,
{
    fn record(&self, name: &ObjectKey, object: &K, status: &mut S) {
        let Some(addressed) = self.audience(name, object) else { return };
        let mut stories = Vec::new();
        if !addressed.to.is_empty() {
            let repository = self.repository_audience().unwrap_or_default().to;
            let recorded = status.notifications().clone().unwrap_or_default();
            stories = self.stories(name, object, status);
            stories = audience::without_repository_stories(stories, &addressed.to, &repository, &recorded);
        }
        let generation = object.metadata().generation;
        self.mark_stories(&name.into(), addressed, stories, generation, status);
    }

    fn confirm(&self, name: &ObjectKey, object: &K, before: Option<&S>, after: &S) -> Vec<Note> {
        let about = name.into();
        self.notifier.written(&about);
        if before == Some(after) {
            return Vec::new();
        }
        let old = before.map(|before| self.stories(name, object, before)).unwrap_or_default();
        let new = self.stories(name, object, after);
        announce::news(&old, &new).into_iter().map(|message| record::note(&about, message)).collect()
    }

    fn forget(&self, name: &ObjectKey) {
        self.notifier.forget(&name.into());
    }
}
