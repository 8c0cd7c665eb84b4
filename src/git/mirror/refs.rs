//! The refs of the clone: what the remote had at the last fetch. Used by the mirror, and by what reads or extends a branch.

use std::collections::BTreeSet;

use git2::Oid;

use crate::git::ref_names::{DEFAULT, TRACKING, points_to, refspec, tracking_ref};

/// The ref for a last synced commit that no branch contains.
pub(super) const LAST_REF: &str = "refs/opsy/last";

/// The prefix of the refs that receive more of the history of a branch. They are deleted then.
pub(super) const DEEPENED: &str = "refs/opsy/deepened/";

pub(super) fn last_default(repo: &git2::Repository) -> Option<String> {
    points_to(repo, DEFAULT, TRACKING)
}

pub(super) fn set_last_default(repo: &git2::Repository, branch: &str) -> Result<(), git2::Error> {
    repo.reference_symbolic(DEFAULT, &tracking_ref(branch), true, "the remote's default").map(drop)
}

/// Returns the tip of a branch as of the last fetch.
pub fn tracked(repo: &git2::Repository, branch: &str) -> Option<Oid> {
    repo.refname_to_id(&tracking_ref(branch)).ok()
}

pub(super) fn refspecs(branches: &BTreeSet<&str>) -> Vec<String> {
    branches.iter().map(|branch| refspec(branch)).collect()
}

pub(super) fn delete_all(clone: &git2::Repository, prefix: &str) -> Result<(), git2::Error> {
    let references = clone.references_glob(&format!("{prefix}*"))?.collect::<Result<Vec<_>, _>>()?;
    references.into_iter().try_for_each(|mut reference| reference.delete())
}

/// Returns the branches that were fetched.
pub(super) fn all_tracked(clone: &git2::Repository) -> Result<BTreeSet<String>, git2::Error> {
    let mut references = clone.references_glob(&format!("{TRACKING}*"))?;
    let names = references.names().collect::<Result<Vec<_>, _>>()?;
    let branches =
        names.iter().filter(|name| **name != DEFAULT).filter_map(|name| name.strip_prefix(TRACKING));
    Ok(branches.map(str::to_owned).collect())
}
