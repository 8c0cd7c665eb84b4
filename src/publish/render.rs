//! What a commit contains: the status of all objects → status files, `amis.json`, and what the commit message says of
//! each object. Pure.
//!
//! ```text
//! objects, not decoded ─versions─> known: what does the branch have? ─changed objects, decoded─> files ─> Batch
//! ```
//! `manifest::write` knows the format of the files; this module decides which files there are. They contain outcomes:
//! while work on an object is in progress, its file stays as it is. Only what is not known to be in the branch is
//! rendered, so the cost of a batch is that of its changes.

mod files;
mod known;
mod objects;
mod redact;
mod summary;
mod withheld;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use kube::core::object::HasStatus;

use super::Batch;
use crate::api::builder::LaneImage;
use crate::api::conditions::{self, Condition};
use crate::api::{
    AMIRefresher, AMIRefresherStatus, Key, Kind, ObjectKey, ObjectVersion, PackerBuilder, PackerBuilderStatus,
};
use crate::manifest::ObjectSet;
use crate::manifest::setters::{Found, Reference};
use crate::manifest::write::{AmiUpdate, ObjectStatus};
use crate::sync::Synced;
use known::{Changes, Known, Look, State};
use objects::PublishedObjects;
use withheld::Withheld;

/// Returns the status of an object. A batch has these instead of statuses, because those of ten thousand objects need tens
/// of megabytes, and most files are as the branch has them.
pub type ReadStatus<S> = Arc<dyn Fn() -> Option<S> + Send + Sync>;

/// An object that is decoded only if that is necessary.
pub trait Unread<K: HasStatus<Status: Clone + Send + Sync + 'static>> {
    fn key(&self) -> Key;
    /// `None` if equal versions cannot be recognized.
    fn version(&self) -> Option<ObjectVersion>;
    fn read(&self) -> K;
    /// What it returns is always the same status.
    fn status(&self) -> ReadStatus<K::Status> {
        let status = self.read().status().cloned();
        Arc::new(move || status.clone())
    }
}

/// The objects that exist.
pub trait Snapshot {
    type Builder: Unread<PackerBuilder>;
    type Refresher: Unread<AMIRefresher>;
    /// As long as it is the same, so are all objects; `None` if that is not known. It is read first: what is written
    /// meanwhile is rendered now or the next time.
    fn version(&self) -> Option<u64>;
    /// The objects that were written since this version; `None` if that is not known.
    fn changed_since(&self, version: u64) -> Option<BTreeSet<ObjectKey>>;
    fn builders(&self) -> impl IntoIterator<Item = Self::Builder>;
    fn refreshers(&self) -> impl IntoIterator<Item = Self::Refresher>;
    fn builder(&self, key: &Key) -> Option<Self::Builder>;
    fn refresher(&self, key: &Key) -> Option<Self::Refresher>;
    /// All objects of this agent that the engine has, also those that cannot be decoded: their files stay.
    fn owned(&self) -> BTreeSet<ObjectKey>;
}

/// Renders what is not known to be in the branch.
#[derive(Debug, Default)]
pub struct Renderer {
    known: Known,
    objects: PublishedObjects,
    withheld: Withheld,
    /// Whether the last batch contains what builds printed.
    with_errors: Option<bool>,
    rendered: Option<Rendered>,
}

/// What the last batch was rendered from.
#[derive(Debug)]
struct Rendered {
    version: Option<u64>,
    set: Weak<ObjectSet>,
    is_incomplete: bool,
    /// The branch has the batch.
    is_published: bool,
}

impl Renderer {
    /// Returns everything that is to be published and is not known to be in the branch.
    pub fn render(&mut self, snapshot: &impl Snapshot, synced: &Arc<Synced>) -> Batch {
        let version = snapshot.version();
        let publish = synced.set.settings.publish.as_ref();
        let with_errors = publish.and_then(|publish| publish.errors) != Some(false);
        // With another setting, the same status becomes another file.
        if self.with_errors.replace(with_errors) != Some(with_errors) {
            self.forget();
        }
        if let Some(same) = self.rendered.as_ref().filter(|last| self.is_same(last, version, synced)) {
            return Batch { is_incomplete: same.is_incomplete, ..Batch::default() };
        }
        let withheld = &mut self.withheld;
        let (batch, amis) = (Batch::default(), BTreeMap::new());
        let mut rendering = Rendering { batch, amis, withheld, with_errors };
        // As long as what the branch has is known, so are all objects that were not written since.
        let last = self.rendered.as_ref().and_then(|last| last.version);
        let changed = last.and_then(|version| snapshot.changed_since(version));
        let changes = match changed.zip(self.known.pending()) {
            Some((changed, pending)) => {
                let objects = changed.union(pending).cloned().collect();
                rendering.follow(&mut self.known, snapshot, objects)
            }
            None => rendering.look_at_all(&mut self.known, snapshot),
        };
        let existing = objects::Existing { known: &self.known, changes, owned: &|| snapshot.owned() };
        self.objects.update(&existing, synced);
        self.objects.unremoved().for_each(|object| rendering.remove(object));
        if !rendering.amis.is_empty() {
            rendering.batch.files.push(files::amis(rendering.amis));
        }
        let batch = rendering.batch;
        if batch.files.is_empty() {
            self.withheld.published();
        }
        self.rendered = Some(Rendered {
            version,
            set: Arc::downgrade(&synced.set),
            is_incomplete: batch.is_incomplete,
            is_published: batch.files.is_empty(),
        });
        batch
    }

