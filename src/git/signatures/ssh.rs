//! SSH signatures of commits (`gpg.format = ssh`; PROTOCOL.sshsig of OpenSSH). Pure.

use ssh_key::public::KeyData;
use ssh_key::{HashAlg, PublicKey, SshSig};

use super::allowed::{Signer, matches};
use super::refusal::Refusal;
use super::times::{Times, day};

/// The first line of a signature.
pub const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// The namespace of Git's signatures: a signature of a file or mail has another one and is not valid for a commit.
pub const NAMESPACE: &str = "git";
/// The line length that the library requires. Other programs use other lengths.
const WIDTH: usize = 70;

/// Verifies a signature.
///
/// # Errors
/// If it is not a valid signature of a trusted signer for this payload.
pub fn verify(armored: &str, payload: &[u8], times: Times, signers: &[Signer]) -> Result<(), Refusal> {
    let unreadable = |why: String| Refusal::Unreadable(why);
    let signature = SshSig::from_pem(wrapped(armored)).map_err(|error| unreadable(error.to_string()))?;
    let key = fingerprint(signature.public_key());
    let entries: Vec<_> =
        signers.iter().filter(|signer| signer.key.key_data() == signature.public_key()).collect();
    if entries.is_empty() {
        return Err(Refusal::Unknown { key });
    }
    if signature.namespace() != NAMESPACE {
        return Err(unreadable(format!("it was made for {:?}, not for a commit", signature.namespace())));
    }
    let public = PublicKey::from(signature.public_key().clone());
    public.verify(NAMESPACE, payload, &signature).map_err(|_| Refusal::Bad { key: key.clone() })?;
    // If a key is listed twice, one valid line is enough.
    let results = entries.iter().map(|signer| check_signer(signer, times));
    results.reduce(Result::or).unwrap_or(Ok(())).map_err(|why| Refusal::InvalidKey { key, why })
}

/// Returns the fingerprint, as OpenSSH shows it.
pub fn fingerprint(key: &KeyData) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// Checks that a key may sign commits at these times. The committer chooses the date of a commit, so an expired key
/// could sign with an earlier date: the key must also be valid now.
fn check_signer(signer: &Signer, times: Times) -> Result<(), String> {
    if signer.namespaces.as_ref().is_some_and(|patterns| !matches(patterns, NAMESPACE)) {
        return Err(format!("may not sign commits: its option namespaces does not include {NAMESPACE:?}"));
    }
    match (signer.after, signer.before) {
        (Some(after), _) if times.first() < after => Err(format!("is not valid before {}", day(after))),
        (_, Some(before)) if times.last() > before => Err(format!("is not valid after {}", day(before))),
        _ => Ok(()),
    }
}

/// Returns the signature with the line length that the library requires.
fn wrapped(armored: &str) -> String {
    let inner =
        armored.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).unwrap_or_default();
    let base64: Vec<char> = inner.chars().filter(|char| !char.is_whitespace()).collect();
    let lines: Vec<String> = base64.chunks(WIDTH).map(|line| line.iter().collect()).collect();
    format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
}
