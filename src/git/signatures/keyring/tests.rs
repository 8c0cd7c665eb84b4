//! Commits that Git, OpenSSH and GnuPG signed, on 3 January 2024. Ann signs with her primary key, Bob with a subkey;
//! both expire on 1 January 2025.

use proptest::prelude::*;

use super::*;

const ALLOWED: &str = include_str!("fixtures/allowed");
const WEAK: &str = include_str!("fixtures/weak.pub");
/// The output of `ssh-keygen -Y sign -n file`.
const FILE: &str = include_str!("fixtures/file.sig");
const ANN: &str = include_str!("fixtures/ann.asc");
const BOB: &str = include_str!("fixtures/bob.asc");
const OF_ANN: &[u8] = include_bytes!("fixtures/ann.commit");
const OF_BOB: &[u8] = include_bytes!("fixtures/bob.commit");
const ED25519: &[u8] = include_bytes!("fixtures/ed25519.commit");
const ECDSA: &[u8] = include_bytes!("fixtures/ecdsa.commit");
const RSA: &[u8] = include_bytes!("fixtures/rsa.commit");

/// The time of the commits.
const THEN: i64 = 1_704_240_000;
const DAY: i64 = 86_400;

fn keyring(files: &[&str]) -> Keyring {
    let mut keyring = Keyring::default();
    files.iter().for_each(|text| keyring.add(text).expect("signers"));
    keyring
}

fn verify_at(files: &[&str], raw: &[u8], now: i64) -> Result<(), Refusal> {
    keyring(files).verify(raw, Timestamp::from_second(now).expect("a time"))
}

fn verify(files: &[&str], raw: &[u8]) -> Result<(), Refusal> {
    verify_at(files, raw, THEN + DAY)
}

fn message(result: Result<(), Refusal>) -> String {
    result.expect_err("refused").to_string()
}

/// Returns the line of the signer with this type of key and these options.
fn line(kind: &str, options: &str) -> String {
    let found = ALLOWED.lines().find(|line| line.starts_with(kind)).expect("a signer");
    found.replacen(' ', &format!(" {options} "), 1)
}

fn replaced(raw: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(raw.to_vec()).expect("text");
    assert!(text.contains(from), "{from} in {text}");
    text.replace(from, to).into_bytes()
}

#[test]
fn commits_of_trusted_signers_are_accepted() {
    for raw in [ED25519, ECDSA, RSA] {
        assert_eq!(verify(&[ALLOWED], raw), Ok(()));
    }
    assert_eq!((verify(&[ANN], OF_ANN), verify(&[BOB], OF_BOB)), (Ok(()), Ok(())));
    let mixed = format!("# people\n{ALLOWED}\n{ANN}\n{BOB}");
    for raw in [ED25519, OF_ANN, OF_BOB] {
        assert_eq!(verify(&[&mixed], raw), Ok(()), "one file with all kinds of keys");
        assert_eq!(verify(&[ALLOWED, BOB, ANN], raw), Ok(()));
    }
}

#[test]
fn commits_of_others_are_refused_and_name_their_key() {
    let only_rsa = line("rsa", "");
    for (files, raw, key) in [
        (&[only_rsa.as_str(), ANN][..], ED25519, "SHA256:"),
        (&[BOB, ALLOWED][..], OF_ANN, "9108C88E2D66174FF5C4C703891B0220C12C352E"),
        (&[ANN][..], OF_BOB, "293D2A9D7A9D239824B77DB66B5D00DFCA71FF20"),
    ] {
        let words = message(verify(files, raw));
        assert!(words.contains(key) && words.ends_with("which is not a trusted signer"), "{words}");
    }
}

#[test]
fn a_changed_commit_is_refused() {
    for (files, raw) in [(ALLOWED, ED25519), (ALLOWED, ECDSA), (ALLOWED, RSA), (ANN, OF_ANN), (BOB, OF_BOB)] {
        for (from, to) in [("signed by", "signed bY"), ("tree 4b", "tree 4c"), ("author Ann", "author Anm")] {
            let refused = verify(&[files], &replaced(raw, from, to));
            assert!(matches!(refused, Err(Refusal::Bad { .. })), "{from}: {refused:?}");
        }
    }
}

#[test]
fn the_signature_of_another_commit_is_refused() {
    let text = |raw: &[u8]| String::from_utf8(raw.to_vec()).expect("text");
    let cut = |raw: &[u8]| {
        let text = text(raw);
        let begin = text.find("gpgsig ").expect("a signature");
        let end = text.find("\n\n").expect("a head");
        text[begin..=end].to_owned()
    };
    let (ann, ssh) = (cut(OF_ANN), cut(ED25519));
    let moved = replaced(OF_BOB, &cut(OF_BOB), &ann);
    assert!(matches!(verify(&[ANN, BOB], &moved), Err(Refusal::Bad { .. })));
    let moved = replaced(RSA, &cut(RSA), &ssh);
    assert!(matches!(verify(&[ALLOWED], &moved), Err(Refusal::Bad { .. })));
    assert_eq!(verify(&[ALLOWED], &replaced(RSA, &cut(RSA), "")), Err(Refusal::Unsigned));
    let both = replaced(RSA, &cut(RSA), &(cut(RSA) + &ssh));
    assert_eq!(verify(&[ALLOWED], &both), Err(Refusal::Several));
}

