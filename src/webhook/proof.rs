//! Checks that the sender of a delivery knows the secret. All comparisons take the same time for every wrong value.
//! Pure.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of an HMAC-SHA256.
const LENGTH: usize = 32;

/// How a sender proves that it knows the secret.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub enum Proof {
    /// HMAC-SHA256 of the body.
    Signature([u8; LENGTH]),
    /// The secret itself.
    Token(String),
}

/// Why there is no proof to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unproven {
    Missing,
    /// An HMAC-SHA1, which is not accepted.
    Sha1,
    Malformed,
}

/// Reads `sha256=<hex>`.
pub fn prefixed(header: Option<&str>) -> Result<Proof, Unproven> {
    let header = header.ok_or(Unproven::Missing)?;
    match header.split_once('=') {
        Some(("sha256", hex)) => bare(Some(hex)),
        Some(("sha1", _)) => Err(Unproven::Sha1),
        _ => Err(Unproven::Malformed),
    }
}

/// Reads `<hex>`.
pub fn bare(header: Option<&str>) -> Result<Proof, Unproven> {
    let hex = header.filter(|header| !header.is_empty()).ok_or(Unproven::Missing)?.as_bytes();
    let (pairs, []) = hex.as_chunks::<2>() else { return Err(Unproven::Malformed) };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    let bytes = bytes.and_then(|bytes| <[u8; LENGTH]>::try_from(bytes).ok());
    bytes.map(Proof::Signature).ok_or(Unproven::Malformed)
}

/// Reads the secret itself.
pub fn token(header: Option<&str>) -> Result<Proof, Unproven> {
    let token = header.filter(|header| !header.is_empty()).ok_or(Unproven::Missing)?;
    Ok(Proof::Token(token.to_owned()))
}

impl Proof {
    /// Returns true if it proves one of the secrets. All secrets are compared, even after a match.
    pub fn is_valid(&self, secrets: &[String], body: &[u8]) -> bool {
        let is_of = |secret: &String| match self {
            Self::Signature(signature) => is_mac(secret, body, signature),
            // MACs have the same length for every token.
            Self::Token(token) => is_mac(secret, token.as_bytes(), &mac(secret, secret.as_bytes())),
        };
        secrets.iter().fold(false, |found, secret| found | is_of(secret))
    }
}

fn is_mac(secret: &str, message: &[u8], expected: &[u8]) -> bool {
    keyed(secret).chain_update(message).verify_slice(expected).is_ok()
}

fn mac(secret: &str, message: &[u8]) -> Vec<u8> {
    keyed(secret).chain_update(message).finalize().into_bytes().to_vec()
}

fn keyed(secret: &str) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of GitHub's documentation, "Validating webhook deliveries".
    const GITHUB: (&str, &str, &str) = (
        "It's a Secret to Everybody",
        "Hello, World!",
        "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
    );
    /// Test case 2 of RFC 4231.
    const RFC: (&str, &str, &str) = (
        "Jefe",
        "what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
    );

    #[test]
    fn published_vectors_are_valid_under_either_of_two_secrets() {
        for (secret, body, hex) in [GITHUB, RFC] {
            let proof = prefixed(Some(&format!("sha256={hex}"))).expect("a signature");
            let (secret, other) = (secret.to_owned(), "another secret".to_owned());
            assert!(proof.is_valid(std::slice::from_ref(&secret), body.as_bytes()));
            assert!(proof.is_valid(&[other.clone(), secret.clone()], body.as_bytes()));
            assert!(proof.is_valid(&[secret.clone(), other.clone()], body.as_bytes()));
            assert!(!proof.is_valid(&[other], body.as_bytes()));
            assert!(!proof.is_valid(&[secret], format!("{body} ").as_bytes()));
            assert!(!proof.is_valid(&[], body.as_bytes()));
            assert_eq!(bare(Some(&hex.to_uppercase())), Ok(proof));
        }
    }

    #[test]
    fn a_token_is_the_secret_and_nothing_near_it() {
        let secrets = ["0123456789abcdef".to_owned(), "fedcba9876543210".to_owned()];
        let is_valid = |text: &str| token(Some(text)).is_ok_and(|proof| proof.is_valid(&secrets, b"any"));
        assert!(secrets.iter().all(|secret| is_valid(secret)));
        for wrong in ["0123456789abcde", "0123456789abcdef0", "0123456789abcdeF", "x", ""] {
            assert!(!is_valid(wrong), "{wrong:?}");
        }
        assert_eq!(token(Some("")), Err(Unproven::Missing));
    }

    #[test]
    fn what_is_no_signature_is_told_apart() {
        let hex = GITHUB.2;
        for (header, why) in [
            (None, Unproven::Missing),
            (Some("sha1=7d38cdd689735b008b3c702edd92eea23791c5f6".to_owned()), Unproven::Sha1),
            (Some(hex.to_owned()), Unproven::Malformed),
            (Some(format!("sha512={hex}{hex}")), Unproven::Malformed),
            (Some(format!("sha256={hex}00")), Unproven::Malformed),
            (Some(format!("sha256={}", &hex[1..])), Unproven::Malformed),
            (Some(format!("sha256={}", hex.replace('7', "g"))), Unproven::Malformed),
            (Some(format!("sha256={}", hex.replace('7', "+"))), Unproven::Malformed),
            (Some("sha256=".to_owned()), Unproven::Missing),
            (Some(format!("SHA256={hex}")), Unproven::Malformed),
        ] {
            assert_eq!(prefixed(header.as_deref()), Err(why), "{header:?}");
        }
    }
}
