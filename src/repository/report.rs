//! Judgements → the status of the repository. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::judge::{Facts, Judgement, judge};
use crate::announce::repository;
use crate::api::conditions::{self, Condition, PUBLISHED, SYNCED};
use crate::api::status::RepositoryStatus;
use crate::api::{Key, reasons};

/// Failures before the tip of the branch was read. They do not end the reasons of `HOLDS`.
const TIP_UNKNOWN: [&str; 3] =
    [reasons::REPOSITORY_UNAVAILABLE, reasons::REPOSITORY_DENIED, reasons::NETWORK_REFUSED];
/// The tip is held back.
const HOLDS: [&str; 2] = [reasons::BRANCH_REWRITTEN, reasons::COMMIT_NOT_VERIFIED];
/// The most Secrets that are remembered: the status has a few kilobytes, and a repository names a handful of Secrets.
const SECRETS: usize = 50;

/// Records the facts about a commit.
pub fn record(status: &mut RepositoryStatus, commit: &str, facts: &Facts, now: Timestamp) {
    record_conditions(status.conditions.get_or_insert_default(), judge(facts), now);
    if let Some(last) = &facts.sync.last {
        status.last = Some(last.clone());
    }
    let broken = repository::broken(status.broken.as_deref().unwrap_or_default(), &facts.broken, commit);
    status.broken = (!broken.is_empty()).then_some(broken);
}

