//! The credentials for a repository, and the callbacks that pass them to libgit2. They are never part of an address.
//! They are sent over plain HTTP only to this machine, or if a flag allows it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use git2::cert::Cert;
use git2::{CertificateCheckStatus, Cred, CredentialType, ErrorClass, ErrorCode};

use super::address::Address;
use super::github_app::{App, Tokens};
use super::secret::Secret;
use super::ssh::{KnownHosts, SshKey};
use super::{GitError, origin};
use crate::api::git_host::GITHUB_API;

/// The user name that is sent with a token if none is set: the one of GitHub. GitLab and Gitea accept any name.
const TOKEN_USER: &str = "x-access-token";

/// The credentials for a remote, and the trusted host keys. Parts that do not apply to an address are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// For http(s) addresses.
    pub login: Option<LoginSource>,
    /// For SSH addresses: the private key and its passphrase.
    pub key: Option<(Secret, Option<Secret>)>,
    /// Trusted host keys.
    pub known_hosts: Vec<Secret>,
    /// Whether `known_hosts` are the default files of OpenSSH, which need not exist.
    pub usual_hosts: bool,
    /// Whether the SSH agent of this process may be used if no key is set. It holds keys of the agent itself.
    pub ssh_agent: bool,
}

/// The source of user name and password.
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

    /// Reads the Secret of `gitSync.secret`. Its keys are one of:
    /// - `username` and `token` or `password`, or `GITSYNC_USERNAME` and `GITSYNC_PASSWORD` of git-sync;
    /// - `ssh` or `ssh-privatekey`, with `known_hosts` and `passphrase`;
    /// - those of Flux or git-sync for a GitHub App.
    ///
    /// # Errors
    /// If a key is missing. `name` is the name of the Secret.
    pub fn of_secret(
        name: &str,
        values: &BTreeMap<String, String>,
        tokens: &Tokens,
    ) -> Result<Self, GitError> {
        let value = |keys: &[&str]| first_value(values, keys).cloned().map(Secret::Value);
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

    /// Returns the token or password for http(s) addresses, for the API of the same server.
    ///
    /// # Errors
    /// It cannot be read, or the App gets none.
    pub async fn token_for_api(&self) -> Result<Option<String>, GitError> {
        match &self.login {
            None => Ok(None),
            Some(LoginSource::Password { password, .. }) => password.read().map(Some),
            Some(LoginSource::App(app, tokens)) => tokens.token(app).await.map(Some),
        }
    }

    /// Returns the files that contain the credentials, to watch them.
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

    /// Reads the trusted host keys, and returns whether there is a file of them.
    pub fn has_hosts(&self) -> Result<bool, GitError> {
        self.hosts().map(|hosts| hosts.is_some())
    }

    /// Returns the trusted host keys; `None` if there is no file of them.
    pub(super) fn hosts(&self) -> Result<Option<KnownHosts>, GitError> {
        let exists = |secret: &&Secret| !self.usual_hosts || secret.file().is_none_or(Path::exists);
        let texts = self.known_hosts.iter().filter(exists).map(Secret::text);
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        Ok((!texts.is_empty()).then(|| KnownHosts::read(texts.iter().map(String::as_str))))
    }
}

impl LoginSource {
    fn secrets(&self) -> impl Iterator<Item = &Secret> {
        let (username, password) = match self {
            Self::Password { username, password } => (username.as_ref(), password),
            Self::App(app, _) => (None, &app.key),
        };
        username.into_iter().chain([password])
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

/// Returns the value of the first of these keys that has one. If a Secret is read from environment variables, its keys
/// are in upper case.
fn first_value<'a>(values: &'a BTreeMap<String, String>, keys: &[&str]) -> Option<&'a String> {
    let in_any_case = |key: &&str| values.iter().find(|(name, _)| name.eq_ignore_ascii_case(key));
    let found = |key: &&str| values.get(*key).or_else(|| in_any_case(key).map(|(_, value)| value));
    keys.iter().filter_map(found).find(|value| !value.is_empty())
}

