//! Who we are to a repository: credentials, and how they reach libgit2. They are never part of an address, and never
//! travel over plain HTTP but on this machine, or where a flag allows it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use git2::cert::Cert;
use git2::{CertificateCheckStatus, Cred, CredentialType, ErrorClass, ErrorCode};

use super::address::Address;
use super::github_app::{App, DEFAULT_API, Tokens};
use super::ssh::{KnownHosts, SshKey};
use super::{GitError, origin};

/// User name sent with a token where none is set: GitHub asks for it, GitLab and Gitea take any.
const TOKEN_USER: &str = "x-access-token";
/// Credentials are a few lines, not a document. A known_hosts file of a whole company fits as well.
const SECRET_LIMIT: u64 = 1024 * 1024;

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
    /// A value of one line.
    fn read(&self) -> Result<String, GitError> {
        let text = self.text()?;
        let value = text.trim_end_matches(['\r', '\n']);
        match value.is_empty() || value.contains(['\n', '\0']) {
            true => Err(GitError::Credentials(format!("{} holds no credentials of one line", self.name()))),
            false => Ok(value.to_owned()),
        }
    }

    /// All of it.
    pub(super) fn text(&self) -> Result<String, GitError> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::File(path) => read_file(path),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Value(_) => "the option".to_owned(),
            Self::File(path) => path.display().to_string(),
        }
    }

    fn file(&self) -> Option<&Path> {
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
        return Err(fail(&format_args!("{size} bytes are too many")));
    }
    std::fs::read_to_string(path).map_err(|error| fail(&error))
}

/// Who we are to the remote, and which hosts are trusted. What an address has no use for is ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// For http(s).
    pub login: Option<LoginSource>,
    /// For SSH: a private key, and its passphrase.
    pub key: Option<(Secret, Option<Secret>)>,
    /// Trusted host keys. Files that do not exist are ignored where they are only the usual ones.
    pub known_hosts: Vec<Secret>,
    /// Whether `known_hosts` are the usual files.
    pub usual_hosts: bool,
    /// Whether the SSH agent of this process may be asked where no key is set. It is the agent's own identity.
    pub ssh_agent: bool,
}

/// Where user name and password come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginSource {
    Password {
        /// Absent with a token.
        username: Option<Secret>,
        /// Password or token.
        password: Secret,
    },
    /// Tokens of a GitHub App.
    App(App, Tokens),
}

impl Credentials {
    pub fn token(token: Secret) -> Self {
        Self::login(None, token)
    }

    pub fn basic(username: Secret, password: Secret) -> Self {
        Self::login(Some(username), password)
    }

    fn login(username: Option<Secret>, password: Secret) -> Self {
        Self { login: Some(LoginSource::Password { username, password }), ..Self::default() }
    }

    /// Reads the Secret of `gitSync.secret`: `username` and `token` or `password`, git-sync's own `GITSYNC_USERNAME` and
    /// `GITSYNC_PASSWORD`, `ssh` (also `ssh-privatekey`) with `known_hosts`, and `passphrase`, or a GitHub App under the
    /// keys of Flux or git-sync.
    ///
    /// # Errors
    /// Which key is missing. `name` is that of the Secret.
    pub fn of_secret(
        name: &str,
        values: &BTreeMap<String, String>,
        tokens: &Tokens,
    ) -> Result<Self, GitError> {
        let value = |keys: &[&str]| look_up(values, keys).cloned().map(Secret::Value);
        let password = value(&["token", "password", "GITSYNC_PASSWORD"]);
        let key = value(&["ssh", "ssh-privatekey"]);
        let app = app_of_secret(name, values)?;
        if password.is_none() && key.is_none() && app.is_none() {
            return Err(GitError::Credentials(format!(
                "Secret {name} has neither `token` (with `username`), `GITSYNC_PASSWORD`, `ssh` nor \
                 `githubAppPrivateKey`: add one of these keys"
            )));
        }
        let username = value(&["username", "GITSYNC_USERNAME"]);
        let of_app = app.map(|app| LoginSource::App(app, tokens.clone()));
        Ok(Self {
            login: password.map(|password| LoginSource::Password { username, password }).or(of_app),
            key: key.map(|key| (key, value(&["passphrase"]))),
            known_hosts: value(&["known_hosts"]).into_iter().collect(),
            usual_hosts: false,
            ssh_agent: false,
        })
    }

