//! The credentials for a repository: where they come from, and their values, which are read for each connection. They are
//! never part of an address. `authenticator` passes them to libgit2.

use std::collections::BTreeMap;
use std::path::Path;

use super::GitError;
use super::address::Address;
use super::github_app::{App, Tokens};
use super::secret::Secret;
use super::ssh::{KnownHosts, SshKey};
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

    /// Reads what is sent to an address.
    pub(super) fn read(&self, address: &Address) -> Result<Option<Login>, GitError> {
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
pub(super) enum Login {
    Password { user: String, password: String },
    Key(SshKey),
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::network::Network;

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
