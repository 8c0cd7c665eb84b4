//! The map of the house: who may `use` whom, read off the sources. The table is the one in the docs
//! of `lib.rs`; a module that is not in it does not exist yet.

use std::fs;
use std::path::{Path, PathBuf};

/// Module prefixes, most specific first, and what each may use of the crate.
const MAY_USE: [(&str, &[&str]); 25] = [
    ("api", &["api"]),
    ("settings", &["api"]),
    ("manifest", &["api", "manifest", "settings"]),
    ("sync::prune", &["api", "manifest", "settings", "sync"]),
    ("git", &["api", "git"]),
    ("aws", &["api", "aws"]),
    ("announce", &["announce", "api"]),
    ("notify", &["announce", "api", "notify"]),
    ("engine", &["api", "engine", "manifest"]),
    ("builder::plan", &["api", "aws", "builder", "engine"]),
    ("builder::spec", &["api", "aws", "builder", "engine", "git"]),
    ("builder::report", &["api", "aws", "builder", "engine"]),
    ("builder", &["api", "aws", "builder", "engine", "git", "settings", "sync"]),
    ("refresher::plan", &["api", "aws", "refresher"]),
    ("refresher::spec", &["api", "aws", "refresher"]),
    ("refresher::target", &["api", "aws", "refresher"]),
    ("refresher::report", &["api", "aws", "engine", "refresher"]),
    ("refresher", &["api", "aws", "engine", "refresher", "settings", "sync"]),
    ("sync", &["api", "git", "manifest", "settings", "sync"]),
    ("publish", &["api", "git", "manifest", "settings", "publish"]),
    ("telemetry", &[]),
    ("webhook", &["api", "telemetry"]),
    ("agent", &["*"]),
    ("cli", &["*"]),
    ("lib", &["*"]),
];

/// Pure modules: no clock, environment, async or client in them. The same holds for every file that says `Pure`.
const PURE: &[&str] = &[
    "announce",
    "api",
    "manifest",
    "notify::blocks",
    "notify::plain",
    "notify::text",
    "git::ignore",
    "git::templates::choice",
    "git::templates::links",
    "git::tree",
    "sync::prune",
    "engine::ended",
    "engine::kubernetes::job",
    "engine::kubernetes::ownership",
    "engine::kubernetes::pod",
    "aws::leftovers::evidence",
    "aws::owners",
    "builder::advice",
    "builder::base",
    "builder::commands",
    "builder::failures",
    "builder::harvest",
    "builder::history",
    "builder::images",
    "builder::inputs",
    "builder::judge",
    "builder::notes",
    "builder::place",
    "builder::plan",
    "builder::promote",
    "builder::remarks",
    "builder::spec",
    "builder::report",
    "builder::status",
    "builder::step",
    "builder::time",
    "refresher::memory",
    "refresher::plan",
    "refresher::spec",
    "refresher::survey",
    "refresher::target",
    "refresher::report",
];

const IMPURE: [&str; 8] =
    ["Timestamp::now", "SystemTime", "Instant::now", "std::env", "std::fs", "async fn", ".await", "tokio::"];

#[test]
fn modules_use_only_what_the_map_allows() {
    let mut broken = Vec::new();
    for (module, path, text) in sources() {
        let allowed = MAY_USE.iter().find(|(prefix, _)| is_in(&module, prefix));
        let Some((_, allowed)) = allowed else {
            broken.push(format!("{module} is not on the map"));
            continue;
        };
        for (number, line) in text.lines().enumerate() {
            for used in line.split("crate::").skip(1).flat_map(first_modules) {
                if !allowed.contains(&"*") && !allowed.contains(&used.as_str()) {
                    broken.push(format!("{}:{}: {module} uses {used}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn decisions_touch_no_clock_environment_or_client() {
    let mut broken = Vec::new();
    let pure: Vec<_> = sources().into_iter().filter(|(module, _, text)| is_pure(module, text)).collect();
    for prefix in PURE {
        assert!(pure.iter().any(|(module, ..)| is_in(module, prefix)), "{prefix} is no module");
    }
    for (module, path, text) in pure {
        for (number, line) in text.lines().enumerate() {
            // The type of an instant reads no clock.
            let code = line.split("//").next().unwrap_or_default().replace("tokio::time::Instant;", "");
            for word in IMPURE.iter().filter(|word| code.contains(**word)) {
                broken.push(format!("{}:{}: {word} in {module}", path.display(), number + 1));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn is_pure(module: &str, text: &str) -> bool {
    let mut head = text.lines().take_while(|line| line.starts_with("//!"));
    PURE.iter().any(|prefix| is_in(module, prefix)) || head.any(|line| line.contains("Pure"))
}

#[test]
fn every_file_says_what_it_owns() {
    let folders =
        ["src", "runner", "tests/it"].map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder));
    let silent: Vec<_> =
        folders.iter().flat_map(|folder| rust_files(folder)).filter(|path| is_silent(path)).collect();
    assert!(silent.is_empty(), "these files do not open with //!: {silent:?}");
}

fn is_silent(file: &Path) -> bool {
    !fs::read_to_string(file).expect("a source file").starts_with("//!")
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let files = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    files.chain(folders.iter().flat_map(|folder| rust_files(folder))).collect()
}

/// Module path, file and text without tests of every source file.
fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = rust_files(&root).into_iter().filter(|path| !is_test(path));
    let found: Vec<_> = files.map(|path| source(&root, path)).collect();
    assert!(found.len() > 20, "the sources are where they were");
    found
}

fn source(root: &Path, path: PathBuf) -> (String, PathBuf, String) {
    let text = fs::read_to_string(&path).expect("a source file");
    let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
    let relative = path.strip_prefix(root).expect("inside").with_extension("");
    let module = relative.to_string_lossy().replace('/', "::");
    (module.trim_end_matches("::mod").to_owned(), path, code)
}

fn is_test(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.ends_with("/tests.rs")
        || text.ends_with("/world.rs")
        || text.contains("/tests/")
        || text.ends_with("main.rs")
}

fn is_in(module: &str, prefix: &str) -> bool {
    module.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The modules a `crate::` path names first: `api::ids`, or all of `{api::ids, aws::Aws}`.
fn first_modules(after: &str) -> Vec<String> {
    let word =
        |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    match after.strip_prefix('{') {
        Some(list) => list.split(',').map(word).filter(|name| !name.is_empty()).collect(),
        None => vec![word(after)],
    }
}
