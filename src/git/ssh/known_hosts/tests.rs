//! Which host keys are trusted, and the error for one that is not.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use ssh_key::rand_core::OsRng;
use ssh_key::{Algorithm, EcdsaCurve, PrivateKey, PublicKey};

use super::*;

const HOST: &str = "git.example.com";

fn key(algorithm: Algorithm) -> PublicKey {
    PrivateKey::random(&mut OsRng, algorithm).expect("a key").public_key().clone()
}

fn ed25519() -> PublicKey {
    key(Algorithm::Ed25519)
}

fn line(hosts: &str, key: &PublicKey) -> String {
    format!("{hosts} {}\n", key.to_openssh().expect("text"))
}

fn check(text: &str, host: &str, port: u16, key: &PublicKey) -> Result<(), String> {
    let bytes = key.to_bytes().expect("bytes");
    KnownHosts::read([text]).check(host, port, &bytes).map_err(|error| error.0)
}

fn hashed(name: &str) -> String {
    let salt = [7; 20];
    let mut mac = Hmac::<Sha1>::new_from_slice(&salt).expect("any length");
    mac.update(name.as_bytes());
    format!("|1|{}|{}", base64(&salt), base64(&mac.finalize().into_bytes()))
}

/// Encodes Base64 as OpenSSH does.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |value: u32| char::from(DIGITS[(value & 63) as usize]);
    bytes
        .chunks(3)
        .flat_map(|chunk| {
            let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
            let all = byte(0) << 16 | byte(1) << 8 | byte(2);
            let digits = [18, 12, 6, 0].map(|shift| digit(all >> shift));
            (0..4).map(move |at| if at <= chunk.len() { digits[at] } else { '=' }).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_host_is_known_by_name_pattern_port_and_hash() {
    let key = ed25519();
    for (hosts, host, port, expected) in [
        (HOST, HOST, 22, true),
        ("GIT.example.com,10.0.0.1", HOST, 22, true),
        ("*.example.com", HOST, 22, true),
        ("*.example.com,!git.example.com", HOST, 22, false),
        ("git.example.com", HOST, 2222, false),
        ("[git.example.com]:2222", HOST, 2222, true),
        ("[git.example.com]:2222", HOST, 22, false),
        (&hashed(HOST), HOST, 22, true),
        (&hashed("[git.example.com]:2222"), HOST, 2222, true),
        (&hashed("other.example.com"), HOST, 22, false),
    ] {
        assert_eq!(check(&line(hosts, &key), host, port, &key).is_ok(), expected, "{hosts} {host}:{port}");
    }
}

#[test]
fn lines_that_cannot_be_read_and_other_algorithms_do_no_harm() {
    let (key, rival) = (ed25519(), key(Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }));
    let text =
        format!("# a comment\n\nnonsense\n{HOST} ssh-dss AAAA\n{}{}", line(HOST, &rival), line(HOST, &key));
    assert_eq!(check(&text, HOST, 22, &key), Ok(()));
    assert_eq!(check(&text, HOST, 22, &rival), Ok(()));
    let lines = KnownHosts::read([text.as_str()]).lines_for(HOST, 22);
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn each_refusal_says_what_to_do() {
    let (old, new) = (ed25519(), ed25519());
    let print = new.fingerprint(HashAlg::Sha256).to_string();
    let unknown = check("", HOST, 22, &new).expect_err("unknown");
    assert!(unknown.contains("is not in known_hosts") && unknown.contains(&print), "{unknown}");
    assert!(unknown.contains(&format!("`{HOST} ssh-ed25519 ")), "the line to add: {unknown}");
    let changed = check(&line(HOST, &old), HOST, 22, &new).expect_err("changed");
    assert!(changed.contains("has changed") && changed.contains(&print), "{changed}");
    assert!(changed.contains(&old.fingerprint(HashAlg::Sha256).to_string()), "{changed}");
    let ecdsa = key(Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 });
    let other = check(&line(HOST, &ecdsa), HOST, 22, &new).expect_err("another algorithm");
    assert!(other.contains("another algorithm") && other.contains(&print), "{other}");
    let revoked = format!("@revoked {}{}", line("*", &new), line(HOST, &new));
    let revoked = check(&revoked, HOST, 22, &new).expect_err("revoked");
    assert!(revoked.contains("revoked"), "{revoked}");
    let port = check("", HOST, 2222, &new).expect_err("unknown");
    assert!(port.contains("[git.example.com]:2222"), "{port}");
}
