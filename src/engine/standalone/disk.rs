//! Writes files that exist complete or not at all, also after a power failure.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::private;
use super::whole::FileSystem;

/// From this many files on, their file system is synced as a whole, which also waits for what other programs have written
/// there. Fewer files are synced one by one, in about the same time.
const MANY: usize = 8;

/// Replaces a file: writes and syncs a new one, renames it, and syncs the directory, which is created if necessary. Its
/// errors contain no path: they go into status, which must not contain paths of this machine.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_all([(path.to_owned(), content.to_vec())].into_iter()).pop().expect("one result per file")
}

/// Replaces files as above, with few syncs for all of them. Returns a result for each file, in the same order. A crash
/// leaves each file as it was or as it is to be.
pub fn replace_all(files: impl ExactSizeIterator<Item = (PathBuf, Vec<u8>)>) -> Vec<io::Result<()>> {
    let is_few = files.len() < MANY;
    let mut whole = None;
    let mut parts: Vec<Part> = Vec::with_capacity(files.len());
    for (path, content) in files {
        if parts.is_empty() && !is_few {
            whole = path.parent().and_then(|folder| private::make(folder).ok().and(FileSystem::of(folder)));
        }
        let mut part = Part::write(path, &content);
        whole = whole.filter(|whole| part.device.is_none_or(|device| whole.contains(device)));
        if !is_few {
            // There may be more files than a process may open.
            part.file = None;
        }
        parts.push(part);
    }
    let whole = whole.filter(FileSystem::sync);
    if whole.is_none() {
        parts.iter_mut().for_each(|part| part.attempt(Part::sync));
    }
    parts.iter_mut().for_each(|part| part.attempt(|part| std::fs::rename(part.path(), &part.target)));
    let folders: BTreeSet<_> = parts.iter().filter_map(|part| part.target.parent()).collect();
    let whole = whole.filter(|_| folders.len() >= MANY);
    if !whole.is_some_and(|whole| whole.sync()) {
        sync_folders(&mut parts);
    }
    parts.into_iter().map(Part::end).collect()
}

/// The new content of a file, until it has its name.
struct Part {
    target: PathBuf,
    /// Device of its file system, once it is written.
    device: Option<u64>,
    file: Option<File>,
    done: io::Result<()>,
}

impl Part {
    fn write(target: PathBuf, content: &[u8]) -> Self {
        let mut part = Self { target, device: None, file: None, done: Ok(()) };
        part.attempt(|part| {
            let (Some(folder), Some(_)) = (part.target.parent(), part.target.file_name()) else {
                return Err(io::Error::other("a file has a folder and a name"));
            };
            // There is one writer per file, so an existing one is left from a crash.
            let mut options = private();
            options.create(true).truncate(true);
            let opened = match options.open(part.path()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    private::make(folder)?;
                    options.open(part.path())
                }
                opened => opened,
            };
            let mut file = opened?;
            part.device = Some(file.metadata()?.dev());
            file.write_all(content)?;
            part.file = Some(file);
            Ok(())
        });
        part
    }

    /// Does the next step, unless an earlier one has failed.
    fn attempt(&mut self, step: impl FnOnce(&mut Self) -> io::Result<()>) {
        if self.done.is_ok() {
            self.done = step(self);
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.file.take() {
            Some(file) => file.sync_all(),
            None => private().open(self.path())?.sync_all(),
        }
    }

    fn path(&self) -> PathBuf {
        let name = self.target.file_name().unwrap_or_default();
        self.target.with_file_name(format!(".{}.part", name.to_string_lossy()))
    }

    /// Removes what could not be completed: on a full disk it would occupy the space for the next attempt.
    fn end(self) -> io::Result<()> {
        if self.done.is_err() && self.device.is_some() {
            let _ = std::fs::remove_file(self.path());
        }
        self.done
    }
}

/// Makes the renames durable, with one sync per directory.
fn sync_folders(parts: &mut [Part]) {
    let mut folders: BTreeMap<PathBuf, io::Result<()>> = BTreeMap::new();
    for part in parts {
        part.attempt(|part| {
            let folder = part.target.parent().unwrap_or(Path::new("/")).to_owned();
            let synced = folders.entry(folder).or_insert_with_key(|folder| sync_dir(folder));
            match synced {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            }
        });
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Makes renames in a directory durable.
pub fn sync_dir(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    replace(path, &serde_json::to_vec(value)?)
}

/// Reads a file. `None` if it does not exist.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("deep/er/status.json");
        // Left from a crash.
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path.with_file_name(".status.json.part"), "half a fi").expect("written");
        for content in ["first", "2nd"] {
            replace(&path, content.as_bytes()).expect("replaced");
            assert_eq!(std::fs::read_to_string(&path).expect("read"), content);
        }
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().expect("a folder")).expect("read").count(), 1);
    }

    /// More directories than are synced one by one.
    const FOLDERS: usize = MANY + 1;

    /// More files than are synced one by one, some in the same directory.
    fn many(dir: &Path) -> Vec<PathBuf> {
        (0..MANY * 2).map(|number| dir.join(format!("{}/{number}.json", number % FOLDERS))).collect()
    }

    #[test]
    fn many_files_are_replaced_together() {
        let dir = tempfile::tempdir().expect("a folder");
        let files = many(dir.path());
        for content in ["first", "2nd"] {
            let all = files.iter().map(|file| (file.clone(), format!("{content} {}", file.display()).into()));
            assert!(replace_all(all).iter().all(Result::is_ok));
            for file in &files {
                let read = std::fs::read_to_string(file).expect("read");
                assert_eq!(read, format!("{content} {}", file.display()));
            }
        }
        let left = (0..FOLDERS)
            .map(|number| std::fs::read_dir(dir.path().join(number.to_string())).expect("read").count());
        assert_eq!(left.sum::<usize>(), files.len(), "no part is left");
    }

    #[test]
    fn a_file_that_cannot_be_written_affects_no_other() {
        let dir = tempfile::tempdir().expect("a folder");
        for files in [many(dir.path()), many(&dir.path().join("few")).split_off(MANY * 2 - 3)] {
            let wrong = files.last().expect("a file");
            // Neither a rename over a directory with content nor a file in a file succeeds.
            std::fs::create_dir_all(wrong.join("taken")).expect("made");
            let all = files.iter().map(|file| (file.clone(), b"new".to_vec()));
            let results = replace_all(all);
            let failed: Vec<_> = results.iter().map(Result::is_err).collect();
            assert_eq!(failed.iter().filter(|failed| **failed).count(), 1);
            assert_eq!(failed.last(), Some(&true));
            assert!(files.iter().rev().skip(1).all(|file| std::fs::read(file).expect("read") == b"new"));
            let names = std::fs::read_dir(wrong.parent().expect("a folder")).expect("read");
            let mut names =
                names.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
            assert!(names.all(|name| !name.ends_with(".part")), "the part is removed");
        }
    }

    #[test]
    fn errors_contain_no_path() {
        // Not even root can create a file there.
        let error = replace(Path::new("/proc/self/status.json"), b"").expect_err("no file is created");
        assert!(!error.to_string().contains("/proc"), "{error}");
    }
}
