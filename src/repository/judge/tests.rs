//! Which facts make which conditions false, and what is not known.

use jiff::Timestamp;

use super::*;
use crate::manifest::Problem;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn state(error: Option<(Class, &str)>) -> SyncState {
    let error = error.map(|(class, words)| (class, words.to_owned()));
    let attempted_at = Some(at(0));
    SyncState { error, attempted_at, ..SyncState::new(at(0)) }
}

fn problem(file: &str, severity: Severity) -> Problem {
    Problem { file: file.to_owned(), line: Some(3), message: "is not YAML".to_owned(), severity }
}

/// Facts about a commit that is loaded.
fn facts(set: &ObjectSet, sync: &SyncState, publishing: &Publishing, load: &LoadOutcome) -> Facts {
    Facts {
        broken: broken_files(set),
        sync: sync.clone(),
        publishing: publishing.clone(),
        load: load.clone(),
        is_loaded: true,
        refused: Vec::new(),
        unreadable: BTreeMap::new(),
    }
}

/// One line per condition that is false, of a commit that is loaded.
fn words(set: &ObjectSet, sync: &SyncState, publishing: &Publishing, load: &LoadOutcome) -> Vec<String> {
    let failures = judge(&facts(set, sync, publishing, load));
    let failures = failures.into_iter().filter_map(|(kind, failure)| Some((kind, failure?)));
    failures.map(|(kind, (reason, message))| format!("{kind} {reason} {message}")).collect()
}

#[test]
fn each_trouble_has_its_reason() {
    let (well, set, nothing) = (state(None), ObjectSet::default(), LoadOutcome::default());
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
    for (hold, reason) in [(Hold::Rewritten, "BranchRewritten"), (Hold::Unverified, "CommitNotVerified")] {
        let held = SyncState { held: Some(hold), ..network.clone() };
        assert_eq!(words(&set, &held, &Publishing::Off, &nothing), [format!("Synced {reason} why")]);
    }
    let refused = Publishing::Rejected { message: "protected".to_owned(), since: at(0) };
    assert_eq!(words(&set, &well, &refused, &nothing), ["Published PushRefused protected"]);
}

#[test]
fn one_trouble_does_not_hide_another() {
    let mut set = ObjectSet { problems: vec![problem("note.yaml", Severity::Note)], ..ObjectSet::default() };
    let mut load = LoadOutcome { prune_refused: Some("1 object kept".to_owned()), failed: None };
    let said = |set: &ObjectSet, load: &LoadOutcome| words(set, &state(None), &Publishing::Off, load);
    assert_eq!(said(&set, &load), ["Pruned PruneRefused 1 object kept"]);
    load.failed = Some("away".to_owned());
    assert_eq!(said(&set, &load), ["Pruned PruneRefused 1 object kept", "TakenOver CommitNotTaken away"]);
    set.problems.extend(["a", "a", "b", "c", "d", "e"].map(|name| problem(name, Severity::Error)));
    let spelled = "a:3: is not YAML; b:3: is not YAML; c:3: is not YAML; and 2 more";
    assert_eq!(
        said(&set, &load),
        [format!("Applied ManifestBroken {spelled}"), "TakenOver CommitNotTaken away".to_owned()]
    );
    let judged = judge(&facts(&set, &state(None), &Publishing::Off, &load));
    assert!(judged.iter().all(|(kind, _)| *kind != PRUNED), "not known while a file is broken: {judged:?}");
}

#[test]
fn whatever_a_file_holds_little_of_it_is_kept() {
    let mut huge = problem("a", Severity::Error);
    huge.message = "ü".repeat(1 << 20);
    let huge = |number: usize| Problem { file: format!("builders/team/{number}.yaml"), ..huge.clone() };
    let set = ObjectSet { problems: (0..1000).map(huge).collect(), ..ObjectSet::default() };
    let said = words(&set, &state(None), &Publishing::Off, &LoadOutcome::default());
    assert!(said[0].len() < 4000, "{}", said[0].len());
    let kept: usize = broken_files(&set).iter().map(|(file, problem)| file.len() + problem.len()).sum();
    assert!(kept < 128 * 1024, "{kept}");
}

#[test]
fn objects_that_are_refused_are_named_once_the_commit_is_there() {
    let judged = |is_loaded| {
        judge(&Facts {
            is_loaded,
            refused: vec!["PackerBuilder/ops/web: there is no namespace ops".to_owned()],
            unreadable: [("ops".to_owned(), "it is gone".to_owned())].into(),
            ..facts(&ObjectSet::default(), &state(None), &Publishing::Off, &LoadOutcome::default())
        })
    };
    let words = "PackerBuilder/ops/web: there is no namespace ops".to_owned();
    assert!(judged(true).contains(&(ACCEPTED, Some(("ObjectsRefused", words)))));
    assert!(judged(false).iter().all(|(kind, _)| *kind != ACCEPTED));
    let unreadable = (READABLE, Some(("NamespaceUnreadable", "it is gone".to_owned())));
    assert!([true, false].iter().all(|is_loaded| judged(*is_loaded).contains(&unreadable)));
}

#[test]
fn after_a_start_nothing_is_known_but_what_the_files_say() {
    let earlier = LoadOutcome { prune_refused: Some("of an older commit".to_owned()), failed: None };
    let sync = SyncState { attempted_at: None, ..state(None) };
    let judged = |load: &LoadOutcome, is_loaded: bool| {
        judge(&Facts { is_loaded, ..facts(&ObjectSet::default(), &sync, &Publishing::Idle, load) })
    };
    assert_eq!(judged(&earlier, false), [(APPLIED, None)]);
    let known: Vec<_> = judged(&LoadOutcome::default(), true).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(known, [APPLIED, PRUNED, LOADED, ACCEPTED, READABLE]);
}
