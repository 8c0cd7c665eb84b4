//! What is known of the repository's conditions. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::agent::render;
use crate::agent::takeover::Outcome;
use crate::api::Class;
use crate::api::conditions::{
    self, ACCEPTED, APPLIED, Condition, PRUNED, PUBLISHED, READABLE, SYNCED, TAKEN_OVER,
};
use crate::manifest::{ObjectSet, Severity};
use crate::publish::Publishing;
use crate::sync::{Hold, SyncState};

/// Problems that are spelled out.
const SPELLED_OUT: usize = 3;
/// Files that are told of, characters of what is wrong with one, and of a condition: what is kept lies in an
/// annotation, and those may have 256 KiB.
const MOST: usize = 200;
const PROBLEM: usize = 200;
const WORDS: usize = 1500;

/// A tip is held back.
const BRANCH_REWRITTEN: &str = "BranchRewritten";
const COMMIT_NOT_VERIFIED: &str = "CommitNotVerified";
/// Reasons for which no tip was seen: they do not end that.
const UNSEEN: [&str; 3] = ["RepositoryUnavailable", "RepositoryDenied", "NetworkRefused"];

/// A condition that is known: the reason and the words of what is not as it should be, if anything.
pub type Judged = (&'static str, Option<(&'static str, String)>);

/// What a judgement rests on.
pub struct Facts<'a> {
    /// Of the files, as `errors` has them.
    pub errors: &'a [(String, String)],
    pub sync: &'a SyncState,
    pub publishing: &'a Publishing,
    pub taken: &'a Outcome,
    /// The home holds this commit.
    pub is_loaded: bool,
    /// Objects of it that are not there, and why.
    pub refused: Vec<String>,
    /// Namespaces that cannot be read, and why.
    pub unreadable: BTreeMap<String, String>,
}

/// What is known of each condition. After a start little is, and what was kept stays as it was.
pub fn judge(facts: &Facts<'_>) -> Vec<Judged> {
    let Facts { errors, sync, publishing, taken, is_loaded, refused, unreadable } = facts;
    let errors: Vec<String> = errors.iter().map(|(_, words)| words.clone()).collect();
    let broken = listed(&errors).map(|words| ("ManifestBroken", words));
    // Without its files nobody knows what should be gone.
    let whole = broken.is_none();
    let kept = taken.kept.as_ref().map(|words| ("PruneRefused", cut(words, WORDS)));
    let failed = taken.failed.as_ref().map(|words| ("CommitNotTaken", cut(words, WORDS)));
    let refused = listed(refused).map(|words| ("ObjectsRefused", words));
    let unreadable: Vec<String> = unreadable.values().cloned().collect();
    let unreadable = listed(&unreadable).map(|words| ("NamespaceUnreadable", words));
    let knows_namespaces = *is_loaded || unreadable.is_some();
    let published = render::published(publishing).filter(|(status, ..)| *status == "False");
    let published = published.map(|(_, reason, words)| (reason, cut(&words, WORDS)));
    let judged = [
        (APPLIED, broken, true),
        (PRUNED, kept, *is_loaded && whole),
        (TAKEN_OVER, failed, *is_loaded || taken.failed.is_some()),
        (ACCEPTED, refused, *is_loaded),
        (READABLE, unreadable, knows_namespaces),
        (PUBLISHED, published, **publishing != Publishing::Idle),
    ];
    let judged = judged.into_iter().filter(|(.., known)| *known).map(|(kind, trouble, _)| (kind, trouble));
    synced(sync).into_iter().chain(judged).collect()
}

/// Is this the reason of a tip that is held back?
fn is_hold(reason: &str) -> bool {
    [BRANCH_REWRITTEN, COMMIT_NOT_VERIFIED].contains(&reason)
}

