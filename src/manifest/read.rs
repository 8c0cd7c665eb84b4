//! Turns the files of a commit into objects and problems.
//!
//! A file is parsed and checked once per blob ID. A broken file affects only its own objects. While any file is broken,
//! the set is incomplete.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::api::files::{POINTER, is_pointer};
use crate::api::lock::lock;
use crate::api::paths::prefixes;
use crate::settings::RepoSettings;

use super::check::Finding;
use super::file::{self, File};
use super::neighbours::Neighbours;
use super::{Document, ExtraRules, Form, ObjectSet, Problem, Severity, SourceFile, settings};

/// Name of the settings file, at the root of the path that Opsy reads.
pub const SETTINGS_FILE: &str = "opsy.yaml";
/// A wrong name that users give to the settings file.
const MISTAKEN_SETTINGS: &str = "opsy.yml";

/// Maximum number of objects of a commit: all of them are kept and reconciled, and each takes about ten kilobytes.
pub const OBJECT_LIMIT: usize = 10_000;
/// Maximum number of findings that are kept per commit. Beyond it, one per file is kept, so that every broken file is
/// known.
const FINDINGS: usize = 5_000;

/// What a file was parsed from: blob ID, path and form. A link has the same blob ID as its target.
type Parsed = (String, String, Form);

/// Files that contained objects when they could last be read. Such a file never counts as another tool's. Only the
/// engine knows those from before the start of the process, so the set is shared with it.
#[derive(Clone, Debug, Default)]
pub struct KnownFiles(Arc<Mutex<BTreeSet<String>>>);

impl KnownFiles {
    /// Adds files that contained objects.
    pub fn learn(&self, files: impl IntoIterator<Item = String>) {
        self.lock().extend(files);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        lock(&self.0)
    }
}

/// Reads one commit after another and remembers what did not change between them.
pub struct Reader {
    extra: ExtraRules,
    parsed: HashMap<Parsed, Arc<File>>,
    known_files: KnownFiles,
    /// The last settings that could be read. A broken `opsy.yaml` must not change the owner.
    settings: Option<RepoSettings>,
    guard: Guard,
}

/// Returns why settings that can be read are refused, if they are.
type Guard = Box<dyn Fn(&RepoSettings) -> Option<String> + Send + Sync>;

impl Default for Reader {
    fn default() -> Self {
        Self::new(|_| Vec::new())
    }
}

impl Reader {
    /// Creates a reader. `errors` are rules of other modules, which run on every document that satisfies all other
    /// rules.
    pub fn new(errors: impl Fn(&Document) -> Vec<(String, String)> + Send + Sync + 'static) -> Self {
        Self::with_notes(errors, |_| Vec::new())
    }

    /// As `new`, with notes of other modules about documents without errors.
    pub fn with_notes(
        errors: impl Fn(&Document) -> Vec<(String, String)> + Send + Sync + 'static,
        notes: impl Fn(&Document) -> Vec<(String, String)> + Send + Sync + 'static,
    ) -> Self {
        let extra = ExtraRules { errors: Box::new(errors), notes: Box::new(notes) };
        let guard: Guard = Box::new(|_| None);
        Self { extra, parsed: HashMap::new(), known_files: KnownFiles::default(), settings: None, guard }
    }

    /// Adds a check of the settings. Refused settings count as broken.
    #[must_use]
    pub fn with_guard(self, why: impl Fn(&RepoSettings) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { guard: Box::new(why), ..self }
    }

    /// Returns the files that are known to have contained objects.
    pub fn known_files(&self) -> KnownFiles {
        self.known_files.clone()
    }

    /// Reads the files of one commit. The order of the files does not matter.
    pub fn read(&mut self, files: &[SourceFile]) -> ObjectSet {
        let mut set = ObjectSet::default();
        let readable = self.settings(files, &mut set);
        let neighbours = Neighbours::of(files);
        let (mut used, mut findings) = (HashMap::new(), 0);
        let mut sorted: Vec<_> =
            files.iter().filter(|file| self.is_read(file, set.settings.status_path())).collect();
        sorted.sort_by(|a, b| a.path.cmp(&b.path));
        for source in sorted {
            let file = self.file(source);
            set.own_files.extend(file.is_ours.then(|| source.path.clone()));
            let most = if findings < FINDINGS { file::FINDINGS } else { 1 };
            // What is not remembered is parsed again with the next commit.
            if file.kept() <= most {
                used.insert(parsed_from(source), Arc::clone(&file));
            }
            if let Some(why) = self.foreign(&source.path, &file, &neighbours) {
                let words = format!("{why}: ignored, although it mentions kinds of Opsy");
                set.problems.push(problem(&source.path, &Finding::note(1, words)));
                continue;
            }
            let is_known = self.known_files.lock().contains(&source.path);
            let found = file.findings(is_known, most);
            findings += found.iter().filter(|finding| finding.severity != Severity::Foreign).count();
            set.problems.extend(found.iter().map(|finding| problem(&source.path, finding)));
            let documents =
                file.drafts.iter().map(|draft| draft.document(&source.path, set.settings.namespace()));
            set.documents.extend(documents);
            if set.documents.len() > OBJECT_LIMIT {
                set.documents.clear();
                set.too_many_objects = true;
                return set;
            }
        }
        self.parsed = used;
        self.remember(files, &set);
        drop_duplicates(&mut set);
        if !readable {
            set.documents.clear();
            set.without_settings = true;
        }
        set
    }

