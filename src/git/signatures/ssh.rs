//! SSH signatures of commits (`gpg.format = ssh`; PROTOCOL.sshsig of OpenSSH). Pure.

use ssh_key::public::KeyData;
use ssh_key::{HashAlg, PublicKey, SshSig};

use super::allowed::{Signer, matches};
use super::refusal::Refusal;
use super::times::{Times, day};

/// What such a signature begins with.
pub const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
/// What Git's signatures are for: one for a file or a mail is not one for a commit.
pub const NAMESPACE: &str = "git";
/// Characters per line that the library reads; others wrap elsewhere.
const WIDTH: usize = 70;

/// Verifies a signature.
///
/// # Errors
/// Why it is not one of a trusted signer for this payload.
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
    // A key that is listed twice may sign by either line.
    let judged = entries.iter().map(|signer| fits(signer, times));
    judged.reduce(Result::or).unwrap_or(Ok(())).map_err(|why| Refusal::Unfit { key, why })
}

/// The fingerprint that OpenSSH shows.
pub fn fingerprint(key: &KeyData) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// May the key sign commits at these times? The committer writes the date of a commit, so a key that has expired could
/// sign for an earlier one: it must be valid now, too.
fn fits(signer: &Signer, times: Times) -> Result<(), String> {
    if signer.namespaces.as_ref().is_some_and(|patterns| !matches(patterns, NAMESPACE)) {
        return Err(format!("may not sign commits: its option namespaces does not include {NAMESPACE:?}"));
    }
    match (signer.after, signer.before) {
        (Some(after), _) if times.first() < after => Err(format!("is not valid before {}", day(after))),
        (_, Some(before)) if times.last() > before => Err(format!("is not valid after {}", day(before))),
        _ => Ok(()),
    }
}

/// The same with lines of the width that the library reads.
fn wrapped(armored: &str) -> String {
    let inner =
        armored.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).unwrap_or_default();
    let base64: Vec<char> = inner.chars().filter(|char| !char.is_whitespace()).collect();
    let lines: Vec<String> = base64.chunks(WIDTH).map(|line| line.iter().collect()).collect();
    format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
}
