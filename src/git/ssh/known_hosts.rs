//! The trusted host keys, from known_hosts files of OpenSSH. Pure.
//!
//! Lines that cannot be parsed are skipped, as in OpenSSH. Host certificates are not supported.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use ssh_key::{HashAlg, PublicKey};

use crate::api::glob::Matcher;

/// The default port, which host names do not contain.
const SSH_PORT: u16 = 22;

/// The trusted host keys.
#[derive(Clone, Debug, Default)]
pub struct KnownHosts {
    entries: Vec<Entry>,
}

/// The error for a host key that is not trusted.
#[derive(Debug, PartialEq, Eq)]
pub struct HostKeyError(pub String);

impl KnownHosts {
    /// Parses the contents of known_hosts files.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let lines = texts.into_iter().flat_map(str::lines);
        let lines = lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { entries: lines.filter_map(|line| line.parse().ok()).collect() }
    }

    /// Returns the entries of a host as lines without hashed names, from which libgit2 selects the algorithm.
    pub fn lines_for(&self, host: &str, port: u16) -> Vec<String> {
        let name = shown(host, port);
        let keys = self.of(host, port).filter(|entry| entry.marker().is_none());
        keys.filter_map(|entry| Some(format!("{name} {}", entry.public_key().to_openssh().ok()?))).collect()
    }

    /// Checks the key of a host.
    ///
    /// # Errors
    /// If the key is not trusted. The error states the remedy.
    pub fn check(&self, host: &str, port: u16, key: &[u8]) -> Result<(), HostKeyError> {
        let name = shown(host, port);
        let key = PublicKey::from_bytes(key).map_err(|_| {
            HostKeyError(format!(
                "the host key of {name} has an algorithm that is not supported: the server needs an Ed25519, ECDSA or \
                 RSA key"
            ))
        })?;
        let is_same_key = |entry: &&Entry| entry.public_key().key_data() == key.key_data();
        let known: Vec<&Entry> = self.of(host, port).collect();
        let print = key.fingerprint(HashAlg::Sha256);
        let algorithm = key.algorithm();
        if known
            .iter()
            .filter(|entry| is_same_key(entry))
            .any(|entry| entry.marker() == Some(&Marker::Revoked))
        {
            return Err(HostKeyError(format!(
                "the host key of {name} ({print}) is revoked in known_hosts: ask the administrator of the \
                 server for its new key"
            )));
        }
        let mut trusted = known.into_iter().filter(|entry| entry.marker().is_none()).peekable();
        if trusted.peek().is_none() {
            return Err(HostKeyError(unknown(&name, &key)));
        }
        let trusted: Vec<&Entry> = trusted.collect();
        if trusted.iter().any(is_same_key) {
            return Ok(());
        }
        let same = trusted.iter().find(|entry| entry.public_key().algorithm() == algorithm);
        Err(HostKeyError(match same {
            Some(entry) => format!(
                "the host key of {name} has changed: the server presents {algorithm} {print}, but known_hosts has {}. \
                 Someone could be intercepting the connection. If the administrator of the server confirms the new \
                 key, replace the line in known_hosts",
                entry.public_key().fingerprint(HashAlg::Sha256)
            ),
            None => format!(
                "the server {name} presents a host key of another algorithm ({algorithm} {print}) than known_hosts has \
                 for it: {}",
                add_line(&name, &key)
            ),
        }))
    }

    /// Returns the entries of a host.
    fn of(&self, host: &str, port: u16) -> impl Iterator<Item = &Entry> {
        let name = shown(host, port);
        self.entries.iter().filter(move |entry| is_named(entry.host_patterns(), &name))
    }
}

fn unknown(name: &str, key: &PublicKey) -> String {
    format!(
        "the host {name} is not in known_hosts (it presents {} {}): {}",
        key.algorithm(),
        key.fingerprint(HashAlg::Sha256),
        add_line(name, key)
    )
}

fn add_line(name: &str, key: &PublicKey) -> String {
    let line = key.to_openssh().unwrap_or_default();
    format!(
        "compare the fingerprint with the one that the administrator of the server publishes, then add the line \
         `{name} {line}`"
    )
}

/// Returns the name of a host in known_hosts.
fn shown(host: &str, port: u16) -> String {
    if port == SSH_PORT { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// Returns true if the patterns of a line match a host. A pattern that excludes the host takes precedence.
fn is_named(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(salt) else { return false };
            mac.update(name.as_bytes());
            mac.verify_slice(hash).is_ok()
        }
        HostPatterns::Patterns(patterns) => {
            let (excluding, naming): (Vec<&str>, Vec<&str>) =
                patterns.iter().map(String::as_str).partition(|pattern| pattern.starts_with('!'));
            let excluded = excluding.iter().any(|pattern| matches(&pattern[1..], name));
            !excluded && naming.iter().any(|pattern| matches(pattern, name))
        }
    }
}

/// Matches `*` and `?`. Brackets are literal: they enclose a host that is followed by a port.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    if !pattern.contains(['*', '?']) {
        return pattern == name;
    }
    let literal = pattern.replace('[', r"\[").replace(']', r"\]").replace('{', r"\{").replace('}', r"\}");
    Matcher::new(&literal).is_ok_and(|glob| glob.is_match(&name))
}

#[cfg(test)]
mod tests;