    /// Adds the settings to the set. Returns false if no settings are known that can be trusted.
    fn settings(&mut self, files: &[SourceFile], set: &mut ObjectSet) -> bool {
        let mistaken = files.iter().find(|file| is_settings(&file.path) && file.path != SETTINGS_FILE);
        if let Some(file) = mistaken {
            let words = format!("settings are read from {SETTINGS_FILE} only: rename this file");
            set.problems.push(problem(&file.path, &Finding::error(1, words)));
            set.own_files.push(file.path.clone());
        }
        set.own_files.push(SETTINGS_FILE.to_owned());
        let read = match files.iter().find(|file| file.path == SETTINGS_FILE) {
            None => mistaken.is_none().then(RepoSettings::default),
            Some(file) => {
                let (read, findings) = match in_the_way(file) {
                    Some(why) => (None, vec![Finding::error(1, why)]),
                    None => settings::read(&file.content(), self.settings.as_ref()),
                };
                set.problems.extend(findings.iter().map(|finding| problem(SETTINGS_FILE, finding)));
                read
            }
        };
        let refused = read.as_ref().and_then(|read| (self.guard)(read));
        let read = read.filter(|_| refused.is_none());
        set.problems.extend(refused.map(|words| problem(SETTINGS_FILE, &Finding::error(1, words))));
        self.settings = read.or_else(|| self.settings.take());
        set.settings = self.settings.clone().unwrap_or_default();
        self.settings.is_some()
    }

    /// Returns whether this is read: a file that may contain objects, or whatever replaced a file that did.
    fn is_read(&self, file: &SourceFile, status_path: &str) -> bool {
        let contained_objects =
            |folder: &str| self.known_files.lock().iter().any(|path| is_below(path, folder));
        is_manifest(&file.path, status_path)
            || (matches!(file.form, Form::Unknown(_))
                && !is_yaml(&file.path)
                && contained_objects(&file.path))
    }

    fn file(&self, source: &SourceFile) -> Arc<File> {
        self.parsed
            .get(&parsed_from(source))
            .cloned()
            .unwrap_or_else(|| Arc::new(file::parse(source, &self.extra)))
    }

    /// Returns why a file that mentions Opsy belongs to another tool, if it does. A file that contained objects before
    /// does not: a mistake in it must not lose them.
    fn foreign(&self, path: &str, file: &File, neighbours: &Neighbours) -> Option<String> {
        if !file.is_ours || self.known_files.lock().contains(path) {
            return None;
        }
        if let Some(kustomization) = neighbours.patched_by(path) {
            return Some(format!("is a patch of {kustomization}"));
        }
        if !file.has_error() {
            return None;
        }
        if let Some(chart) = neighbours.chart(path) {
            return Some(format!("is a template of the Helm chart {chart:?}"));
        }
        file.is_template.then(|| "is a template ({{ }}), not a manifest".to_owned())
    }

    /// Remembers the files that contain objects, and those that contained some before they broke.
    fn remember(&mut self, files: &[SourceFile], set: &ObjectSet) {
        let paths: HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        // The file itself, or what is in the place of a directory above it.
        let is_broken = |path: &String| prefixes(path).any(|part| paths.contains(part));
        let mut known = self.known_files.lock();
        known.retain(is_broken);
        known.extend(set.documents.iter().map(|document| document.file.clone()));
    }
}

fn parsed_from(source: &SourceFile) -> Parsed {
    (source.blob.clone(), source.path.clone(), source.form.clone())
}

/// Returns whether this is the settings file, or a file that was meant to be it.
pub fn is_settings(path: &str) -> bool {
    [SETTINGS_FILE, MISTAKEN_SETTINGS].iter().any(|name| path.eq_ignore_ascii_case(name))
}

/// Returns why the settings are not parsed at all.
fn in_the_way(file: &SourceFile) -> Option<String> {
    match &file.form {
        Form::Unfit(why) | Form::Unknown(why) => Some(why.clone()),
        Form::File => is_pointer(&file.content()).then(|| POINTER.to_owned()),
    }
}

/// Returns whether this file may contain objects.
fn is_manifest(path: &str, status_path: &str) -> bool {
    let status = path.strip_prefix(status_path).is_some_and(|rest| rest.starts_with('/'));
    is_yaml(path) && !status && !is_settings(path)
}

fn is_yaml(path: &str) -> bool {
    path.ends_with(".yaml") || path.ends_with(".yml")
}

fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn problem(file: &str, finding: &Finding) -> Problem {
    Problem {
        file: file.to_owned(),
        line: Some(finding.line),
        message: finding.message.clone(),
        severity: finding.severity,
    }
}

/// If an object is defined twice, neither definition is used: there is no way to know which one is meant. The others are
/// sorted by object.
fn drop_duplicates(set: &mut ObjectSet) {
    let mut first: BTreeMap<_, (String, usize)> = BTreeMap::new();
    for document in &set.documents {
        let place = (document.file.clone(), document.line);
        let Some((file, line)) = first.get(&document.object) else {
            first.insert(document.object.clone(), place);
            continue;
        };
        set.problems.push(duplicate(document, file, *line));
        set.duplicates.insert(document.object.clone(), document.file.clone());
    }
    let ObjectSet { documents, duplicates, .. } = set;
    documents.retain(|document| !duplicates.contains_key(&document.object));
    documents.sort_by(|a, b| a.object.cmp(&b.object));
}

fn duplicate(document: &Document, file: &str, line: usize) -> Problem {
    Problem {
        file: document.file.clone(),
        line: Some(document.line),
        message: format!(
            "{} is already defined at {file}:{line}; neither definition is used",
            document.object
        ),
        severity: Severity::Error,
    }
}

#[cfg(test)]
mod tests;
