//! Merges the packs that fetches add and the loose objects of the agent's own commits, so that files, open files and the
//! cost of a commit stay bounded. The network thread merges after a fetch or a commit:
//!
//! 1. `merge` writes one new pack, and makes sure that it is complete and on disk.
//! 2. While the reading thread has no job, `Merged::remove_sources` removes the files that the new pack replaces. Both
//!    threads then open the clone again, because libgit2 does not notice that a pack was removed.
//!
//! A process that is killed leaves either files that `packs::clean` removes, or objects that are in two packs, which a
//! later merge removes.

mod packs;
mod plan;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use git2::{Oid, Repository};

pub(super) use packs::clean;

/// Why a merge failed. The clone is unchanged.
#[derive(Debug, thiserror::Error)]
pub(super) enum MergeError {
    #[error("{0}")]
    Git(#[from] git2::Error),
    #[error("{0}")]
    Files(#[from] io::Error),
    #[error("the new pack is incomplete")]
    Incomplete,
}

/// A new pack, and the files with the same objects.
#[derive(Debug)]
pub(super) struct Merged {
    objects: PathBuf,
    packs: Vec<String>,
    loose: Vec<Oid>,
}

/// Writes a new pack with the objects of other packs and of loose files, if there are too many.
pub(super) fn merge(clone: &Path) -> Result<Option<Merged>, MergeError> {
    let objects = clone.join("objects");
    let due = plan::due(packs::list(&objects)?);
    if due.is_empty() && packs::estimate_loose(&objects)? < plan::LOOSE_LIMIT {
        return Ok(None);
    }
    let loose = packs::loose(&objects)?;
    let mut ids: BTreeSet<Oid> = loose.iter().copied().collect();
    for pack in &due {
        ids.extend(packs::ids(&objects, &pack.name)?);
    }
    let written = write(clone, &ids)?;
    let folder = objects.join("pack");
    let complete: BTreeSet<Oid> = packs::ids(&objects, &written)?.into_iter().collect();
    if !ids.is_subset(&complete) {
        return Err(MergeError::Incomplete);
    }
    for file in ["pack", "idx"].map(|extension| folder.join(format!("{written}.{extension}"))) {
        File::open(file)?.sync_all()?;
    }
    File::open(&folder)?.sync_all()?;
    let packs = due.into_iter().map(|pack| pack.name).filter(|name| *name != written).collect();
    Ok(Some(Merged { objects, packs, loose }))
}

/// Writes a pack and returns its name. The clone is opened only for this, so that its packs are closed afterwards.
fn write(clone: &Path, ids: &BTreeSet<Oid>) -> Result<String, MergeError> {
    let repo = Repository::open_bare(clone)?;
    let mut builder = repo.packbuilder()?;
    for id in ids {
        builder.insert_object(*id, None)?;
    }
    builder.write(&clone.join("objects/pack"), 0)?;
    let name = builder.name()?.ok_or(MergeError::Incomplete)?;
    Ok(format!("pack-{name}"))
}

impl Merged {
    /// Removes the files that the new pack replaces. No other thread may read from the clone at the same time.
    pub fn remove_sources(&self) -> io::Result<()> {
        for pack in &self.packs {
            packs::remove(&self.objects, pack)?;
        }
        self.loose.iter().try_for_each(|id| fs::remove_file(packs::loose_file(&self.objects, *id)))
    }

    /// Returns the number of packs and of loose objects that were merged.
    pub fn counts(&self) -> (usize, usize) {
        (self.packs.len(), self.loose.len())
    }
}

#[cfg(test)]
mod tests;
