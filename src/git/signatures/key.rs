//! The key that signs the commits of the agent, read from its file for each use: an OpenSSH private key, or a public
//! key whose private key an SSH agent holds, as with Git's `user.signingKey`.

use std::fs;
use std::path::{Path, PathBuf};

use rsa::pkcs1v15;
use rsa::rand_core::OsRng;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use ssh_key::private::{KeypairData, RsaKeypair};
use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

use super::allowed::check_strength;
use super::ssh::NAMESPACE;
use super::ssh_agent::SshAgent;
use crate::git::GitError;

/// The maximum size of a file: a private key has some kilobytes.
const SIZE_LIMIT: u64 = 64 * 1024;

/// The files of the key. The key is not kept in memory, so that it can be rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningKey {
    pub file: PathBuf,
    /// The file with the passphrase of an encrypted key.
    pub passphrase_file: Option<PathBuf>,
    /// The socket of the SSH agent, for a file that contains only the public key.
    pub agent_socket: Option<PathBuf>,
}

/// The key in the file.
enum Content {
    Private(Box<PrivateKey>),
    Public(PublicKey),
}

impl Content {
    fn public(&self) -> &PublicKey {
        match self {
            Self::Private(key) => key.public_key(),
            Self::Public(key) => key,
        }
    }
}

impl SigningKey {
    /// Signs as `git commit -S` does with `gpg.format = ssh`.
    ///
    /// # Errors
    /// If the key cannot be used.
    pub fn sign(&self, payload: &[u8]) -> Result<String, GitError> {
        let failed = |error: &dyn std::fmt::Display| self.failed(format!("cannot sign: {error}"));
        let signature = match self.read()? {
            Content::Public(key) => self.agent()?.sign(&key, payload).map_err(|why| self.failed(why))?,
            Content::Private(key) => {
                let key = self.decrypted(*key)?;
                match key.key_data() {
                    KeypairData::Rsa(pair) => {
                        sign_with_rsa(&key, pair, payload).map_err(|why| failed(&why))?
                    }
                    _ => key.sign(NAMESPACE, HashAlg::Sha512, payload).map_err(|error| failed(&error))?,
                }
            }
        };
        signature.to_pem(LineEnding::LF).map_err(|error| failed(&error))
    }

    /// Returns the public key. An encrypted file contains it unencrypted.
    ///
    /// # Errors
    /// If the key cannot be used.
    pub fn public(&self) -> Result<PublicKey, GitError> {
        self.read().map(|content| content.public().clone())
    }

    fn agent(&self) -> Result<SshAgent<'_>, GitError> {
        let socket = self.agent_socket.as_deref().ok_or_else(|| {
            let why = "is a public key, but SSH_AUTH_SOCK names no SSH agent that holds the private key; start an SSH \
                       agent, or use the file of the private key, without .pub";
            self.failed(why.to_owned())
        })?;
        Ok(SshAgent { socket })
    }

    /// Decrypts the key.
    fn decrypted(&self, key: PrivateKey) -> Result<PrivateKey, GitError> {
        if !key.is_encrypted() {
            return Ok(key);
        }
        let Some(file) = &self.passphrase_file else {
            let why =
                "is encrypted; set --signing-key-passphrase-file to the file of its passphrase".to_owned();
            return Err(self.failed(why));
        };
        let passphrase = text(file).map_err(|why| {
            GitError::SigningKey(format!("--signing-key-passphrase-file {} {why}", file.display()))
        })?;
        key.decrypt(passphrase.trim_end_matches(['\r', '\n'])).map_err(|error| match error {
            ssh_key::Error::Crypto => {
                self.failed(format!("cannot be decrypted: the passphrase in {} is wrong", file.display()))
            }
            error => self.unreadable(&error),
        })
    }

    /// Reads the key from the file, without decrypting it.
    fn read(&self) -> Result<Content, GitError> {
        let text = text(&self.file).map_err(|why| self.failed(why))?;
        let content = match PublicKey::from_openssh(text.trim()) {
            Ok(key) => Content::Public(key),
            Err(_) => {
                if let Some(why) = other_form(&text) {
                    return Err(self.failed(why.to_owned()));
                }
                let key = PrivateKey::from_openssh(&text).map_err(|error| self.unreadable(&error))?;
                Content::Private(Box::new(key))
            }
        };
        let key = content.public();
        check_strength(key.key_data()).map_err(|why| self.failed(why))?;
        match key.algorithm() {
            Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => Err(self.failed(
                "is on a security key, which a person must touch; use an Ed25519 key in a file".to_owned(),
            )),
            _ => Ok(content),
        }
    }

    /// Returns the error for a key that cannot be parsed. The library cannot parse an ECDSA key whose number begins
    /// with zeros: half of the P-521 keys, and one of 256 others.
    fn unreadable(&self, error: &ssh_key::Error) -> GitError {
        let why = "is not a valid OpenSSH private key";
        self.failed(format!(
            "{why}: {error}; if it is an ECDSA key, create another one, or use an Ed25519 key"
        ))
    }

    fn failed(&self, why: String) -> GitError {
        GitError::SigningKey(format!("--signing-key {} {why}", self.file.display()))
    }
}

/// Returns the error for a file that is not an OpenSSH private key, if it is not.
fn other_form(text: &str) -> Option<&'static str> {
    let begins = |label: &str| text.contains(&format!("-----BEGIN {label}"));
    if begins("OPENSSH PRIVATE KEY-----") {
        None
    } else if begins("PGP") {
        Some("is an OpenPGP key; use an OpenSSH private key, which ssh-keygen creates")
    } else if text.contains("PRIVATE KEY-----") {
        Some("is a private key in another format; convert a copy of it with `ssh-keygen -p -f FILE`")
    } else {
        Some("is not an OpenSSH private key, which begins with -----BEGIN OPENSSH PRIVATE KEY-----")
    }
}

/// Signs with an RSA key. The library ignores the second prime of the key, so the key is built here. The random numbers
/// blind the computation, whose duration depends on the key.
fn sign_with_rsa(key: &PrivateKey, pair: &RsaKeypair, payload: &[u8]) -> Result<SshSig, String> {
    let number = |part: &ssh_key::Mpint| {
        let bytes = part.as_positive_bytes().ok_or_else(|| "the key is damaged".to_owned())?;
        Ok::<_, String>(rsa::BigUint::from_bytes_be(bytes))
    };
    let primes = vec![number(&pair.private.p)?, number(&pair.private.q)?];
    let (n, e, d) = (number(&pair.public.n)?, number(&pair.public.e)?, number(&pair.private.d)?);
    let private = rsa::RsaPrivateKey::from_components(n, e, d, primes).map_err(|error| error.to_string())?;
    let signer = pkcs1v15::SigningKey::<ssh_key::sha2::Sha512>::new(private);
    let hash = HashAlg::Sha512;
    let data = SshSig::signed_data(NAMESPACE, hash, payload).map_err(|error| error.to_string())?;
    let bytes = signer.try_sign_with_rng(&mut OsRng, &data).map_err(|error| error.to_string())?.to_vec();
    let signature = ssh_key::Signature::new(Algorithm::Rsa { hash: Some(hash) }, bytes);
    let signature = signature
        .and_then(|signature| SshSig::new(key.public_key().key_data().clone(), NAMESPACE, hash, signature));
    signature.map_err(|error| error.to_string())
}

/// Reads a small file.
fn text(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > SIZE_LIMIT {
        return Err(format!("has {size} bytes, which is too large for a key"));
    }
    fs::read_to_string(path).map_err(failed)
}
