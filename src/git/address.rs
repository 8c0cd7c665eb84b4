//! The addresses of repositories: local paths, and http(s) and SSH addresses without credentials. Any other address is
//! refused, and the error shows the correct form. Prefixes of addresses can be mapped to mirrors.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::GitError;

/// The default user of an SSH address: all forges use this name.
const SSH_USER: &str = "git";
const SSH_PORT: u16 = 22;
/// Hosts whose pages show clone URLs with a user or organization before the host. It has no effect and is removed.
const NAMED_HOSTS: [&str; 2] = ["dev.azure.com", "bitbucket.org"];
/// A longer name is probably a token.
const LONGEST_NAME: usize = 50;

/// The address of a repository as configured, and the address where it is reached. Neither contains credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: String,
    /// The same as `text`, unless `--git-rewrite` maps it to a mirror.
    url: String,
    location: Location,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Location {
    Local(PathBuf),
    Http { host: String },
    Ssh { user: String, host: String, port: u16 },
}

/// The rules for addresses that flags set.
#[derive(Clone, Debug, Default)]
pub struct AddressRules {
    /// Whether plain HTTP to another machine is allowed: `--insecure-http`.
    pub insecure_http: bool,
    /// Prefixes and their replacements: `--git-rewrite`.
    pub rewrites: Vec<(String, String)>,
}

impl AddressRules {
    /// Parses the values of the flags.
    ///
    /// # Errors
    /// If a mapping is not `<prefix>=<prefix>`.
    pub fn new(insecure_http: bool, rewrites: &[String]) -> Result<Self, String> {
        let read = |rule: &String| {
            let parts = rule.split_once('=').filter(|(from, to)| !from.is_empty() && !to.is_empty());
            let (from, to) = parts.ok_or_else(|| {
                format!(
                    "{rule:?} must be <prefix>=<prefix>: the start of the addresses, '=', and its replacement"
                )
            })?;
            Ok((from.to_owned(), to.to_owned()))
        };
        rewrites
            .iter()
            .map(read)
            .collect::<Result<_, String>>()
            .map(|rewrites| Self { insecure_http, rewrites })
    }

    /// Applies the mappings to an address. If several prefixes match, the longest is used, as with Git's `insteadOf`.
    fn rewritten<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let matching = self.rewrites.iter().filter(|(from, _)| text.starts_with(from.as_str()));
        match matching.max_by_key(|(from, _)| from.len()) {
            Some((from, to)) => Cow::Owned(format!("{to}{}", &text[from.len()..])),
            None => Cow::Borrowed(text),
        }
    }

    /// Parses an address. A relative path is relative to the current directory.
    ///
    /// # Errors
    /// If the address contains credentials (the error does not repeat them), has a scheme that is not supported, or is
    /// plain HTTP to another machine: anyone on the network path could then change what is built.
    pub fn parse(&self, text: &str) -> Result<Address, GitError> {
        let url = self.rewritten(text);
        let reached = Address::read(&url)?.check_plain_http(self.insecure_http)?;
        match url {
            Cow::Borrowed(_) => Ok(reached),
            // Status and tags show the address as configured, so it must not contain credentials either.
            Cow::Owned(_) => Ok(Address { text: Address::read(text)?.text, ..reached }),
        }
    }

    /// Parses an address in a manifest. It must not be a directory of the agent's machine, which authors of manifests
    /// must not be able to read.
    ///
    /// # Errors
    /// As `parse`, and if the address is a path.
    pub fn parse_remote(&self, text: &str) -> Result<Address, GitError> {
        let address = self.parse(text)?;
        let is_written_as_path =
            !text.contains("://") && scp_like(text).is_none() || text.starts_with("file://");
        match address.path() {
            Some(_) if is_written_as_path => Err(GitError::Address(format!(
                "{text:?} is a directory of the agent's machine: use an address such as https://host/path or \
                 user@host:path"
            ))),
            _ if leads_up(text) => {
                Err(GitError::Address(format!("the path of {address} must not contain \"..\" or \".\"")))
            }
            _ => Ok(address),
        }
    }
}

impl Address {
    /// Parses an address with the default rules.
    ///
    /// # Errors
    /// As `AddressRules::parse`.
    pub fn parse(text: &str) -> Result<Self, GitError> {
        AddressRules::default().parse(text)
    }

    fn read(text: &str) -> Result<Self, GitError> {
        match text.split_once("://") {
            Some(("http", rest)) => Self::http(text, rest, false),
            Some(("https", rest)) => Self::http(text, rest, true),
            Some(("ssh" | "git+ssh" | "ssh+git", rest)) => Self::ssh(rest),
            Some(("file", path)) => Self::local(Path::new(path)),
            Some((scheme, _)) => Err(GitError::Address(format!(
                "repository addresses with {scheme}:// are not supported: use https://, ssh:// or a path"
            ))),
            None if text.is_empty() => Err(GitError::Address(
                "the repository address is empty: use https://, ssh:// or a path".to_owned(),
            )),
            None => match scp_like(text) {
                Some((authority, path)) => Self::scp(text, authority, path),
                None => Self::local(Path::new(text)),
            },
        }
    }

