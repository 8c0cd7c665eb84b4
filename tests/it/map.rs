//! The guard of the structure: which module may use which, what is pure, that no two sibling files use each other, and
//! that words of status are written once. It reads the sources; the table of modules is the one in the docs of `lib.rs`.

mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use opsy::api::{reasons, words};
use sources::{Source, rust_files, sources};

/// Modules whose files are all pure. Beside them, every file is whose `//!` says `Pure`.
const PURE: [&str; 3] = ["announce", "api", "manifest"];

const IMPURE: [&str; 8] =
    ["Timestamp::now", "SystemTime", "Instant::now", "std::env", "std::fs", "async fn", ".await", "tokio::"];

/// What pure files of the reconcilers may not use, although the others may: it holds clients, or state that changes.
const NOT_FOR_DECISIONS: [&str; 3] = ["settings", "sync", "wait"];

/// Where a word of status is a word of somebody else.
const OTHER_WORDS: [(&str, &str, &str); 3] = [
    ("aws::codes", "Unsupported", "an error code of EC2"),
    ("engine::kubernetes::nodes::fields", "Pending", "a phase of a pod"),
    ("engine::kubernetes::pod", "Failed", "a phase of a pod and a condition of a Job"),
];

/// The rows of the table in `lib.rs`: the modules of a row, and what they may use. `*` is everything.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("lib.rs");
    let names = |cell: &str| -> BTreeSet<String> {
        cell.split('`').skip(1).step_by(2).map(|name| name.trim_matches(['[', ']']).to_owned()).collect()
    };
    let mut table = BTreeMap::new();
    for row in text.lines().filter_map(|line| line.strip_prefix("//! | [`")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let (first, last) = (format!("[`{}", cells[0]), cells[cells.len() - 1]);
        let modules = names(&first);
        let mut may_use = names(last);
        if last.contains("anything") {
            may_use.insert("*".to_owned());
        }
        for module in modules {
            assert!(table.insert(module.clone(), may_use.clone()).is_none(), "{module} has two rows");
        }
    }
    table
}

fn modules(all: &[Source]) -> BTreeSet<String> {
    all.iter().map(|source| source.module.clone()).collect()
}

/// The module of the table that a file belongs to.
fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

#[test]
fn modules_use_only_what_the_table_allows() {
    let table = table();
    let all = sources();
    let mut broken = Vec::new();
    let (modules, tops) =
        (modules(&all), all.iter().map(|source| top(&source.module)).collect::<BTreeSet<_>>());
    for row in table.keys().filter(|row| !tops.contains(row.as_str())) {
        broken.push(format!("the table in lib.rs has a row for {row}, which does not exist"));
    }
    for source in all.iter().filter(|source| source.module != "lib") {
        let own = top(&source.module);
        let Some(allowed) = table.get(own) else {
            broken.push(format!("{own} is not in the table of lib.rs"));
            continue;
        };
        let used: BTreeSet<String> = source.paths(&modules).iter().map(|path| top(path).to_owned()).collect();
        for used in used.iter().filter(|used| tops.contains(used.as_str()) && *used != own) {
            if !allowed.contains("*") && !allowed.contains(used) {
                broken.push(format!("{}: {own} may not use {used}", source.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn pure_files_touch_no_clock_environment_or_client() {
    let mut broken = Vec::new();
    let all = sources();
    let modules = modules(&all);
    for source in all.iter().filter(|source| is_pure(source)) {
        // The type of an instant reads no clock.
        let code = source.code().replace("tokio::time::Instant;", "");
        for (number, line) in code.lines().enumerate() {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                broken.push(format!("{}:{}: {word}", source.path.display(), number + 1));
            }
        }
        if matches!(top(&source.module), "builder" | "refresher") {
            let used = source.paths(&modules);
            for module in
                NOT_FOR_DECISIONS.iter().filter(|module| used.iter().any(|path| top(path) == **module))
            {
                broken.push(format!("{}: a decision uses {module}", source.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn is_pure(source: &Source) -> bool {
    let mut head = source.text.lines().take_while(|line| line.starts_with("//!"));
    PURE.contains(&top(&source.module)) || head.any(|line| line.contains("Pure"))
}

/// Sibling modules that use each other, in any number of steps. What a directory uses is what its files use.
#[test]
fn no_two_siblings_use_each_other() {
    let all = sources();
    let modules = modules(&all);
    // By parent: which child uses which.
    let mut uses: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for source in &all {
        for used in source.paths(&modules).iter().filter_map(|path| longest(path, &modules)) {
            let (from, to): (Vec<&str>, Vec<&str>) =
                (source.module.split("::").collect(), used.split("::").collect());
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            // A parent and its child may use each other.
            if shared < from.len() && shared < to.len() {
                let siblings = uses.entry(from[..shared].join("::")).or_default();
                siblings.entry(from[shared].to_owned()).or_default().insert(to[shared].to_owned());
            }
        }
    }
    let mut circles = Vec::new();
    for (parent, siblings) in &uses {
        for child in siblings.keys().filter(|child| reachable(siblings, child).contains(*child)) {
            circles.push(format!("{parent}::{child} uses itself through {:?}", siblings[child]));
        }
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

/// The innermost module that a path names.
fn longest(path: &str, modules: &BTreeSet<String>) -> Option<String> {
    let parts: Vec<&str> = path.split("::").collect();
    (1..=parts.len()).rev().map(|length| parts[..length].join("::")).find(|name| modules.contains(name))
}

fn reachable(uses: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut next: Vec<&String> = uses.get(from).into_iter().flatten().collect();
    while let Some(module) = next.pop() {
        if found.insert(module.clone()) {
            next.extend(uses.get(module).into_iter().flatten());
        }
    }
    found
}

/// A word of status is a constant of `api`: a literal elsewhere would not change with it.
#[test]
fn words_of_status_are_written_once() {
    let results = words::RunResult::ALL.iter().map(|word| word.as_str());
    let phases = words::RunPhase::ALL.iter().map(|word| word.as_str());
    let triggers = words::Trigger::ALL.iter().map(|word| word.as_str());
    let failures = words::FailureKind::ALL.iter().map(|word| word.as_str());
    let rollouts = words::RolloutResult::ALL.iter().map(|word| word.as_str());
    let groups = words::GroupState::ALL.iter().map(|word| word.as_str());
    let all = results.chain(phases).chain(triggers).chain(failures).chain(rollouts).chain(groups);
    let all: BTreeSet<&str> = all.chain(reasons::ALL.iter().copied()).collect();
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| top(&source.module) != "api") {
        let is_other = |word: &str| {
            OTHER_WORDS.iter().any(|(module, other, _)| *module == source.module && *other == word)
        };
        for (number, line) in source.code().lines().enumerate() {
            for word in
                line.split('"').skip(1).step_by(2).filter(|word| all.contains(word) && !is_other(word))
            {
                broken.push(format!("{}:{}: {word:?}", source.path.display(), number + 1));
            }
        }
    }
    assert!(broken.is_empty(), "use the constants of api::words and api::reasons:\n{}", broken.join("\n"));
}

#[test]
fn every_file_says_what_it_owns() {
    let folders =
        ["src", "runner", "tests/it"].map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    let opens = |path: &Path| fs::read_to_string(path).expect("a source file").starts_with("//!");
    let silent: Vec<_> =
        folders.iter().flat_map(|folder| rust_files(folder)).filter(|path| !opens(path)).collect();
    assert!(silent.is_empty(), "these files do not open with //!: {silent:?}");
}
