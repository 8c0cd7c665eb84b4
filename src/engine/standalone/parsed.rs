//! The file of parsed manifests in the state directory, which the next process of the same program reads instead of the
//! manifests. Nothing depends on it: whatever cannot be read is parsed again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use flate2::Crc;

use crate::manifest::KeptLines;

/// Changes when the lines get another form.
const FORMAT: u32 = 1;

/// The file, and the program that may read it.
pub struct ParsedFiles {
    path: PathBuf,
    /// The first line.
    header: String,
}

impl ParsedFiles {
    /// The file of a state directory. `None` if the program cannot be identified.
    pub fn of(state: &Path) -> Option<Self> {
        let program = fs::metadata(std::env::current_exe().ok()?).ok()?;
        let version = env!("CARGO_PKG_VERSION");
        let identity = format!("{} {}.{}", program.len(), program.mtime(), program.mtime_nsec());
        Some(Self { path: state.join("parsed"), header: format!("opsy {version} {FORMAT} {identity}") })
    }

    fn try_read(&self, each: &mut dyn FnMut(&str)) -> io::Result<()> {
        let mut lines = BufReader::new(File::open(&self.path)?).lines();
        if lines.next().transpose()?.as_ref() != Some(&self.header) {
            return Ok(());
        }
        for line in lines {
            let line = line?;
            match line.split_once(' ') {
                Some((sum, content)) if sum == checksum(content) => each(content),
                _ => return Err(io::Error::other("a line has another checksum")),
            }
        }
        Ok(())
    }

    fn try_replace(&self, lines: &mut dyn Iterator<Item = String>) -> io::Result<()> {
        let part = self.path.with_extension("part");
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        let mut file = BufWriter::new(file);
        writeln!(file, "{}", self.header)?;
        for line in lines {
            writeln!(file, "{} {line}", checksum(&line))?;
        }
        file.into_inner().map_err(io::IntoInnerError::into_error)?;
        // It is not synced: what a power failure damages has another checksum.
        fs::rename(&part, &self.path)
    }
}

impl KeptLines for ParsedFiles {
    fn read(&self, each: &mut dyn FnMut(&str)) {
        if let Err(error) = self.try_read(each) {
            tracing::debug!(%error, "parsed manifests of the last process are not used");
        }
    }

    fn replace(&self, lines: &mut dyn Iterator<Item = String>) {
        if let Err(error) = self.try_replace(lines) {
            tracing::debug!(%error, "parsed manifests are not kept for the next process");
        }
    }
}

fn checksum(line: &str) -> String {
    let mut sum = Crc::new();
    sum.update(line.as_bytes());
    format!("{:08x}", sum.sum())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn read(files: &ParsedFiles) -> Vec<String> {
        let mut lines = Vec::new();
        files.read(&mut |line| lines.push(line.to_owned()));
        lines
    }

    fn written(dir: &Path) -> ParsedFiles {
        let files = ParsedFiles::of(dir).expect("this program is known");
        files.replace(&mut ["one", "two", "three"].map(str::to_owned).into_iter());
        files
    }

    #[test]
    fn lines_come_back_and_only_the_owner_can_read_them() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(read(&ParsedFiles::of(dir.path()).expect("this program is known")), [""; 0]);
        let files = written(dir.path());
        assert_eq!(read(&files), ["one", "two", "three"]);
        assert_eq!(fs::metadata(&files.path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 1, "no part is left");
    }

    #[test]
    fn what_is_damaged_or_of_another_program_is_not_used() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = written(dir.path());
        let whole = fs::read(&files.path).expect("read");
        for end in 0..whole.len() {
            fs::write(&files.path, &whole[..end]).expect("written");
            let lines = read(&files);
            assert!(
                ["one", "two", "three"].starts_with(&lines.iter().map(String::as_str).collect::<Vec<_>>())
            );
        }
        let start = files.header.len() + 1;
        for at in start..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&files.path, &damaged).expect("written");
            assert!(read(&files).iter().all(|line| ["one", "two", "three"].contains(&line.as_str())));
        }
        fs::write(&files.path, &whole).expect("written");
        let other = ParsedFiles { header: format!("{} ", files.header), ..written(dir.path()) };
        assert_eq!(read(&other), [""; 0]);
    }
}
