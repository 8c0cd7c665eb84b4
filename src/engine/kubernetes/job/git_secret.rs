//! What git-sync receives of the Secret in `spec.gitSync.secret`, and which Secrets it cannot use, part of the Job.
//! Pure.
//!
//! Over HTTPS the keys are variables. Over SSH the private key and the known hosts are files that only git-sync's
//! container mounts, and no variable contains the private key.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{EnvVar, KeyToPath, SecretKeySelector, SecretVolumeSource, Volume};
use ssh_key::PrivateKey;

use super::variables::{variable, variable_of};
use crate::engine::GitSyncRun;

/// Where git-sync's documentation mounts its Secret.
pub const FOLDER: &str = "/etc/git-secret";
pub const VOLUME: &str = "git-secret";
/// User name for a token whose Secret has none. The agent sends the same one. git-sync refuses a password without it.
const TOKEN_USER: &str = "x-access-token";
/// Keys with a private key. The agent reads the first one that exists.
const PRIVATE_KEYS: [&str; 2] = ["ssh", "ssh-privatekey"];
const KNOWN_HOSTS: &str = "known_hosts";
/// Keys of a Secret with an SSH key that are still passed to git-sync as settings.
const SETTINGS: [&str; 6] = [
    "GITSYNC_DEPTH",
    "GITSYNC_FILTER",
    "GITSYNC_GIT_CONFIG",
    "GITSYNC_SUBMODULES",
    "GITSYNC_SYNC_TIMEOUT",
    "GITSYNC_VERBOSE",
];
/// Only the owner can read, and the kubelet adds the pod's group. OpenSSH refuses a key that others can read.
const MODE: i32 = 0o400;

/// Variables for a repository over HTTPS, in addition to all keys of the Secret. The last one that exists counts.
pub fn login(sync: &GitSyncRun) -> Vec<EnvVar> {
    let Some(secret) = &sync.secret else { return Vec::new() };
    let user = sync.user.iter().map(|user| variable("GITSYNC_USERNAME", user));
    let keys =
        [("GITSYNC_USERNAME", "username"), ("GITSYNC_PASSWORD", "password"), ("GITSYNC_PASSWORD", "token")];
    user.chain(keys.map(|(name, key)| variable_of(name, secret, key))).collect()
}

/// Variables for a repository over SSH.
pub fn ssh(secret: &str) -> Vec<EnvVar> {
    let fixed = [
        ("GITSYNC_SSH_KEY_FILE", format!("{FOLDER}/{}", PRIVATE_KEYS[0])),
        ("GITSYNC_SSH_KNOWN_HOSTS", "true".to_owned()),
        ("GITSYNC_SSH_KNOWN_HOSTS_FILE", format!("{FOLDER}/{KNOWN_HOSTS}")),
        // OpenSSH requires a user with a name, and no image has one for the pod's user ID.
        ("GITSYNC_ADD_USER", "true".to_owned()),
    ];
    let fixed = fixed.map(|(name, value)| variable(name, &value));
    let settings = SETTINGS.map(|name| variable_of(name, secret, name));
    fixed.into_iter().chain(settings).chain([required(secret)]).collect()
}

/// A variable that nothing reads. It makes the kubelet report a missing Secret or key in the pod's status; for a volume
/// that cannot be mounted, it only publishes an Event.
fn required(secret: &str) -> EnvVar {
    let mut variable = variable_of("OPSY_KNOWN_HOSTS", secret, KNOWN_HOSTS);
    let key = variable.value_from.as_mut().and_then(|from| from.secret_key_ref.as_mut());
    if let Some(SecretKeySelector { optional, .. }) = key {
        *optional = Some(false);
    }
    variable
}

/// The files for a repository over SSH. If both private keys exist, the last item counts.
pub fn volume(sync: &GitSyncRun) -> Option<Volume> {
    let name = sync.secret.as_ref().filter(|_| sync.is_ssh())?;
    let item = |key: &str, path: &str| KeyToPath { key: key.to_owned(), path: path.to_owned(), mode: None };
    let keys = PRIVATE_KEYS.iter().rev().map(|key| item(key, PRIVATE_KEYS[0]));
    let secret = SecretVolumeSource {
        secret_name: Some(name.clone()),
        default_mode: Some(MODE),
        items: Some(keys.chain([item(KNOWN_HOSTS, KNOWN_HOSTS)]).collect()),
        optional: Some(true),
    };
    Some(Volume { name: VOLUME.to_owned(), secret: Some(secret), ..Volume::default() })
}

/// The user name for a Secret with these keys, if git-sync needs one and they lack it.
pub fn user(sync: &GitSyncRun, keys: &BTreeMap<String, String>) -> Option<String> {
    let has = |names: &[&str]| names.iter().any(|name| keys.contains_key(*name));
    let is_nameless = has(&["token", "password", "GITSYNC_PASSWORD", "GITSYNC_PASSWORD_FILE"])
        && !has(&["username", "GITSYNC_USERNAME"]);
    (is_nameless && !sync.is_ssh()).then(|| TOKEN_USER.to_owned())
}

/// Why git-sync cannot fetch, as far as this is known without the Secret.
pub fn lacking(sync: &GitSyncRun) -> Option<String> {
    (sync.is_ssh() && sync.secret.is_none()).then(|| {
        format!(
            "git-sync cannot reach {} without an SSH key: name a Secret with the keys `ssh` and `known_hosts` in \
             spec.gitSync.secret",
            sync.repository
        )
    })
}

