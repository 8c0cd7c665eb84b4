//! The file in which the agent saves what it has parsed of manifests, for its next start. It may be lost: whatever is not
//! as this program wrote it is ignored, and the manifests are parsed again. So it is not synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::api::ids::hex_digits;

/// Identifies the program: another one may parse differently.
const PROGRAM: &str = env!("OPSY_SOURCES");
/// Begins the last line, which has the digest of those before.
const END: &str = "# ";

/// The file of a state directory.
#[derive(Clone, Debug)]
pub struct ManifestCache {
    path: PathBuf,
    program: &'static str,
}

impl ManifestCache {
    pub fn of(state: &Path) -> Self {
        Self { path: state.join("manifests.cache"), program: PROGRAM }
    }

    /// Reads the lines that were saved last, with `parse`. Returns `None` if there are none.
    pub fn read<T>(&self, parse: impl FnOnce(&mut dyn Iterator<Item = String>) -> Option<T>) -> Option<T> {
        let mut lines = BufReader::new(self.open()?).lines().map_while(Result::ok);
        let (mut digest, mut end) = (Digest::default(), None);
        let program = lines.next().filter(|program| program == self.program)?;
        digest.add(&program);
        let parsed = parse(&mut std::iter::from_fn(|| {
            let line = lines.next()?;
            if let Some(found) = line.strip_prefix(END) {
                end = Some(found.to_owned());
                return None;
            }
            digest.add(&line);
            Some(line)
        }));
        parsed.filter(|_| end == Some(digest.end()))
    }

    /// Opens the file, if the agent's user has written it: a state directory can be in one that others may write to.
    fn open(&self) -> Option<File> {
        let mut options = OpenOptions::new();
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = options.read(true).custom_flags(flags).open(&self.path).ok()?;
        let found = file.metadata().ok()?;
        (found.is_file() && found.uid() == rustix::process::geteuid().as_raw()).then_some(file)
    }

    /// Saves lines in place of those before. None of them may begin with `#`.
    ///
    /// # Errors
    /// The file cannot be written. That before remains.
    pub fn write(&self, lines: impl Iterator<Item = String>) -> io::Result<()> {
        let part = self.path.with_file_name(".manifests.cache.part");
        let written = self.write_part(&part, lines).and_then(|()| fs::rename(&part, &self.path));
        if written.is_err() {
            // On a full disk, it would occupy the space that the agent needs.
            let _ = fs::remove_file(&part);
        }
        written
    }

    fn write_part(&self, part: &Path, lines: impl Iterator<Item = String>) -> io::Result<()> {
        // It may be left from a killed process, or be something else.
        match fs::remove_file(part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part)?;
        let mut file = BufWriter::new(file);
        let mut digest = Digest::default();
        for line in std::iter::once(self.program.to_owned()).chain(lines) {
            digest.add(&line);
            writeln!(file, "{line}")?;
        }
        writeln!(file, "{END}{}", digest.end())?;
        file.into_inner()?;
        Ok(())
    }
}

/// The digest of lines.
#[derive(Default)]
struct Digest(Sha256);

impl Digest {
    fn add(&mut self, line: &str) {
        self.0.update(line);
        self.0.update("\n");
    }

    fn end(self) -> String {
        hex_digits(&self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 3] = ["{\"blob\":\"1\"}", "", "{\"a\":\"\u{e9}\"}"];

    fn cache(state: &Path) -> ManifestCache {
        ManifestCache::of(state)
    }

    fn write(cache: &ManifestCache) {
        cache.write(LINES.map(str::to_owned).into_iter()).expect("written");
    }

    fn read(cache: &ManifestCache) -> Option<Vec<String>> {
        cache.read(|lines| Some(lines.collect()))
    }

    #[test]
    fn what_was_written_is_read_by_the_same_program_only() {
        let state = tempfile::tempdir().expect("a directory");
        let cache = cache(state.path());
        assert_eq!(read(&cache), None, "nothing was written");
        write(&cache);
        write(&cache);
        assert_eq!(read(&cache), Some(LINES.map(str::to_owned).into()));
        assert_eq!(cache.read(|_| None::<()>), None, "it is refused");
        let other = ManifestCache { program: "another", path: cache.path.clone() };
        assert_eq!(read(&other), None);
        let names: Vec<_> =
            fs::read_dir(state.path()).expect("read").map(|entry| entry.expect("an entry").path()).collect();
        assert_eq!(names, std::slice::from_ref(&cache.path), "no part is left");
        assert_eq!(fs::metadata(&cache.path).expect("a file").mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_ignored() {
        let state = tempfile::tempdir().expect("a directory");
        let cache = cache(state.path());
        write(&cache);
        let good = fs::read(&cache.path).expect("read");
        for at in 0..good.len() {
            let mut damaged = good.clone();
            damaged[at] ^= 1;
            fs::write(&cache.path, damaged).expect("written");
            assert_eq!(read(&cache), None, "byte {at}");
            fs::write(&cache.path, &good[..at]).expect("written");
            // The last byte ends the line of the digest.
            assert_eq!(read(&cache).is_some(), at == good.len() - 1, "the first {at} bytes");
        }
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing_behind() {
        let state = tempfile::tempdir().expect("a directory");
        let cache = cache(state.path());
        fs::create_dir_all(cache.path.join("in-the-way")).expect("made");
        let part = state.path().join(".manifests.cache.part");
        rustix::fs::mknodat(rustix::fs::CWD, &part, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("a pipe without a reader");
        assert!(cache.write(LINES.map(str::to_owned).into_iter()).is_err());
        assert_eq!(fs::read_dir(state.path()).expect("read").count(), 1, "no part is left");
        assert_eq!(read(&cache), None);
    }

    #[test]
    fn only_a_file_of_the_agents_user_is_read() {
        let state = tempfile::tempdir().expect("a directory");
        let cache = cache(state.path());
        write(&cache);
        let elsewhere = state.path().join("elsewhere");
        fs::rename(&cache.path, &elsewhere).expect("renamed");
        std::os::unix::fs::symlink(&elsewhere, &cache.path).expect("a link");
        assert_eq!(read(&cache), None, "a link");
        fs::remove_file(&cache.path).expect("removed");
        rustix::fs::mknodat(rustix::fs::CWD, &cache.path, rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("a pipe");
        assert_eq!(read(&cache), None, "a pipe, which has no end");
        fs::rename(&elsewhere, &cache.path).expect("renamed");
        assert!(read(&cache).is_some());
        // Only root can give files away.
        if std::os::unix::fs::chown(&cache.path, Some(1), None).is_ok() {
            assert_eq!(read(&cache), None, "of another user");
        }
    }
}
