//! Reads what judgements and digests about the repository are based on.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::judge::{self, Facts};
use crate::announce::digest::Inventory;
use crate::api::status::RepositoryStatus;
use crate::api::{Kind, ObjectKey};
use crate::engine::Home;
use crate::engine::objects::Objects;
use crate::loader::LoadOutcome;
use crate::publish::Publishing;
use crate::sync::{SyncState, Synced};

/// Where the facts come from.
#[derive(Clone)]
pub struct Sources {
    pub home: Arc<dyn Home>,
    pub objects: Arc<Objects>,
    /// The last synced commit.
    pub synced: watch::Receiver<Option<Arc<Synced>>>,
    /// The last commit that was loaded.
    pub loaded: watch::Receiver<Option<Arc<Synced>>>,
    pub load: watch::Receiver<LoadOutcome>,
    pub sync: watch::Receiver<SyncState>,
    pub publishing: watch::Receiver<Publishing>,
}

impl Sources {
    /// The synced commit, as soon as it was tried to load one. Before that, nothing but the state of the sync is known.
    pub fn commit(&self) -> Option<Arc<Synced>> {
        let is_tried = self.is_loaded() || self.load.borrow().failed.is_some();
        self.synced.borrow().clone().filter(|_| is_tried)
    }

    /// Was any commit loaded? Before that, the states of the objects are not known.
    pub fn is_loaded(&self) -> bool {
        self.loaded.borrow().is_some()
    }

    /// Returns when one of the sources has changed; false if one has ended.
    pub async fn changed(&mut self) -> bool {
        let changed = tokio::select! {
            changed = self.loaded.changed() => changed,
            changed = self.sync.changed() => changed,
            changed = self.publishing.changed() => changed,
            changed = self.load.changed() => changed,
        };
        changed.is_ok()
    }

    /// The facts about a commit.
    pub fn observe(&self, synced: &Synced) -> Facts {
        let unreadable = self.home.unreadable();
        let refused = self.home.all_out_of_sync().into_iter().filter_map(|(object, (_, why))| {
            // An object that exists has a status of its own that says so, and a namespace that cannot be read is
            // reported once and not for each of its objects.
            let is_reported = self.objects.has(&object) || unreadable.contains_key(&object.key.namespace);
            (synced.set.declares(&object) && !is_reported).then(|| format!("{object}: {why}"))
        });
        let loaded = self.loaded.borrow().clone();
        Facts {
            refused: refused.collect(),
            broken: judge::broken_files(&synced.set),
            sync: self.sync.borrow().clone(),
            publishing: self.publishing.borrow().clone(),
            load: self.load.borrow().clone(),
            is_loaded: loaded.is_some_and(|loaded| loaded.commit == synced.commit),
            unreadable,
        }
    }

    /// All objects with their status, for a digest of what happened `since`.
    pub fn inventory<'a>(&self, status: &'a RepositoryStatus, since: Timestamp) -> Inventory<'a> {
        let builders = self.objects.builders.all();
        let refreshers = self.objects.refreshers.all();
        Inventory {
            builders: builders
                .map(|object| {
                    (ObjectKey::of(Kind::PackerBuilder, &object), object.status.unwrap_or_default())
                })
                .collect(),
            refreshers: refreshers
                .map(|object| (ObjectKey::of(Kind::AMIRefresher, &object), object.status.unwrap_or_default()))
                .collect(),
            repository: status.conditions.as_deref().unwrap_or_default(),
            since,
        }
    }
}
