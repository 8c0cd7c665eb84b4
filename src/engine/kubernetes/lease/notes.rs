//! What is noted on the Lease beside who holds it: the repository its agents work by, their owner, what
//! the agent remembers, and the pushes that other replicas were notified of. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;

use crate::api::Pushes;
use crate::engine::kubernetes::OWNER;

/// Annotation: the repository and path that the holder works by.
pub const REPOSITORY: &str = "ami.opsy.dev/repository";
/// Annotation: what the agent remembers.
pub const MEMORY: &str = "ami.opsy.dev/memory";
/// Annotation: pushes that were reported to replicas that stand by.
pub const PUSHES: &str = "ami.opsy.dev/pushes";

pub type Annotations = BTreeMap<String, String>;

/// Repository and path, as people read and compare them.
pub fn repository(identity: &str, path: &str) -> String {
    match path.trim_matches('/') {
        "" => identity.to_owned(),
        path => format!("{identity}//{path}"),
    }
}

/// The pushes that are noted on a Lease.
pub fn pushes(lease: &Lease) -> Pushes {
    let annotations = lease.metadata.annotations.as_ref();
    Pushes::parse(annotations.and_then(|annotations| annotations.get(PUSHES)).map(String::as_str))
}

/// The repository of whoever used the Lease last, where it is another one.
pub fn other<'a>(annotations: Option<&'a Annotations>, ours: &str) -> Option<&'a str> {
    annotations?.get(REPOSITORY).map(String::as_str).filter(|theirs| *theirs != ours)
}

/// Why an agent of another repository is not stood by for.
pub fn misplaced(lease: &str, namespace: &str, annotations: &Annotations, ours: &str) -> Option<String> {
    let theirs = other(Some(annotations), ours)?;
    let owner = annotations.get(OWNER).map_or(String::new(), |owner| format!(" (owner {owner})"));
    Some(format!(
        "Lease {lease} in namespace {namespace} is held by the agent of another repository, {theirs}{owner}, and this one \
         works by {ours}: start one of them with another --lease-name; if this one is to replace the other, stop that first"
    ))
}

/// The annotations of a Lease that is taken. What the agent of another repository remembered is not ours.
pub fn taken(annotations: Option<Annotations>, ours: &str) -> Annotations {
    let mut annotations = annotations.unwrap_or_default();
    if let Some(theirs) = other(Some(&annotations), ours) {
        tracing::warn!(
            theirs,
            ours,
            "the Lease was of another repository: what its agent remembered is dropped"
        );
        annotations.remove(MEMORY);
    }
    annotations.insert(REPOSITORY.to_owned(), ours.to_owned());
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_repository_or_path_is_told_with_what_to_do_and_inherits_nothing() {
        let ours = repository("git.example/images", "/clusters/a/");
        assert_eq!(ours, "git.example/images//clusters/a");
        let first = taken(None, &ours);
        assert_eq!(misplaced("opsy", "ops", &first, &ours), None);
        let mut known = first;
        known.extend([(MEMORY.to_owned(), "{}".to_owned()), (OWNER.to_owned(), "team-a".to_owned())]);
        assert_eq!(taken(Some(known.clone()), &ours), known);
        let other = repository("git.example/images", "");
        let words = misplaced("opsy", "ops", &known, &other).expect("told");
        for part in [&ours, &other, "--lease-name", "owner team-a", "Lease opsy in namespace ops"] {
            assert!(words.contains(part), "{words}");
        }
        let after = taken(Some(known), &other);
        assert_eq!((after.get(MEMORY), other_of(&after)), (None, Some(other.as_str())));
        assert!(after.contains_key(OWNER), "whose it is, is not changed by a move");
        assert_eq!(misplaced("opsy", "ops", &Annotations::new(), &ours), None, "of an older agent");
    }

    fn other_of(annotations: &Annotations) -> Option<&str> {
        super::other(Some(annotations), "")
    }
}
