//! Loads the synced commit into the engine: its documents become the desired state. Retries until the engine has it.
//!
//! ```text
//! sync ─commit─> identity: is its owner confirmed? ─> prune, retained (pure): what is removed, what stays and why
//!                                                       └─> engine: Home::load ─> loaded commit ─> publish, repository
//! ```

mod identity;
mod retained;
mod wakes;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::api::lock::lock;
use crate::api::{CommitId, Key, Kind, ObjectKey, Owner, backoff};
use crate::engine::objects::Objects;
use crate::engine::{Home, Load, Owned, Seed, Wakes};
use crate::manifest::{KnownFiles, ObjectSet, Severity};
use crate::publish::seeds::Seeds;
use crate::sync::{Difference, Reread, Synced, prune};
use crate::telemetry::health::{Health, Stage};
use crate::wait;
pub use identity::Identity;
use retained::{reasons, retained, undeclared, unread_files};
use wakes::Concern;

/// First and longest wait before a failed load is retried. A full disk or an unavailable API server may last for
/// minutes, and a try costs little.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// The problems of the last load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadOutcome {
    /// Why nothing was pruned, if something should have been.
    pub prune_refused: Option<String>,
    /// Why the commit was not loaded at all.
    pub failed: Option<String>,
}

/// The result of loading a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// The engine has it, or no commit is synced yet.
    Done,
    /// Files that declared objects before the start must be read as manifests: the commit has to be read again first.
    ReadAgain,
}

/// What a loader is made of.
pub struct Parts {
    pub objects: Arc<Objects>,
    pub home: Arc<dyn Home>,
    /// The owner if `opsy.yaml` names none.
    pub owner: Owner,
    pub identity: Arc<Identity>,
    pub health: Arc<Health>,
    pub synced: watch::Receiver<Option<Arc<Synced>>>,
    /// Files that declared objects, for the manifest reader.
    pub known_files: KnownFiles,
    pub reread: Reread,
    pub affected: Affected,
}

/// Returns the builders whose template inputs differ at a commit; `None` if they cannot be determined.
pub type Affected =
    Arc<dyn Fn(Difference, CommitId) -> BoxFuture<'static, Option<BTreeSet<Key>>> + Send + Sync>;

/// Loads commits.
pub struct Loader {
    parts: Parts,
    /// Files that were passed to the manifest reader.
    passed: Mutex<BTreeSet<String>>,
    /// Objects that existed without a document when the last commit was loaded with all of its documents.
    without_document: Mutex<BTreeSet<ObjectKey>>,
    loaded: watch::Sender<Option<Arc<Synced>>>,
    outcome: watch::Sender<LoadOutcome>,
}

impl Loader {
    pub fn new(parts: Parts) -> Self {
        let (loaded, outcome) = (watch::Sender::new(None), watch::Sender::default());
        Self { parts, passed: Mutex::default(), without_document: Mutex::default(), loaded, outcome }
    }

    /// The commit whose objects the engine has.
    pub fn loaded(&self) -> watch::Receiver<Option<Arc<Synced>>> {
        self.loaded.subscribe()
    }

    pub fn outcome(&self) -> watch::Receiver<LoadOutcome> {
        self.outcome.subscribe()
    }

    /// Loads the synced commit. Returns the number of consecutive failures, of which there were `failures` before.
    pub async fn retry(&self, failures: u32) -> u32 {
        let failed = self.load(failures > 0).await.err();
        self.outcome.send_modify(|outcome| outcome.failed = failed.as_ref().map(ToString::to_string));
        let Some(error) = failed else { return 0 };
        tracing::error!(%error, "the commit cannot be loaded: trying again");
        failures + 1
    }

    /// Returns when the engine can read objects again that it could not read. The commit is then to be loaded again: it
    /// may not declare some of them any more.
    pub async fn readable_again(&self) {
        self.parts.home.readable_again().await;
    }

    /// Loads the synced commit. Its problems are logged once, not with every retry.
    pub async fn load(&self, is_retry: bool) -> anyhow::Result<Loaded> {
        let Parts { objects, home, health, reread, .. } = &self.parts;
        let Some(synced) = self.parts.synced.borrow().clone() else { return Ok(Loaded::Done) };
        if let Some(changed) = self.with_same_set(&synced) {
            // The engine has these documents. Whatever it could not apply it retries by itself.
            home.wake(&self.affected(&synced, changed, BTreeSet::new()).await);
            self.loaded.send_replace(Some(synced));
            return Ok(Loaded::Done);
        }
        home.ready().await?;
        let owner = self.confirm_owner(&synced).await?;
        let Owned { count, undeclared: existing } = home.compare(&owner, &synced.set.documents);
        if self.pass_on(unread_files(&existing, &synced.set)) {
            reread.request();
            return Ok(Loaded::ReadAgain);
        }
        *lock(&self.without_document) = existing.keys().cloned().collect();
        let pruning = prune::judge(count, existing.keys().cloned().collect(), &synced.set);
        let stay = retained(&existing, &pruning, &synced.set);
        let mut concerned = objects.retain(reasons(&stay, &pruning, &synced.set));
        let why = |(object, file): (&ObjectKey, &Option<String>)| {
            (object.clone(), undeclared(object, file.as_deref(), &synced.set))
        };
        concerned.extend(objects.set_undeclared(stay.iter().map(why).collect()));
        self.outcome.send_modify(|outcome| outcome.prune_refused = pruning.refused.clone());
        if !is_retry {
            log_problems(&synced.set, pruning.refused.as_deref());
        }
        objects.withhold(synced.set.settings.notifier_secrets());
        let commit = Load {
            documents: synced.set.documents.clone(),
            owner,
            remove: pruning.remove,
            retained: stay.into_keys().collect(),
            seed: seed(&synced),
            wake: self.wakes(&synced, concerned).await,
        };
        home.load(commit).await?;
        self.loaded.send_replace(Some(synced));
        health.enter(Stage::Working);
        Ok(Loaded::Done)
    }