    /// `[user@]host[:port]/path`.
    fn ssh(rest: &str) -> Result<Self, GitError> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, host) = user_of(authority)?;
        check_host(host)?;
        let name = host_of(host).to_ascii_lowercase();
        let port = host[host.find(']').unwrap_or(0)..]
            .split_once(':')
            .map_or(Ok(SSH_PORT), |(_, port)| port.parse());
        let port = port.map_err(|_| {
            GitError::Address(format!("the port in ssh://{host}/{path} is not a valid number"))
        })?;
        if path.contains(['?', '#'])
            || path.contains(char::is_whitespace)
            || name.is_empty()
            || path.trim_matches('/').is_empty()
        {
            return Err(GitError::Address(format!(
                "ssh://{host}/… does not name a repository: write ssh://{user}@host/path"
            )));
        }
        let text = format!("ssh://{user}@{host}/{}", path.trim_end_matches('/'));
        Ok(Self { url: text.clone(), text, location: Location::Ssh { user, host: name, port } })
    }

    /// `user@host:path`, with a path relative to the user's home directory.
    fn scp(text: &str, authority: &str, path: &str) -> Result<Self, GitError> {
        if !authority.contains('@') {
            return Err(GitError::Address(format!(
                "{text} has no user: write {SSH_USER}@{text}, or ./{text} for a path"
            )));
        }
        let (user, host) = user_of(authority)?;
        check_host(host)?;
        if path.trim_matches('/').is_empty() || path.contains(char::is_whitespace) {
            return Err(GitError::Address(format!(
                "{user}@{host}:… does not name a repository: write {user}@{host}:path"
            )));
        }
        let text = text.trim_end_matches('/').to_owned();
        let host = host_of(host).to_ascii_lowercase();
        Ok(Self { url: text.clone(), text, location: Location::Ssh { user, host, port: SSH_PORT } })
    }

    fn http(text: &str, rest: &str, secure: bool) -> Result<Self, GitError> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let with_account = authority.rsplit_once('@').filter(|(name, host)| is_account(name, host));
        if let Some((_, host)) = with_account.filter(|_| secure) {
            return Self::http(&format!("https://{host}/{path}"), &format!("{host}/{path}"), secure);
        }
        if let Some((_, host)) = authority.rsplit_once('@') {
            // The part before the @ may be a token, so the error does not repeat it.
            let scheme = if secure { "https" } else { "http" };
            let path = path.split(['?', '#']).next().unwrap_or(path);
            if path.contains('@') {
                return Err(GitError::Address(
                    "the repository address must not contain credentials: set a token, or a user name and password, \
                     with flags (in a manifest, with gitSync.secret), and write https://host/path"
                        .to_owned(),
                ));
            }
            return Err(GitError::Address(format!(
                "the repository address must not contain credentials or a user name: set a token, or a user name and \
                 password, with flags (in a manifest, with gitSync.secret), and write {scheme}://{host}/{}",
                path.replace(char::is_whitespace, "%20")
            )));
        }
        if text.contains(['?', '#']) {
            return Err(GitError::Address(
                "the repository address must not contain credentials: set a token, or a user name and password, with \
                 flags (in a manifest, with gitSync.secret), and remove '?' and '#' from the address"
                    .to_owned(),
            ));
        }
        if text.contains(char::is_whitespace) {
            let url = text.trim().replace(char::is_whitespace, "%20");
            return Err(GitError::Address(format!("{text:?} must not contain a space: write {url}")));
        }
        let host = host_of(authority).to_ascii_lowercase();
        if host.is_empty() || path.trim_matches('/').is_empty() {
            return Err(GitError::Address(format!(
                "{text} does not name a repository: write https://host/path"
            )));
        }
        let text = text.trim_end_matches('/').to_owned();
        Ok(Self { url: text.clone(), text, location: Location::Http { host } })
    }

    /// Returns the address, unless it is plain HTTP to another machine and no flag allows that.
    fn check_plain_http(self, insecure_http: bool) -> Result<Self, GitError> {
        if insecure_http || !self.is_plain_http() {
            return Ok(self);
        }
        Err(GitError::Address(format!(
            "{self} is plain HTTP: anyone on the network path could read the credentials and change what is built; use \
             https://, or allow plain HTTP with --insecure-http"
        )))
    }

    fn local(path: &Path) -> Result<Self, GitError> {
        let path = std::path::absolute(path)
            .map_err(|error| GitError::Address(format!("{}: {error}", path.display())))?;
        let text = path.to_str().ok_or_else(|| {
            GitError::Address(format!("the path {} is not UTF-8: use another path", path.display()))
        })?;
        Ok(Self { url: text.to_owned(), text: text.to_owned(), location: Location::Local(path.clone()) })
    }

    /// Returns the address as configured.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the address where the repository is reached.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the directory of a local repository.
    pub fn path(&self) -> Option<&Path> {
        match &self.location {
            Location::Local(path) => Some(path),
            Location::Http { .. } | Location::Ssh { .. } => None,
        }
    }

    /// Returns user, host and port of an SSH address.
    pub(super) fn ssh_endpoint(&self) -> Option<(&str, &str, u16)> {
        match &self.location {
            Location::Ssh { user, host, port } => Some((user, host, *port)),
            Location::Local(_) | Location::Http { .. } => None,
        }
    }

    /// Returns true if the address is plain HTTP to another machine, so that others could read the traffic.
    pub fn is_plain_http(&self) -> bool {
        matches!(&self.location, Location::Http { host } if self.url.starts_with("http://") && !is_loopback(host))
    }

    pub fn is_ssh(&self) -> bool {
        self.ssh_endpoint().is_some()
    }

    /// Returns true for HTTP, with or without TLS.
    pub fn is_http(&self) -> bool {
        matches!(&self.location, Location::Http { .. })
    }

    /// Returns true if `url` names the same repository. Scheme, user, `.git` and trailing slashes are ignored.
    pub fn is_same(&self, url: &str) -> bool {
        let url = normalized(url);
        normalized(&self.text) == url || normalized(&self.url) == url
    }

    /// Returns host and path, which are the same for every way to reach the repository.
    pub fn identity(&self) -> String {
        normalized(&self.text)
    }

    /// Returns the short name of the repository: the last part of its path.
    pub fn short_name(&self) -> String {
        let name = self.identity();
        let name = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        name.strip_suffix(".git").map(str::to_owned).unwrap_or(name)
    }

    /// Returns true for an http(s) address of another machine: connections to this machine never use a proxy.
    pub(super) fn may_use_proxy(&self) -> bool {
        matches!(&self.location, Location::Http { host, .. } if !is_loopback(host))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns true if `name` is a user or organization that a forge shows before its host, and not a token.
fn is_account(name: &str, host: &str) -> bool {
    let is_known = NAMED_HOSTS.iter().any(|known| host.eq_ignore_ascii_case(known));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    is_known && !name.is_empty() && name.len() <= LONGEST_NAME && name.chars().all(is_plain)
}

/// Returns user and host of an SSH address. The error does not repeat a password.
fn user_of(authority: &str) -> Result<(String, &str), GitError> {
    match authority.rsplit_once('@') {
        None => Ok((SSH_USER.to_owned(), authority)),
        Some((user, host)) if user.is_empty() || user.contains([':', '@', '/']) => {
            Err(GitError::Address(format!(
                "the repository address must not contain credentials: write ssh://{SSH_USER}@{host}/path, and set the \
                 SSH key with --git-ssh-key-file (in a manifest, with gitSync.secret)"
            )))
        }
        Some((user, host)) => Ok((user.to_owned(), host)),
    }
}

/// Refuses a host with characters that are not part of host names or IP addresses: hosts are written to known_hosts.
fn check_host(host: &str) -> Result<(), GitError> {
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '[' | ']' | '%');
    match host.chars().all(is_plain) {
        true => Ok(()),
        false => Err(GitError::Address(format!("{host:?} is not a valid host name"))),
    }
}

