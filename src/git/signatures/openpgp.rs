//! OpenPGP signatures of commits (`gpg.format = openpgp`). Pure.
//!
//! The library verifies single signatures. This module decides which key of a certificate may sign, and until when: the
//! primary key and its self-signatures must be valid, and a subkey needs a binding for signing that it also signed
//! itself.

use pgp::composed::{Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SubpacketData};
use pgp::types::{Fingerprint, KeyDetails, PublicParams, Tag};
use rsa::traits::PublicKeyParts as _;

use super::refusal::Refusal;
use super::times::{Times, day};

/// The error for a key that its owner revoked.
const REVOKED: &str = "is revoked";
/// The first line of a signature.
pub const BEGIN: &str = "-----BEGIN PGP SIGNATURE-----";
/// The first and last line of public keys in a file.
pub const BLOCK: (&str, &str) =
    ("-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----");
/// The minimum size of RSA keys: shorter keys are not secure.
const RSA_BITS: usize = 2048;
/// The tolerated difference between clocks, in seconds.
const SKEW: i64 = 600;

/// A trusted public key with its subkeys.
#[derive(Clone, Debug)]
pub struct Certificate(Box<SignedPublicKey>);

impl Certificate {
    /// Parses the keys of an armored block.
    ///
    /// # Errors
    /// If it cannot be parsed, or a key in it is not valid.
    pub fn parse(block: &str) -> Result<Vec<Self>, String> {
        let invalid =
            |error: pgp::errors::Error| format!("is not a valid OpenPGP public key: {}", first_line(&error));
        let (keys, _) = SignedPublicKey::from_string_many(block).map_err(invalid)?;
        let keys = keys.collect::<Result<Vec<_>, _>>().map_err(invalid)?;
        if keys.is_empty() {
            return Err("contains no OpenPGP public key".to_owned());
        }
        let all = keys.into_iter().map(|key| {
            let certificate = Self(Box::new(key));
            match certificate.newest(|_| true).is_some() {
                true => Ok(certificate),
                false => Err(format!(
                    "contains the OpenPGP key {} without a valid self-signature",
                    certificate.name()
                )),
            }
        });
        all.collect()
    }

    fn name(&self) -> String {
        shown(&self.0.primary_key.fingerprint())
    }

    /// Returns the valid self-signatures: certifications of user IDs, and direct signatures of the key.
    fn own_signatures(&self) -> impl Iterator<Item = &Signature> {
        let key = &self.0.primary_key;
        let direct = self.0.details.direct_signatures.iter().filter(|found| found.verify_key(key).is_ok());
        let users = self.0.details.users.iter().flat_map(|user| {
            let valid = |found: &&Signature| found.verify_certification(key, Tag::UserId, &user.id).is_ok();
            let valid: Vec<_> = user.signatures.iter().filter(valid).collect();
            let is_revoked = valid.iter().any(|found| found.typ() == Some(SignatureType::CertRevocation));
            valid.into_iter().filter(move |_| !is_revoked)
        });
        direct.chain(users)
    }

    /// Returns the newest valid self-signature that matches.
    fn newest(&self, which: impl Fn(&Signature) -> bool) -> Option<&Signature> {
        self.own_signatures().filter(|found| which(found)).max_by_key(|found| created(found))
    }

    /// Returns why the primary key is not valid at these times, if it is not.
    fn why_invalid(&self, times: Times) -> Option<String> {
        let key = &self.0.primary_key;
        if self.0.details.revocation_signatures.iter().any(|found| found.verify_key(key).is_ok()) {
            return Some(REVOKED.to_owned());
        }
        let is_direct = |found: &Signature| found.typ() == Some(SignatureType::Key);
        let of_users = self.newest(|found| !is_direct(found));
        let newest = [self.newest(is_direct), of_users];
        newest.into_iter().flatten().find_map(|found| lifetime(key, found, times))
    }

    /// Returns why the primary key may not sign commits, if it may not.
    fn why_not_signing(&self) -> Option<String> {
        let flags = |found: &Signature| has_flags(found);
        match self.newest(flags) {
            Some(found) if !found.key_flags().sign() => {
                Some("may not sign, because its owner uses a subkey for signing".to_owned())
            }
            _ => None,
        }
    }

