//! How much of the history of a repository its clone has. Where the history is cut, a commit has no parents in the clone;
//! Git lists these commits in the file `shallow`. A cut is never the end of a history: what lies beyond is fetched before
//! anything is concluded from it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use git2::{Commit, Oid, Repository, RepositoryOpenFlags};

/// How much history is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// All of it: signatures are verified from commit to commit.
    Whole,
    /// The newest commits. More is fetched when it is needed.
    Recent,
    /// The tips of branches alone.
    Tips,
}

/// The number of commits, counted from the tip, of a first fetch of `History::Recent`: the pushes of some hours, so that
/// most questions about the history are answered without another fetch.
const RECENT: i32 = 50;
/// Git's number for the whole history.
const WHOLE: i32 = i32::MAX;
/// The number of commits that the clone is deepened to, one after the other.
const STEPS: [i32; 3] = [500, 5_000, WHOLE];

impl History {
    /// Returns the depth of a fetch; 0 means no limit. A clone with the whole history stays whole.
    pub(super) fn depth(self, clone: &Repository) -> i32 {
        match self {
            Self::Whole => 0,
            Self::Recent if clone.is_shallow() || is_new(clone) => RECENT,
            Self::Recent => 0,
            Self::Tips => 1,
        }
    }
}

/// Opens a clone. libgit2 reads where its history is cut only in this way, and not with `open_bare`.
pub(super) fn open(folder: &Path) -> Result<Repository, git2::Error> {
    let flags = RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::NO_DOTGIT | RepositoryOpenFlags::BARE;
    Repository::open_ext(folder, flags, std::iter::empty::<&Path>())
}

/// Returns the depth of the next step, if there is one.
pub(super) fn step(taken: usize) -> Option<i32> {
    STEPS.get(taken).copied()
}

fn is_new(clone: &Repository) -> bool {
    clone.references().is_ok_and(|mut references| references.next().is_none())
}

/// Returns true if the history is cut at a commit: it has parents, but not in this view of the clone.
pub(super) fn is_cut_at(commit: &Commit<'_>) -> bool {
    commit.parent_count() == 0 && has_parents(commit.raw_header_bytes())
}

/// Returns true if the history of a commit is cut anywhere.
pub(super) fn is_cut(clone: &Repository, from: Oid) -> Result<bool, git2::Error> {
    let mut walk = clone.revwalk()?;
    walk.push(from)?;
    for id in walk {
        if is_cut_at(&clone.find_commit(id?)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_parents(header: &[u8]) -> bool {
    parents(header).next().is_some()
}

/// Returns the parents of a commit from its header, also where the history is cut.
fn parents(header: &[u8]) -> impl Iterator<Item = Oid> {
    let lines = header.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    let ids = lines.filter_map(|line| std::str::from_utf8(line.strip_prefix(b"parent ")?).ok());
    ids.filter_map(|id| Oid::from_str(id).ok())
}

/// Removes the cuts at commits whose parents are in the clone. A fetch with a depth adds such cuts: the server counts
/// from the new tip, and does not know what the clone has. The clone must be opened again to see the change. An
/// interruption before this leaves too many cuts, which only costs another fetch.
pub(super) fn join(clone: &Repository) -> Result<(), git2::Error> {
    let file = clone.path().join("shallow");
    let failed = |error: std::io::Error| git2::Error::from_str(&format!("the file shallow: {error}"));
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let odb = clone.odb()?;
    let is_joined = |line: &&str| {
        let commit = Oid::from_str(line).and_then(|id| odb.read(id));
        commit.is_ok_and(|commit| parents(commit.data()).all(|parent| odb.exists(parent)))
    };
    let (joined, left): (Vec<&str>, Vec<&str>) = text.lines().partition(is_joined);
    match (joined.is_empty(), left.is_empty()) {
        (true, _) => Ok(()),
        (false, true) => fs::remove_file(&file).map_err(failed),
        (false, false) => replace(&file, &(left.join("\n") + "\n")).map_err(failed),
    }
}

/// Writes a file in one step, so that a crash leaves the old or the new one.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let new = file.with_extension("opsy-new");
    fs::write(&new, text)?;
    fs::File::open(&new)?.sync_all()?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use git2::{Signature, Time};

    use super::*;

    /// A bare repository with a line of commits, the oldest first.
    fn line(length: usize) -> (tempfile::TempDir, Vec<Oid>) {
        let folder = tempfile::tempdir().expect("a directory");
        let repo = Repository::init_bare(folder.path()).expect("a repository");
        let tree = repo.treebuilder(None).and_then(|builder| builder.write()).expect("a tree");
        let tree = repo.find_tree(tree).expect("the tree");
        let mut ids: Vec<Oid> = Vec::new();
        for number in 0..length {
            let by = Signature::new("a", "a", &Time::new(i64::try_from(number).expect("small"), 0));
            let by = by.expect("a signature");
            let parent = ids.last().map(|id| repo.find_commit(*id).expect("the parent"));
            let parents: Vec<_> = parent.iter().collect();
            ids.push(repo.commit(None, &by, &by, "m", &tree, &parents).expect("a commit"));
        }
        (folder, ids)
    }

    fn cut_at(folder: &Path, ids: &[Oid]) -> Repository {
        let lines: String = ids.iter().map(|id| format!("{id}\n")).collect();
        fs::write(folder.join("shallow"), lines).expect("written");
        open(folder).expect("a repository")
    }

    #[test]
    fn a_cut_is_not_the_end_of_a_history() {
        let (folder, ids) = line(4);
        let whole = open(folder.path()).expect("a repository");
        assert!(!is_cut(&whole, ids[3]).expect("a walk"), "the first commit has no parents");
        let cut = cut_at(folder.path(), &[ids[1]]);
        assert!(is_cut(&cut, ids[3]).expect("a walk") && is_cut(&cut, ids[1]).expect("a walk"));
        assert!(!is_cut(&cut, ids[0]).expect("a walk"), "the history before the cut is whole");
    }

    #[test]
    fn a_cut_whose_parents_are_here_is_removed() {
        let (folder, ids) = line(4);
        let repo = cut_at(folder.path(), &[ids[2]]);
        join(&repo).expect("joined");
        assert!(!folder.path().join("shallow").exists());
        let id = ids[0].to_string();
        fs::remove_file(folder.path().join("objects").join(&id[..2]).join(&id[2..])).expect("removed");
        let repo = cut_at(folder.path(), &[ids[1], ids[3]]);
        join(&repo).expect("joined");
        let left = fs::read_to_string(folder.path().join("shallow")).expect("a file");
        assert_eq!(left, format!("{}\n", ids[1]), "its parent is not here");
        let repo = open(folder.path()).expect("a repository");
        assert!(is_cut(&repo, ids[3]).expect("a walk"));
        join(&repo).expect("joined again");
        assert_eq!(fs::read_to_string(folder.path().join("shallow")).expect("a file"), left);
    }

    #[test]
    fn a_clone_is_deepened_in_steps_up_to_the_whole_history() {
        let steps: Vec<_> = (0..).map_while(step).collect();
        assert!(steps.is_sorted() && steps.last() == Some(&WHOLE) && steps[0] > RECENT);
    }
}