    /// What differs for templates, if the commit has the same documents, settings and problems as the loaded one, which
    /// is another.
    fn with_same_set(&self, synced: &Synced) -> Option<Difference> {
        let loaded = self.loaded.borrow().clone().filter(|_| self.outcome.borrow().failed.is_none())?;
        let is_same = loaded.commit != synced.commit && Arc::ptr_eq(&loaded.set, &synced.set);
        if !is_same {
            return None;
        }
        // An object that was restored since then, or is gone, is a reason to decide again what is pruned.
        let existing = self.parts.home.compare(&synced.owner(&self.parts.owner), &synced.set.documents);
        let is_same = lock(&self.without_document).iter().eq(existing.undeclared.keys());
        synced.difference.clone().filter(|difference| is_same && difference.from == loaded.commit)
    }

    /// The objects that a commit concerns although their document is the same: those that are `concerned` for another
    /// reason, and those whose templates, settings or neighbors differ.
    async fn wakes(&self, synced: &Synced, mut concerned: BTreeSet<ObjectKey>) -> Wakes {
        // After a failed load it is not known which objects were woken.
        let loaded = self.loaded.borrow().clone().filter(|_| self.outcome.borrow().failed.is_none());
        let difference = match wakes::concern(loaded.as_deref(), synced) {
            Concern::Templates(difference) => difference.clone(),
            Concern::All(why) => {
                tracing::debug!(why, "the commit concerns all objects");
                return Wakes::All;
            }
        };
        concerned.extend(wakes::refreshers(loaded.as_deref(), synced));
        self.affected(synced, difference, concerned).await
    }

    /// Adds the builders whose templates differ.
    async fn affected(
        &self,
        synced: &Synced,
        difference: Difference,
        mut concerned: BTreeSet<ObjectKey>,
    ) -> Wakes {
        let builders = (self.parts.affected)(difference, synced.commit.clone()).await;
        let Some(builders) = builders else { return Wakes::All };
        let builder = |key| ObjectKey { kind: Kind::PackerBuilder, key };
        concerned.extend(builders.into_iter().map(builder));
        Wakes::Only(concerned)
    }

    /// The owner of a commit, recorded so that only a person changes it. The manifest reader has refused a commit whose
    /// owner is not confirmed.
    async fn confirm_owner(&self, synced: &Synced) -> anyhow::Result<Owner> {
        let Parts { home, identity, owner, .. } = &self.parts;
        let owner = synced.owner(owner);
        if identity.is_new(&owner) {
            home.record_owner(&owner).await?;
            identity.record(owner.clone());
        }
        Ok(owner)
    }

    /// Passes files that declared objects to the manifest reader. Returns whether any of them is new to it.
    fn pass_on(&self, files: BTreeSet<String>) -> bool {
        let mut passed = lock(&self.passed);
        let new: Vec<String> = files.difference(&passed).cloned().collect();
        passed.extend(new.iter().cloned());
        self.parts.known_files.learn(new.iter().cloned());
        !new.is_empty()
    }
}

/// The published status of objects.
fn seed(synced: &Synced) -> Seed {
    let seeds = Seeds::new(synced.status_files.clone());
    Box::new(move |object| seeds.get(object))
}

/// Waits before the retry of a failed load; never returns if nothing has failed.
pub async fn pause_after(failures: u32) {
    let (first, longest) = RETRY;
    match failures {
        0 => futures::future::pending().await,
        _ => wait::pause(backoff::jittered(backoff::doubled(first, longest, failures), wait::random())).await,
    }
}

/// Logs what has to be fixed in the repository, at error level: only errors are printed on a terminal.
fn log_problems(set: &ObjectSet, prune_refused: Option<&str>) {
    for problem in &set.problems {
        match problem.severity {
            Severity::Error => tracing::error!("{problem}"),
            Severity::Note => tracing::warn!("{problem}"),
            Severity::Foreign => tracing::debug!("{problem}"),
        }
    }
    if let Some(why) = prune_refused {
        tracing::error!("nothing is pruned: {why}");
    }
}