    /// Returns why a subkey may not sign commits at these times, if it may not.
    fn why_subkey_is_invalid(&self, subkey: &SignedPublicSubKey, times: Times) -> Option<String> {
        let primary = &self.0.primary_key;
        let valid = |found: &&Signature| found.verify_subkey_binding(primary, &subkey.key).is_ok();
        let valid: Vec<_> = subkey.signatures.iter().filter(valid).collect();
        if valid.iter().any(|found| found.typ() == Some(SignatureType::SubkeyRevocation)) {
            return Some(REVOKED.to_owned());
        }
        let bindings = valid.into_iter().filter(|found| found.typ() == Some(SignatureType::SubkeyBinding));
        let Some(binding) = bindings.max_by_key(|found| created(found)) else {
            return Some("is not bound to its primary key".to_owned());
        };
        let confirms = |back: &Signature| back.verify_primary_key_binding(&subkey.key, primary).is_ok();
        if !binding.key_flags().sign() || !binding.embedded_signature().is_some_and(confirms) {
            return Some("may not sign".to_owned());
        }
        lifetime(&subkey.key, binding, times)
    }

    /// Verifies a signature with the key of this certificate that made it. Returns `None` if none of its keys did.
    fn verify(&self, signature: &Signature, payload: &[u8], times: Times) -> Option<Result<(), Refusal>> {
        let primary = &self.0.primary_key;
        let bad = |key: String| Some(Err(Refusal::Bad { key }));
        if is_issuer(signature, primary) {
            let key = self.name();
            if signature.verify(primary, payload).is_err() {
                return bad(key);
            }
            let invalid =
                self.why_invalid(times).or_else(|| self.why_not_signing()).or_else(|| weakness(primary));
            return Some(invalid.map_or(Ok(()), |why| Err(Refusal::InvalidKey { key, why })));
        }
        let subkey = self.0.public_subkeys.iter().find(|subkey| is_issuer(signature, &subkey.key))?;
        let key = shown(&subkey.key.fingerprint());
        if signature.verify(&subkey.key, payload).is_err() {
            return bad(key);
        }
        let invalid = self.why_invalid(times).or_else(|| self.why_subkey_is_invalid(subkey, times));
        let invalid = invalid.or_else(|| weakness(primary)).or_else(|| weakness(&subkey.key));
        Some(invalid.map_or(Ok(()), |why| Err(Refusal::InvalidKey { key, why })))
    }
}

/// Verifies a signature.
///
/// # Errors
/// If it is not a valid signature of a trusted signer for this payload.
pub fn verify(armored: &str, payload: &[u8], now: i64, trusted: &[Certificate]) -> Result<(), Refusal> {
    let signature = read(armored)?;
    let key = issuer(&signature);
    let made = created(&signature).ok_or_else(|| unreadable("it does not state when it was made"))?;
    let times = Times { signed: made, now };
    let found: Vec<_> =
        trusted.iter().filter_map(|certificate| certificate.verify(&signature, payload, times)).collect();
    // There can be several copies of a key. A revocation in one of them applies to all; an older copy can be expired.
    if let Some(revoked) = found.iter().find(|found| is_revocation(found)) {
        return revoked.clone();
    }
    let unknown = Err(Refusal::Unknown { key: key.clone() });
    let verified = found.into_iter().reduce(Result::or).unwrap_or(unknown);
    verified?;
    let weak = |why: String| Err(Refusal::Weak { key: key.clone(), why });
    if made > now + SKEW {
        return weak(format!(
            "was made in the future, on {}: check the clocks of the signer and of this machine",
            day(made)
        ));
    }
    let lasts = signature.signature_expiration_time().map_or(0, |lasts| i64::from(lasts.as_secs()));
    if lasts > 0 && now > made + lasts {
        return weak(format!("expired on {}", day(made + lasts)));
    }
    match signature.hash_alg() {
        Some(
            HashAlgorithm::Sha224
            | HashAlgorithm::Sha256
            | HashAlgorithm::Sha384
            | HashAlgorithm::Sha512
            | HashAlgorithm::Sha3_256
            | HashAlgorithm::Sha3_512,
        ) => Ok(()),
        other => weak(format!("uses the hash function {other:?}, which is not secure")),
    }
}

