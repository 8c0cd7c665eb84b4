//! The secret of the webhook: a value, or a file that is read for each delivery, so that the secret can be rotated
//! without a restart.

use std::fmt;
use std::path::PathBuf;

/// A shorter secret can be guessed from one recorded delivery. GitHub, GitLab and Gitea accept any length.
pub const SHORTEST: usize = 16;
/// Two during a rotation: the old one and the new one.
const MOST: usize = 2;
/// Enough for any file of two lines.
const MOST_BYTES: u64 = 64 * 1024;

/// Where the secret comes from.
#[derive(Clone)]
pub enum Secret {
    Value(String),
    File(PathBuf),
}

/// Why a secret cannot be used. Never contains a part of the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSecret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl Secret {
    /// Returns the secrets that are valid now.
    ///
    /// # Errors
    /// The file cannot be read, a secret is too short, or there are too many secrets.
    pub async fn read(&self) -> Result<Vec<String>, InvalidSecret> {
        let failed = |why: &dyn fmt::Display| InvalidSecret(format!("{}: {why}", self.name()));
        let text = match self {
            Self::Value(value) => value.clone(),
            Self::File(path) => {
                let size = tokio::fs::metadata(path).await.map_err(|error| failed(&error))?.len();
                if size > MOST_BYTES {
                    return Err(failed(&format_args!("has {size} bytes, more than {MOST_BYTES}")));
                }
                tokio::fs::read_to_string(path).await.map_err(|error| failed(&error))?
            }
        };
        lines(&text).map_err(|why| failed(&why))
    }

    fn name(&self) -> String {
        match self {
            Self::Value(_) => "OPSY_WEBHOOK_SECRET".to_owned(),
            Self::File(path) => format!("--webhook-secret-file {}", path.display()),
        }
    }
}

/// Returns the lines of a string, each of which is a secret. Spaces around a line and empty lines are ignored.
fn lines(text: &str) -> Result<Vec<String>, String> {
    let secrets: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match secrets.len() {
        0 => return Err("holds no secret".to_owned()),
        1..=MOST => {}
        count => {
            return Err(format!(
                "has {count} lines: it must have one secret, or two during a rotation, one per line"
            ));
        }
    }
    if let Some(short) = secrets.iter().find(|secret| secret.len() < SHORTEST) {
        let length = short.len();
        return Err(format!(
            "holds a secret of {length} characters: it must have at least {SHORTEST}; create one with `openssl rand -hex 32`"
        ));
    }
    Ok(secrets.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_line_of_some_length_and_a_rotation_has_two() {
        let (one, two) = ("0123456789abcdef", "fedcba9876543210");
        assert_eq!(lines(&format!("{one}\n")), Ok(vec![one.to_owned()]));
        assert_eq!(lines(&format!("{one}\r\n\n {two} \n")), Ok(vec![one.to_owned(), two.to_owned()]));
        for (text, words) in [
            ("", "holds no secret"),
            (" \n\n", "holds no secret"),
            ("hunter2", "at least 16"),
            ("0123456789abcdef\nhunter2", "at least 16"),
            ("0123456789abcdef\n0123456789abcdeg\n0123456789abcdeh", "has 3 lines"),
        ] {
            let error = lines(text).expect_err("refused");
            assert!(error.contains(words) && !error.contains("hunter2"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_file_is_read_for_each_use_and_nothing_is_printed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let secret = Secret::File(path.clone());
        assert!(
            secret.read().await.is_err_and(|error| error.to_string().starts_with("--webhook-secret-file"))
        );
        for text in ["0123456789abcdef", "fedcba9876543210"] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(secret.read().await, Ok(vec![text.to_owned()]));
        }
        let value = Secret::Value("0123456789abcdef".to_owned());
        assert_eq!(format!("{value:?}"), "OPSY_WEBHOOK_SECRET");
    }
}
