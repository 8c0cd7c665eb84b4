//! Facts about the repository → its conditions. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::conditions::{ACCEPTED, APPLIED, LOADED, PRUNED, PUBLISHED, READABLE, SYNCED};
use crate::api::{Class, reasons};
use crate::loader::LoadOutcome;
use crate::manifest::{ObjectSet, Severity};
use crate::publish::Publishing;
use crate::sync::{Hold, SyncState};

/// Items that a message names; it counts the others.
const NAMED: usize = 3;
/// Broken files that are recorded, characters per problem, and per message. The status is saved in an annotation, and
/// all annotations of an object may have 256 KiB together.
const FILES: usize = 200;
const PROBLEM: usize = 200;
const MESSAGE: usize = 1500;

/// A condition of which something is known: its type, and reason and message if it is false.
pub type Judgement = (&'static str, Option<(&'static str, String)>);

/// What the judgement is based on.
pub struct Facts {
    /// Broken files with their first problem, as `broken_files` returns them.
    pub broken: Vec<(String, String)>,
    pub sync: SyncState,
    pub publishing: Publishing,
    pub load: LoadOutcome,
    /// The engine has the documents of the synced commit.
    pub is_loaded: bool,
    /// Objects of the commit that do not exist, and why.
    pub refused: Vec<String>,
    /// Namespaces that cannot be read, and why.
    pub unreadable: BTreeMap<String, String>,
}

/// Returns a judgement per condition of which something is known. A condition that is left out stays as it was saved:
/// soon after a start, little is known.
pub fn judge(facts: &Facts) -> Vec<Judgement> {
    let Facts { broken, publishing, load, is_loaded, refused, unreadable, .. } = facts;
    let broken = named(broken.iter().map(|(_, problem)| problem.as_str()));
    let broken = broken.map(|message| (reasons::MANIFEST_BROKEN, message));
    // While a file is broken, nothing is pruned for that reason alone: another one is neither known nor over.
    let is_complete = broken.is_none();
    let prune = load.prune_refused.as_ref().map(|why| (reasons::PRUNE_REFUSED, cut(why, MESSAGE)));
    let failed = load.failed.as_ref().map(|why| (reasons::COMMIT_NOT_TAKEN, cut(why, MESSAGE)));
    let refused = named(refused.iter().map(String::as_str));
    let refused = refused.map(|message| (reasons::OBJECTS_REFUSED, message));
    let unreadable = named(unreadable.values().map(String::as_str));
    let unreadable = unreadable.map(|message| (reasons::NAMESPACE_UNREADABLE, message));
    let knows_namespaces = *is_loaded || unreadable.is_some();
    let judged = [
        (APPLIED, broken, true),
        (PRUNED, prune, *is_loaded && is_complete),
        (LOADED, failed, *is_loaded || load.failed.is_some()),
        (ACCEPTED, refused, *is_loaded),
        (READABLE, unreadable, knows_namespaces),
        (PUBLISHED, unpublished(publishing), *publishing != Publishing::Idle),
    ];
    let judged = judged.into_iter().filter(|(.., is_known)| *is_known);
    synced(&facts.sync).into_iter().chain(judged.map(|(kind, failure, _)| (kind, failure))).collect()
}

/// The condition `Synced`, once a sync was attempted.
pub fn synced(sync: &SyncState) -> Option<Judgement> {
    let failure = sync.error.as_ref().map(|(class, message)| {
        let reason = match class {
            _ if sync.held == Some(Hold::Rewritten) => reasons::BRANCH_REWRITTEN,
            _ if sync.held == Some(Hold::Unverified) => reasons::COMMIT_NOT_VERIFIED,
            _ if sync.network => reasons::NETWORK_REFUSED,
            Class::Transient { .. } | Class::Conflict => reasons::REPOSITORY_UNAVAILABLE,
            Class::Denied => reasons::REPOSITORY_DENIED,
            Class::NotFound | Class::Invalid => reasons::REPOSITORY_UNREADABLE,
        };
        (reason, cut(message, MESSAGE))
    });
    sync.attempted_at.map(|_| (SYNCED, failure))
}

fn unpublished(publishing: &Publishing) -> Option<(&'static str, String)> {
    publishing.failure().map(|(reason, message)| (reason, cut(message, MESSAGE)))
}

/// The broken files of a commit, each once, with its first problem: where it is and what is wrong.
pub fn broken_files(set: &ObjectSet) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let errors = set.problems.iter().filter(|problem| problem.severity == Severity::Error);
    let files = errors.filter(|problem| seen.insert(&problem.file)).take(FILES);
    files.map(|problem| (problem.file.clone(), cut(&problem.to_string(), PROBLEM))).collect()
}

/// The first items, and the number of the others; `None` without items.
fn named<'a>(items: impl ExactSizeIterator<Item = &'a str>) -> Option<String> {
    let more = items.len().saturating_sub(NAMED);
    let first: Vec<String> = items.take(NAMED).map(|item| cut(item, PROBLEM)).collect();
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    (!first.is_empty()).then(|| format!("{}{more}", first.join("; ")))
}

/// At most `limit` characters: the status must stay small, whatever a file contains.
fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
