//! The private key: can it be used with this passphrase? libssh2 itself says of every failure that the key does not fit.

use ssh_key::{Kdf, PrivateKey};

use crate::git::GitError;

/// What every private key in text form begins with.
const BEGIN: &str = "-----BEGIN ";
const OPENSSH: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
/// Rounds that derive the key from its passphrase: OpenSSH's default is 16, and each costs milliseconds. A hostile key may
/// ask for billions.
const MOST_ROUNDS: u32 = 1000;

/// A private key in memory.
#[derive(Clone)]
pub struct SshKey {
    pub private: String,
    pub passphrase: Option<String>,
}

impl SshKey {
    /// Checks the key. `name` says where it comes from.
    ///
    /// # Errors
    /// What is wrong with the key or its passphrase, without either.
    pub fn checked(private: String, passphrase: Option<String>, name: &str) -> Result<Self, GitError> {
        let fail = |why: &str| Err(GitError::Credentials(format!("the SSH key in {name} {why}")));
        let text = private.trim_start();
        if !text.starts_with(BEGIN) {
            return fail("is not a private key: name the file without .pub");
        }
        // libssh2 reads older formats by itself.
        if text.starts_with(OPENSSH) {
            let Ok(key) = PrivateKey::from_openssh(text) else {
                return fail(
                    "is damaged or of an algorithm that is not supported: use ed25519, ecdsa or rsa",
                );
            };
            if matches!(key.kdf(), Kdf::Bcrypt { rounds, .. } if *rounds > MOST_ROUNDS) {
                return fail(&format!(
                    "takes more than {MOST_ROUNDS} rounds to decrypt: encrypt it with fewer (ssh-keygen -a)"
                ));
            }
            match &passphrase {
                None if key.is_encrypted() => {
                    return fail(
                        "has a passphrase, and none is set: set --git-ssh-passphrase-file, or the key `passphrase` of the Secret",
                    );
                }
                Some(words) if key.is_encrypted() && key.decrypt(words).is_err() => {
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

    /// The same key, as if its passphrase had been derived in so many rounds.
    fn with_rounds(private: &str, rounds: u32) -> String {
        let mut lines: Vec<&str> = private.trim_end().lines().collect();
        let (first, last) = (lines.remove(0), lines.pop().expect("a last line"));
        let mut bytes = STANDARD.decode(lines.concat()).expect("base64");
        let name = bytes.windows(6).position(|part| part == b"bcrypt").expect("its name");
        // Behind the name: the length of the options, a salt of sixteen bytes with its length, and the rounds.
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
        // A passphrase that is not needed does no harm.
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
