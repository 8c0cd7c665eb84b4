//! Who we are to a repository: credentials, and how they reach libgit2. They never stand in an address, and never
//! travel over plain http but on this machine, or where a flag allows it.

use std::cell::Cell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use git2::{Cred, ErrorClass, ErrorCode};

use super::address::Address;
use super::{GitError, origin};

/// User name sent with a token where none is set: GitHub asks for it, GitLab and Gitea take any.
const TOKEN_USER: &str = "x-access-token";
/// A credentials file is a line, not a document.
const SECRET_LIMIT: u64 = 64 * 1024;

/// A secret value, or the file that holds it. A file is read for each use, so that it can be rotated.
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
    fn read(&self) -> Result<String, GitError> {
        let text = match self {
            Self::Value(value) => value.clone(),
            Self::File(path) => read_file(path)?,
        };
        let value = text.trim_end_matches(['\r', '\n']);
        match value.is_empty() || value.contains(['\n', '\0']) {
            true => Err(GitError::Credentials(format!("{} holds no credentials of one line", self.name()))),
            false => Ok(value.to_owned()),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Value(_) => "the option".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

fn read_file(path: &Path) -> Result<String, GitError> {
    let fail =
        |why: &dyn fmt::Display| GitError::Credentials(format!("credentials file {}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| fail(&error))?.len();
    if size > SECRET_LIMIT {
        return Err(fail(&format_args!("{size} bytes are too many")));
    }
    std::fs::read_to_string(path).map_err(|error| fail(&error))
}

/// Who we are to the remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Absent with a token.
    pub username: Option<Secret>,
    /// Password or token.
    pub password: Secret,
}

impl Credentials {
    pub fn token(token: Secret) -> Self {
        Self { username: None, password: token }
    }

    pub fn basic(username: Secret, password: Secret) -> Self {
        Self { username: Some(username), password }
    }

    /// Files whose change means new credentials.
    pub fn files(&self) -> Vec<&Path> {
        [self.username.as_ref(), Some(&self.password)]
            .into_iter()
            .flatten()
            .filter_map(|secret| match secret {
                Secret::File(path) => Some(path.as_path()),
                Secret::Value(_) => None,
            })
            .collect()
    }

    fn read(&self) -> Result<Login, GitError> {
        let user = self.username.as_ref().map_or_else(|| Ok(TOKEN_USER.to_owned()), Secret::read)?;
        Ok(Login { user, password: self.password.read()? })
    }
}

/// User name and password for one connection.
struct Login {
    user: String,
    password: String,
}

/// Answers libgit2's questions for credentials during one connection, and remembers what was asked.
#[derive(Clone)]
pub(super) struct Answers {
    login: Rc<Option<Login>>,
    /// What they were given for.
    address: Rc<str>,
    asked: Rc<Cell<u32>>,
}

impl Answers {
    /// Reads the credentials. An address to which they would travel in the clear is none (`Address::parse`).
    pub fn new(address: &Address, credentials: Option<&Credentials>) -> Result<Self, GitError> {
        let login = credentials.map(Credentials::read).transpose()?;
        Ok(Self { login: Rc::new(login), address: address.as_str().into(), asked: Rc::default() })
    }

    /// libgit2 asks again when an answer was refused: one answer is all there is. It asks with the address it
    /// was redirected to.
    pub fn answer(&self, url: &str) -> Result<Cred, git2::Error> {
        if !origin::is_same(&self.address, url) {
            let why = format!("cannot redirect credentials to {}", origin::shown(url));
            return Err(git2::Error::new(ErrorCode::GenericError, ErrorClass::Net, why));
        }
        let asked = self.asked.replace(self.asked.get() + 1);
        let refuse = |why: &str| git2::Error::new(ErrorCode::Auth, ErrorClass::Http, why);
        match (&*self.login, asked) {
            (Some(login), 0) => Cred::userpass_plaintext(&login.user, &login.password),
            (Some(_), _) => Err(refuse("user name, password or token are wrong")),
            (None, _) => Err(refuse("no credentials are set")),
        }
    }

    /// Was the remote asking, with nothing to answer?
    pub fn had_none(&self) -> bool {
        self.login.is_none() && self.asked.get() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_where_they_were_given_for() {
        let credentials = Credentials::token(Secret::Value("t".to_owned()));
        let address = Address::parse("https://h/r").expect("an address");
        let answers = || Answers::new(&address, Some(&credentials)).expect("answers");
        assert!(answers().answer("https://h:443/r").is_ok());
        for elsewhere in ["https://h:8443/r", "http://h/r", "https://other/r"] {
            let refused = answers().answer(elsewhere).err().expect("refused");
            assert!(matches!(GitError::remote("https://h/r", &refused), GitError::Moved { .. }));
        }
    }

    #[test]
    fn credentials_stay_off_plain_http() {
        let credentials = Credentials::token(Secret::Value("t".to_owned()));
        let fits = |url: &str| {
            Address::parse(url).is_ok_and(|address| Answers::new(&address, Some(&credentials)).is_ok())
        };
        assert!(fits("https://h/r") && fits("http://localhost:1/r") && fits("http://127.3.2.1/r"));
        assert!(fits("http://[::1]:8080/r"));
        assert!(!fits("http://h/r") && !fits("http://10.0.0.1/r") && !fits("http://localhost.example/r"));
    }

    #[test]
    fn files_are_read_for_each_use() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let credentials = Credentials::token(Secret::File(path.clone()));
        assert!(credentials.read().is_err_and(|error| error.to_string().contains("token")));
        std::fs::write(&path, "one\n").expect("written");
        assert_eq!(
            credentials.read().map(|login| (login.user, login.password)).ok(),
            Some((TOKEN_USER.into(), "one".into()))
        );
        std::fs::write(&path, "two").expect("written");
        assert_eq!(credentials.read().map(|login| login.password).ok(), Some("two".into()));
        std::fs::write(&path, "\n").expect("written");
        assert!(credentials.read().is_err());
    }

    #[test]
    fn secrets_are_not_printed() {
        let credentials = Credentials::basic(Secret::Value("ann".into()), Secret::Value("hunter2".into()));
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