/// Records judgements. Only false conditions are in the list.
pub fn record_conditions(list: &mut Vec<Condition>, judged: Vec<Judgement>, now: Timestamp) {
    for (kind, failure) in judged {
        match failure {
            // After a restart, only the saved condition says that the tip is held back.
            Some((reason, _)) if kind == SYNCED && TIP_UNKNOWN.contains(&reason) && is_held(list) => {}
            Some((reason, message)) if kind == PUBLISHED => {
                set_unpublished(list, reason, &message, now);
            }
            Some((reason, message)) => conditions::set(list, kind, "False", reason, &message, None, now),
            None => list.retain(|condition| condition.r#type != kind),
        }
    }
}

/// Records that publishing fails. A refusal of the server stays recorded while the server is unavailable, because that
/// does not resolve it. The other reasons mean that the server accepted a push, or that none was needed.
fn set_unpublished(list: &mut Vec<Condition>, reason: &str, message: &str, now: Timestamp) {
    let is_refusal = |found: &Condition| {
        found.r#type == PUBLISHED && found.reason.as_deref() == Some(reasons::PUSH_REFUSED)
    };
    if reason != reasons::PUSH_FAILED || !list.iter().any(is_refusal) {
        conditions::set(list, PUBLISHED, "False", reason, message, None, now);
    }
}

fn is_held(list: &[Condition]) -> bool {
    let mut synced = list.iter().filter(|condition| condition.r#type == SYNCED);
    synced.any(|condition| condition.reason.as_deref().is_some_and(|reason| HOLDS.contains(&reason)))
}

/// Adds Secrets to the remembered ones. Those stay, whatever a later commit names.
pub fn remember_secrets(known: &mut BTreeSet<Key>, secrets: &BTreeSet<Key>) {
    let new: Vec<Key> = secrets.difference(known).cloned().collect();
    let room = SECRETS.saturating_sub(known.len());
    known.extend(new.into_iter().take(room));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::conditions::{APPLIED, PRUNED};
    use crate::loader::LoadOutcome;
    use crate::publish::Publishing;
    use crate::sync::SyncState;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn reason(list: &[Condition]) -> String {
        list[0].reason.clone().unwrap_or_default()
    }

    #[test]
    fn what_is_not_known_does_not_end_a_trouble() {
        let mut status = RepositoryStatus::default();
        let kept = vec![(PRUNED, Some(("PruneRefused", "kept".to_owned())))];
        record_conditions(status.conditions.get_or_insert_default(), kept, at(1));
        let broken = ("a.yaml".to_owned(), "a.yaml:3: is not YAML".to_owned());
        let facts = Facts {
            broken: vec![broken],
            sync: SyncState::new(at(0)),
            publishing: Publishing::Off,
            load: LoadOutcome { prune_refused: Some("1 object kept".to_owned()), failed: None },
            is_loaded: true,
            refused: Vec::new(),
            unreadable: [].into(),
        };
        record(&mut status, "c1", &facts, at(2));
        let conditions = status.conditions.as_ref().expect("conditions");
        assert!(conditions.iter().any(|found| found.r#type == PRUNED), "not known: it stays {conditions:?}");
        let files = status.broken.as_ref().expect("broken files");
        assert_eq!((files[0].file.as_str(), files[0].commit.as_str()), ("a.yaml", "c1"));
        record(&mut status, "c2", &Facts { broken: Vec::new(), ..facts }, at(3));
        assert_eq!(status.broken, None);
    }

    #[test]
    fn a_refusal_is_not_ended_by_a_server_that_is_away() {
        let mut list = Vec::new();
        let unpublished = |reason| vec![(PUBLISHED, Some((reason, "words".to_owned())))];
        record_conditions(&mut list, unpublished("PushFailed"), at(1));
        record_conditions(&mut list, unpublished("PushRefused"), at(2));
        record_conditions(&mut list, unpublished("PushFailed"), at(3));
        assert_eq!(reason(&list), "PushRefused");
        record_conditions(&mut list, unpublished("PullRequestFailed"), at(3));
        assert_eq!(reason(&list), "PullRequestFailed", "the push was accepted");
        record_conditions(&mut list, vec![(PUBLISHED, None)], at(4));
        assert_eq!(list, []);
    }

    #[test]
    fn a_branch_that_is_held_back_stays_so_while_no_tip_is_seen() {
        let mut list = Vec::new();
        let unsynced = |reason| vec![(SYNCED, Some((reason, "words".to_owned())))];
        record_conditions(&mut list, unsynced("RepositoryUnavailable"), at(1));
        record_conditions(&mut list, unsynced("BranchRewritten"), at(2));
        for unknown in TIP_UNKNOWN {
            record_conditions(&mut list, unsynced(unknown), at(3));
            assert_eq!(reason(&list), "BranchRewritten");
        }
        record_conditions(&mut list, unsynced("RepositoryUnreadable"), at(4));
        assert_eq!(reason(&list), "RepositoryUnreadable", "the accepted tip cannot be loaded");
    }

    #[test]
    fn a_trouble_keeps_its_time_and_goes_when_it_is_over() {
        let mut list = Vec::new();
        let broken = |words: &str| vec![(APPLIED, Some(("ManifestBroken", words.to_owned())))];
        record_conditions(&mut list, broken("a"), at(1));
        record_conditions(&mut list, broken("b"), at(2));
        assert_eq!((list[0].last_transition_time, list[0].message.as_deref()), (Some(at(1)), Some("b")));
        record_conditions(&mut list, Vec::new(), at(3));
        assert_eq!(list.len(), 1, "nothing is known: nothing changes");
        record_conditions(&mut list, vec![(APPLIED, None)], at(4));
        assert_eq!(list, []);
    }

    #[test]
    fn secrets_of_earlier_commits_are_remembered_within_limits() {
        let key = |name: &str| Key { namespace: "default".into(), name: name.into() };
        let many = |prefix: &str| (0..SECRETS).map(|n| key(&format!("{prefix}{n}"))).collect::<BTreeSet<_>>();
        let mut known = BTreeSet::from([key("slack")]);
        remember_secrets(&mut known, &BTreeSet::from([key("pager")]));
        assert_eq!(known, BTreeSet::from([key("slack"), key("pager")]));
        remember_secrets(&mut known, &many("a"));
        assert!(known.len() == SECRETS && known.contains(&key("slack")) && known.contains(&key("pager")));
        let status = RepositoryStatus { notifier_secrets: known.clone(), ..RepositoryStatus::default() };
        let text = serde_json::to_string(&status).expect("JSON");
        let read: RepositoryStatus = serde_json::from_str(&text).expect("a status");
        assert_eq!(read.notifier_secrets, known, "after a restart");
    }
}
