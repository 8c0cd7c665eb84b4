//! The history of the branch: whether a tip descends from the last synced commit. If it does not, the branch was
//! rewritten or the server sends an old commit, and the tip is held back until a person accepts it. `judge` is pure.

use crate::api::CommitId;
use crate::api::status::LastSynced;
use crate::git::{GitError, Handle};

/// What is known about a tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// It is the last synced commit or descends from it; `None` before the first sync.
    pub follows_last: Option<bool>,
    /// It is the commit that a person accepts, or descends from it; `None` without a request.
    pub follows_accepted: Option<bool>,
}

/// The decision about a tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is synced.
    Follow,
    /// It is synced because a person accepts it, and tips must descend from it from now on.
    Accept,
    /// It is held back.
    Hold,
}

/// Decides about a tip.
pub fn judge(facts: Facts) -> Verdict {
    match (facts.follows_last, facts.follows_accepted) {
        (None | Some(true), _) => Verdict::Follow,
        (Some(false), Some(true)) => Verdict::Accept,
        (Some(false), None | Some(false)) => Verdict::Hold,
    }
}

/// Reads from the clone what is known about a tip.
pub async fn facts(
    git: &Handle,
    last: Option<&LastSynced>,
    accepted: Option<&CommitId>,
    tip: &CommitId,
) -> Result<Facts, GitError> {
    let follows = async |commit: Option<&CommitId>| match commit {
        Some(commit) => git.follows(tip, commit).await.map(Some),
        None => Ok(None),
    };
    let follows_last = follows(last.map(|last| &last.commit)).await?;
    Ok(Facts { follows_last, follows_accepted: follows(accepted).await? })
}

/// The identity of the repository, and the branch if the flags name one.
pub fn source(git: &Handle) -> String {
    let options = git.options();
    let branch = options.branch.as_ref().map(|branch| format!("#{branch}")).unwrap_or_default();
    options.address.identity() + &branch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tip_is_held_unless_it_follows_the_last_commit_or_one_that_a_person_accepts() {
        let verdict = |follows_last, follows_accepted| judge(Facts { follows_last, follows_accepted });
        for accepted in [None, Some(false), Some(true)] {
            assert_eq!(verdict(None, accepted), Verdict::Follow, "a first start has nothing to compare with");
            assert_eq!(verdict(Some(true), accepted), Verdict::Follow);
        }
        assert_eq!(verdict(Some(false), None), Verdict::Hold);
        assert_eq!(verdict(Some(false), Some(false)), Verdict::Hold, "another commit was accepted");
        assert_eq!(verdict(Some(false), Some(true)), Verdict::Accept);
    }
}