    /// Files whose change means new credentials.
    pub fn files(&self) -> Vec<&Path> {
        let login = self.login.iter().flat_map(LoginSource::secrets);
        let key = self.key.iter().flat_map(|(key, passphrase)| [key].into_iter().chain(passphrase));
        login.chain(key).chain(&self.known_hosts).filter_map(Secret::file).collect()
    }

    fn read(&self, address: &Address) -> Result<Option<Login>, GitError> {
        if address.is_ssh() {
            let Some((private, passphrase)) = &self.key else { return Ok(None) };
            let passphrase = passphrase.as_ref().map(Secret::read).transpose()?;
            return SshKey::checked(private.text()?, passphrase, &private.name())
                .map(|key| Some(Login::Key(key)));
        }
        self.login.as_ref().map(LoginSource::read).transpose()
    }

    /// The trusted hosts; `None` where no file says any.
    pub(super) fn hosts(&self) -> Result<Option<KnownHosts>, GitError> {
        let is_there = |secret: &&Secret| !self.usual_hosts || secret.file().is_none_or(Path::exists);
        let texts = self.known_hosts.iter().filter(is_there).map(Secret::text);
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        Ok((!texts.is_empty()).then(|| KnownHosts::read(texts.iter().map(String::as_str))))
    }
}

impl LoginSource {
    fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let (one, other) = match self {
            Self::Password { username, password } => (username.as_ref(), password),
            Self::App(app, _) => (None, &app.key),
        };
        one.into_iter().chain([other])
    }

    fn read(&self) -> Result<Login, GitError> {
        let (user, password) = match self {
            Self::Password { username: Some(user), password } => (user.read()?, password.read()?),
            Self::Password { username: None, password } => (TOKEN_USER.to_owned(), password.read()?),
            Self::App(app, tokens) => (TOKEN_USER.to_owned(), tokens.get(app)?),
        };
        Ok(Login::Password { user, password })
    }
}

/// The first of these keys that has a value. Where a Secret is read from variables, its keys are in upper case.
fn look_up<'a>(values: &'a BTreeMap<String, String>, keys: &[&str]) -> Option<&'a String> {
    let in_any_case = |key: &&str| values.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
    let found = |key: &&str| values.get(*key).or_else(|| in_any_case(key).map(|(_, value)| value));
    keys.iter().filter_map(found).find(|value| !value.is_empty())
}

/// The GitHub App of a Secret, under the keys that Flux or git-sync read.
fn app_of_secret(name: &str, values: &BTreeMap<String, String>) -> Result<Option<App>, GitError> {
    let value = |keys: [&str; 2]| look_up(values, &keys);
    let Some(key) = value(["githubAppPrivateKey", "GITSYNC_GITHUB_APP_PRIVATE_KEY"]) else { return Ok(None) };
    let required = |keys: [&str; 2]| {
        let missing =
            || GitError::Credentials(format!("Secret {name} has `githubAppPrivateKey` and no `{}`", keys[0]));
        value(keys).map(|value| value.trim().to_owned()).ok_or_else(missing)
    };
    let app = App {
        id: required(["githubAppID", "GITSYNC_GITHUB_APP_APPLICATION_ID"])?,
        installation: required(["githubAppInstallationID", "GITSYNC_GITHUB_APP_INSTALLATION_ID"])?,
        key: Secret::Value(key.clone()),
        api: value(["githubAppBaseURL", "GITSYNC_GITHUB_BASE_URL"])
            .map_or(DEFAULT_API, |api| api.trim())
            .to_owned(),
        read_only: true,
    };
    app.check().map(|()| Some(app))
}

/// What is sent on one connection.
enum Login {
    Password { user: String, password: String },
    Key(SshKey),
}

/// Answers libgit2's questions during one connection, and remembers what was asked.
#[derive(Clone)]
pub(super) struct Answers {
    login: Rc<Option<Login>>,
    /// Whose token it is, if it was requested.
    app: Rc<Option<(App, Tokens)>>,
    /// What it is given for.
    address: Rc<Address>,
    hosts: Rc<Option<KnownHosts>>,
    ssh_agent: bool,
    asked: Rc<Cell<u32>>,
    distrust: Rc<RefCell<Option<String>>>,
}

