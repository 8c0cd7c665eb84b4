//! Merges in clones with packs and loose objects, with damage, and with what a killed process leaves behind.

use std::fs;
use std::path::Path;

use git2::{Oid, Repository};

use super::*;

struct Clone {
    folder: tempfile::TempDir,
    ids: Vec<Oid>,
}

impl Clone {
    /// Creates a clone with packs of five objects, and loose objects.
    fn new(packs: usize, loose: usize) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        Repository::init_bare(folder.path()).expect("a repository");
        let mut clone = Self { folder, ids: Vec::new() };
        for _ in 0..packs {
            clone.add_pack();
        }
        clone.add_loose(loose);
        clone
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn objects(&self) -> std::path::PathBuf {
        self.path().join("objects")
    }

    fn add_loose(&mut self, count: usize) -> Vec<Oid> {
        let repo = Repository::open(self.path()).expect("a clone");
        let blob = |number: usize| repo.blob(format!("object {number}").as_bytes()).expect("a blob");
        let first = self.ids.len();
        let added: Vec<Oid> = (first..first + count).map(blob).collect();
        self.ids.extend(&added);
        added
    }

    fn add_pack(&mut self) {
        let added = self.add_loose(5).into_iter().collect();
        write(self.path(), &added).expect("a pack");
        added
            .iter()
            .for_each(|id| fs::remove_file(packs::loose_file(&self.objects(), *id)).expect("removed"));
    }

    /// Returns the number of packs and loose objects, after it has read all objects.
    fn counts(&self) -> (usize, usize) {
        let repo = Repository::open(self.path()).expect("a clone");
        for (number, id) in self.ids.iter().enumerate() {
            let blob = repo.find_blob(*id).expect("an object");
            assert_eq!(blob.content(), format!("object {number}").as_bytes());
        }
        let packs = packs::list(&self.objects()).expect("packs").len();
        (packs, packs::loose(&self.objects()).expect("objects").len())
    }

    fn merge(&self) -> Option<(usize, usize)> {
        let merged = merge(self.path()).expect("merged")?;
        merged.remove_sources().expect("removed");
        Some(merged.counts())
    }
}

#[test]
fn few_files_stay_as_they_are() {
    let clone = Clone::new(9, 100);
    assert_eq!(clone.merge(), None);
    assert_eq!(clone.counts(), (9, 100));
}

#[test]
fn packs_and_loose_objects_become_one_pack() {
    let clone = Clone::new(10, 3);
    assert_eq!(clone.merge(), Some((10, 3)));
    assert_eq!(clone.counts(), (1, 0));
    assert_eq!(clone.merge(), None);
    let clone = Clone::new(2, 2000);
    assert_eq!(clone.merge(), Some((0, 2000)), "the packs are not written again for loose objects");
    assert_eq!(clone.counts(), (3, 0));
}

#[test]
fn a_pack_that_is_marked_to_be_kept_stays() {
    let clone = Clone::new(11, 0);
    let kept = packs::list(&clone.objects()).expect("packs").remove(0).name;
    fs::write(clone.objects().join("pack").join(format!("{kept}.keep")), "").expect("written");
    assert_eq!(clone.merge(), Some((10, 0)));
    assert!(clone.objects().join("pack").join(format!("{kept}.pack")).exists());
    clone.counts();
}

#[test]
fn after_a_kill_nothing_is_lost_and_nothing_remains() {
    let mut clone = Clone::new(10, 20);
    // Killed after the new pack was written.
    drop(merge(clone.path()).expect("merged").expect("due"));
    assert_eq!(clone.counts(), (11, 20));
    clean(clone.path()).expect("cleaned");
    assert_eq!(clone.counts(), (11, 20));
    assert_eq!(clone.merge(), Some((10, 20)));
    assert_eq!(clone.counts().1, 0);
    // Killed while the old files were removed.
    (0..10).for_each(|_| clone.add_pack());
    let merged = merge(clone.path()).expect("merged").expect("due");
    fs::remove_file(clone.objects().join("pack").join(format!("{}.idx", merged.packs[0]))).expect("removed");
    fs::write(clone.objects().join("pack/pack_git2_0123456789abcdef"), "PACK").expect("written");
    fs::write(clone.objects().join("tmp_object_git2_0123456789abcdef"), "").expect("written");
    clean(clone.path()).expect("cleaned");
    let orphan = clone.objects().join("pack").join(format!("{}.pack", merged.packs[0]));
    assert!(!orphan.exists(), "its index is gone");
    let left = |folder: &str| fs::read_dir(clone.objects().join(folder)).expect("a directory").flatten();
    let is_left = |entry: fs::DirEntry| entry.file_name().to_string_lossy().contains("git2");
    assert!(!left("pack").chain(left("")).any(is_left));
    clone.counts();
}

#[test]
fn a_damaged_object_stops_the_merge_and_nothing_is_removed() {
    use std::os::unix::fs::PermissionsExt as _;
    let clone = Clone::new(10, 0);
    let damaged = packs::list(&clone.objects()).expect("packs").remove(3).name;
    let file = clone.objects().join("pack").join(format!("{damaged}.pack"));
    let mut content = fs::read(&file).expect("read");
    content[20..40].fill(0xff);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("writable");
    fs::write(&file, content).expect("written");
    merge(clone.path()).expect_err("damaged");
    assert_eq!(packs::list(&clone.objects()).expect("packs").len(), 10);
    let index = clone.objects().join("pack").join(format!("{damaged}.idx"));
    fs::set_permissions(&index, fs::Permissions::from_mode(0o600)).expect("writable");
    fs::write(&index, "short").expect("written");
    assert!(matches!(merge(clone.path()), Err(MergeError::Files(_))));
}