#[test]
fn a_signature_for_something_else_is_refused() {
    let head = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@b> 1704240000 +0000\n\
                committer A <a@b> 1704240000 +0000\n";
    let with = |armored: &str| format!("{head}gpgsig {}\n\nm\n", armored.trim_end().replace('\n', "\n "));
    let words = message(verify(&[ALLOWED], with(FILE).as_bytes()));
    assert!(words.contains("it was made for \"file\", not for a commit"), "{words}");
    let x509 = "-----BEGIN SIGNED MESSAGE-----\nMIIB\n-----END SIGNED MESSAGE-----";
    assert_eq!(verify(&[ALLOWED], with(x509).as_bytes()), Err(Refusal::OtherKind));
    for broken in [
        "-----BEGIN SSH SIGNATURE-----\n!\n-----END SSH SIGNATURE-----",
        "-----BEGIN PGP SIGNATURE-----\n\n!!",
    ] {
        let refused = verify(&[ALLOWED, ANN], with(broken).as_bytes());
        assert!(matches!(refused, Err(Refusal::Unreadable(_))), "{refused:?}");
    }
}

#[test]
fn a_restricted_ssh_key_signs_within_its_restrictions() {
    let fits = |options: &str, now: i64| verify_at(&[&line("ed25519", options)], ED25519, now);
    assert_eq!(fits("namespaces=\"file,git\"", THEN), Ok(()));
    assert!(message(fits("namespaces=\"file\"", THEN)).contains("may not sign commits"));
    assert_eq!(fits("valid-after=\"20240102\",valid-before=\"20240105\"", THEN), Ok(()));
    assert!(
        message(fits("valid-after=\"20240104\"", THEN + 9 * DAY)).contains("is not valid before 2024-01-04")
    );
    assert!(message(fits("valid-before=\"20240102\"", THEN)).contains("is not valid after 2024-01-02"));
    // The committer chooses the date of a commit.
    assert!(
        message(fits("valid-before=\"20240105\"", THEN + 9 * DAY)).contains("is not valid after 2024-01-05")
    );
    let twice = [line("ed25519", "valid-before=\"20240102\""), line("ed25519", "")].join("\n");
    assert_eq!(verify(&[&twice], ED25519), Ok(()), "one line is enough");
}

#[test]
fn an_openpgp_key_signs_while_it_is_valid() {
    let (ann, bob) = (include_str!("fixtures/ann-revoked.asc"), include_str!("fixtures/bob-revoked.asc"));
    assert!(message(verify(&[ann], OF_ANN)).ends_with("which is revoked"));
    assert!(message(verify(&[bob], OF_BOB)).ends_with("which is revoked"));
    // An older copy in another file does not undo the revocation, in either order.
    for files in [[ANN, ann], [ann, ANN]] {
        assert!(message(verify(&files, OF_ANN)).ends_with("which is revoked"));
    }
    for (file, raw) in [(ANN, OF_ANN), (BOB, OF_BOB)] {
        let words = message(verify_at(&[file], raw, THEN + 400 * DAY));
        assert!(words.contains("expired on 2025-01-01"), "{words}");
        let words = message(verify_at(&[file], raw, THEN - DAY));
        assert!(words.contains("was made in the future"), "{words}");
        let words = message(verify_at(&[file], raw, THEN - 9 * DAY));
        assert!(words.contains("was created later"), "{words}");
    }
}

#[test]
fn files_that_cannot_be_trusted_are_explained() {
    let cut = ANN.lines().take(4).collect::<Vec<_>>().join("\n");
    let damaged = ANN.replace("mDMEZ", "mDMFZ");
    for (text, expected) in [
        (format!("\n{cut}\n"), "line 2 begins an OpenPGP public key that has no end line"),
        (damaged, "line 1 contains no OpenPGP public key"),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n".to_owned(), "line 1 begins a private key"),
        (format!("{ALLOWED}a@b {WEAK}"), "line 4 has an RSA key of 1024 bits"),
        (format!("{ALLOWED}{WEAK}"), "line 4 has no principal"),
    ] {
        let why = Keyring::default().add(&text).expect_err(expected);
        assert!(why.contains(expected), "{why}");
    }
    assert!(keyring(&["# nothing\n\n"]).is_empty());
}

proptest! {
    // Each case verifies a signature, which is slow without optimization.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_byte_of_a_commit_can_be_changed(at in 0..ED25519.len(), byte in any::<u8>()) {
        let mut raw = ED25519.to_vec();
        let unchanged = std::mem::replace(&mut raw[at], byte) == byte;
        prop_assert!(unchanged || verify(&[ALLOWED], &raw).is_err() || is_signature(at), "byte {at}");
    }

    #[test]
    fn no_text_is_too_much(text in "\\PC{0,300}") {
        let _ = Keyring::default().add(&text);
        let _ = Keyring::default().add(&format!("{}\n{text}\n{}", BLOCK.0, BLOCK.1));
    }
}

/// Returns true if the byte is in the armor, where another line break has the same meaning.
fn is_signature(at: usize) -> bool {
    let text = std::str::from_utf8(ED25519).expect("text");
    let begin = text.find("gpgsig ").expect("a signature");
    (begin..text.find("\n\n").expect("a head")).contains(&at)
}
