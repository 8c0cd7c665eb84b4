//! The callbacks that pass credentials to libgit2 for one connection. They are sent to the server of the address alone, and
//! over plain HTTP only to this machine, or if a flag allows it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use git2::cert::Cert;
use git2::{CertificateCheckStatus, Cred, CredentialType, ErrorClass, ErrorCode};

use super::address::Address;
use super::auth::{Credentials, Login, LoginSource};
use super::github_app::{App, Tokens};
use super::ssh::KnownHosts;
use super::{GitError, origin};

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
    use super::*;
    use crate::git::secret::Secret;

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
}
