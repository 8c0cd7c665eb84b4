//! Git's file of allowed signers (`gpg.ssh.allowedSignersFile`; ALLOWED SIGNERS in ssh-keygen(1)). Each line has
//! principals, options and an SSH public key. Pure.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ssh_key::PublicKey;
use ssh_key::public::KeyData;

/// The minimum size of RSA keys: shorter keys are not secure.
pub const RSA_BITS: usize = 2048;

/// A key that may sign.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The owners of the key. Like Git, Opsy accepts commits of all of them.
    pub principals: String,
    pub key: PublicKey,
    /// Patterns of the namespaces that the key may sign for. Default: all.
    pub namespaces: Option<Vec<String>>,
    /// The validity of the key, in seconds since 1970, both inclusive.
    pub after: Option<i64>,
    pub before: Option<i64>,
}

impl Signer {
    /// Returns a signer without restrictions.
    pub fn of(principals: &str, key: PublicKey) -> Self {
        Self { principals: principals.to_owned(), key, namespaces: None, after: None, before: None }
    }
}

/// Parses a line. Returns `None` for an empty line and for a comment.
///
/// # Errors
/// If the line is invalid. The error states the remedy.
pub fn line(text: &str) -> Result<Option<Signer>, String> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let (principals, rest) = word(text)?;
    if is_key_type(principals) {
        return Err(format!("has no principal before the key; write `name@example.com {principals} …`"));
    }
    let (second, _) = word(rest)?;
    let (options, key) = if is_key_type(second) { ("", rest) } else { word(rest)? };
    let key = public_key(key)?;
    let signer = Signer::of(principals.trim_matches('"'), key);
    apply(signer, options).map(Some)
}

/// Returns the next word and the rest of the line. A space in quotes does not end a word.
fn word(text: &str) -> Result<(&str, &str), String> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, char) in text.char_indices() {
        match char {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if char.is_whitespace() && !quoted => return Ok((&text[..at], text[at..].trim_start())),
            _ => {}
        }
    }
    match quoted {
        true => Err("has a quote that is not closed".to_owned()),
        false => Ok((text, "")),
    }
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-ssh-", "sk-ecdsa-"].iter().any(|prefix| word.starts_with(prefix))
}

/// Parses a public key, which must be secure.
fn public_key(text: &str) -> Result<PublicKey, String> {
    let (kind, _) = word(text)?;
    if kind.is_empty() {
        return Err("has no key; write `principal key-type base64-key`".to_owned());
    }
    if kind.contains("-cert-") {
        return Err(CERTIFICATES.to_owned());
    }
    let key =
        PublicKey::from_openssh(text).map_err(|error| format!("has no valid SSH public key: {error}"))?;
    check_strength(key.key_data()).map(|()| key)
}

const CERTIFICATES: &str = "has an SSH certificate or certificate authority, which Opsy does not support; list the \
                            public key of each signer";

/// Checks that a key is secure.
///
/// # Errors
/// If it is not secure.
pub fn check_strength(key: &KeyData) -> Result<(), String> {
    match key {
        KeyData::Rsa(key) => {
            let bits = key.n.as_positive_bytes().map_or(0, |bytes| {
                bytes.len() * 8 - bytes.first().map_or(0, |first| first.leading_zeros() as usize)
            });
            match bits < RSA_BITS {
                true => {
                    Err(format!("has an RSA key of {bits} bits; use one of at least {RSA_BITS}, or Ed25519"))
                }
                false => Ok(()),
            }
        }
        KeyData::Ecdsa(_) | KeyData::Ed25519(_) | KeyData::SkEcdsaSha2NistP256(_) | KeyData::SkEd25519(_) => {
            Ok(())
        }
        other => Err(format!("has a key of the type {}; use Ed25519, ECDSA or RSA", other.algorithm())),
    }
}

/// Parses the options, which are separated by commas.
fn apply(mut signer: Signer, options: &str) -> Result<Signer, String> {
    for option in split(options) {
        let (name, value) = match option.split_once('=') {
            Some((name, value)) => (name, Some(unquote(value)?)),
            None => (option, None),
        };
        match (name.to_ascii_lowercase().as_str(), value) {
            ("", None) => {}
            ("cert-authority", _) => return Err(CERTIFICATES.to_owned()),
            ("namespaces", Some(value)) => {
                signer.namespaces = Some(value.split(',').map(|one| one.trim().to_owned()).collect());
            }
            ("valid-after", Some(value)) => signer.after = Some(time(&value)?),
            ("valid-before", Some(value)) => signer.before = Some(time(&value)?),
            ("namespaces" | "valid-after" | "valid-before", None) => {
                return Err(format!("has the option {name} without a value; write {name}=\"…\""));
            }
            _ => {
                return Err(format!(
                    "has the unknown option {name:?}; the options are namespaces, valid-after and valid-before"
                ));
            }
        }
    }
    match (signer.after, signer.before) {
        (Some(after), Some(before)) if after > before => {
            Err("is never valid, because valid-after is after valid-before".to_owned())
        }
        _ => Ok(signer),
    }
}

/// Splits the options at commas that are not in quotes.
fn split(options: &str) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    options
        .split(|char: char| {
            match char {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                _ => return char == ',' && !quoted,
            }
            false
        })
        .collect()
}

fn unquote(value: &str) -> Result<String, String> {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    match inner {
        Some(inner) => Ok(inner.replace("\\\"", "\"")),
        None => Err(format!("has the option value {value}, which must be in double quotes")),
    }
}

