//! The annotations of the Lease: the repository of its agent, the owner, the agent's memory, and the pushes that
//! standby replicas were notified of. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;

use crate::api::Pushes;
use crate::engine::kubernetes::OWNER;

/// Annotation: the repository and path of the holder.
pub const REPOSITORY: &str = "ami.opsy.dev/repository";
/// Annotation: the agent's memory.
pub const MEMORY: &str = "ami.opsy.dev/memory";
/// Annotation: the pushes that standby replicas were notified of.
pub const PUSHES: &str = "ami.opsy.dev/pushes";

pub type Annotations = BTreeMap<String, String>;

/// Repository and path as one string.
pub fn repository(identity: &str, path: &str) -> String {
    match path.trim_matches('/') {
        "" => identity.to_owned(),
        path => format!("{identity}//{path}"),
    }
}

/// The pushes that are recorded on a Lease.
pub fn pushes(lease: &Lease) -> Pushes {
    let annotations = lease.metadata.annotations.as_ref();
    Pushes::parse(annotations.and_then(|annotations| annotations.get(PUSHES)).map(String::as_str))
}

/// The repository of the last holder, if it is another one.
pub fn other_repository<'a>(annotations: Option<&'a Annotations>, own: &str) -> Option<&'a str> {
    annotations?.get(REPOSITORY).map(String::as_str).filter(|other| *other != own)
}

/// Why it is useless to wait for a Lease with these annotations: its holder is the agent of another repository.
pub fn misplaced(lease: &str, namespace: &str, annotations: &Annotations, own: &str) -> Option<String> {
    let other = other_repository(Some(annotations), own)?;
    let owner = annotations.get(OWNER).map_or(String::new(), |owner| format!(" (owner {owner})"));
    Some(format!(
        "Lease {lease} in namespace {namespace} is held by the agent of another repository, {other}{owner}; this agent's \
         repository is {own}: start one of them with another --lease-name, or, to replace the other agent, stop it first"
    ))
}

/// The annotations of a Lease after it was acquired. The memory of the agent of another repository is removed.
pub fn acquired(annotations: Option<Annotations>, own: &str) -> Annotations {
    let mut annotations = annotations.unwrap_or_default();
    if let Some(other) = other_repository(Some(&annotations), own) {
        tracing::warn!(
            other,
            own,
            "the Lease belonged to the agent of another repository: its memory is dropped"
        );
        annotations.remove(MEMORY);
    }
    annotations.insert(REPOSITORY.to_owned(), own.to_owned());
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_repository_or_path_is_reported_with_the_remedy_and_inherits_nothing() {
        let own = repository("git.example/images", "/clusters/a/");
        assert_eq!(own, "git.example/images//clusters/a");
        let first = acquired(None, &own);
        assert_eq!(misplaced("opsy", "ops", &first, &own), None);
        let mut known = first;
        known.extend([(MEMORY.to_owned(), "{}".to_owned()), (OWNER.to_owned(), "team-a".to_owned())]);
        assert_eq!(acquired(Some(known.clone()), &own), known);
        let other = repository("git.example/images", "");
        let words = misplaced("opsy", "ops", &known, &other).expect("a message");
        for part in [&own, &other, "--lease-name", "owner team-a", "Lease opsy in namespace ops"] {
            assert!(words.contains(part), "{words}");
        }
        let after = acquired(Some(known), &other);
        assert_eq!((after.get(MEMORY), other_of(&after)), (None, Some(other.as_str())));
        assert!(after.contains_key(OWNER), "a move does not change the owner");
        assert_eq!(misplaced("opsy", "ops", &Annotations::new(), &own), None, "of an older agent");
    }

    fn other_of(annotations: &Annotations) -> Option<&str> {
        super::other_repository(Some(annotations), "")
    }
}