/// Why git-sync cannot use these keys over SSH. `name` is the name of the Secret.
pub fn unfit(sync: &GitSyncRun, name: &str, keys: &BTreeMap<String, String>) -> Option<String> {
    if !sync.is_ssh() {
        return None;
    }
    let value = |key: &str| keys.get(key).filter(|value| !value.is_empty());
    let why = match PRIVATE_KEYS.iter().find_map(|key| Some((key, value(key)?))) {
        None => format!("has no SSH key, but {} is reached over SSH: add the key `ssh`", sync.repository),
        Some((key, private)) if is_encrypted(private) => format!(
            "has an SSH key with a passphrase (`{key}`), which git-sync does not support: use a deploy key without a \
             passphrase"
        ),
        Some((key, private)) if !private.ends_with('\n') => format!(
            "has an SSH key (`{key}`) without a newline at its end, which OpenSSH cannot read: end it with a newline"
        ),
        Some(_) if value(KNOWN_HOSTS).is_none() => {
            "has no `known_hosts`, but git-sync connects only to known hosts: \
             add the host key of the server, as in ~/.ssh/known_hosts"
                .to_owned()
        }
        Some(_) => return None,
    };
    Some(format!("Secret {name} (spec.gitSync.secret) {why}"))
}

/// Whether a private key is encrypted. In the older formats, a header states it.
fn is_encrypted(private: &str) -> bool {
    PrivateKey::from_openssh(private.trim()).is_ok_and(|key| key.is_encrypted())
        || private.lines().take(3).any(|line| line.contains("ENCRYPTED"))
}

#[cfg(test)]
mod tests {
    use ssh_key::rand_core::OsRng;
    use ssh_key::{Algorithm, LineEnding};

    use super::*;

    /// Keys of a Secret with their values.
    type Keys<'a> = &'a [(&'a str, &'a str)];

    fn sync(repository: &str) -> GitSyncRun {
        GitSyncRun {
            image: "git-sync:4".into(),
            container: "fetch".into(),
            secret: Some("git".into()),
            user: None,
            repository: repository.into(),
        }
    }

    fn keys(pairs: Keys<'_>) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_token_without_a_user_name_gets_the_one_that_the_agent_sends() {
        let https = sync("https://git.example/fleet");
        let user = |pairs: Keys<'_>| user(&https, &keys(pairs));
        for nameless in ["token", "password", "GITSYNC_PASSWORD"] {
            assert_eq!(user(&[(nameless, "t")]).as_deref(), Some("x-access-token"), "{nameless}");
            assert_eq!(user(&[(nameless, "t"), ("username", "ann")]), None);
            assert_eq!(user(&[(nameless, "t"), ("GITSYNC_USERNAME", "ann")]), None);
        }
        assert_eq!(
            user(&[("GITSYNC_GITHUB_APP_CLIENT_ID", "1")]),
            None,
            "git-sync refuses a user name with it"
        );
        assert_eq!(super::user(&sync("git@git.example:fleet"), &keys(&[("token", "t")])), None);
    }

    #[test]
    fn a_secret_that_git_sync_cannot_use_over_ssh_is_explained() {
        let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).expect("a key");
        let plain = key.to_openssh(LineEnding::LF).expect("text").to_string();
        let locked = key.encrypt(&mut OsRng, "words").expect("encrypted");
        let locked = locked.to_openssh(LineEnding::LF).expect("text").to_string();
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n";
        let cases: [(Keys<'_>, Option<&str>); 8] = [
            (&[("ssh", &plain), ("known_hosts", "line")], None),
            (&[("ssh-privatekey", &plain), ("known_hosts", "line")], None),
            // An unnecessary passphrase is ignored.
            (&[("ssh", &plain), ("known_hosts", "line"), ("passphrase", "words")], None),
            (
                &[("ssh", &locked), ("known_hosts", "line"), ("passphrase", "words")],
                Some("passphrase (`ssh`)"),
            ),
            (&[("ssh-privatekey", old), ("known_hosts", "line")], Some("without a passphrase")),
            (&[("ssh", plain.trim_end()), ("known_hosts", "line")], Some("newline")),
            (&[("ssh", &plain), ("known_hosts", "")], Some("no `known_hosts`")),
            (&[("username", "ann"), ("token", "t")], Some("no SSH key")),
        ];
        for (pairs, expected) in cases {
            let why = unfit(&sync("ssh://git@git.example/fleet"), "images/git", &keys(pairs));
            match expected {
                None => assert_eq!(why, None),
                Some(words) => {
                    let why = why.expect(words);
                    assert!(why.starts_with("Secret images/git (spec.gitSync.secret)"), "{why}");
                    assert!(why.contains(words) && !why.contains(plain.trim_end()), "{why}");
                }
            }
            assert_eq!(unfit(&sync("https://git.example/fleet"), "images/git", &keys(pairs)), None);
        }
    }

    #[test]
    fn only_ssh_needs_a_secret() {
        let without = |repository: &str| lacking(&GitSyncRun { secret: None, ..sync(repository) });
        assert_eq!(without("https://git.example/fleet"), None);
        assert_eq!(without("http://127.0.0.1:80/fleet"), None);
        for ssh in ["git@git.example:fleet", "ssh://git@git.example:2222/fleet"] {
            assert!(without(ssh).expect("a refusal").contains(ssh));
            assert_eq!(lacking(&sync(ssh)), None);
        }
    }
}