impl Answers {
    /// Reads the credentials. An address to which they would travel in the clear is none (`Address::parse`).
    pub fn new(address: &Address, credentials: Option<&Credentials>) -> Result<Self, GitError> {
        let login = credentials.map(|credentials| credentials.read(address)).transpose()?.flatten();
        let hosts = match credentials.filter(|_| address.is_ssh()) {
            Some(credentials) => credentials.hosts()?,
            None => None,
        };
        let app = credentials.and_then(|credentials| match &credentials.login {
            Some(LoginSource::App(app, tokens)) => Some((app.clone(), tokens.clone())),
            _ => None,
        });
        Ok(Self {
            login: Rc::new(login),
            app: Rc::new(app),
            address: Rc::new(address.clone()),
            hosts: Rc::new(hosts),
            ssh_agent: credentials.is_some_and(|credentials| credentials.ssh_agent),
            asked: Rc::default(),
            distrust: Rc::default(),
        })
    }

    pub fn hosts(&self) -> Option<&KnownHosts> {
        (*self.hosts).as_ref()
    }

    /// libgit2 asks again when an answer was refused: one answer is all there is. It asks with the address it
    /// was redirected to.
    pub fn answer(
        &self,
        url: &str,
        user: Option<&str>,
        allowed: CredentialType,
    ) -> Result<Cred, git2::Error> {
        match self.address.ssh_place() {
            Some((own, ..)) => self.answer_ssh(user.unwrap_or(own), allowed),
            None => self.answer_http(url),
        }
    }

    fn answer_http(&self, url: &str) -> Result<Cred, git2::Error> {
        if !origin::is_same(self.address.url(), url) {
            let why = format!("cannot redirect credentials to {}", origin::shown(url));
            return Err(git2::Error::new(ErrorCode::GenericError, ErrorClass::Net, why));
        }
        let refuse = |why: &str| Err(git2::Error::new(ErrorCode::Auth, ErrorClass::Http, why));
        match (&*self.login, self.asked.replace(self.asked.get() + 1)) {
            (Some(Login::Password { user, password }), 0) => Cred::userpass_plaintext(user, password),
            (Some(_), _) => {
                if let Some((app, tokens)) = &*self.app {
                    tokens.discard(app);
                }
                refuse("user name, password or token are wrong")
            }
            (None, _) => refuse("no credentials are set"),
        }
    }

    fn answer_ssh(&self, user: &str, allowed: CredentialType) -> Result<Cred, git2::Error> {
        let refuse = |why: &str| Err(git2::Error::new(ErrorCode::Auth, ErrorClass::Ssh, why));
        if allowed.is_username() {
            return Cred::username(user);
        }
        if !allowed.intersects(CredentialType::SSH_KEY | CredentialType::SSH_MEMORY) {
            return refuse("the server takes no SSH keys");
        }
        match (&*self.login, self.asked.replace(self.asked.get() + 1)) {
            (Some(Login::Key(key)), 0) => {
                Cred::ssh_key_from_memory(user, None, &key.private, key.passphrase.as_deref())
            }
            (Some(_), _) => refuse("the SSH key is refused"),
            (None, _) if !self.ssh_agent => {
                refuse("no SSH key is set; name a Secret with the key `ssh` in spec.gitSync.secret")
            }
            (None, 0) => Cred::ssh_key_from_agent(user),
            (None, _) => refuse("no SSH key is set, and the server takes none of the SSH agent's"),
        }
    }

    /// Is the server the one it claims to be? TLS decides by itself.
    pub fn check(&self, certificate: &Cert<'_>) -> Result<CertificateCheckStatus, git2::Error> {
        let Some(key) = certificate.as_hostkey() else {
            return Ok(CertificateCheckStatus::CertificatePassthrough);
        };
        let why = match (self.address.ssh_place(), key.hostkey(), &*self.hosts) {
            (Some((_, host, port)), Some(key), hosts) => {
                let none = KnownHosts::default();
                hosts.as_ref().unwrap_or(&none).check(host, port, key).err().map(|distrust| distrust.0)
            }
            _ => Some("the server presents no host key that could be checked".to_owned()),
        };
        let Some(why) = why else { return Ok(CertificateCheckStatus::CertificateOk) };
        *self.distrust.borrow_mut() = Some(why.clone());
        Err(git2::Error::new(ErrorCode::Certificate, ErrorClass::Ssh, why))
    }