    /// Whether another batch would be as empty as the last one is now that the branch has it.
    fn is_same(&self, last: &Rendered, version: Option<u64>, synced: &Synced) -> bool {
        let is_same_set = std::ptr::eq(last.set.as_ptr(), Arc::as_ptr(&synced.set));
        let is_same_version = version.is_some() && last.version == version;
        last.is_published && is_same_set && is_same_version && !self.objects.waits()
    }

    /// Returns what a setter refers to, by the status of its builder and the refreshers of the last batch.
    pub fn find(&self, reference: &Reference, status: &PackerBuilderStatus) -> Found {
        let images = self.withheld.replace(&reference.builder, status);
        let of_lane = |images: &[LaneImage]| -> Vec<LaneImage> {
            images.iter().filter(|image| reference.is_of_lane(image)).cloned().collect()
        };
        let is_withheld = of_lane(&images) != of_lane(named(status));
        // As for its status file, so that both are in the same commit. An image that failed does not stay until then.
        if !is_withheld && is_in_progress(status.conditions.as_deref()) {
            return Found::Pending;
        }
        match reference.find(Some(&PackerBuilderStatus { images: Some(images), ..status.clone() })) {
            Found::Pending if is_withheld => match reference.find(Some(status)) {
                Found::Value(value) => Found::Withheld(value),
                found => found,
            },
            found => found,
        }
    }

    /// The branch has the files of the last batch.
    pub fn published(&mut self) {
        if let Some(last) = &mut self.rendered {
            last.is_published = true;
        }
        self.known.published();
        self.objects.published();
        self.withheld.published();
    }

    /// It is not known any more what the branch has.
    pub fn forget(&mut self) {
        self.rendered = None;
        self.known.forget();
        self.objects.forget();
        self.withheld.forget();
    }
}

/// A batch while it is put together.
struct Rendering<'a> {
    batch: Batch,
    amis: BTreeMap<Key, AmiUpdate>,
    withheld: &'a mut Withheld,
    with_errors: bool,
}

