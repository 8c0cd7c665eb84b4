//! Splits a commit into its signature and the payload that was signed. Pure.
//!
//! Git signs the commit without the header `gpgsig`. This module splits the bytes as Git does. libgit2 is not used,
//! because it also finds a signature in the message and stops at a zero byte.

use super::refusal::Refusal;

/// A commit with a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The signature, armored.
    pub signature: String,
    /// The bytes that were signed.
    pub payload: Vec<u8>,
    /// The time of the commit, as the committer states it, in seconds since 1970.
    pub committed: i64,
}

/// Splits the bytes of a commit object.
///
/// # Errors
/// If there is not exactly one signature, or it is not text.
pub fn split(raw: &[u8]) -> Result<Signed, Refusal> {
    let end = raw.windows(2).position(|pair| pair == b"\n\n").map_or(raw.len(), |at| at + 1);
    let (head, message) = raw.split_at(end);
    let mut payload = Vec::with_capacity(raw.len());
    let (mut signature, mut committed, mut header) = (None::<Vec<u8>>, None, Header::Other);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        if let Some(more) = line.strip_prefix(b" ") {
            match (header, &mut signature) {
                (Header::Signature, Some(signature)) => signature.extend_from_slice(more),
                (Header::Dropped, _) => {}
                _ => payload.extend_from_slice(line),
            }
            continue;
        }
        if let Some(first) = line.strip_prefix(b"gpgsig ") {
            if signature.replace(first.to_vec()).is_some() {
                return Err(Refusal::Several);
            }
            header = Header::Signature;
        } else if line.starts_with(b"gpgsig") {
            // The signature for another hash function, which is not part of the payload either.
            header = Header::Dropped;
        } else {
            header = Header::Other;
            if let Some(committer) = line.strip_prefix(b"committer ") {
                committed = committed.or_else(|| seconds(committer));
            }
            payload.extend_from_slice(line);
        }
    }
    payload.extend_from_slice(message);
    let signature = signature.ok_or(Refusal::Unsigned)?;
    let unreadable = |why: &str| Refusal::Unreadable(why.to_owned());
    let signature = String::from_utf8(signature).map_err(|_| unreadable("it is not text"))?;
    let committed = committed.ok_or_else(|| unreadable("the commit does not state when it was made"))?;
    Ok(Signed { signature, payload, committed })
}

/// The header that the following lines continue; they begin with a space.
#[derive(Clone, Copy)]
enum Header {
    Signature,
    Dropped,
    Other,
}

/// Returns the time in `Name <mail> 1700000000 +0100`.
fn seconds(committer: &[u8]) -> Option<i64> {
    let after = committer.rsplit(|byte| *byte == b'>').next()?;
    std::str::from_utf8(after).ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor A <a@b> 1 +0000\n\
                        committer A > <a@b> 1700000000 +0100\n";

    fn commit(header: &str, message: &str) -> Vec<u8> {
        format!("{HEAD}{header}\n{message}").into_bytes()
    }

    #[test]
    fn the_signature_is_taken_out_of_the_head_alone() {
        let raw = commit("gpgsig one\n two\n \nencoding UTF-8\n", "gpgsig three\n four\n");
        let signed = split(&raw).expect("signed");
        assert_eq!((signed.signature.as_str(), signed.committed), ("one\ntwo\n\n", 1_700_000_000));
        assert_eq!(signed.payload, commit("encoding UTF-8\n", "gpgsig three\n four\n"));
    }

    #[test]
    fn what_belongs_to_other_headers_is_signed() {
        let tag = "mergetag object 4b\n type commit\n gpgsig x\n";
        let raw = commit(&format!("{tag}gpgsig s\n"), "m\0gpgsig\n");
        assert_eq!(split(&raw).expect("signed").payload, commit(tag, "m\0gpgsig\n"));
        let other = commit("gpgsig-sha256 x\n y\ngpgsig s\n", "m\n");
        assert_eq!(split(&other).expect("signed").payload, commit("", "m\n"));
    }

    #[test]
    fn one_signature_is_wanted() {
        assert_eq!(split(&commit("", "gpgsig in the message\n")), Err(Refusal::Unsigned));
        assert_eq!(split(&commit("gpgsig a\ngpgsig b\n", "m")), Err(Refusal::Several));
        assert!(matches!(split(b"tree x\ngpgsig a\n\nm"), Err(Refusal::Unreadable(_))));
    }

    proptest! {
        #[test]
        fn what_was_put_in_comes_out(message in "\\PC{0,80}", lines in prop::collection::vec("[ -~]{0,70}", 1..20)) {
            let signature = lines.join("\n");
            let header = format!("gpgsig {}\n", signature.replace('\n', "\n "));
            let signed = split(&commit(&header, &message)).expect("signed");
            prop_assert_eq!(signed.signature, signature + "\n");
            prop_assert_eq!(signed.payload, commit("", &message));
        }

        #[test]
        fn no_bytes_are_too_much(raw in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = split(&raw);
        }
    }
}