    /// Why the host was not trusted, if it was not.
    pub fn distrust(&self) -> Option<String> {
        self.distrust.borrow().clone()
    }

    /// Is it about keys, rather than a user name and password?
    pub fn is_ssh(&self) -> bool {
        self.address.is_ssh()
    }

    /// Was the remote asking, with nothing to answer?
    pub fn had_none(&self) -> bool {
        self.login.is_none() && self.asked.get() > 0
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::network::Network;

    #[test]
    fn credentials_go_where_they_were_given_for() {
        let credentials = Credentials::token(Secret::Value("t".to_owned()));
        let address = Address::parse("https://h/r").expect("an address");
        let answers = || Answers::new(&address, Some(&credentials)).expect("answers");
        assert!(answers().answer_http("https://h:443/r").is_ok());
        for elsewhere in ["https://h:8443/r", "http://h/r", "https://other/r"] {
            let refused = answers().answer_http(elsewhere).err().expect("refused");
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
        let address = Address::parse("https://h/r").expect("an address");
        let read = || match credentials.read(&address) {
            Ok(Some(Login::Password { user, password })) => Ok((user, password)),
            other => Err(other.err().map(|error| error.to_string())),
        };
        assert!(read().is_err_and(|error| error.is_some_and(|words| words.contains("token"))));
        std::fs::write(&path, "one\n").expect("written");
        assert_eq!(read(), Ok((TOKEN_USER.into(), "one".into())));
        std::fs::write(&path, "two").expect("written");
        assert_eq!(read().map(|(_, password)| password), Ok("two".into()));
        std::fs::write(&path, "\n").expect("written");
        assert!(read().is_err());
    }

    #[tokio::test]
    async fn all_forms_of_a_secret_are_read() {
        let tokens = Tokens::new(&Network::default(), || Timestamp::UNIX_EPOCH).expect("a client");
        let secret = |pairs: &[(&str, &str)]| {
            let values = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            Credentials::of_secret("team/git", &values, &tokens)
        };
        let own = secret(&[("username", "ann"), ("token", "t")]).expect("credentials");
        assert_eq!(
            own,
            secret(&[("GITSYNC_USERNAME", "ann"), ("GITSYNC_PASSWORD", "t")]).expect("credentials")
        );
        assert_eq!(own, Credentials::basic(Secret::Value("ann".into()), Secret::Value("t".into())));
        assert_eq!(own, secret(&[("USERNAME", "ann"), ("TOKEN", "t")]).expect("credentials from variables"));
        let ssh = secret(&[("ssh", "key"), ("known_hosts", "line")]).expect("credentials");
        assert!(ssh.login.is_none() && ssh.key.is_some() && ssh.known_hosts.len() == 1);
        let flux = [("githubAppID", "1"), ("githubAppInstallationID", "2"), ("githubAppPrivateKey", "key")];
        let git_sync = [
            ("GITSYNC_GITHUB_APP_APPLICATION_ID", "1"),
            ("GITSYNC_GITHUB_APP_INSTALLATION_ID", "2\n"),
            ("GITSYNC_GITHUB_APP_PRIVATE_KEY", "key"),
        ];
        let app = secret(&flux).expect("an App");
        assert_eq!(app, secret(&git_sync).expect("the same App"));
        assert!(
            matches!(&app.login, Some(LoginSource::App(app, _)) if app.read_only && app.id == "1"),
            "{app:?}"
        );
        let error = secret(&flux[1..]).expect_err("no App ID").to_string();
        assert!(error.contains("no `githubAppID`"), "{error}");
        for missing in [&[][..], &[("username", "ann")], &[("token", "")], &[("known_hosts", "line")]] {
            let error = secret(missing).expect_err("a key is missing").to_string();
            assert!(
                error.contains("team/git") && error.contains("`token`") && error.contains("`ssh`"),
                "{error}"
            );
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let credentials = Credentials::basic(Secret::Value("ann".into()), Secret::Value("hunter2".into()));
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