/// Returns the GitHub App of a Secret, from the keys of Flux or git-sync.
fn app_of_secret(name: &str, values: &BTreeMap<String, String>) -> Result<Option<App>, GitError> {
    let value = |keys: [&str; 2]| first_value(values, &keys);
    let Some(key) = value(["githubAppPrivateKey", "GITSYNC_GITHUB_APP_PRIVATE_KEY"]) else { return Ok(None) };
    let required = |keys: [&str; 2]| {
        let missing = || {
            GitError::Credentials(format!(
                "Secret {name} has `githubAppPrivateKey` but no `{}`: add it",
                keys[0]
            ))
        };
        value(keys).map(|value| value.trim().to_owned()).ok_or_else(missing)
    };
    let app = App {
        id: required(["githubAppID", "GITSYNC_GITHUB_APP_APPLICATION_ID"])?,
        installation: required(["githubAppInstallationID", "GITSYNC_GITHUB_APP_INSTALLATION_ID"])?,
        key: Secret::Value(key.clone()),
        api: value(["githubAppBaseURL", "GITSYNC_GITHUB_BASE_URL"])
            .map_or(GITHUB_API, |api| api.trim())
            .to_owned(),
        read_only: true,
    };
    app.check().map(|()| Some(app))
}

/// The credentials that are sent on one connection.
enum Login {
    Password { user: String, password: String },
    Key(SshKey),
}

/// The callbacks of libgit2 for one connection. They provide the credentials, check the host key, and record what the
/// remote requested.
#[derive(Clone)]
pub(super) struct Authenticator {
    login: Rc<Option<Login>>,
    /// The App whose token is sent, if there is one.
    app: Rc<Option<(App, Tokens)>>,
    /// The address that the credentials are for.
    address: Rc<Address>,
    hosts: Rc<Option<KnownHosts>>,
    ssh_agent: bool,
    requests: Rc<Cell<u32>>,
    host_key_error: Rc<RefCell<Option<String>>>,
}

