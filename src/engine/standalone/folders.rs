//! Reads the directories of the runs: their builders, which builders an unreadable one blocks, and the texts of
//! reports. It neither starts nor changes anything.

use std::io;
use std::path::{Path, PathBuf};

use opsy_runner::request as wire;
use serde_json::Value;

use crate::api::ids::run_prefix;
use crate::api::{Class, Key, RunName};
use crate::engine::{EngineError, RunFacts};

/// File with the facts of a run.
pub const FACTS: &str = "facts.json";
/// Replaces the path of a run's directory in texts.
const PLACEHOLDER: &str = "<run>";

/// The directory of a run.
#[derive(Debug)]
pub struct RunDirectory {
    pub name: RunName,
    pub path: PathBuf,
    pub facts: Result<RunFacts, Unreadable>,
}

/// Facts that are damaged, missing, or of another version of Opsy.
#[derive(Debug)]
pub struct Unreadable {
    error: io::Error,
    /// The builder of the run, if at least that can be read.
    builder: Option<Key>,
}

/// All runs below `dir`, including those that cannot be read.
pub fn list(dir: &Path) -> io::Result<Vec<RunDirectory>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(name) = RunName::parse(name) else { continue };
        let facts = facts(&path);
        // After the facts: a run that was removed meanwhile must not be listed without them.
        if path.is_dir() {
            folders.push(RunDirectory { name, path, facts });
        }
    }
    Ok(folders)
}

fn facts(folder: &Path) -> Result<RunFacts, Unreadable> {
    let content = std::fs::read(folder.join(FACTS)).map_err(|error| Unreadable { error, builder: None })?;
    serde_json::from_slice(&content).map_err(|error| {
        let value: Value = serde_json::from_slice(&content).unwrap_or_default();
        let builder = serde_json::from_value(value["builder"].clone()).ok();
        Unreadable { error: error.into(), builder }
    })
}

impl RunDirectory {
    /// Why this builder must not start a run: this directory, whose facts cannot be read, may be that of its live run.
    pub fn blocks(&self, builder: &Key) -> Option<EngineError> {
        let unreadable = self.facts.as_ref().err()?;
        let may_be = match &unreadable.builder {
            Some(owner) => owner == builder,
            None => match self.name.prefix() {
                Some(prefix) => prefix == run_prefix(&builder.name),
                // The name contains no builder. While the run is live, it may be that of any builder.
                None => self.may_live(),
            },
        };
        may_be.then(|| self.error(&unreadable.error))
    }

    /// Whether a runner is alive here, or may be.
    pub fn may_live(&self) -> bool {
        opsy_runner::is_alive(&self.path).unwrap_or(true)
    }

    /// The error about a run that cannot be read, with the remedy.
    pub fn error(&self, error: &io::Error) -> EngineError {
        let damaged = matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound
        );
        let name = &self.name;
        EngineError {
            class: if damaged { Class::Invalid } else { Class::TRANSIENT },
            message: format!(
                "run {name} cannot be read ({error}): remove runs/{name} from the state directory once nothing runs in it"
            ),
        }
    }

    /// The warning about a run that cannot be read, with the builders that it blocks.
    pub fn warning(&self) -> Option<String> {
        let unreadable = self.facts.as_ref().err()?;
        let blocked = match (&unreadable.builder, self.name.prefix()) {
            (Some(builder), _) => format!("builder {builder} starts nothing until then"),
            (None, Some(prefix)) => format!("a builder called {prefix} starts nothing until then"),
            (None, None) if self.may_live() => "no builder starts anything while it runs".to_owned(),
            (None, None) => "its name belongs to no builder, so it is ignored".to_owned(),
        };
        Some(format!("{}; {blocked}", self.error(&unreadable.error).message))
    }
}

/// Removes the paths of this machine from the texts of a report, which go into status and Git. Files of the repository
/// remain, with their paths in it.
pub fn without_paths(mut report: wire::Report, folder: &Path) -> wire::Report {
    // The runner uses the real path of the directory.
    let real = std::fs::canonicalize(folder);
    let paths: Vec<String> =
        real.iter().map(PathBuf::as_path).chain([folder]).map(|path| path.display().to_string()).collect();
    for line in report.errors.iter_mut().chain(&mut report.output) {
        *line = paths.iter().fold(std::mem::take(line), |text, path| without(&text, path));
    }
    report
}