impl Rendering<'_> {
    /// Looks at all objects. What refreshers withhold decides what builders publish.
    fn look_at_all(&mut self, known: &mut Known, snapshot: &impl Snapshot) -> Changes {
        known.begin();
        for refresher in snapshot.refreshers() {
            self.add_refresher(known, &refresher);
        }
        let withholding: Vec<Key> = self.withheld.refreshers().cloned().collect();
        for key in withholding.into_iter().filter(|key| snapshot.refresher(key).is_none()) {
            self.forget_refresher(snapshot, &ObjectKey { kind: Kind::AMIRefresher, key });
        }
        // Commits describe builders first.
        let of_refreshers = std::mem::take(&mut self.batch.files);
        for builder in snapshot.builders() {
            self.add_builder(known, &builder);
        }
        self.batch.files.extend(of_refreshers);
        known.end()
    }

    /// Looks at some objects, and at the builders that refreshers among them concern: all others are as before.
    fn follow(
        &mut self,
        known: &mut Known,
        snapshot: &impl Snapshot,
        objects: BTreeSet<ObjectKey>,
    ) -> Changes {
        let (mut builders, refreshers): (BTreeSet<ObjectKey>, BTreeSet<ObjectKey>) =
            objects.into_iter().partition(|object| object.kind == Kind::PackerBuilder);
        for object in refreshers {
            match snapshot.refresher(&object.key) {
                Some(refresher) => self.add_refresher(known, &refresher),
                None => {
                    known.remove(&object);
                    self.forget_refresher(snapshot, &object);
                }
            }
        }
        if self.withheld.has_changed() {
            let keys = snapshot.builders().into_iter().map(|builder| builder.key());
            let concerned = keys.filter(|key| self.withheld.concerns(key));
            builders.extend(concerned.map(|key| ObjectKey { kind: Kind::PackerBuilder, key }));
        }
        let of_refreshers = std::mem::take(&mut self.batch.files);
        for object in builders {
            match snapshot.builder(&object.key) {
                Some(builder) => self.add_builder(known, &builder),
                None => known.remove(&object),
            }
        }
        self.batch.files.extend(of_refreshers);
        known.take_changes()
    }

    /// A refresher that cannot be decoded still exists, and withholds what it did.
    fn forget_refresher(&mut self, snapshot: &impl Snapshot, object: &ObjectKey) {
        if !snapshot.owned().contains(object) {
            self.withheld.remove(&object.key);
        }
    }

    fn add_builder(&mut self, known: &mut Known, unread: &impl Unread<PackerBuilder>) {
        let object = ObjectKey { kind: Kind::PackerBuilder, key: unread.key() };
        let version = unread.version();
        let is_concerned = self.withheld.concerns(&object.key);
        if self.is_known(known.look(&object, version.as_ref())) && !is_concerned {
            return;
        }
        let read = unread.status();
        let Some(status) = read() else {
            return known.record(object, version, State::Nothing);
        };
        let images = self.withheld.replace(&object.key, &status);
        if is_in_progress(status.conditions.as_deref()) {
            self.batch.is_incomplete = true;
            let is_withheld = images != named(&status);
            // A build may take hours: until it ends, the file names neither an image that failed nor an earlier one that
            // does not exist any more.
            if is_concerned || is_withheld {
                self.amis.insert(object.key.clone(), AmiUpdate::Images(images));
            }
            let state = if is_withheld { State::Unknown } else { State::InProgress };
            return known.record(object, version, state);
        }
        let digest = files::digest(&images);
        if !known.has_images(&object, digest) {
            self.amis.insert(object.key.clone(), AmiUpdate::Images(images));
        }
        let name = version.as_ref().map(|version| format!("{version}/{}", self.with_errors));
        let with_errors = self.with_errors;
        let published = move |mut status: PackerBuilderStatus| {
            if !with_errors {
                redact::remove_errors(&mut status);
            }
            ObjectStatus::PackerBuilder(Box::new(status))
        };
        let (now, later) = (published(status), move || read().map(published));
        self.batch.files.push(files::status(&object, name, &now, later));
        known.record(object, version, State::Rendered { images: Some(digest) });
    }

    fn add_refresher(&mut self, known: &mut Known, unread: &impl Unread<AMIRefresher>) {
        let object = ObjectKey { kind: Kind::AMIRefresher, key: unread.key() };
        let version = unread.version();
        if self.is_known(known.look(&object, version.as_ref())) {
            return;
        }
        let refresher = unread.read();
        self.withheld.record(&object.key, &refresher);
        let state = match refresher.status {
            Some(status) if is_in_progress(status.conditions.as_deref()) => {
                self.batch.is_incomplete = true;
                State::InProgress
            }
            Some(status) if has_outcome(&status) => {
                let name = version.as_ref().map(ToString::to_string);
                let published = |status| ObjectStatus::AMIRefresher(Box::new(status));
                let read = unread.status();
                let (now, later) = (published(status), move || read().map(published));
                self.batch.files.push(files::status(&object, name, &now, later));
                State::Rendered { images: None }
            }
            _ => State::Nothing,
        };
        known.record(object, version, state);
    }

    /// Returns whether an object need not be decoded.
    fn is_known(&mut self, look: Look) -> bool {
        self.batch.is_incomplete |= look == Look::InProgress;
        look != Look::Changed
    }

    fn remove(&mut self, object: &ObjectKey) {
        if object.kind == Kind::PackerBuilder {
            self.amis.insert(object.key.clone(), AmiUpdate::Removed);
        }
        self.batch.files.push(files::removed(object));
    }
}

/// The images that the status of a builder names.
fn named(status: &PackerBuilderStatus) -> &[LaneImage] {
    status.images.as_deref().unwrap_or_default()
}

/// Is work on the object in progress? The batch then says that more is to come.
fn is_in_progress(conditions: Option<&[Condition]>) -> bool {
    conditions::is_true(conditions.unwrap_or_default(), conditions::RECONCILING)
}

/// A refresher that never had a target waits for its first image: there is nothing to publish yet, unless it is
/// stalled.
fn has_outcome(status: &AMIRefresherStatus) -> bool {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    status.target_ami.is_some() || conditions::is_true(conditions, conditions::STALLED)
}

#[cfg(test)]
mod tests;
