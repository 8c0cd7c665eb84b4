//! The status of the repository, as the agent recorded it: in its Lease, or in the state directory.

use std::io::ErrorKind;

use crate::api::DEFAULT_LEASE;
use crate::api::status::RepositoryStatus;
use crate::cli::place::{ClusterPlace, StatePlace};
use crate::engine::kubernetes::error::Refusal;
use crate::engine::kubernetes::memory::{self, Found};
use crate::engine::standalone::memory_file;

/// How to name the Lease of the agent.
const NAME_LEASE: &str = "name the namespace of the agent with -n, and its Lease with --lease-name";

/// Why the status of the repository is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Says also what to do.
    pub why: String,
    /// Nothing is wrong: no Lease was named, and few users may read the one of the agent, which is in one namespace.
    pub is_usual: bool,
}

impl Unknown {
    fn new(why: impl std::fmt::Display, is_usual: bool) -> Self {
        Self { why: format!("the status of the repository is unknown: {why}"), is_usual }
    }
}

/// Reads the record in the Lease with this name, or in that of the agent.
pub async fn in_cluster(place: &ClusterPlace, lease: Option<&str>) -> Result<RepositoryStatus, Unknown> {
    let found = memory::find(&place.cluster, lease.unwrap_or(DEFAULT_LEASE)).await;
    of_lease(found, &place.cluster.namespace, lease)
}

pub fn in_state(place: &StatePlace) -> Result<RepositoryStatus, Unknown> {
    let path = memory_file(&place.path);
    match std::fs::read_to_string(&path) {
        Ok(memory) => decoded(Some(&memory)),
        Err(error) if error.kind() == ErrorKind::NotFound => decoded(None),
        Err(error) => Err(Unknown::new(format_args!("{} cannot be read: {error}", path.display()), false)),
    }
}

fn of_lease(
    found: Result<Option<Found>, Refusal>,
    namespace: &str,
    lease: Option<&str>,
) -> Result<RepositoryStatus, Unknown> {
    let name = lease.unwrap_or(DEFAULT_LEASE);
    match found {
        Ok(Some(found)) => decoded(found.memory.as_deref()),
        Ok(None) => {
            let why = format_args!("there is no Lease {name} in namespace {namespace}; {NAME_LEASE}");
            Err(Unknown::new(why, lease.is_none()))
        }
        Err(error) => {
            let is_usual = lease.is_none() && error.code == Some(403);
            let why = format_args!(
                "the Lease {name} in namespace {namespace} cannot be read: {error}; {NAME_LEASE}"
            );
            Err(Unknown::new(why, is_usual))
        }
    }
}

/// Decodes a record. Without one, no commit was synced yet.
fn decoded(memory: Option<&str>) -> Result<RepositoryStatus, Unknown> {
    let Some(memory) = memory else { return Ok(RepositoryStatus::default()) };
    serde_json::from_str(memory)
        .map_err(|error| Unknown::new(format_args!("it is not valid: {error}"), false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_without_a_record_was_never_synced_and_one_that_was_not_read_is_unknown() {
        let found = |memory: Option<&str>| Ok(Some(Found { memory: memory.map(str::to_owned) }));
        let refused = |code| Err(Refusal { code, ..Refusal::without_response("denied") });
        let read = |found, lease| of_lease(found, "ops", lease).map(|status| status.last.is_none());
        assert_eq!(read(found(None), None), Ok(true));
        assert_eq!(read(found(Some("{}")), None), Ok(true));
        // A user who names no Lease has nothing to correct if it is elsewhere, or if they may not read it.
        for (found, lease, is_usual, words) in [
            (found(Some("{")), None, false, "it is not valid"),
            (Ok(None), None, true, "there is no Lease opsy in namespace ops; name the namespace"),
            (Ok(None), Some("opsy"), false, "there is no Lease opsy in namespace ops; name the namespace"),
            (refused(Some(403)), None, true, "the Lease opsy in namespace ops cannot be read: denied;"),
            (refused(Some(403)), Some("b"), false, "the Lease b in namespace ops cannot be read: denied;"),
            (refused(Some(500)), None, false, "the Lease opsy in namespace ops cannot be read: denied;"),
            (refused(None), None, false, "the Lease opsy in namespace ops cannot be read: denied;"),
        ] {
            let unknown = read(found, lease).expect_err(words);
            let begin = format!("the status of the repository is unknown: {words}");
            assert!(unknown.why.starts_with(&begin) && unknown.is_usual == is_usual, "{unknown:?}");
        }
    }

    #[test]
    fn the_record_of_a_state_directory_is_its_memory() {
        let state = tempfile::tempdir().expect("a directory");
        let read = || in_state(&StatePlace::of(state.path())).map(|status| status.last.is_none());
        assert_eq!(read(), Ok(true), "no agent has run");
        std::fs::write(memory_file(state.path()), "{").expect("written");
        assert!(read().is_err_and(|unknown| !unknown.is_usual && unknown.why.contains("is not valid")));
    }
}
