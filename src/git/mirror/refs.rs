//! The refs of the clone: what the remote had at the last fetch. Used by the mirror, and by what reads or extends a branch.

use std::collections::BTreeSet;

use git2::Oid;

/// The prefix of the refs that track the remote's branches.
const TRACKING: &str = "refs/remotes/origin/";

/// The ref for a last synced commit that no branch contains.
pub(super) const LAST_REF: &str = "refs/opsy/last";

/// The prefix of the refs that receive more of the history of a branch. They are deleted then.
pub(super) const DEEPENED: &str = "refs/opsy/deepened/";

/// Returns the name of the ref for the tip of a branch as of the last fetch.
pub fn tracking_ref(branch: &str) -> String {
    format!("{TRACKING}{branch}")
}

/// The symbolic ref for the remote's default branch as of the last fetch; Git uses the same name.
const DEFAULT_REF: &str = "refs/remotes/origin/HEAD";

pub(super) fn last_default(repo: &git2::Repository) -> Option<String> {
    let reference = repo.find_reference(DEFAULT_REF).ok()?;
    let target = reference.symbolic_target().ok()??.to_owned();
    target.strip_prefix(TRACKING).map(str::to_owned)
}

pub(super) fn set_last_default(repo: &git2::Repository, branch: &str) -> Result<(), git2::Error> {
    repo.reference_symbolic(DEFAULT_REF, &tracking_ref(branch), true, "the remote's default").map(drop)
}

/// Returns the tip of a branch as of the last fetch.
pub fn tracked(repo: &git2::Repository, branch: &str) -> Option<Oid> {
    repo.refname_to_id(&tracking_ref(branch)).ok()
}

pub(super) fn refspecs(branches: &BTreeSet<&str>) -> Vec<String> {
    branches.iter().map(|branch| format!("+refs/heads/{branch}:{}", tracking_ref(branch))).collect()
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
        names.iter().filter(|name| **name != DEFAULT_REF).filter_map(|name| name.strip_prefix(TRACKING));
    Ok(branches.map(str::to_owned).collect())
}
