//! The command `ls-refs` of version 2 of the Git protocol: its request and its response, in pkt-lines. Pure.
//!
//! Source: "gitprotocol-v2" and "gitprotocol-common" in Git's documentation.

use std::collections::BTreeMap;

use git2::Oid;

use crate::git::ref_names::HEADS;

/// The length of a pkt-line is written in this many hexadecimal digits, which count themselves.
const PREFIX: usize = 4;
const FLUSH: &[u8] = b"0000";
const DELIMITER: &[u8] = b"0001";
/// The number of hexadecimal digits of an object ID. Repositories with SHA-256 are not supported.
const ID_DIGITS: usize = 40;

/// Refs of a remote.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refs {
    /// The commit of `HEAD`, and the branch that it points to.
    pub head: Option<(Oid, Option<String>)>,
    pub branches: BTreeMap<String, Oid>,
}

/// Returns the body of a request for these branches, and for `HEAD` if `head`. The server also sends the branches whose
/// name starts with one of these names.
pub(super) fn request<'a>(branches: impl Iterator<Item = &'a str>, head: bool) -> Vec<u8> {
    let mut body = Vec::new();
    line(&mut body, "command=ls-refs");
    line(&mut body, concat!("agent=opsy/", env!("CARGO_PKG_VERSION")));
    body.extend_from_slice(DELIMITER);
    line(&mut body, "symrefs");
    if head {
        line(&mut body, "ref-prefix HEAD");
    }
    for branch in branches {
        line(&mut body, &format!("ref-prefix {HEADS}{branch}"));
    }
    body.extend_from_slice(FLUSH);
    body
}

fn line(body: &mut Vec<u8>, text: &str) {
    // With the newline.
    body.extend_from_slice(format!("{:04x}{text}\n", PREFIX + text.len() + 1).as_bytes());
}

/// Returns the refs of a response, or `None` if it is not a complete response of version 2.
pub(super) fn parse(mut body: &[u8]) -> Option<Refs> {
    let mut refs = Refs::default();
    loop {
        let (prefix, rest) = body.split_at_checked(PREFIX)?;
        if prefix == FLUSH {
            return rest.is_empty().then_some(refs);
        }
        let (content, rest) = rest.split_at_checked(length(prefix)?.checked_sub(PREFIX)?)?;
        let content = std::str::from_utf8(content).ok()?;
        add(&mut refs, content.strip_suffix('\n').unwrap_or(content))?;
        body = rest;
    }
}

fn length(prefix: &[u8]) -> Option<usize> {
    // `from_str_radix` would accept a sign.
    let digits =
        std::str::from_utf8(prefix).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
    usize::from_str_radix(digits, 16).ok()
}

/// Adds the ref of a line: its ID, its name, and attributes. A ref that is listed twice is an error.
fn add(refs: &mut Refs, line: &str) -> Option<()> {
    let mut words = line.split(' ');
    let id = words.next().filter(|id| id.len() == ID_DIGITS)?;
    let (id, name) = (Oid::from_str(id).ok()?, words.next()?);
    let target = words.find_map(|word| word.strip_prefix("symref-target:"));
    let is_new = match name.strip_prefix(HEADS) {
        Some(branch) => refs.branches.insert(branch.to_owned(), id).is_none(),
        None if name == "HEAD" => {
            let branch = target.and_then(|target| target.strip_prefix(HEADS)).map(str::to_owned);
            refs.head.replace((id, branch)).is_none()
        }
        // The server may send more than was requested.
        None => true,
    };
    is_new.then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";

    fn id(text: &str) -> Oid {
        Oid::from_str(text).expect("an ID")
    }

    fn response(lines: &[String]) -> Vec<u8> {
        let mut body = Vec::new();
        lines.iter().for_each(|text| line(&mut body, text));
        body.extend_from_slice(FLUSH);
        body
    }

    #[test]
    fn a_request_names_only_the_refs_that_are_needed() {
        let request = |branches: &[&str], head| {
            String::from_utf8(super::request(branches.iter().copied(), head)).expect("text")
        };
        let start = format!(
            "0014command=ls-refs\n{:04x}agent=opsy/{version}\n0001000csymrefs\n",
            16 + env!("CARGO_PKG_VERSION").len(),
            version = env!("CARGO_PKG_VERSION")
        );
        assert_eq!(request(&["main"], false), format!("{start}001fref-prefix refs/heads/main\n0000"));
        assert_eq!(request(&[], true), format!("{start}0014ref-prefix HEAD\n0000"));
    }

    #[test]
    fn a_response_is_read() {
        let body = response(&[
            format!("{ONE} HEAD symref-target:refs/heads/main"),
            format!("{ONE} refs/heads/main"),
            format!("{TWO} refs/heads/main-2 unknown:attribute"),
            format!("{TWO} refs/tags/v1 peeled:{ONE}"),
        ]);
        let refs = parse(&body).expect("refs");
        assert_eq!(refs.head, Some((id(ONE), Some("main".to_owned()))));
        assert_eq!(refs.branches, [("main".to_owned(), id(ONE)), ("main-2".to_owned(), id(TWO))].into());
        assert_eq!(parse(FLUSH), Some(Refs::default()), "none of the refs exists");
        let detached = parse(&response(&[format!("{ONE} HEAD")])).expect("refs");
        assert_eq!(detached.head, Some((id(ONE), None)));
    }

    #[test]
    fn anything_else_is_no_response() {
        let whole = response(&[format!("{ONE} refs/heads/main")]);
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None, "the first {length} bytes");
        }
        let twice = response(&[format!("{ONE} refs/heads/main"), format!("{TWO} refs/heads/main")]);
        let heads = response(&[format!("{ONE} HEAD"), format!("{ONE} HEAD")]);
        let sha256 = response(&[format!("{ONE}{ONE}1111 refs/heads/main")]);
        let short = response(&["111 refs/heads/main".to_owned()]);
        let nameless = response(&[ONE.to_owned()]);
        let error = response(&["ERR upload-pack: not our ref".to_owned()]);
        let version_0 = [b"001e# service=git-upload-pack\n0000".as_slice(), &whole].concat();
        let more = [whole.as_slice(), b"0000"].concat();
        let bodies: [&[u8]; 17] = [
            &twice,
            &heads,
            &sha256,
            &short,
            &nameless,
            &error,
            &version_0,
            &more,
            b"",
            b"0001",
            b"0002",
            b"0003",
            b"0004",
            b"ffff",
            b"fffffffff",
            b"+00a123456",
            b"<!DOCTYPE html>",
        ];
        for body in bodies {
            assert_eq!(parse(body), None, "{}", String::from_utf8_lossy(body));
        }
        assert_eq!(parse(&[b"0008\xff\xfe\xfd\n".as_slice(), FLUSH].concat()), None);
    }
}
