//! The directory of a run on disk: the lock that a live runner holds, the marker that a build has
//! started, and files that are replaced atomically.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::packer::{config_dir, tmp_dir};
use crate::request::{
    ANNOUNCED, LOCK, LOG, PROGRESS, Progress, REQUEST, RESULT, Report, Request, Resource, STARTED, STOP, WORK,
};

/// A liveness probe holds the lock, shared, for an instant. A runner that starts at that moment
/// retries.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// Another process may have filled the disk for a moment.
const RESULT_TRIES: u32 = 5;
const RESULT_PAUSE: Duration = Duration::from_secs(1);
/// The default path of a container's termination message.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Whether a build was started in this directory, and when.
#[derive(Debug, PartialEq)]
pub enum Started {
    Never,
    /// Unix seconds.
    At(i64),
    /// The marker exists but cannot be read.
    Sometime,
}

/// The directory of a run. Packer's scratch files may contain secrets, so only the owner can read its files.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    pub fn dir(&self) -> &Path {
        &self.0
    }

    pub fn work(&self) -> PathBuf {
        self.0.join(WORK)
    }

    pub fn is_locked(&self) -> io::Result<bool> {
        let file = match File::open(self.0.join(LOCK)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Acquires the lock, which is held as long as the returned file is open. Returns `None` if another runner
    /// holds it.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let file = private().create(true).truncate(false).open(self.0.join(LOCK))?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => pause(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Ok(None)
    }

    pub fn request(&self) -> io::Result<Request> {
        read_json(&self.0.join(REQUEST))?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    pub fn report(&self) -> io::Result<Option<Report>> {
        read_json(&self.0.join(RESULT))
    }

    pub fn stop_asked(&self) -> bool {
        self.0.join(STOP).exists()
    }

    /// Returns whether a build was ever started here, and when. An unreadable marker counts as started.
    pub fn started(&self) -> Started {
        let path = self.0.join(STARTED);
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_or(Started::Sometime, Started::At),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Started::Never,
            Err(_) => Started::Sometime,
        }
    }

    pub fn mark_started(&self, now: i64) -> io::Result<()> {
        self.replace(STARTED, format!("{now}\n").as_bytes(), true)
    }

    pub fn announce(&self, resource: &Resource) -> io::Result<()> {
        let mut line = serde_json::to_vec(resource)?;
        line.push(b'\n');
        private().append(true).create(true).open(self.0.join(ANNOUNCED))?.write_all(&line)
    }

    /// Returns the resources that were announced before a runner was killed. An incomplete last line is skipped.
    pub fn announced(&self) -> Vec<Resource> {
        let text = fs::read_to_string(self.0.join(ANNOUNCED)).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    pub fn log(&self) -> io::Result<File> {
        private().append(true).create(true).open(self.0.join(LOG))
    }

    pub fn progress(&self, progress: &Progress) -> io::Result<()> {
        self.replace(PROGRESS, &serde_json::to_vec(progress)?, false)
    }

    /// Creates Packer's configuration and scratch directories, and checks that the work directory exists.
    pub fn prepare(&self) -> io::Result<()> {
        for dir in [config_dir(&self.0), tmp_dir(&self.0)] {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        if self.work().is_dir() {
            Ok(())
        } else {
            Err(io::Error::other(format!("directory {WORK} does not exist")))
        }
    }

    /// Removes Packer's scratch files, which may contain scripts with secrets.
    pub fn clear_scratch(&self) {
        // What cannot be removed now is deleted together with the directory of the run.
        let _ = fs::remove_dir_all(tmp_dir(&self.0));
    }

    /// Writes the result to disk. If the disk is full, the log is truncated to make room: the result
    /// exists nowhere else.
    pub fn write_result(&self, json: &str) -> io::Result<()> {
        let mut tried = self.replace(RESULT, json.as_bytes(), true);
        for _ in 1..RESULT_TRIES {
            if tried.is_ok() {
                break;
            }
            // If there is no log, nothing can be freed, and the write below returns the error.
            let _ = OpenOptions::new().write(true).truncate(true).open(self.0.join(LOG));
            pause(RESULT_PAUSE);
            tried = self.replace(RESULT, json.as_bytes(), true);
        }
        tried
    }

    fn replace(&self, name: &str, content: &[u8], durable: bool) -> io::Result<()> {
        let part = self.0.join(format!(".{name}.part"));
        let mut file = private().create(true).truncate(true).open(&part)?;
        file.write_all(content)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&part, self.0.join(name))?;
        if durable { File::open(&self.0)?.sync_all() } else { Ok(()) }
    }
}

/// Writes the termination message of a pod in place, because the kubelet has mounted the file.
pub fn write_termination_message(path: &Path, json: &str) -> io::Result<()> {
    fs::write(path, json)
}

/// Returns the path of the termination message: the configured path, else the kubelet's default path
/// if this is the first process of a container.
pub fn termination_message(said: Option<PathBuf>, is_first_process: bool) -> Option<PathBuf> {
    let default = || Some(PathBuf::from(TERMINATION_LOG)).filter(|path| is_first_process && path.exists());
    said.or_else(default)
}

/// Reads a JSON file; returns `None` if it does not exist.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[expect(clippy::disallowed_methods, reason = "no event signals that a lock or disk space has become free")]
fn pause(time: Duration) {
    thread::sleep(time);
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_one_runners_and_probing_does_not_take_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let folder = Folder::new(dir.path());
        assert!(!folder.is_locked().expect("no lock file yet"));
        let lock = folder.lock().expect("a lock").expect("the lock is free");
        assert!(folder.is_locked().expect("a probe"));
        assert!(folder.lock().expect("a second lock").is_none());
        drop(lock);
        assert!(!folder.is_locked().expect("a probe"));
    }

    #[test]
    fn a_probe_in_the_moment_of_starting_is_waited_out() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let folder = Folder::new(dir.path());
        drop(folder.lock());
        let probe = File::open(dir.path().join(LOCK)).expect("the lock file");
        probe.try_lock_shared().expect("a shared lock");
        let ended = thread::spawn(move || drop(probe));
        assert!(folder.lock().expect("a lock").is_some());
        ended.join().expect("the probe");
    }

    #[test]
    fn a_started_mark_counts_even_when_it_is_damaged() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let folder = Folder::new(dir.path());
        assert_eq!(folder.started(), Started::Never);
        folder.mark_started(7).expect("a mark");
        assert_eq!(folder.started(), Started::At(7));
        fs::write(dir.path().join(STARTED), b"\xff").expect("damage");
        assert_eq!(folder.started(), Started::Sometime);
    }
}
