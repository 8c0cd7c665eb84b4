//! The allowed signers and the signing key of the flags.

use crate::git::GitError;
use crate::git::signatures::{Signers, SigningKey};
use crate::settings::SigningFlags;

/// Reads both and signs once, so that a wrong file is an error at the start and not at the first commit.
///
/// # Errors
/// Which file cannot be used, and why.
pub fn read(flags: &SigningFlags) -> Result<(Option<Signers>, Option<SigningKey>), GitError> {
    let key = flags.signing_key.clone().map(|file| SigningKey {
        file,
        passphrase_file: flags.signing_key_passphrase_file.clone(),
        agent_socket: flags.signing_agent_socket.clone(),
    });
    if let Some(key) = &key {
        key.sign(b"a test of the key")?;
    }
    let signers =
        (!flags.verify.is_empty()).then(|| Signers { files: flags.verify.clone(), own: key.clone() });
    if let Some(signers) = &signers {
        signers.load()?;
    }
    Ok((signers, key))
}
