//! Where a repository is: a local path or an http(s) address, without credentials. What else people write there is
//! refused with what to write.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::GitError;

/// Address of a repository: a local path, or http(s). Holds no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: String,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Local(PathBuf),
    Http { host: String },
}

impl Address {
    /// Checks and takes an address. A relative path is taken from the current directory.
    ///
    /// # Errors
    /// For credentials in it (they are not repeated), for schemes Opsy does not speak, and for plain HTTP to another
    /// machine: whoever is on the way would choose what is built.
    pub fn parse(text: &str) -> Result<Self, GitError> {
        Self::parse_allowing(text, false)
    }

    /// The same; `--insecure-http` allows plain HTTP.
    ///
    /// # Errors
    /// The same.
    pub fn parse_allowing(text: &str, insecure_http: bool) -> Result<Self, GitError> {
        match text.split_once("://") {
            Some(("http", rest)) => Self::http(text, rest, false)?.unless_clear(insecure_http),
            Some(("https", rest)) => Self::http(text, rest, true),
            Some(("file", path)) => Self::local(Path::new(path)),
            Some((scheme, _)) => Err(GitError::Address(format!(
                "repository addresses with {scheme}:// are not supported: use https:// with a token, or a path"
            ))),
            None if scp_like(text).is_some() => Err(GitError::Address(
                "repository addresses over ssh are not supported: use https:// with a token, or a path"
                    .to_owned(),
            )),
            None if text.is_empty() => Err(GitError::Address("the repository address is empty".to_owned())),
            None => Self::local(Path::new(text)),
        }
    }