/// The condition `Synced`, once an attempt was made.
pub fn synced(sync: &SyncState) -> Option<Judged> {
    let trouble = sync.error.as_ref().map(|(class, words)| {
        let reason = match class {
            _ if sync.held == Some(Hold::Rewritten) => BRANCH_REWRITTEN,
            _ if sync.held == Some(Hold::Unverified) => COMMIT_NOT_VERIFIED,
            _ if sync.network => "NetworkRefused",
            Class::Transient { .. } | Class::Conflict => "RepositoryUnavailable",
            Class::Denied => "RepositoryDenied",
            Class::NotFound | Class::Invalid => "RepositoryUnreadable",
        };
        (reason, cut(words, WORDS))
    });
    sync.looked.map(|_| (SYNCED, trouble))
}

/// Files that cannot be read, each once, and where and how.
pub fn errors(set: &ObjectSet) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let errors = set.problems.iter().filter(|problem| problem.severity == Severity::Error);
    let files = errors.filter(|problem| seen.insert(&problem.file)).take(MOST);
    files.map(|problem| (problem.file.clone(), cut(&problem.to_string(), PROBLEM))).collect()
}

/// The day a digest is due for. The time of day may have been moved, and the day with it: none has two. A last
/// day later than tomorrow is from a clock that was set back: it silences nobody until then.
pub fn digest_day(today: &str, tomorrow: &str, last: &str) -> String {
    if last > tomorrow { today.to_owned() } else { today.max(last).to_owned() }
}

/// The first of many.
fn listed(all: &[String]) -> Option<String> {
    let more = all.len().saturating_sub(SPELLED_OUT);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let first: Vec<String> = all.iter().take(SPELLED_OUT).map(|words| cut(words, PROBLEM)).collect();
    (!all.is_empty()).then(|| format!("{}{more}", first.join("; ")))
}

/// What is kept must stay small, whatever a file held.
fn cut(words: &str, most: usize) -> String {
    match words.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words.to_owned(),
    }
}

