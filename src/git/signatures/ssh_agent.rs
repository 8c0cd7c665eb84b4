//! Signing with an SSH agent (such as ssh-agent of OpenSSH), which holds the private key.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ssh_agent_client_rs::{Client, Error};
use ssh_key::{HashAlg, PublicKey, SshSig};

use super::ssh::NAMESPACE;

/// An SSH agent that waits for a person (`ssh-add -c`) or a device must not block the Git thread for longer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The SSH agent that listens on a socket.
pub(super) struct SshAgent<'a> {
    pub socket: &'a Path,
}

impl SshAgent<'_> {
    /// Signs as `git commit -S` does with `gpg.format = ssh`. Verifies the signature, since an SSH agent could return a
    /// wrong one.
    ///
    /// # Errors
    /// If there is no valid signature. The error states the remedy.
    pub fn sign(&self, key: &PublicKey, payload: &[u8]) -> Result<SshSig, String> {
        let socket = self.socket.display();
        let hash = HashAlg::Sha512;
        let data =
            SshSig::signed_data(NAMESPACE, hash, payload).map_err(|error| format!("cannot sign: {error}"))?;
        let signed = self.connect().and_then(|mut client| client.sign(key, &data));
        let signature = signed.map_err(|error| match error {
            Error::RemoteFailure => {
                let print = key.fingerprint(HashAlg::Sha256);
                format!("is refused by the SSH agent at {socket}; add the key {print} with `ssh-add`")
            }
            error => {
                format!("needs the SSH agent at {socket} (SSH_AUTH_SOCK), which cannot be used: {error}")
            }
        })?;
        SshSig::new(key.key_data().clone(), NAMESPACE, hash, signature)
            .and_then(|signature| key.verify(NAMESPACE, payload, &signature).map(|()| signature))
            .map_err(|error| format!("has no valid signature from the SSH agent at {socket}: {error}"))
    }

    fn connect(&self) -> Result<Client, Error> {
        let stream = UnixStream::connect(self.socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Client::with_read_write(Box::new(stream)))
    }
}
