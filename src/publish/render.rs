//! What a commit contains: the status of all objects → status files, `amis.json`, and what the commit message says of
//! each object. Pure.
//!
//! `manifest::write` knows the format of the files; this module decides which files there are. They contain outcomes:
//! while work on an object is in progress, its file stays as it is.

mod objects;
mod redact;
mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt;

use super::{Batch, Rendered};
use crate::api::conditions::{self, Condition};
use crate::api::{AMIRefresher, AMIRefresherStatus, Key, Kind, ObjectKey, PackerBuilder};
use crate::git::commit::Edit;
use crate::manifest::write::{self, AMIS_FILE, AmiUpdate, ObjectStatus};
use crate::sync::Synced;
pub use objects::PublishedObjects;

/// The objects that exist. They are read one after the other: decoded, all of them together take much memory.
pub struct Snapshot<'a> {
    pub builders: Box<dyn Iterator<Item = PackerBuilder> + 'a>,
    pub refreshers: Box<dyn Iterator<Item = AMIRefresher> + 'a>,
    /// Further objects of this agent that the engine has, for example because they cannot be decoded: their files stay.
    pub known: Vec<ObjectKey>,
}

/// Returns everything that is to be published of the objects, and updates what is `published`.
pub fn render(snapshot: Snapshot<'_>, synced: &Synced, published: &mut PublishedObjects) -> Batch {
    let publish = synced.set.settings.publish.as_ref();
    let with_errors = publish.and_then(|publish| publish.errors) != Some(false);
    let mut rendering = Rendering { existing: snapshot.known.into_iter().collect(), ..Rendering::default() };
    snapshot.builders.for_each(|builder| rendering.add_builder(builder, with_errors));
    snapshot.refreshers.for_each(|refresher| rendering.add_refresher(refresher));
    published.update(&rendering.existing, synced);
    published.pruned().iter().for_each(|object| rendering.remove(object));
    if !rendering.amis.is_empty() {
        rendering.batch.files.push(amis_file(rendering.amis));
    }
    rendering.batch
}

/// A batch while it is put together.
#[derive(Default)]
struct Rendering {
    batch: Batch,
    amis: BTreeMap<Key, AmiUpdate>,
    existing: BTreeSet<ObjectKey>,
}

impl Rendering {
    fn add_builder(&mut self, builder: PackerBuilder, with_errors: bool) {
        let object = ObjectKey::of(Kind::PackerBuilder, &builder);
        // The setting is part of the version: with another one, the same status becomes another file.
        let version = version(&builder).map(|version| format!("{version}/{with_errors}"));
        self.existing.insert(object.clone());
        let Some(mut status) = builder.status else { return };
        if is_in_progress(status.conditions.as_deref()) {
            self.batch.is_incomplete = true;
            return;
        }
        if !with_errors {
            redact::remove_errors(&mut status);
        }
        self.amis.insert(object.key.clone(), AmiUpdate::Images(status.images.clone().unwrap_or_default()));
        self.batch.files.push(status_file(&object, version, ObjectStatus::PackerBuilder(Box::new(status))));
    }

    fn add_refresher(&mut self, refresher: AMIRefresher) {
        let object = ObjectKey::of(Kind::AMIRefresher, &refresher);
        let version = version(&refresher);
        self.existing.insert(object.clone());
        let Some(status) = refresher.status else { return };
        if is_in_progress(status.conditions.as_deref()) {
            self.batch.is_incomplete = true;
        } else if has_outcome(&status) {
            let status = ObjectStatus::AMIRefresher(Box::new(status));
            self.batch.files.push(status_file(&object, version, status));
        }
    }

    fn remove(&mut self, object: &ObjectKey) {
        if object.kind == Kind::PackerBuilder {
            self.amis.insert(object.key.clone(), AmiUpdate::Removed);
        }
        self.batch.files.push(removed_file(object));
    }
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

/// Identifies a status: creation time and resourceVersion change with every object and every write.
fn version<K: ResourceExt>(object: &K) -> Option<String> {
    let created = object.creation_timestamp()?.0;
    Some(format!("{created}/{}", object.resource_version()?))
}

fn status_file(object: &ObjectKey, version: Option<String>, status: ObjectStatus) -> Rendered {
    let (summary, trailers) = (Some(summary::line(object, &status)), summary::trailers(&status));
    let key = object.key.clone();
    let write = move |previous: Option<&[u8]>| {
        let previous = previous.map(String::from_utf8_lossy);
        let text =
            write::status_file(&key, &status, previous.as_deref()).map_err(|error| error.to_string())?;
        Ok(text.into_bytes())
    };
    Rendered {
        path: write::status_path(object),
        edit: Edit::Renew(Arc::new(write)),
        resource: Some(object.to_string()),
        summary,
        trailers,
        version,
    }
}

fn removed_file(object: &ObjectKey) -> Rendered {
    Rendered {
        path: write::status_path(object),
        edit: Edit::Remove,
        resource: Some(object.to_string()),
        summary: Some(format!("{} was removed", object.key.name)),
        trailers: Vec::new(),
        version: None,
    }
}

fn amis_file(amis: BTreeMap<Key, AmiUpdate>) -> Rendered {
    let merge = move |previous: Option<&[u8]>| {
        write::amis_json(previous, &amis)
            .map_err(|error| format!("{AMIS_FILE}: {error}; correct the file or delete it"))
    };
    Rendered {
        path: AMIS_FILE.to_owned(),
        edit: Edit::Merge(Arc::new(merge)),
        resource: None,
        summary: None,
        trailers: Vec::new(),
        version: None,
    }
}

#[cfg(test)]
mod tests;
