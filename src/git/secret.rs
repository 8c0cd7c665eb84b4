//! The secret values of credentials, in memory or in a file that is read for each use.

use std::fmt;
use std::path::{Path, PathBuf};

use super::GitError;

/// The maximum size of a file. Credentials have a few lines; the known_hosts file of a large company also fits.
const SECRET_LIMIT: u64 = 1024 * 1024;

/// A secret value, or the file that contains it. The file is read for each use, so that the secret can be rotated.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Value(String),
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(_) => f.write_str("Value(…)"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

impl Secret {
    /// Returns the value, which must be one line. Line breaks at the end are removed.
    pub(super) fn read(&self) -> Result<String, GitError> {
        let text = self.text()?;
        let value = text.trim_end_matches(['\r', '\n']);
        match value.is_empty() || value.contains(['\n', '\0']) {
            true => Err(GitError::Credentials(format!(
                "{} must contain one line with the credentials, and nothing else",
                self.name()
            ))),
            false => Ok(value.to_owned()),
        }
    }

    /// Returns the whole value.
    pub(super) fn text(&self) -> Result<String, GitError> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::File(path) => read_file(path),
        }
    }

    /// Returns the name of the source, for errors.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Value(_) => "the configured value".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    pub(super) fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Value(_) => None,
        }
    }
}

fn read_file(path: &Path) -> Result<String, GitError> {
    let fail =
        |why: &dyn fmt::Display| GitError::Credentials(format!("credentials file {}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| fail(&error))?.len();
    if size > SECRET_LIMIT {
        return Err(fail(&format_args!("has {size} bytes, which is too large")));
    }
    std::fs::read_to_string(path).map_err(|error| fail(&error))
}