impl Authenticator {
    /// Reads the credentials. `Address::parse` has refused addresses to which they would be sent in clear text.
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
            requests: Rc::default(),
            host_key_error: Rc::default(),
        })
    }

    pub fn hosts(&self) -> Option<&KnownHosts> {
        (*self.hosts).as_ref()
    }

    /// Returns user and password for requests to the address itself.
    pub fn login(&self) -> Option<(&str, &str)> {
        match &*self.login {
            Some(Login::Password { user, password }) => Some((user, password)),
            Some(Login::Key(_)) | None => None,
        }
    }

    /// Returns the credentials. If the server refuses them, libgit2 requests them again: that is an error, since there
    /// are no others. `url` is the address that the server redirects to, if it does.
    pub fn credentials(
        &self,
        url: &str,
        user: Option<&str>,
        allowed: CredentialType,
    ) -> Result<Cred, git2::Error> {
        match self.address.ssh_endpoint() {
            Some((own, ..)) => self.ssh_credentials(user.unwrap_or(own), allowed),
            None => self.http_credentials(url),
        }
    }

    fn http_credentials(&self, url: &str) -> Result<Cred, git2::Error> {
        if !origin::is_same(self.address.url(), url) {
            let why = format!("cannot redirect credentials to {}", origin::shown(url));
            return Err(git2::Error::new(ErrorCode::GenericError, ErrorClass::Net, why));
        }
        let refuse = |why: &str| Err(git2::Error::new(ErrorCode::Auth, ErrorClass::Http, why));
        match (&*self.login, self.requests.replace(self.requests.get() + 1)) {
            (Some(Login::Password { user, password }), 0) => Cred::userpass_plaintext(user, password),
            (Some(_), _) => {
                if let Some((app, tokens)) = &*self.app {
                    tokens.discard(app);
                }
                refuse("the user name, password or token is wrong")
            }
            (None, _) => refuse("no credentials are set"),
        }
    }

    fn ssh_credentials(&self, user: &str, allowed: CredentialType) -> Result<Cred, git2::Error> {
        let refuse = |why: &str| Err(git2::Error::new(ErrorCode::Auth, ErrorClass::Ssh, why));
        if allowed.is_username() {
            return Cred::username(user);
        }
        if !allowed.intersects(CredentialType::SSH_KEY | CredentialType::SSH_MEMORY) {
            return refuse("the server does not accept SSH keys");
        }
        match (&*self.login, self.requests.replace(self.requests.get() + 1)) {
            (Some(Login::Key(key)), 0) => {
                Cred::ssh_key_from_memory(user, None, &key.private, key.passphrase.as_deref())
            }
            (Some(_), _) => refuse("the server does not accept the SSH key"),
            (None, _) if !self.ssh_agent => {
                refuse("no SSH key is set; name a Secret with the key `ssh` in spec.gitSync.secret")
            }
            (None, 0) => Cred::ssh_key_from_agent(user),
            (None, _) => refuse("no SSH key is set, and the server accepts no key of the SSH agent"),
        }
    }

    /// Checks the host key of an SSH server. libgit2 checks the certificates of TLS servers itself.
    pub fn check(&self, certificate: &Cert<'_>) -> Result<CertificateCheckStatus, git2::Error> {
        let Some(key) = certificate.as_hostkey() else {
            return Ok(CertificateCheckStatus::CertificatePassthrough);
        };
        let why = match (self.address.ssh_endpoint(), key.hostkey(), &*self.hosts) {
            (Some((_, host, port)), Some(key), hosts) => {
                let none = KnownHosts::default();
                hosts.as_ref().unwrap_or(&none).check(host, port, key).err().map(|error| error.0)
            }
            _ => Some("the server presents no host key that can be checked".to_owned()),
        };
        let Some(why) = why else { return Ok(CertificateCheckStatus::CertificateOk) };
        *self.host_key_error.borrow_mut() = Some(why.clone());
        Err(git2::Error::new(ErrorCode::Certificate, ErrorClass::Ssh, why))
    }

    /// Returns why the host key was refused, if it was.
    pub fn host_key_error(&self) -> Option<String> {
        self.host_key_error.borrow().clone()
    }

    /// Returns true if the address is an SSH address.
    pub fn is_ssh(&self) -> bool {
        self.address.is_ssh()
    }

    /// Returns true if the remote requested credentials and none are set.
    pub fn lacks_credentials(&self) -> bool {
        self.login.is_none() && self.requests.get() > 0
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
        let authenticator = || Authenticator::new(&address, Some(&credentials)).expect("an authenticator");
        assert!(authenticator().http_credentials("https://h:443/r").is_ok());
        for elsewhere in ["https://h:8443/r", "http://h/r", "https://other/r"] {
            let refused = authenticator().http_credentials(elsewhere).err().expect("refused");
            assert!(matches!(GitError::remote("https://h/r", &refused), GitError::Redirected { .. }));
        }
    }

    #[test]
    fn credentials_stay_off_plain_http() {
        let credentials = Credentials::token(Secret::Value("t".to_owned()));
        let accepted = |url: &str| {
            Address::parse(url).is_ok_and(|address| Authenticator::new(&address, Some(&credentials)).is_ok())
        };
        assert!(
            accepted("https://h/r") && accepted("http://localhost:1/r") && accepted("http://127.3.2.1/r")
        );
        assert!(accepted("http://[::1]:8080/r"));
        assert!(
            !accepted("http://h/r")
                && !accepted("http://10.0.0.1/r")
                && !accepted("http://localhost.example/r")
        );
    }

    #[test]
    fn files_are_read_for_each_use() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("token");
        let credentials = Credentials::token(Secret::File(path.clone()));
        let address = Address::parse("https://h/r").expect("an address");
        let read = || match credentials.read(&address) {
            Ok(Some(Login::Password { user, password })) => Ok((user, password)),
            other => Err(other.err().map(|error| error.to_string())),
        };
        assert!(read().is_err_and(|error| error.is_some_and(|message| message.contains("token"))));
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
