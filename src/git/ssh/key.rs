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
    use ssh_key::rand_core::OsRng;
    use ssh_key::{Algorithm, LineEnding};

    use super::*;

    fn refused(private: &str, passphrase: Option<&str>) -> String {
        let checked = SshKey::checked(private.to_owned(), passphrase.map(str::to_owned), "/etc/key");
        checked.err().expect("refused").to_string()
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
        let salt = vec![1; 16];
        let (kdf, cipher) = (Kdf::Bcrypt { salt, rounds: 5000 }, ssh_key::Cipher::Aes256Ctr);
        let slow = key.encrypt_with(cipher, kdf, 7, "right");
        assert!(slow.is_ok_and(|slow| {
            let slow = slow.to_openssh(LineEnding::LF).expect("text");
            refused(&slow, Some("right")).contains("rounds")
        }));
        let public = key.public_key().to_openssh().expect("text");
        assert!(refused(&public, None).contains(".pub"));
        assert!(refused(&plain[..plain.len() / 2], None).contains("damaged"));
    }
}