/// Parses `YYYYMMDD`, `YYYYMMDDHHMM` or `YYYYMMDDHHMMSS`, with or without `Z`. The time is always UTC: the meaning of a
/// file must not depend on the machine.
fn time(value: &str) -> Result<i64, String> {
    let bad =
        || format!("has the time {value:?}, which must be YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS (UTC)");
    let digits = value.strip_suffix(['Z', 'z']).unwrap_or(value);
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let part =
        |from: usize, to: usize| digits.get(from..to).map_or(Ok(0), str::parse::<i8>).map_err(|_| bad());
    let year = digits[..4].parse::<i16>().map_err(|_| bad())?;
    let date = DateTime::new(year, part(4, 6)?, part(6, 8)?, part(8, 10)?, part(10, 12)?, part(12, 14)?, 0);
    let zoned = date.map_err(|_| bad())?.to_zoned(TimeZone::UTC).map_err(|_| bad())?;
    Ok(zoned.timestamp().as_second())
}

/// Returns true if a list of patterns with `*` and `?` matches a name. As in OpenSSH, a pattern after `!` excludes it.
pub fn matches(patterns: &[String], name: &str) -> bool {
    let is_match = |pattern: &str| glob(pattern.as_bytes(), name.as_bytes());
    let excluded = patterns.iter().filter_map(|pattern| pattern.strip_prefix('!')).any(is_match);
    !excluded && patterns.iter().any(|pattern| is_match(pattern))
}

fn glob(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern, name) {
        ([], _) => name.is_empty(),
        ([b'*', rest @ ..], _) => (0..=name.len()).any(|at| glob(rest, &name[at..])),
        ([b'?', rest @ ..], [_, name @ ..]) => glob(rest, name),
        ([first, rest @ ..], [next, name @ ..]) => first == next && glob(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";

    fn signer(text: &str) -> Signer {
        line(text).unwrap_or_else(|why| panic!("{text}: {why}")).expect("a signer")
    }

    #[test]
    fn lines_of_git_are_read() {
        for nothing in ["", "  ", "# a comment", " # another"] {
            assert!(line(nothing).expect("fine").is_none(), "{nothing:?}");
        }
        let plain = signer(&format!("a@b.c,d@e.f {KEY} a comment of words"));
        assert_eq!((plain.principals.as_str(), plain.key.comment()), ("a@b.c,d@e.f", "a comment of words"));
        assert!(plain.namespaces.is_none() && plain.after.is_none() && plain.before.is_none());
        let full = signer(&format!(
            "\"a b\"\t namespaces=\"file,git\",Valid-After=\"20240102\",valid-before=\"20240102030405Z\" {KEY}"
        ));
        assert_eq!(full.principals, "a b");
        assert_eq!(full.namespaces.as_deref(), Some(&["file".to_owned(), "git".to_owned()][..]));
        assert_eq!((full.after, full.before), (Some(1_704_153_600), Some(1_704_164_645)));
        assert_eq!(time("202401020304"), Ok(1_704_164_640));
    }

    #[test]
    fn lines_that_cannot_be_trusted_are_explained() {
        let weak = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDDsBBGUHtJBCOBLlv0vKlBTGIoA9WADi/7LDTjvHFO9VFsGfEo8zTpzdk1JMBkTWhUn0Q==";
        for (text, expected) in [
            (KEY.to_owned(), "has no principal before the key"),
            ("a@b".to_owned(), "has no key"),
            ("a@b ssh-ed25519".to_owned(), "has no valid SSH public key"),
            ("a@b ssh-ed25519 AAAA".to_owned(), "has no valid SSH public key"),
            ("a@b ssh-ed25519-cert-v01@openssh.com AAAA".to_owned(), "list the public key of each signer"),
            (format!("a@b cert-authority {KEY}"), "list the public key of each signer"),
            (format!("a@b namespaces=\"git\",cert-authority {KEY}"), "list the public key of each signer"),
            (format!("a@b namespaces {KEY}"), "without a value"),
            (format!("a@b namespaces=git {KEY}"), "must be in double quotes"),
            (format!("a@b namespaces=\"git {KEY}"), "a quote that is not closed"),
            (format!("a@b no-touch-required {KEY}"), "the unknown option \"no-touch-required\""),
            (format!("a@b valid-after=\"2024\" {KEY}"), "must be YYYYMMDD"),
            (format!("a@b valid-after=\"20241301\" {KEY}"), "must be YYYYMMDD"),
            (format!("a@b valid-after=\"20250101\",valid-before=\"20240101\" {KEY}"), "is never valid"),
        ] {
            let why = line(&text).expect_err(&text);
            assert!(why.contains(expected), "{text}: {why}");
        }
        assert!(line(&format!("a@b {weak}")).is_err());
    }

    #[test]
    fn purposes_match_as_in_openssh() {
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        for good in ["git", "*", "g?t", "file,git", "g*", "!file,*"] {
            assert!(matches(&list(good), "git"), "{good}");
        }
        for bad in ["", "file", "gitx", "!git,*", "*,!g*", "?"] {
            assert!(!matches(&list(bad), "git"), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_line_is_too_much(text in "\\PC{0,120}", options in "[a-z=\",!*\\\\ -]{0,40}") {
            let _ = line(&text);
            let _ = line(&format!("a@b {options} {KEY}"));
        }
    }
}
