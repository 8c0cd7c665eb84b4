//! A clone that follows many commits: the number of its files and of open files stays bounded, and nothing that is read
//! at the same time is lost.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use opsy::api::CommitId;
use opsy::git::address::Address;
use opsy::git::commit::{Edit, Outcome};
use opsy::git::{Handle, Tip};

use super::bed::{Bed, Remote};
use super::push::change;

/// More commits than files that a process may have open by default.
const COMMITS: usize = 1100;
/// The maximum number of packs: nine for each of four tiers, with the packs of the last commits.
const PACKS: usize = 50;

/// Returns the number of packs and of loose objects of a clone.
fn counts(clone: &Path) -> (usize, usize) {
    let names = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(clone.join("objects").join(folder)).expect("a directory").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let packs = names("pack").iter().filter(|name| name.ends_with(".pack")).count();
    let loose = names("").iter().filter(|name| name.len() == 2).map(|name| names(name).len()).sum();
    (packs, loose)
}

/// Returns the number of files below a directory that this process has open.
fn open_files(folder: &Path) -> usize {
    let files = std::fs::read_dir("/proc/self/fd").expect("open files").flatten();
    files.filter(|file| std::fs::read_link(file.path()).is_ok_and(|file| file.starts_with(folder))).count()
}

/// Returns the content of the file `a` at a commit.
async fn read(git: &Handle, commit: &CommitId) -> String {
    let listing = git.list(commit).await.expect("a listing");
    let id = listing.get("a").expect("the file").id.clone();
    let blobs = git.read(vec![("a".to_owned(), id)]).await.expect("blobs");
    String::from_utf8(blobs[0].content.clone()).expect("text")
}

/// Fetches a commit without history, which costs the remote least, and waits for what follows a fetch.
async fn follow(git: &Handle, remote: &Remote, number: usize) -> Tip {
    remote.rewrite("main", &[("a", Some(&number.to_string()))]);
    let tip = git.fetch().await.expect("a tip");
    assert!(tip.fetched);
    assert_eq!(git.last_fetched().await.expect("a clone").expect("a tip").commit, tip.commit);
    tip
}

#[tokio::test]
async fn many_commits_leave_few_files_and_disturb_no_read() {
    let bed = Bed::start();
    // libgit2 copies the objects of a repository with such a path, as it does with those of a server.
    let remote = Remote::init(&bed.folder.path().join("two\nlines.git"));
    let address = Address::parse(remote.path().to_str().expect("UTF-8")).expect("a path");
    let git = bed.handle_with(|options| options.address = address);
    let clone = bed.options().folder;
    let first = follow(&git, &remote, 0).await;
    let done = Arc::new(AtomicBool::new(false));
    let (reading, ended, commit) = (git.clone(), Arc::clone(&done), first.commit.clone());
    let reader = tokio::spawn(async move {
        let mut reads = 0;
        while !ended.load(Ordering::Relaxed) {
            assert_eq!(read(&reading, &commit).await, "0");
            reads += 1;
        }
        reads
    });
    let (mut most_packs, mut most_files) = (0, 0);
    for number in 1..COMMITS {
        let tip = follow(&git, &remote, number).await;
        assert_eq!(read(&git, &tip.commit).await, number.to_string());
        most_packs = most_packs.max(counts(&clone).0);
        most_files = most_files.max(open_files(&clone));
    }
    done.store(true, Ordering::Relaxed);
    assert!(reader.await.expect("no read fails") > COMMITS / 10);
    assert!(most_packs <= PACKS && most_files <= 2 * PACKS, "{most_packs} packs, {most_files} open files");
    assert!(most_packs >= 10, "its fetches add packs: {most_packs}");
}

#[tokio::test]
async fn the_packs_of_a_server_and_the_objects_of_own_commits_are_merged() {
    let bed = Bed::start();
    let git = bed.handle();
    let first = follow(&git, &bed.remote(), 0).await;
    for number in 1..40 {
        follow(&git, &bed.remote(), number).await;
    }
    let clone = bed.options().folder;
    let (packs, _) = counts(&clone);
    assert!((1..20).contains(&packs), "{packs} packs");
    let files: Vec<String> = (0..2000).map(|number| format!("status/{number}")).collect();
    let edits: Vec<_> =
        files.iter().map(|file| (file.as_str(), Edit::Put(file.clone().into_bytes()))).collect();
    let outcome = git.commit(&change("main", &edits)).await.expect("pushed");
    assert!(matches!(outcome, Outcome::Pushed { .. }), "{outcome:?}");
    git.last_fetched().await.expect("a clone");
    assert!(counts(&clone).1 < 100, "{:?}", counts(&clone));
    assert_eq!(read(&git, &first.commit).await, "0");
    let tip = git.fetch().await.expect("a tip");
    assert!(!tip.fetched);
    assert_eq!(git.list(&tip.commit).await.expect("a listing").under("status").count(), 2000);
}

#[tokio::test]
async fn a_crowded_clone_with_damage_is_made_anew_once_the_remote_answers() {
    let bed = Bed::start();
    bed.remote().commit("main", &[("a", Some("1"))]);
    let tip = bed.handle().fetch().await.expect("a tip");
    let packs = bed.options().folder.join("objects/pack");
    let files: Vec<_> = std::fs::read_dir(&packs).expect("a directory").flatten().collect();
    let index =
        files.iter().map(std::fs::DirEntry::path).find(|file| file.extension().is_some_and(|e| e == "idx"));
    let index = std::fs::read(index.expect("an index")).expect("read");
    for number in 0..=500 {
        std::fs::write(packs.join(format!("pack-{number}.pack")), "").expect("a file");
        // Its objects cannot be read, so that the packs cannot be merged.
        let mut head = index.clone();
        let ids = 8 + 256 * 4;
        head[ids..ids + 3 * 20].fill(0);
        std::fs::write(packs.join(format!("pack-{number}.idx")), head).expect("a file");
    }
    bed.away(Some("refuse"));
    let git = bed.handle();
    git.fetch().await.expect_err("away");
    let last = git.last_fetched().await.expect("a clone").expect("a tip");
    assert_eq!(last.commit, tip.commit, "the clone is kept while the remote is unreachable");
    bed.away(None);
    assert_eq!(git.fetch().await.expect("a tip").commit, tip.commit);
    assert_eq!(git.fetch().await.expect("a tip").commit, tip.commit);
    assert!(std::fs::read_dir(&packs).expect("a directory").count() < 10, "its packs are gone");
    assert!(git.list(&tip.commit).await.expect("a listing").get("a").is_some());
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed() {
    let bed = Bed::start();
    bed.remote().commit("main", &[("a", Some("1"))]);
    bed.handle().fetch().await.expect("a tip");
    let packs = bed.options().folder.join("objects/pack");
    let left = ["pack_git2_0123456789abcdef", "pack-0123456789012345678901234567890123456789.pack"];
    left.iter().for_each(|file| std::fs::write(packs.join(file), "PACK").expect("a file"));
    let git = bed.handle();
    let tip = git.fetch().await.expect("a tip");
    git.last_fetched().await.expect("a clone");
    assert!(left.iter().all(|file| !packs.join(file).exists()));
    assert_eq!(read(&git, &tip.commit).await, "1");
}