/// Returns true if a path contains `.` or `..`. With a mirror that is a directory, it could lead out of the directory.
fn leads_up(text: &str) -> bool {
    let text = text.to_ascii_lowercase().replace("%2e", ".");
    text.split(['/', '\\', ':']).any(|step| step == ".." || step == ".")
}

/// Returns the host of `host:port`. IPv6 addresses are in brackets.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Splits `user@host:path`, the form that `scp` uses: a colon before the first slash.
fn scp_like(text: &str) -> Option<(&str, &str)> {
    let at = text.find(']').unwrap_or(0);
    let colon = at + text[at..].find(':')?;
    let (host, path) = (&text[..colon], &text[colon + 1..]);
    (!host.is_empty() && !host.contains('/') && !path.starts_with("//")).then_some((host, path))
}

/// Returns host and path without user and password, to compare addresses and to show the addresses of others.
pub fn normalized(url: &str) -> String {
    let (authority, path) = match url.split_once("://") {
        Some(("file", path)) => ("", path),
        Some((_, rest)) => rest.split_once('/').unwrap_or((rest, "")),
        None => scp_like(url).unwrap_or(("", url)),
    };
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_ascii_lowercase();
    let ssh = url.starts_with("ssh://") || !url.contains("://");
    let default_port = [":22", ":80", ":443"].iter().any(|port| authority.ends_with(port));
    let host = if ssh || default_port { host_of(&authority) } else { &authority };
    let path = path.trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path).trim_end_matches('/');
    format!("{host}/{path}")
}

#[cfg(test)]
mod tests;
