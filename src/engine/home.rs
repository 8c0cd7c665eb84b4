//! The contract for objects: where they and their status are stored, where their Secrets are read, where Events are
//! published, and where the agent saves its own state. Both engines implement it.
//!
//! `Home` contains the three smaller traits, so one `Arc<dyn Home>` is enough for the agent and for `drive`.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::BoxFuture;

use super::error::EngineError;
use super::pass::Note;
use crate::api::{CommitId, ObjectKey, Owner};
use crate::manifest::Documents;

/// Where objects and their status are stored.
pub trait Home: SecretReader + EventRecorder + AgentMemory {
    /// Waits until the existing objects are listed. Before that, neither `owned` nor `load` can be relied on.
    fn ready(&self) -> BoxFuture<'_, Result<(), EngineError>>;
    /// All objects of this owner that exist, with or without a manifest, and the file of the manifest that was applied
    /// last, if it is recorded. Only these may be pruned.
    fn owned(&self, owner: &Owner) -> BTreeMap<ObjectKey, Option<String>>;
    /// Compares these objects with documents.
    fn compare(&self, owner: &Owner, documents: &Documents) -> Owned {
        let mut owned = self.owned(owner);
        let count = owned.len();
        owned.retain(|object, _| documents.get(object).is_none());
        Owned { count, undeclared: owned }
    }
    /// Makes the documents of a commit the desired state and applies them. A document that cannot be applied now is
    /// retried by the home; an error means that the whole commit was not loaded.
    fn load(&self, commit: Load) -> BoxFuture<'_, Result<(), EngineError>>;
    /// Reconciles objects of the loaded commit, if they may be reconciled: their documents are the same as before, but
    /// something else differs. One that is being applied is reconciled after that in any case.
    fn wake(&self, objects: &Wakes);
    /// Writes the whole status of an object, unless the object has changed since it was observed.
    fn write_status(&self, update: StatusUpdate) -> BoxFuture<'_, Result<(), EngineError>>;
    /// Ends the agent's claim on a deleted object, none of whose runs is live.
    fn release<'a>(&'a self, object: &'a ObjectKey) -> BoxFuture<'a, Result<(), EngineError>>;
    /// Why the object is not in sync with its document, if it is not: reason and message of `Applied=False`.
    fn out_of_sync(&self, object: &ObjectKey) -> Option<(&'static str, String)>;
    /// All objects that are not in sync with their document, as `out_of_sync` says of each.
    fn all_out_of_sync(&self) -> BTreeMap<ObjectKey, (&'static str, String)>;
    /// Whether the object must not be reconciled, because what is known of it is out of date or is not the desired
    /// state.
    fn is_frozen(&self, _object: &ObjectKey) -> bool {
        false
    }
    /// Whether this generation of the object is what its document declares. True for an object without a document.
    fn is_in_sync(&self, _object: &ObjectKey, _generation: Option<i64>) -> bool {
        true
    }
    /// Namespaces whose objects cannot be read, and why. Their objects are not reconciled; all others are.
    fn unreadable(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
    /// Ends when objects that could not be read during the last load are readable again. The commit must then be
    /// loaded again.
    fn readable_again(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// Reads the Secrets that notifiers name.
pub trait SecretReader: Send + Sync {
    /// Keys and values of a Secret, read from its source each time. The message of an error about a Secret that does
    /// not exist (`NotFound`) or cannot be read (`Denied`) states the remedy.
    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, EngineError>>;
}

/// Publishes Events.
pub trait EventRecorder: Send + Sync {
    /// Publishes a note as an Event of the object. Returns at once: a reconcile never waits for it.
    fn publish_event(&self, object: &ObjectKey, note: &Note);
    /// Publishes a note about the repository as an Event of the agent itself: one, however many objects it concerns.
    fn publish_agent_event(&self, note: Note) -> BoxFuture<'_, ()>;
}

/// What the agent itself saves, so that it survives a restart.
pub trait AgentMemory: Send + Sync {
    /// The state that was saved last.
    fn memory(&self) -> BoxFuture<'_, Result<Option<String>, EngineError>>;
    /// Saves the agent's state: a few kilobytes, written seldom.
    fn save(&self, memory: String) -> BoxFuture<'_, Result<(), EngineError>>;
    /// The commit that a person accepted by `opsy accept`, if any.
    fn accepted(&self) -> BoxFuture<'_, Result<Option<CommitId>, EngineError>>;
    /// Removes that request, unless it names another commit by now.
    fn remove_accepted(&self, commit: CommitId) -> BoxFuture<'_, Result<(), EngineError>>;
    /// Records the owner that the agent works as, so that it changes only when a person changes it.
    fn record_owner<'a>(&'a self, owner: &'a Owner) -> BoxFuture<'a, Result<(), EngineError>>;
}

/// The objects of an owner that exist, compared with the documents of a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    /// The number of all of them.
    pub count: usize,
    /// Those without a document, with the file of the manifest that was applied last, if it is recorded.
    pub undeclared: BTreeMap<ObjectKey, Option<String>>,
}

/// A commit to load.
pub struct Load {
    /// The desired state.
    pub documents: Documents,
    /// The owner of these objects.
    pub owner: Owner,
    /// Objects to delete, as allowed by the prune guard.
    pub remove: Vec<ObjectKey>,
    /// Objects without a manifest that are retained.
    pub retained: Vec<ObjectKey>,
    /// Returns the published status of an object, for one that has no status.
    pub seed: Seed,
    /// Objects to reconcile although their document is the same as before.
    pub wake: Wakes,
}

/// The objects whose inputs a commit changed, besides those whose document is new or differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wakes {
    /// Every object: the settings have changed, or the difference to the loaded commit is unknown.
    All,
    Only(BTreeSet<ObjectKey>),
}

impl Wakes {
    /// These objects and others.
    #[must_use]
    pub fn with(self, others: BTreeSet<ObjectKey>) -> Self {
        match self {
            Self::All => Self::All,
            Self::Only(objects) => Self::Only(objects.into_iter().chain(others).collect()),
        }
    }
}

/// Returns the published status of an object, if there is one.
pub type Seed = Box<dyn Fn(&ObjectKey) -> Option<serde_json::Value> + Send + Sync>;

/// A status to write: all that `drive` knows about it.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusUpdate {
    pub object: ObjectKey,
    /// The resourceVersion that the reconcile observed: a stale reconcile gets `Class::Conflict`.
    pub observed_version: Option<String>,
    pub status: serde_json::Value,
}
