//! Checks the private key and its passphrase. libssh2 reports the same unspecific error for every failure.

use ssh_key::{Kdf, PrivateKey};

use crate::git::GitError;

/// The start of every private key in PEM.
const BEGIN: &str = "-----BEGIN ";
const OPENSSH: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
/// The maximum number of rounds that derive the key from its passphrase. OpenSSH's default is 16, and each takes
/// milliseconds. A hostile key could require billions.
const MAX_ROUNDS: u32 = 1000;

/// A private key in memory.
#[derive(Clone)]
pub struct SshKey {
    pub private: String,
    pub passphrase: Option<String>,
}

impl SshKey {
    /// Checks the key. `name` is the name of its source, for the error.
    ///
    /// # Errors
    /// If the key or its passphrase cannot be used. The error contains neither.
    pub fn checked(private: String, passphrase: Option<String>, name: &str) -> Result<Self, GitError> {
        let fail = |why: &str| Err(GitError::Credentials(format!("the SSH key in {name} {why}")));
        let text = private.trim_start();
        if !text.starts_with(BEGIN) {
            return fail("is not a private key: use the file without .pub");
        }
        // libssh2 checks older formats itself.
        if text.starts_with(OPENSSH) {
            let Ok(key) = PrivateKey::from_openssh(text) else {
                return fail("is damaged, or its algorithm is not supported: use Ed25519, ECDSA or RSA");
            };
            if matches!(key.kdf(), Kdf::Bcrypt { rounds, .. } if *rounds > MAX_ROUNDS) {
                return fail(&format!(
                    "needs more than {MAX_ROUNDS} rounds to decrypt: encrypt it with fewer rounds (ssh-keygen -p -a)"
                ));
            }
            match &passphrase {
                None if key.is_encrypted() => {
                    return fail(
                        "has a passphrase, but none is set: set --git-ssh-passphrase-file, or the key `passphrase` \
                         of the Secret",
                    );
                }
                Some(passphrase) if key.is_encrypted() && key.decrypt(passphrase).is_err() => {
                    return fail("cannot be decrypted: the passphrase is wrong");
                }
                _ => {}
            }
        }
        Ok(Self { private, passphrase })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use ssh_key::rand_core::OsRng;
    use ssh_key::{Algorithm, LineEnding};

    use super::*;

    fn refused(private: &str, passphrase: Option<&str>) -> String {
        let checked = SshKey::checked(private.to_owned(), passphrase.map(str::to_owned), "/etc/key");
        checked.err().expect("refused").to_string()
    }

    /// Returns the key with another number of rounds in its header.
    fn with_rounds(private: &str, rounds: u32) -> String {
        let mut lines: Vec<&str> = private.trim_end().lines().collect();
        let (first, last) = (lines.remove(0), lines.pop().expect("a last line"));
        let mut bytes = STANDARD.decode(lines.concat()).expect("base64");
        let name = bytes.windows(6).position(|part| part == b"bcrypt").expect("its name");
        // After the name: the length of the options, a salt of sixteen bytes with its length, and the rounds.
        let at = name + 6 + 4 + 4 + 16;
        bytes[at..at + 4].copy_from_slice(&rounds.to_be_bytes());
        let text = STANDARD.encode(bytes);
        let lines: Vec<&str> =
            text.as_bytes().chunks(70).map(|line| std::str::from_utf8(line).expect("text")).collect();
        format!("{first}\n{}\n{last}\n", lines.join("\n"))
    }

    #[test]
    fn a_key_that_cannot_be_used_says_why() {
        let key = PrivateKey::random(&mut OsRng, Algorithm::Ed25519).expect("a key");
        let plain = key.to_openssh(LineEnding::LF).expect("text");
        assert!(SshKey::checked(plain.to_string(), None, "k").is_ok());
        // A passphrase that is not needed is ignored.
        assert!(SshKey::checked(plain.to_string(), Some("x".into()), "k").is_ok());
        let locked = key.encrypt(&mut OsRng, "right").expect("encrypted");
        let locked = locked.to_openssh(LineEnding::LF).expect("text");
        assert!(SshKey::checked(locked.to_string(), Some("right".into()), "k").is_ok());
        assert!(refused(&locked, None).contains("has a passphrase"));
        let wrong = refused(&locked, Some("wr0ng"));
        assert!(wrong.contains("passphrase is wrong") && wrong.contains("/etc/key"), "{wrong}");
        assert!(!wrong.contains("wr0ng"), "{wrong}");
        assert!(refused(&with_rounds(&locked, 5000), Some("right")).contains("rounds"));
        let public = key.public_key().to_openssh().expect("text");
        assert!(refused(&public, None).contains(".pub"));
        assert!(refused(&plain[..plain.len() / 2], None).contains("damaged"));
    }
}