/// Only what is not as it should be is there.
pub fn note_conditions(list: &mut Vec<Condition>, judged: Vec<Judged>, now: Timestamp) {
    for (kind, trouble) in judged {
        match trouble {
            // After a restart the hold is known from here alone.
            Some((reason, _)) if kind == SYNCED && UNSEEN.contains(&reason) && is_held(list) => {}
            Some((reason, words)) if kind == PUBLISHED => {
                conditions::set_unpublished(list, reason, &words, None, now);
            }
            Some((reason, words)) => conditions::set(list, kind, "False", reason, &words, None, now),
            None => list.retain(|condition| condition.r#type != kind),
        }
    }
}

fn is_held(list: &[Condition]) -> bool {
    list.iter().any(|found| found.r#type == SYNCED && found.reason.as_deref().is_some_and(is_hold))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Problem;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn state(error: Option<(Class, &str)>) -> SyncState {
        let error = error.map(|(class, words)| (class, words.to_owned()));
        let looked = Some(at(0));
        SyncState { error, looked, ..SyncState::new(at(0)) }
    }

    fn problem(file: &str, severity: Severity) -> Problem {
        Problem { file: file.to_owned(), line: Some(3), message: "is not YAML".to_owned(), severity }
    }

    /// One line a condition that is false, of a commit that is loaded.
    fn words(set: &ObjectSet, sync: &SyncState, publishing: &Publishing, taken: &Outcome) -> Vec<String> {
        let errors = &errors(set);
        let facts = Facts {
            errors,
            sync,
            publishing,
            taken,
            is_loaded: true,
            refused: Vec::new(),
            unreadable: BTreeMap::new(),
        };
        let troubles = judge(&facts).into_iter().filter_map(|(kind, trouble)| Some((kind, trouble?)));
        troubles.map(|(kind, (reason, words))| format!("{kind} {reason} {words}")).collect()
    }

    #[test]
    fn no_day_has_two_digests_and_a_clock_that_is_set_back_silences_none() {
        assert_eq!(digest_day("2026-03-02", "2026-03-03", "2026-03-01"), "2026-03-02");
        assert_eq!(digest_day("2026-03-02", "2026-03-03", "2026-03-03"), "2026-03-03");
        assert_eq!(digest_day("2026-03-02", "2026-03-03", "2027-03-02"), "2026-03-02");
    }

    #[test]
    fn each_trouble_has_its_reason() {
        let (well, set, nothing) = (state(None), ObjectSet::default(), Outcome::default());
        assert_eq!(words(&set, &well, &Publishing::Off, &nothing), [""; 0]);
        let reasons = [
            (Class::TRANSIENT, "RepositoryUnavailable"),
            (Class::Denied, "RepositoryDenied"),
            (Class::Invalid, "RepositoryUnreadable"),
        ];
        for (class, reason) in reasons {
            let state = state(Some((class, "why")));
            let due = format!("Synced {reason} why");
            assert_eq!(words(&set, &state, &Publishing::Off, &nothing), [due]);
        }
        let network = SyncState { network: true, ..state(Some((Class::Denied, "why"))) };
        assert_eq!(words(&set, &network, &Publishing::Off, &nothing), ["Synced NetworkRefused why"]);
        let refused = Publishing::Refused { words: "protected".to_owned(), since: at(0) };
        assert_eq!(words(&set, &well, &refused, &nothing), ["Published PushRefused protected"]);
    }

    #[test]
    fn one_trouble_does_not_hide_or_end_another() {
        let mut set =
            ObjectSet { problems: vec![problem("note.yaml", Severity::Note)], ..ObjectSet::default() };
        let mut taken = Outcome { kept: Some("1 object kept".to_owned()), failed: None };
        let said = |set: &ObjectSet, taken: &Outcome| words(set, &state(None), &Publishing::Off, taken);
        assert_eq!(said(&set, &taken), ["Pruned PruneRefused 1 object kept"]);
        taken.failed = Some("away".to_owned());
        assert_eq!(
            said(&set, &taken),
            ["Pruned PruneRefused 1 object kept", "TakenOver CommitNotTaken away"]
        );
        set.problems.extend(["a", "a", "b", "c", "d", "e"].map(|name| problem(name, Severity::Error)));
        let spelled = "a:3: is not YAML; b:3: is not YAML; c:3: is not YAML; and 2 more";
        assert_eq!(
            said(&set, &taken),
            [format!("Applied ManifestBroken {spelled}"), "TakenOver CommitNotTaken away".to_owned()]
        );
        let mut list = Vec::new();
        note_conditions(&mut list, vec![(PRUNED, Some(("PruneRefused", "kept".to_owned())))], at(1));
        let (sync, publishing) = (&state(None), &Publishing::Off);
        let facts = Facts {
            errors: &errors(&set),
            sync,
            publishing,
            taken: &taken,
            is_loaded: true,
            refused: Vec::new(),
            unreadable: BTreeMap::new(),
        };
        note_conditions(&mut list, judge(&facts), at(2));
        assert!(list.iter().any(|found| found.r#type == PRUNED), "nobody knows: it stays {list:?}");
    }

    #[test]
    fn whatever_a_file_holds_little_of_it_is_kept() {
        let mut huge = problem("a", Severity::Error);
        huge.message = "ü".repeat(1 << 20);
        let huge = |number: usize| Problem { file: format!("builders/team/{number}.yaml"), ..huge.clone() };
        let set = ObjectSet { problems: (0..1000).map(huge).collect(), ..ObjectSet::default() };
        let said = words(&set, &state(None), &Publishing::Off, &Outcome::default());
        assert!(said[0].len() < 4000, "{}", said[0].len());
        let kept: usize = errors(&set).iter().map(|(file, words)| file.len() + words.len()).sum();
        assert!(kept < 128 * 1024, "{kept}");
    }

    #[test]
    fn objects_that_are_refused_are_named_once_the_commit_is_there() {
        let (set, sync, taken) = (ObjectSet::default(), state(None), Outcome::default());
        let judged = |is_loaded| {
            let refused = vec!["PackerBuilder/ops/web: there is no namespace ops".to_owned()];
            judge(&Facts {
                errors: &errors(&set),
                sync: &sync,
                publishing: &Publishing::Off,
                taken: &taken,
                is_loaded,
                refused,
                unreadable: [("ops".to_owned(), "it is gone".to_owned())].into(),
            })
        };
        let words = "PackerBuilder/ops/web: there is no namespace ops".to_owned();
        assert!(judged(true).contains(&(ACCEPTED, Some(("ObjectsRefused", words)))));
        assert!(judged(false).iter().all(|(kind, _)| *kind != ACCEPTED));
        let unreadable = (READABLE, Some(("NamespaceUnreadable", "it is gone".to_owned())));
        assert!([true, false].iter().all(|is_loaded| judged(*is_loaded).contains(&unreadable)));
    }

    #[test]
    fn a_refusal_is_not_ended_by_a_server_that_is_away() {
        let mut list = Vec::new();
        let unpublished = |reason| vec![(PUBLISHED, Some((reason, "words".to_owned())))];
        let reason = |list: &[Condition]| list[0].reason.clone().unwrap_or_default();
        note_conditions(&mut list, unpublished("PushFailed"), at(1));
        note_conditions(&mut list, unpublished("PushRefused"), at(2));
        note_conditions(&mut list, unpublished("PushFailed"), at(3));
        assert_eq!(reason(&list), "PushRefused");
        note_conditions(&mut list, vec![(PUBLISHED, None)], at(4));
        assert_eq!(list, []);
    }

    #[test]
    fn a_branch_that_is_held_back_stays_so_while_no_tip_is_seen() {
        let mut list = Vec::new();
        let unsynced = |reason| vec![(SYNCED, Some((reason, "words".to_owned())))];
        let reason = |list: &[Condition]| list[0].reason.clone().unwrap_or_default();
        note_conditions(&mut list, unsynced("RepositoryUnavailable"), at(1));
        note_conditions(&mut list, unsynced(BRANCH_REWRITTEN), at(2));
        for unseen in UNSEEN {
            note_conditions(&mut list, unsynced(unseen), at(3));
            assert_eq!(reason(&list), BRANCH_REWRITTEN);
        }
        note_conditions(&mut list, unsynced("RepositoryUnreadable"), at(4));
        assert_eq!(reason(&list), "RepositoryUnreadable", "the accepted tip cannot be loaded");
    }

    #[test]
    fn a_trouble_keeps_its_time_and_goes_when_it_is_over() {
        let mut list = Vec::new();
        let broken = |words: &str| vec![(APPLIED, Some(("ManifestBroken", words.to_owned())))];
        note_conditions(&mut list, broken("a"), at(1));
        note_conditions(&mut list, broken("b"), at(2));
        assert_eq!((list[0].last_transition_time, list[0].message.as_deref()), (Some(at(1)), Some("b")));
        note_conditions(&mut list, Vec::new(), at(3));
        assert_eq!(list.len(), 1, "nothing is known: nothing changes");
        note_conditions(&mut list, vec![(APPLIED, None)], at(4));
        assert_eq!(list, []);
    }

    #[test]
    fn after_a_start_nothing_is_known_but_what_the_files_say() {
        let set = ObjectSet::default();
        let kept = Outcome { kept: Some("of an older commit".to_owned()), failed: None };
        let sync = SyncState { looked: None, ..state(None) };
        let judged = |taken: &Outcome, is_loaded: bool| {
            let publishing = &Publishing::Idle;
            judge(&Facts {
                errors: &errors(&set),
                sync: &sync,
                publishing,
                taken,
                is_loaded,
                refused: Vec::new(),
                unreadable: BTreeMap::new(),
            })
        };
        assert_eq!(judged(&kept, false), [(APPLIED, None)]);
        let known: Vec<_> = judged(&Outcome::default(), true).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(known, [APPLIED, PRUNED, TAKEN_OVER, ACCEPTED, READABLE]);
    }
}
