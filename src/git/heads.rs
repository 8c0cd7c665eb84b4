//! The refs that a remote lists, and the choice of the branch to read. The mirror makes the connection.

use git2::Oid;

use super::GitError;
use super::ref_names::HEADS;
use crate::api::CommitId;

/// The branches and `HEAD` of a remote.
pub(super) struct Heads {
    pub branches: Vec<(String, Oid)>,
    /// The branch that `HEAD` points to.
    pub default: Option<String>,
    /// The commit of a detached `HEAD`.
    pub detached: Option<Oid>,
}

pub(super) fn heads(list: &[git2::RemoteHead<'_>]) -> Heads {
    let branch = |name: &str| name.strip_prefix(HEADS).map(str::to_owned);
    let head = list.iter().find(|head| head.name() == "HEAD");
    Heads {
        branches: list.iter().filter_map(|head| Some((branch(head.name())?, head.oid()))).collect(),
        default: head.and_then(|head| branch(head.symref_target()?)),
        detached: head.filter(|head| head.symref_target().is_none()).map(git2::RemoteHead::oid),
    }
}

/// Returns the requested branch, else the remote's default branch, else the only branch.
pub(super) fn choose(url: &str, heads: &Heads, wanted: Option<&str>) -> Result<String, GitError> {
    let url = url.to_owned();
    match (heads.branches.as_slice(), wanted, &heads.default) {
        ([], ..) => Err(match heads.detached {
            Some(commit) => {
                GitError::Detached { url, commit: commit_id(commit), has: "no branch".to_owned() }
            }
            None => GitError::Empty { url },
        }),
        (_, Some(wanted), _) => Ok(wanted.to_owned()),
        (_, None, Some(default)) => Ok(default.clone()),
        // The checkout of a pull request in CI: the commit that is checked out is not the tip of the branch.
        ([(only, tip)], None, None) if heads.detached.is_some_and(|commit| commit != *tip) => {
            let commit = commit_id(heads.detached.expect("checked by the guard above"));
            Err(GitError::Detached { url, commit, has: format!("branch {only} at another commit") })
        }
        ([(only, _)], None, None) => Ok(only.clone()),
        (_, None, None) => Err(GitError::NoDefaultBranch { url, has: names(heads) }),
    }
}

pub(super) fn no_branch(url: &str, branch: &str, heads: &Heads) -> GitError {
    GitError::NoBranch { url: url.to_owned(), branch: branch.to_owned(), has: names(heads) }
}

/// Returns the names of some branches, for an error.
fn names(heads: &Heads) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<_> = heads.branches.iter().take(SHOWN).map(|(name, _)| name.as_str()).collect();
    let more = if heads.branches.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

pub(super) fn commit_id(id: Oid) -> CommitId {
    CommitId::parse(id.to_string()).expect("libgit2 prints SHA-1 ids as 40 hex digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads_of(names: &[&str], default: Option<&str>) -> Heads {
        Heads {
            branches: names.iter().map(|name| ((*name).to_owned(), Oid::ZERO_SHA1)).collect(),
            default: default.map(str::to_owned),
            detached: None,
        }
    }

    #[test]
    fn a_detached_head_says_what_to_do() {
        let commit = Oid::from_str("1111111111111111111111111111111111111111").expect("an id");
        let detached = |names| Heads { detached: Some(commit), ..heads_of(names, None) };
        for heads in [detached(&[]), detached(&["main"])] {
            let error = choose("/ci", &heads, None).expect_err("no branch").to_string();
            assert!(error.contains("detached") && error.contains("--branch"), "{error}");
        }
        assert_eq!(choose("/ci", &detached(&["main"]), Some("main")), Ok("main".to_owned()));
        let at_tip = Heads { detached: Some(Oid::ZERO_SHA1), ..heads_of(&["main"], None) };
        assert_eq!(choose("/ci", &at_tip, None), Ok("main".to_owned()));
    }

    #[test]
    fn the_branch_that_is_read() {
        let both = heads_of(&["main", "next"], Some("main"));
        assert_eq!(choose("u", &both, None), Ok("main".to_owned()));
        assert_eq!(choose("u", &both, Some("next")), Ok("next".to_owned()));
        assert_eq!(choose("u", &heads_of(&["trunk"], None), None), Ok("trunk".to_owned()));
        assert!(matches!(
            choose("u", &heads_of(&["a", "b"], None), None),
            Err(GitError::NoDefaultBranch { .. })
        ));
        assert!(matches!(choose("u", &heads_of(&[], None), Some("main")), Err(GitError::Empty { .. })));
    }

    #[test]
    fn messages_name_a_few_branches() {
        let many: Vec<String> = (0..12).map(|n| format!("b{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(names(&heads_of(&many, None)).ends_with("b9, …"));
    }
}
