//! The directory of the clone: opened, created, or cleared if Opsy created it. Used by the mirror.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use git2::RepositoryInitOptions;
use tracing::warn;

use crate::git::{GitError, Options, depth};

/// The file in the clone with the address of its remote. It marks the directory as a clone of Opsy.
const ORIGIN_FILE: &str = "opsy-origin";

/// Opens the clone of this address, or creates an empty one.
pub(super) fn open(options: &Options) -> Result<git2::Repository, GitError> {
    let folder = &options.folder;
    let origin = fs::read_to_string(folder.join(ORIGIN_FILE)).unwrap_or_default();
    if origin == options.address.url() {
        match depth::open(folder) {
            Ok(repo) => return Ok(repo),
            Err(error) => warn!(why = error.message(), "the clone cannot be opened: creating a new one"),
        }
    }
    clear(folder)?;
    create(options)
}

fn create(options: &Options) -> Result<git2::Repository, GitError> {
    let folder = &options.folder;
    let failed = |why: String| GitError::CloneDirectory { folder: folder.clone(), why };
    // The marker comes first: without it, a directory that is not empty is never cleared.
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    created.map_err(|error| failed(error.to_string()))?;
    fs::write(folder.join(ORIGIN_FILE), options.address.url()).map_err(|error| failed(error.to_string()))?;
    let mut init = RepositoryInitOptions::new();
    init.bare(true).external_template(false);
    let repo = git2::Repository::init_opts(folder, &init).map_err(|error| GitError::local(folder, &error))?;
    // Credentials must be sent only to the host that they are configured for.
    let configured = repo.config().and_then(|mut config| config.set_str("http.followRedirects", "false"));
    configured.map_err(|error| GitError::local(folder, &error))?;
    Ok(repo)
}

/// Removes a clone of Opsy. A directory with other content is never removed.
pub(super) fn clear(folder: &Path) -> Result<(), GitError> {
    let failed = |error: std::io::Error| GitError::CloneDirectory {
        folder: folder.to_owned(),
        why: error.to_string(),
    };
    match fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(true) => Ok(()),
        Ok(false) if !folder.join(ORIGIN_FILE).is_file() => {
            Err(GitError::ForeignDirectory { folder: folder.to_owned() })
        }
        Ok(false) => fs::remove_dir_all(folder).map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_others_is_never_cleared() {
        let folder = tempfile::tempdir().expect("a directory");
        let thesis = folder.path().join("thesis.tex");
        fs::write(&thesis, "years of work").expect("written");
        assert!(matches!(clear(folder.path()), Err(GitError::ForeignDirectory { .. })));
        assert!(thesis.exists());
    }
}
