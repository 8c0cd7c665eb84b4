//! The names of the refs of branches: in a repository itself, and in a clone as of its last fetch. Used by everything that
//! reads or writes refs.

use git2::Repository;

/// The prefix of the refs of branches.
pub const HEADS: &str = "refs/heads/";
/// The prefix of the refs that track the remote's branches.
pub const TRACKING: &str = "refs/remotes/origin/";
/// The symbolic ref for the remote's default branch as of the last fetch.
pub const DEFAULT: &str = "refs/remotes/origin/HEAD";

/// Returns the name of the ref of a branch.
pub fn branch_ref(branch: &str) -> String {
    format!("{HEADS}{branch}")
}

/// Returns the name of the ref for the tip of a branch as of the last fetch.
pub fn tracking_ref(branch: &str) -> String {
    format!("{TRACKING}{branch}")
}

/// Returns the refspec that fetches a branch to where it is tracked.
pub fn refspec(branch: &str) -> String {
    format!("+{}:{}", branch_ref(branch), tracking_ref(branch))
}

/// Returns the branch that a symbolic ref points to, if that is below the prefix.
pub fn points_to(repo: &Repository, name: &str, prefix: &str) -> Option<String> {
    let reference = repo.find_reference(name).ok()?;
    Some(reference.symbolic_target().ok()??.strip_prefix(prefix)?.to_owned())
}