fn is_revocation(verified: &Result<(), Refusal>) -> bool {
    matches!(verified, Err(Refusal::InvalidKey { why, .. }) if why == REVOKED)
}

/// Parses a signature, which must be the only one, and of type binary.
fn read(armored: &str) -> Result<Signature, Refusal> {
    let invalid = |error: pgp::errors::Error| unreadable(&first_line(&error));
    let (found, _) = DetachedSignature::from_string_many(armored).map_err(invalid)?;
    let mut found = found.collect::<Result<Vec<_>, _>>().map_err(invalid)?;
    let (Some(found), true) = (found.pop(), found.is_empty()) else { return Err(Refusal::Several) };
    let signature = found.signature;
    if signature.typ() != Some(SignatureType::Binary) {
        return Err(unreadable("it is not a signature of a binary document"));
    }
    let Some(config) = signature.config() else { return Err(unreadable("its version is unknown")) };
    let is_unknown =
        |data: &SubpacketData| matches!(data, SubpacketData::Other(..) | SubpacketData::Experimental(..));
    if config.hashed_subpackets().any(|packet| packet.is_critical && is_unknown(&packet.data)) {
        return Err(unreadable("it has an unknown critical subpacket"));
    }
    Ok(signature)
}

/// Returns why a key is not secure, if it is not.
fn weakness(key: &impl KeyDetails) -> Option<String> {
    match key.public_params() {
        PublicParams::RSA(params) if params.key.n().bits() < RSA_BITS => {
            Some(format!("is an RSA key of {} bits; use one of at least {RSA_BITS}", params.key.n().bits()))
        }
        PublicParams::DSA(_) => Some("is a DSA key, which is not secure".to_owned()),
        _ => None,
    }
}

/// Returns true if the signature names the key.
fn is_issuer(signature: &Signature, key: &impl KeyDetails) -> bool {
    let (fingerprint, id) = (key.fingerprint(), key.legacy_key_id());
    let named = signature.issuer_fingerprint();
    match named.is_empty() {
        false => named.into_iter().any(|named| *named == fingerprint),
        true => signature.issuer_key_id().into_iter().any(|named| *named == id),
    }
}

/// Returns the key that a signature names, for errors.
fn issuer(signature: &Signature) -> String {
    if let Some(fingerprint) = signature.issuer_fingerprint().first() {
        return shown(fingerprint);
    }
    let id = signature.issuer_key_id().first().map(|id| id.to_string().to_uppercase());
    id.unwrap_or_else(|| "(not named)".to_owned())
}

/// Returns why a key with this self-signature or binding is not valid at these times, if it is not.
fn lifetime(key: &impl KeyDetails, binding: &Signature, times: Times) -> Option<String> {
    let made = i64::from(key.created_at().as_secs());
    let lasts = binding.key_expiration_time().map_or(0, |lasts| i64::from(lasts.as_secs()));
    if times.first() + SKEW < made {
        return Some(format!("was created later, on {}", day(made)));
    }
    if lasts > 0 && times.last() > made + lasts {
        return Some(format!("expired on {}", day(made + lasts)));
    }
    let bound = created(binding)? + i64::from(binding.signature_expiration_time()?.as_secs());
    (bound > created(binding)? && times.last() > bound).then(|| format!("expired on {}", day(bound)))
}

fn has_flags(signature: &Signature) -> bool {
    let mut packets = signature.config().into_iter().flat_map(|config| config.hashed_subpackets());
    packets.any(|packet| matches!(packet.data, SubpacketData::KeyFlags(_)))
}

fn created(signature: &Signature) -> Option<i64> {
    signature.created().map(|created| i64::from(created.as_secs()))
}

fn shown(fingerprint: &Fingerprint) -> String {
    format!("{fingerprint:X}")
}

fn unreadable(why: &str) -> Refusal {
    Refusal::Unreadable(why.to_owned())
}

/// Returns the message of an error. The library appends a backtrace to it.
fn first_line(error: &pgp::errors::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