    fn http(text: &str, rest: &str, secure: bool) -> Result<Self, GitError> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if let Some((_, host)) = authority.rsplit_once('@') {
            // What stands before the @ may be a token: it is not repeated.
            let scheme = if secure { "https" } else { "http" };
            let path = path.split(['?', '#']).next().unwrap_or(path);
            if path.contains('@') {
                return Err(GitError::Address(
                    "credentials do not belong into the repository address: set the token, or user name and \
                     password, by their own options, and write https://host/path"
                        .to_owned(),
                ));
            }
            return Err(GitError::Address(format!(
                "credentials do not belong into the repository address, and a user name is not needed there: \
                 set the token, or user name and password, by their own options, and write \
                 {scheme}://{host}/{}",
                path.replace(char::is_whitespace, "%20")
            )));
        }
        if text.contains(['?', '#']) {
            return Err(GitError::Address(
                "credentials do not belong into the repository address: set the token, or user name and \
                 password, by their own options, and leave '?' and '#' out of the address"
                    .to_owned(),
            ));
        }
        if text.contains(char::is_whitespace) {
            let url = text.trim().replace(char::is_whitespace, "%20");
            return Err(GitError::Address(format!(
                "{text:?} has a blank, which no address has: write {url}"
            )));
        }
        let host = host_of(authority).to_ascii_lowercase();
        if host.is_empty() || path.trim_matches('/').is_empty() {
            return Err(GitError::Address(format!(
                "{text} names no repository: https://host/path is needed"
            )));
        }
        Ok(Self { text: text.trim_end_matches('/').to_owned(), place: Place::Http { host } })
    }

    /// The address, unless what travels to it could be read and changed on its way and no flag allows that.
    fn unless_clear(self, insecure_http: bool) -> Result<Self, GitError> {
        match &self.place {
            Place::Http { host } if !insecure_http && !is_loopback(host) => Err(GitError::Address(format!(
                "{self} is plain HTTP: whoever is on the way could read and change what is built; use https://, or allow \
                 it by --insecure-http"
            ))),
            _ => Ok(self),
        }
    }

    fn local(path: &Path) -> Result<Self, GitError> {
        let path = std::path::absolute(path)
            .map_err(|error| GitError::Address(format!("{}: {error}", path.display())))?;
        let text =
            path.to_str().ok_or_else(|| GitError::Address(format!("{} is not UTF-8", path.display())))?;
        Ok(Self { text: text.to_owned(), place: Place::Local(path.clone()) })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The folder of a local repository.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Local(path) => Some(path),
            Place::Http { .. } => None,
        }
    }

    /// Does `url` name the same repository? Scheme, user, `.git` and trailing slashes aside.
    pub fn is_same(&self, url: &str) -> bool {
        normal(&self.text) == normal(url)
    }

    /// Host and path alone: the same however the repository is reached.
    pub fn identity(&self) -> String {
        normal(&self.text)
    }

    /// What people call the repository: the last step of its path.
    pub fn short_name(&self) -> String {
        let name = self.identity();
        let name = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_owned();
        name.strip_suffix(".git").map(str::to_owned).unwrap_or(name)
    }

    /// A proxy stands between machines, never between a machine and itself.
    pub(super) fn may_use_proxy(&self) -> bool {
        matches!(&self.place, Place::Http { host, .. } if !is_loopback(host))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Host of `host:port`; IPv6 addresses stand in brackets.
fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => authority.split_once(':').map_or(authority, |(host, _)| host),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// `user@host:path`, as ssh's copy command writes it: a colon before the first slash.
fn scp_like(text: &str) -> Option<(&str, &str)> {
    let (host, path) = text.split_once(':')?;
    (!host.is_empty() && !host.contains('/') && !path.starts_with("//")).then_some((host, path))
}

/// Host and path alone, for comparing addresses.
fn normal(url: &str) -> String {
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
mod tests {
    use super::*;

    #[test]
    fn addresses_hold_no_credentials() {
        for text in
            ["https://user:hunter2@h/r.git", "https://hunter2@h/r", "https://h/r?access_token=hunter2"]
        {
            let error = Address::parse(text).expect_err("refused").to_string();
            assert!(error.contains("do not belong") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn plain_http_to_another_machine_is_refused_unless_a_flag_allows_it() {
        for text in ["http://git.example/r", "http://10.0.0.1:3000/r", "http://[2001:db8::1]/r"] {
            let error = Address::parse(text).expect_err("refused").to_string();
            assert!(error.contains("use https://") && error.contains("--insecure-http"), "{error}");
            assert!(Address::parse_allowing(text, true).is_ok(), "{text}");
        }
        for text in
            ["http://127.0.0.1:80/r", "http://localhost/r", "http://[::1]:3000/r", "https://git.example/r"]
        {
            assert!(Address::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn addresses_as_azure_devops_hands_them_out_are_answered_with_what_to_write() {
        let right = "https://dev.azure.com/acme/My%20Project/_git/images";
        for text in [
            "https://acme@dev.azure.com/acme/My%20Project/_git/images",
            "https://acme@dev.azure.com/acme/My Project/_git/images",
            "https://dev.azure.com/acme/My Project/_git/images",
        ] {
            let error = Address::parse(text).expect_err("refused").to_string();
            assert!(error.ends_with(&format!("write {right}")), "{error}");
        }
        Address::parse(right).expect("as it is to be written");
    }

    #[test]
    fn other_schemes_name_what_to_use() {
        for text in ["git@github.com:o/r.git", "ssh://git@h/r", "git://h/r", "", "https://host", "https:///x"]
        {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_become_absolute() {
        let address = Address::parse("some/repo").expect("a path");
        assert!(address.path().is_some_and(Path::is_absolute));
        assert_eq!(
            Address::parse("file:///srv/r.git").expect("a path").path(),
            Some(Path::new("/srv/r.git"))
        );
    }

    #[test]
    fn the_same_repository_in_other_words() {
        let own = Address::parse("https://GitHub.com/org/images.git").expect("an address");
        for same in [
            "https://github.com/org/images",
            "http://github.com/org/images/",
            "https://token@github.com:443/org/images.git/",
            "git@github.com:org/images.git",
            "ssh://git@github.com:22/org/images",
            "github.com:org/images",
        ] {
            assert!(own.is_same(same), "{same}");
        }
        for other in
            ["https://github.com/org/images2", "https://gitlab.com/org/images", "/org/images", "images", ""]
        {
            assert!(!own.is_same(other), "{other}");
        }
        let local = Address::parse("/srv/repo.git").expect("a path");
        assert!(local.is_same("file:///srv/repo.git") && local.is_same("/srv/repo/"));
        let port = Address::parse("http://127.0.0.1:8080/r.git").expect("an address");
        assert!(port.is_same("http://127.0.0.1:8080/r") && !port.is_same("http://127.0.0.1:8081/r"));
    }
}