fn without(text: &str, path: &str) -> String {
    let text = text.replace(&format!("{path}/{}/", wire::WORK), "").replace(path, PLACEHOLDER);
    // The runner shortens long errors, possibly in the middle of the path.
    let partial =
        |cut: &str| (2..path.len()).rev().find(|&most| path.get(..most).is_some_and(|p| cut.ends_with(p)));
    match text.strip_suffix('…').and_then(|cut| Some(&cut[..cut.len() - partial(cut)?])) {
        Some(before) => format!("{before}{PLACEHOLDER}…"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{BuildId, ids};

    fn key(namespace: &str, name: &str) -> Key {
        Key { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// A directory with this name and these facts.
    fn folder(dir: &Path, name: &str, facts: Option<&str>) -> RunDirectory {
        std::fs::create_dir_all(dir.join(name)).expect("a folder");
        if let Some(facts) = facts {
            std::fs::write(dir.join(name).join(FACTS), facts).expect("a file");
        }
        let found = list(dir).expect("a list").into_iter().find(|found| found.name.as_str() == name);
        found.expect("it is listed")
    }

    #[test]
    fn an_unreadable_run_blocks_only_the_builder_that_it_may_belong_to() {
        let dir = tempfile::tempdir().expect("a folder");
        let build = BuildId::of(&["a"]);
        let run = format!("node-{build}");
        let other = r#"{"format": 2, "builder": {"namespace": "prod", "name": "edge"}}"#;
        for (facts, blocked, free) in [
            (Some("garbage"), vec![key("default", "node"), key("prod", "Node")], key("default", "nod")),
            (None, vec![key("default", "node")], key("default", "edge")),
            (Some(other), vec![key("prod", "edge")], key("prod", "node")),
        ] {
            let dir = dir.path().join(ids::digest(&[facts.unwrap_or_default()]));
            let folder = folder(&dir, &run, facts);
            for builder in blocked {
                let error = folder.blocks(&builder).unwrap_or_else(|| panic!("{builder}: {facts:?}"));
                assert!(error.class == Class::Invalid && error.message.contains(&run), "{error}");
            }
            assert!(folder.blocks(&free).is_none(), "{facts:?}");
            assert!(folder.warning().expect("unreadable").contains(&run));
        }
    }

    #[test]
    fn a_directory_without_a_builder_blocks_only_while_something_runs_in_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let builder = key("default", "node");
        assert!(folder(dir.path(), "notes", None).blocks(&builder).is_none());
        let lock = std::fs::File::create(dir.path().join("notes").join(wire::LOCK)).expect("a file");
        lock.lock().expect("a lock");
        let living = folder(dir.path(), "notes", None);
        assert!(living.blocks(&builder).is_some());
        assert!(living.warning().expect("unreadable").contains("no builder starts"));
    }

    #[test]
    fn other_files_and_directories_are_not_listed() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(list(&dir.path().join("none")).expect("nothing").is_empty());
        std::fs::create_dir(dir.path().join("lost+found")).expect("a folder");
        std::fs::create_dir(dir.path().join(".new-node")).expect("a folder");
        std::fs::write(dir.path().join("readme"), "").expect("a file");
        assert!(list(dir.path()).expect("a list").is_empty());
    }

    #[test]
    fn errors_name_no_place_of_this_machine() {
        let path = "/srv/opsy/runs/node-1";
        for (error, shown) in [
            ("/srv/opsy/runs/node-1/work/packer/a.pkr.hcl:3: no", "packer/a.pkr.hcl:3: no"),
            ("open /srv/opsy/runs/node-1/tmp/x: no", "open <run>/tmp/x: no"),
            ("in /srv/opsy/runs/node-1 and /srv/opsy/runs/node-1/work", "in <run> and <run>/work"),
            ("a long line, cut in /srv/opsy/ru…", "a long line, cut in <run>…"),
            ("a long line, cut elsewhere…", "a long line, cut elsewhere…"),
            ("/usr/bin/packer is gone", "/usr/bin/packer is gone"),
        ] {
            assert_eq!(without(error, path), shown);
        }
    }
}
