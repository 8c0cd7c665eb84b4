//! Which host keys are trusted: OpenSSH's known_hosts. Pure.
//!
//! A line that cannot be read is skipped, as OpenSSH does. Certificates of hosts are not supported.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use ssh_key::{HashAlg, PublicKey};

use crate::api::glob::Matcher;

/// The port that names of hosts do not show.
const SSH_PORT: u16 = 22;

/// Trusted keys of hosts.
#[derive(Clone, Debug, Default)]
pub struct KnownHosts {
    entries: Vec<Entry>,
}

/// A host key that is not trusted, in words.
#[derive(Debug, PartialEq, Eq)]
pub struct Distrust(pub String);

impl KnownHosts {
    /// Reads the lines of files of that format.
    pub fn read<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let lines = texts.into_iter().flat_map(str::lines);
        let lines = lines.map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self { entries: lines.filter_map(|line| line.parse().ok()).collect() }
    }

    /// The entries of a host, as lines that name it in clear, for libgit2 to choose the algorithm by.
    pub fn lines_for(&self, host: &str, port: u16) -> Vec<String> {
        let name = shown(host, port);
        let keys = self.of(host, port).filter(|entry| entry.marker().is_none());
        keys.filter_map(|entry| Some(format!("{name} {}", entry.public_key().to_openssh().ok()?))).collect()
    }

    /// Is this the key of the host?
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn check(&self, host: &str, port: u16, key: &[u8]) -> Result<(), Distrust> {
        let name = shown(host, port);
        let key = PublicKey::from_bytes(key).map_err(|_| {
            Distrust(format!("the host key of {name} has an algorithm that is not supported"))
        })?;
        let is_it = |entry: &&Entry| entry.public_key().key_data() == key.key_data();
        let known: Vec<&Entry> = self.of(host, port).collect();
        let print = key.fingerprint(HashAlg::Sha256);
        let algorithm = key.algorithm();
        if known.iter().filter(|entry| is_it(entry)).any(|entry| entry.marker() == Some(&Marker::Revoked)) {
            return Err(Distrust(format!("the host key of {name} ({print}) is revoked in known_hosts")));
        }
        let mut trusted = known.into_iter().filter(|entry| entry.marker().is_none()).peekable();
        if trusted.peek().is_none() {
            return Err(Distrust(unknown(&name, &key)));
        }
        let trusted: Vec<&Entry> = trusted.collect();
        if trusted.iter().any(is_it) {
            return Ok(());
        }
        let same = trusted.iter().find(|entry| entry.public_key().algorithm() == algorithm);
        Err(Distrust(match same {
            Some(entry) => format!(
                "the host key of {name} has changed: the server presents {algorithm} {print}, and known_hosts has {}. Somebody \
                 may be intercepting the connection. If the administrator of the server confirms the new key, replace the line",
                entry.public_key().fingerprint(HashAlg::Sha256)
            ),
            None => format!(
                "the server {name} presents a key of another algorithm ({algorithm} {print}) than known_hosts has for it: {}",
                add_line(&name, &key)
            ),
        }))
    }

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

/// A host as known_hosts names it.
fn shown(host: &str, port: u16) -> String {
    if port == SSH_PORT { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// Do the patterns of a line name a host? One that excludes it decides.
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

/// `*` and `?` as in names of files; brackets belong to a host with a port.
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
