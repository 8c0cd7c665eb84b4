//! The folders of the runs as they lie on disk: whose each is, also where that cannot be read, and how
//! its words are told to people. Starts and changes nothing.

use std::io;
use std::path::{Path, PathBuf};

use opsy_runner::request as wire;
use serde_json::Value;

use crate::api::ids::run_prefix;
use crate::api::{Class, Key, RunName};
use crate::engine::{RunFacts, RunsError};

/// What is recorded of a run when it is laid out.
pub const FACTS: &str = "facts.json";
/// Stands for a run's folder in words for people.
const SOME_FOLDER: &str = "<run>";

/// The folder of a run.
#[derive(Debug)]
pub struct RunFolder {
    pub name: RunName,
    pub path: PathBuf,
    pub facts: Result<RunFacts, Unreadable>,
}

/// Facts that are damaged, missing, or of another version of Opsy.
#[derive(Debug)]
pub struct Unreadable {
    error: io::Error,
    /// Whose run it is, where at least that can be read.
    builder: Option<Key>,
}

/// Every run below `dir`. One that cannot be read is among them, and spoils no other.
pub fn list(dir: &Path) -> io::Result<Vec<RunFolder>> {
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
        // Last: a run that was forgotten meanwhile is gone as a whole.
        if path.is_dir() {
            folders.push(RunFolder { name, path, facts });
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

impl RunFolder {
    /// Why that builder must not start a run: this one, whose facts cannot be read, may be its own.
    pub fn in_the_way_of(&self, builder: &Key) -> Option<RunsError> {
        let unreadable = self.facts.as_ref().err()?;
        let may_be = match &unreadable.builder {
            Some(owner) => owner == builder,
            None => match self.name.prefix() {
                Some(prefix) => prefix == run_prefix(&builder.name),
                // It may be anybody's as long as it lives.
                None => self.may_live(),
            },
        };
        may_be.then(|| self.error(&unreadable.error))
    }

    /// Is a runner at work here, as far as can be told?
    pub fn may_live(&self) -> bool {
        opsy_runner::is_alive(&self.path).unwrap_or(true)
    }

    /// The run cannot be read, and what to do about it.
    pub fn error(&self, error: &io::Error) -> RunsError {
        let damaged = matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound
        );
        let name = &self.name;
        RunsError {
            class: if damaged { Class::Invalid } else { Class::TRANSIENT },
            message: format!(
                "run {name} cannot be read ({error}): remove runs/{name} from the state directory once nothing runs in it"
            ),
        }
    }

    /// The same for the log, with who is held up by it.
    pub fn warning(&self) -> Option<String> {
        let unreadable = self.facts.as_ref().err()?;
        let held_up = match (&unreadable.builder, self.name.prefix()) {
            (Some(builder), _) => format!("builder {builder} starts nothing until then"),
            (None, Some(prefix)) => format!("a builder called {prefix} starts nothing until then"),
            (None, None) if self.may_live() => "no builder starts anything while it runs".to_owned(),
            (None, None) => "it is nobody's by its name, and left aside".to_owned(),
        };
        Some(format!("{}; {held_up}", self.error(&unreadable.error).message))
    }
}

/// A report whose texts can be shown anywhere: they go into status and Git, where the paths of a machine
/// mean nothing. Files of the repository are named as they are there.
pub fn without_places(mut report: wire::Report, folder: &Path) -> wire::Report {
    // The runner works in the folder's real path.
    let real = std::fs::canonicalize(folder);
    let places: Vec<String> =
        real.iter().map(PathBuf::as_path).chain([folder]).map(|path| path.display().to_string()).collect();
    for line in report.errors.iter_mut().chain(&mut report.output) {
        *line = places.iter().fold(std::mem::take(line), |text, place| without(&text, place));
    }
    report
}

fn without(text: &str, place: &str) -> String {
    let text = text.replace(&format!("{place}/{}/", wire::WORK), "").replace(place, SOME_FOLDER);
    // The runner cuts long errors, maybe in the middle of a path.
    let begun =
        |cut: &str| (2..place.len()).rev().find(|&most| place.get(..most).is_some_and(|p| cut.ends_with(p)));
    match text.strip_suffix('…').and_then(|cut| Some(&cut[..cut.len() - begun(cut)?])) {
        Some(before) => format!("{before}{SOME_FOLDER}…"),
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

    /// A folder of that name with these facts.
    fn folder(dir: &Path, name: &str, facts: Option<&str>) -> RunFolder {
        std::fs::create_dir_all(dir.join(name)).expect("a folder");
        if let Some(facts) = facts {
            std::fs::write(dir.join(name).join(FACTS), facts).expect("a file");
        }
        let found = list(dir).expect("a list").into_iter().find(|found| found.name.as_str() == name);
        found.expect("it is listed")
    }

    #[test]
    fn only_whose_run_it_may_be_is_held_up() {
        let dir = tempfile::tempdir().expect("a folder");
        let build = BuildId::of(&["a"]);
        let run = format!("node-{build}");
        let other = r#"{"format": 2, "builder": {"namespace": "prod", "name": "edge"}}"#;
        for (facts, held_up, free) in [
            (Some("garbage"), vec![key("default", "node"), key("prod", "Node")], key("default", "nod")),
            (None, vec![key("default", "node")], key("default", "edge")),
            (Some(other), vec![key("prod", "edge")], key("prod", "node")),
        ] {
            let dir = dir.path().join(ids::digest(&[facts.unwrap_or_default()]));
            let folder = folder(&dir, &run, facts);
            for builder in held_up {
                let error = folder.in_the_way_of(&builder).unwrap_or_else(|| panic!("{builder}: {facts:?}"));
                assert!(error.class == Class::Invalid && error.message.contains(&run), "{error}");
            }
            assert!(folder.in_the_way_of(&free).is_none(), "{facts:?}");
            assert!(folder.warning().expect("unreadable").contains(&run));
        }
    }

    #[test]
    fn a_folder_of_nobody_is_in_the_way_only_while_something_runs_in_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let builder = key("default", "node");
        assert!(folder(dir.path(), "notes", None).in_the_way_of(&builder).is_none());
        let lock = std::fs::File::create(dir.path().join("notes").join(wire::LOCK)).expect("a file");
        lock.lock().expect("a lock");
        let living = folder(dir.path(), "notes", None);
        assert!(living.in_the_way_of(&builder).is_some());
        assert!(living.warning().expect("unreadable").contains("no builder starts"));
    }

    #[test]
    fn what_is_no_run_is_not_listed() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(list(&dir.path().join("none")).expect("nothing").is_empty());
        std::fs::create_dir(dir.path().join("lost+found")).expect("a folder");
        std::fs::create_dir(dir.path().join(".new-node")).expect("a folder");
        std::fs::write(dir.path().join("readme"), "").expect("a file");
        assert!(list(dir.path()).expect("a list").is_empty());
    }

    #[test]
    fn errors_name_no_place_of_this_machine() {
        let place = "/srv/opsy/runs/node-1";
        for (error, told) in [
            ("/srv/opsy/runs/node-1/work/packer/a.pkr.hcl:3: no", "packer/a.pkr.hcl:3: no"),
            ("open /srv/opsy/runs/node-1/tmp/x: no", "open <run>/tmp/x: no"),
            ("in /srv/opsy/runs/node-1 and /srv/opsy/runs/node-1/work", "in <run> and <run>/work"),
            ("a long line, cut in /srv/opsy/ru…", "a long line, cut in <run>…"),
            ("a long line, cut elsewhere…", "a long line, cut elsewhere…"),
            ("/usr/bin/packer is gone", "/usr/bin/packer is gone"),
        ] {
            assert_eq!(without(error, place), told);
        }
    }
}
