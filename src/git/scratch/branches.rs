//! The branches of a person's repository: which of them a name means, which is the default one, and their tips in the
//! scratch repository.

use std::fs;
use std::path::Path;

use git2::{ErrorCode, Oid, Repository};

use super::{BRANCH, Named, Scratch, ScratchError};
use crate::api::CommitId;
use crate::git::ref_names::{DEFAULT, HEADS, TRACKING, branch_ref, points_to, refspec, tracking_ref};

impl Scratch {
    /// The default branch of the remote as of the last fetch. Without a remote, and before the first commit, the current
    /// branch.
    pub fn default_branch(&self) -> Option<String> {
        let is_default = || !self.has_remote() || self.is_unborn();
        let current = || points_to(&self.origin, "HEAD", HEADS).filter(|_| is_default());
        points_to(&self.origin, DEFAULT, TRACKING).or_else(current)
    }

    /// The branch that a name of a commit means, such as `main` or `origin/main`.
    pub fn branch_of(&self, name: &str) -> Option<String> {
        let name = name.strip_prefix("refs/remotes/").or(name.strip_prefix(HEADS)).unwrap_or(name);
        let exists = |reference: String| self.origin.find_reference(&reference).is_ok();
        let remote = name.strip_prefix("origin/").filter(|name| exists(tracking_ref(name)));
        let local = || Some(name).filter(|name| exists(branch_ref(name)));
        Some(remote.or_else(local)?.to_owned()).filter(|name| name != "HEAD")
    }

    /// The tip of a branch of the remote as of the last fetch. Without a remote, the current commit.
    ///
    /// # Errors
    /// If the repository does not have it.
    pub fn tip(&self, branch: &str) -> Result<Named, ScratchError> {
        let name = format!("origin/{branch}");
        match self.resolve(&name) {
            Ok(tip) => Ok(tip),
            Err(_) if self.is_unborn() => self.empty(),
            Err(_) if !self.has_remote() => self.resolve("HEAD"),
            Err(_) => Err(ScratchError::NotFetched { name, refspec: refspec(branch) }),
        }
    }

    /// Whether the scratch repository has a branch of the remote.
    pub fn has_branch(&self, branch: &str) -> bool {
        self.repo.find_reference(&branch_ref(branch)).is_ok()
    }

    /// The branches of the remote that the scratch repository has.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub fn branches(&self) -> Result<Vec<String>, ScratchError> {
        let mut names = Vec::new();
        for reference in self.repo.references_glob(&format!("{HEADS}*"))? {
            names.extend(reference?.name().ok().and_then(|name| name.strip_prefix(HEADS)).map(str::to_owned));
        }
        Ok(names)
    }

    /// Whether a commit has the files of a directory as they were when a branch was made from it, so that those of the
    /// branch are newer. If a shallow clone lacks the commit from which the branch was made, they count as newer.
    ///
    /// # Errors
    /// If the branch or the commit cannot be read.
    pub fn is_ahead_in(
        &self,
        branch: &str,
        commit: &CommitId,
        directory: &str,
    ) -> Result<bool, ScratchError> {
        let tip = self.repo.find_reference(&branch_ref(branch))?.peel_to_commit()?.id();
        let at = Oid::from_str(commit.as_str())?;
        let Ok(fork) = self.repo.merge_base(tip, at) else { return Ok(true) };
        let files = |commit: Oid| -> Result<Option<Oid>, git2::Error> {
            let tree = self.repo.find_commit(commit)?.tree()?;
            Ok(tree.get_path(Path::new(directory)).ok().map(|entry| entry.id()))
        };
        Ok(fork != tip && files(fork)? == files(at)?)
    }

    /// Gives the branch that the agent reads this tip, which the clone of a pull request may not have.
    ///
    /// # Errors
    /// If the file system refuses it.
    pub fn set_branch(&self, branch: &str, tip: &CommitId) -> Result<(), ScratchError> {
        let name = branch_ref(branch);
        if name != BRANCH {
            self.repo.reference(&name, Oid::from_str(tip.as_str())?, true, "plan")?;
        }
        Ok(())
    }

    fn has_remote(&self) -> bool {
        self.origin.find_remote("origin").is_ok()
    }

    fn is_unborn(&self) -> bool {
        self.origin.head().is_err_and(|error| error.code() == ErrorCode::UnbornBranch)
    }
}

/// Gives the scratch repository the branches of the remote, as of the last fetch. Without a remote, the branches of the
/// repository.
pub(super) fn copy(origin: &Repository, scratch: &Path) -> Result<(), ScratchError> {
    let prefix = if origin.find_remote("origin").is_ok() { TRACKING } else { HEADS };
    let mut lines = String::from("# pack-refs with: peeled fully-peeled \n");
    for reference in origin.references_glob(&format!("{prefix}*"))? {
        let reference = reference?;
        let (Ok(name), Some(target)) = (reference.name(), reference.target()) else { continue };
        if let Some(branch) = name.strip_prefix(prefix) {
            lines.push_str(&format!("{target} {HEADS}{branch}\n"));
        }
    }
    Ok(fs::write(scratch.join("packed-refs"), lines)?)
}
