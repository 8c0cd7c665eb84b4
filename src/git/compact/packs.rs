//! The files in the object directory of a clone: which packs and loose objects there are, and what a killed process left
//! behind.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use git2::Oid;

use super::plan::Pack;

/// The start of an index: its signature and version 2, the only version that libgit2 writes.
const INDEX_START: [u8; 8] = [0xff, b't', b'O', b'c', 0, 0, 0, 2];
/// The length of its start and of the table with the number of IDs up to each first byte.
const INDEX_HEAD: usize = 8 + 256 * 4;
const ID_LENGTH: usize = 20;
/// The temporary files of libgit2, in the directory of packs and in that of objects.
const TEMPORARY: [(&str, &str); 2] = [("pack", "pack_git2_"), ("", "tmp_object")];
/// The number of directories of loose objects whose files are counted, of 256: object IDs are spread evenly.
const SAMPLE: usize = 16;

/// Returns the packs that may be merged.
pub fn list(objects: &Path) -> io::Result<Vec<Pack>> {
    let folder = objects.join("pack");
    let files = names(&folder)?;
    let has = |stem: &str, extension: &str| files.contains(&format!("{stem}.{extension}"));
    // Someone marked a pack with a `keep` file: Git does not merge it either.
    let stems = files.iter().filter_map(|file| file.strip_suffix(".idx"));
    let stems = stems.filter(|stem| has(stem, "pack") && !has(stem, "keep"));
    stems
        .map(|stem| {
            let mut head = Vec::with_capacity(INDEX_HEAD);
            let index = fs::File::open(index(objects, stem))?;
            index.take(INDEX_HEAD as u64).read_to_end(&mut head)?;
            let size = fs::metadata(folder.join(format!("{stem}.pack")))?.len();
            Ok(Pack { name: stem.to_owned(), objects: count(&head)?, size })
        })
        .collect()
}

/// Returns the IDs of the objects of a pack.
pub fn ids(objects: &Path, pack: &str) -> io::Result<Vec<Oid>> {
    let index = fs::read(index(objects, pack))?;
    let length = count(&index)? * ID_LENGTH;
    let ids = index.get(INDEX_HEAD..INDEX_HEAD + length).ok_or_else(damaged)?;
    ids.chunks_exact(ID_LENGTH).map(|id| Oid::from_bytes(id).map_err(|_| damaged())).collect()
}

/// Returns the number of objects of a pack from the head of its index.
fn count(head: &[u8]) -> io::Result<usize> {
    let last = head.get(INDEX_HEAD - 4..INDEX_HEAD).filter(|_| head.starts_with(&INDEX_START));
    let last = last.and_then(|last| last.try_into().ok()).ok_or_else(damaged)?;
    usize::try_from(u32::from_be_bytes(last)).map_err(|_| damaged())
}

fn damaged() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the index of a pack is damaged")
}

fn index(objects: &Path, pack: &str) -> PathBuf {
    objects.join("pack").join(format!("{pack}.idx"))
}

/// Removes the files of a pack, the index first: without it, the pack does not exist for Git.
pub fn remove(objects: &Path, pack: &str) -> io::Result<()> {
    let folder = objects.join("pack");
    // It names all packs. Only people create it, and Git creates it again.
    remove_if_exists(&folder.join("multi-pack-index"))?;
    ["idx", "rev", "bitmap", "mtimes", "pack"]
        .iter()
        .try_for_each(|extension| remove_if_exists(&folder.join(format!("{pack}.{extension}"))))
}

/// Returns the approximate number of loose objects.
pub fn estimate_loose(objects: &Path) -> io::Result<usize> {
    let counts = (0..SAMPLE).map(|first| Ok(names(&objects.join(format!("{first:02x}")))?.len()));
    Ok(counts.sum::<io::Result<usize>>()? * (256 / SAMPLE))
}

/// Returns the IDs of the loose objects.
pub fn loose(objects: &Path) -> io::Result<Vec<Oid>> {
    let mut ids = Vec::new();
    for first in (0..=u8::MAX).map(|first| format!("{first:02x}")) {
        let files = names(&objects.join(&first))?;
        let id = |rest: &String| Oid::from_str(&format!("{first}{rest}")).ok();
        ids.extend(files.iter().filter(|rest| rest.len() == 2 * ID_LENGTH - 2).filter_map(id));
    }
    Ok(ids)
}

pub fn loose_file(objects: &Path, id: Oid) -> PathBuf {
    let id = id.to_string();
    objects.join(&id[..2]).join(&id[2..])
}

/// Removes what a killed process left behind: files that were not complete, and packs whose other file is missing. No
/// other process may use the clone.
pub(in crate::git) fn clean(clone: &Path) -> io::Result<()> {
    let objects = clone.join("objects");
    for (folder, prefix) in TEMPORARY {
        let folder = objects.join(folder);
        let left = names(&folder)?.into_iter().filter(|name| name.starts_with(prefix));
        left.map(|name| folder.join(name)).try_for_each(|file| remove_if_exists(&file))?;
    }
    let folder = objects.join("pack");
    let files = names(&folder)?;
    for file in &files {
        let other = match Path::new(file).extension().and_then(OsStr::to_str) {
            Some("pack") => "idx",
            Some("idx") => "pack",
            _ => continue,
        };
        let other = Path::new(file).with_extension(other);
        if other.to_str().is_some_and(|other| !files.contains(other)) {
            remove_if_exists(&folder.join(file))?;
        }
    }
    Ok(())
}

/// Returns the names in a directory; none if there is no directory.
fn names(folder: &Path) -> io::Result<BTreeSet<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

fn remove_if_exists(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
