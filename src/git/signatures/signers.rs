//! The trusted signers: files of keys, and the agent's own key. They are read for each use, so that they can be changed
//! while the agent is running.

use std::fs;
use std::path::{Path, PathBuf};

use super::allowed::Signer;
use super::key::SigningKey;
use super::keyring::Keyring;
use crate::git::GitError;

/// The maximum size of a file: an OpenPGP key has some kilobytes.
const SIZE_LIMIT: u64 = 4 * 1024 * 1024;
/// The maximum number of files in a directory of signers.
const FILES_LIMIT: usize = 1000;

/// The sources of trusted signers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signers {
    /// Files with keys, and directories of such files.
    pub files: Vec<PathBuf>,
    /// The agent's own key: its own commits are trusted.
    pub own: Option<SigningKey>,
}

impl Signers {
    /// Reads all keys.
    ///
    /// # Errors
    /// If a file cannot be read or is invalid.
    pub fn load(&self) -> Result<Keyring, GitError> {
        let mut keyring = Keyring::default();
        for place in &self.files {
            for file in files(place)? {
                add(&mut keyring, &file)?;
            }
        }
        if keyring.is_empty() {
            let places: Vec<_> = self.files.iter().map(|place| place.display().to_string()).collect();
            return Err(GitError::Signers(format!(
                "--verify {} contains no signer: add a public key",
                places.join(", ")
            )));
        }
        if let Some(own) = &self.own {
            keyring.ssh.push(Signer::of("the agent", own.public()?));
        }
        Ok(keyring)
    }
}

fn add(keyring: &mut Keyring, file: &Path) -> Result<(), GitError> {
    let size = fs::metadata(file).map_err(|error| unreadable(file, &error))?.len();
    if size > SIZE_LIMIT {
        return Err(failed(file, &format!("has {size} bytes, more than the limit of {SIZE_LIMIT}")));
    }
    let text = fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
    keyring.add(&text).map_err(|why| failed(file, &why))
}

/// Returns the files at a path. A mounted ConfigMap or Secret contains links to the files, and hidden directories.
fn files(place: &Path) -> Result<Vec<PathBuf>, GitError> {
    let unreadable = |error: std::io::Error| unreadable(place, &error);
    if !fs::metadata(place).map_err(unreadable)?.is_dir() {
        return Ok(vec![place.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(place).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.is_file() {
            found.push(path);
        }
        if found.len() > FILES_LIMIT {
            return Err(failed(place, &format!("has more than the limit of {FILES_LIMIT} files")));
        }
    }
    found.sort();
    Ok(found)
}

fn unreadable(place: &Path, error: &std::io::Error) -> GitError {
    failed(place, &format!("cannot be read: {error}"))
}

fn failed(place: &Path, why: &str) -> GitError {
    GitError::Signers(format!("--verify {}: {why}", place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn signers(place: &Path) -> Signers {
        Signers { files: vec![place.to_owned()], own: None }
    }

    #[test]
    fn a_mounted_directory_is_read_through_its_links() {
        let folder = tempfile::tempdir().expect("a directory");
        let data = folder.path().join("..2024");
        fs::create_dir(&data).expect("a directory");
        fs::write(data.join("people"), format!("a@b {KEY}\n")).expect("written");
        fs::write(folder.path().join(".hidden"), "nonsense").expect("written");
        std::os::unix::fs::symlink("..2024", folder.path().join("..data")).expect("a link");
        std::os::unix::fs::symlink("..data/people", folder.path().join("people")).expect("a link");
        assert_eq!(signers(folder.path()).load().expect("a keyring").ssh.len(), 1);
    }

    #[test]
    fn what_cannot_be_trusted_is_named() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = folder.path().join("signers");
        let message = |place: &Path| signers(place).load().map(|_| ()).expect_err("refused").to_string();
        assert!(message(&file).contains("signers: cannot be read: No such file"), "{}", message(&file));
        assert!(
            message(folder.path()).ends_with("contains no signer: add a public key"),
            "{}",
            message(folder.path())
        );
        fs::write(&file, format!("# people\na@b {KEY}\nc@d\n")).expect("written");
        assert!(message(folder.path()).contains("signers: line 3 has no key"), "{}", message(folder.path()));
        fs::write(&file, "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n").expect("written");
        assert!(
            message(&file).contains("line 1 begins a private key") && !message(&file).contains("c2Vj"),
            "{}",
            message(&file)
        );
    }
}
