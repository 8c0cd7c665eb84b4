//! Files of a commit → the objects in them and everything that is to be said of them.
//!
//! A file is parsed and checked once per blob id. A broken file costs its own objects only; while
//! any is broken the set says that it is incomplete.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::api::files::{POINTER, is_pointer};
use crate::settings::RepoSettings;

use super::check::Finding;
use super::file::{self, File};
use super::neighbours::Neighbours;
use super::{Document, ExtraRules, Form, ObjectSet, Problem, Severity, SourceFile, settings};

/// Name of the settings file, at the root of the path Opsy reads.
pub const SETTINGS_FILE: &str = "opsy.yaml";
/// What it is called by mistake.
const MISTAKEN_SETTINGS: &str = "opsy.yml";

/// Objects of a commit: all are kept and reconciled, and each takes some ten kilobytes.
pub const OBJECT_LIMIT: usize = 10_000;
/// Findings of a commit that are kept. Beyond, one per file is: which files are broken must be known.
const FINDINGS: usize = 5_000;

/// What a file was parsed from: blob id, path and form. A link has the blob of what it leads to.
type Parsed = (String, String, Form);

/// Files that held objects when they could be read last: such a file does not become another tool's. Those of before the
/// start of the process are known to the engine alone, so it is shared.
#[derive(Clone, Debug, Default)]
pub struct Held(Arc<Mutex<BTreeSet<String>>>);

impl Held {
    /// Takes files that held objects.
    pub fn learn(&self, files: impl IntoIterator<Item = String>) {
        self.lock().extend(files);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().expect("no code panics while it holds the files")
    }
}

/// Reads commits one after another and remembers what did not change between them.
pub struct Reader {
    extra: ExtraRules,
    parsed: HashMap<Parsed, Arc<File>>,
    held: Held,
    /// The last settings that could be read: a broken `opsy.yaml` must not change the owner.
    settings: Option<RepoSettings>,
    refuses: Refuses,
}

/// Why settings that can be read are not taken all the same.
type Refuses = Box<dyn Fn(&RepoSettings) -> Option<String> + Send + Sync>;

impl Default for Reader {
    fn default() -> Self {
        Self::new(|_| Vec::new())
    }
}

impl Reader {
    /// `errors` are rules of other modules, run on every document that keeps all others.
    pub fn new(errors: impl Fn(&Document) -> Vec<(String, String)> + Send + Sync + 'static) -> Self {
        Self::with_notes(errors, |_| Vec::new())
    }

    /// The same, with what others note of documents without errors.
    pub fn with_notes(
        errors: impl Fn(&Document) -> Vec<(String, String)> + Send + Sync + 'static,
        notes: impl Fn(&Document) -> Vec<(String, String)> + Send + Sync + 'static,
    ) -> Self {
        let extra = ExtraRules { errors: Box::new(errors), notes: Box::new(notes) };
        let refuses: Refuses = Box::new(|_| None);
        Self { extra, parsed: HashMap::new(), held: Held::default(), settings: None, refuses }
    }

    /// The same; settings that are refused count as broken.
    #[must_use]
    pub fn refusing(self, why: impl Fn(&RepoSettings) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { refuses: Box::new(why), ..self }
    }

    /// The files that are known to have held objects.
    pub fn held(&self) -> Held {
        self.held.clone()
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
                let words = format!("{why}: ignored, although it names kinds of Opsy");
                set.problems.push(problem(&source.path, &Finding::note(1, words)));
                continue;
            }
            let held = self.held.lock().contains(&source.path);
            let found = file.findings(held, most);
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

    /// Puts the settings; false when none that can be trusted are known.
    fn settings(&mut self, files: &[SourceFile], set: &mut ObjectSet) -> bool {
        let mistaken = files.iter().find(|file| is_settings(&file.path) && file.path != SETTINGS_FILE);
        if let Some(file) = mistaken {
            let words = format!("settings are read from {SETTINGS_FILE} only: rename it");
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
        let refused = read.as_ref().and_then(|read| (self.refuses)(read));
        let read = read.filter(|_| refused.is_none());
        set.problems.extend(refused.map(|words| problem(SETTINGS_FILE, &Finding::error(1, words))));
        self.settings = read.or_else(|| self.settings.take());
        set.settings = self.settings.clone().unwrap_or_default();
        self.settings.is_some()
    }

    /// Is this to be read: a file that may hold objects, or what is in the place of one that did?
    fn is_read(&self, file: &SourceFile, status_path: &str) -> bool {
        let held = |folder: &str| self.held.lock().iter().any(|path| is_below(path, folder));
        is_manifest(&file.path, status_path)
            || (matches!(file.form, Form::Unknown(_)) && !is_yaml(&file.path) && held(&file.path))
    }

    fn file(&self, source: &SourceFile) -> Arc<File> {
        self.parsed
            .get(&parsed_from(source))
            .cloned()
            .unwrap_or_else(|| Arc::new(file::parse(source, &self.extra)))
    }

    /// Why a file that mentions us is another tool's, if it is. One that held objects before is not: who broke
    /// it must not lose them.
    fn foreign(&self, path: &str, file: &File, neighbours: &Neighbours) -> Option<String> {
        if !file.is_ours || self.held.lock().contains(path) {
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

    /// Remembers which files hold objects, and held some as long as they are broken.
    fn remember(&mut self, files: &[SourceFile], set: &ObjectSet) {
        let is_broken = |path: &String| {
            let in_its_place = |file: &&SourceFile| file.path == *path || is_below(path, &file.path);
            files.iter().any(|file| in_its_place(&file))
        };
        let mut held = self.held.lock();
        held.retain(is_broken);
        held.extend(set.documents.iter().map(|document| document.file.clone()));
    }
}

fn parsed_from(source: &SourceFile) -> Parsed {
    (source.blob.clone(), source.path.clone(), source.form.clone())
}

/// Is this the settings file, or what was meant to be?
pub fn is_settings(path: &str) -> bool {
    [SETTINGS_FILE, MISTAKEN_SETTINGS].iter().any(|name| path.eq_ignore_ascii_case(name))
}

/// Why settings are not even looked into.
fn in_the_way(file: &SourceFile) -> Option<String> {
    match &file.form {
        Form::Unfit(why) | Form::Unknown(why) => Some(why.clone()),
        Form::File => is_pointer(&file.content()).then(|| POINTER.to_owned()),
    }
}

/// Is this a file that may hold objects?
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

/// Of an object that is there twice, neither is taken: which of them is meant cannot be known.
fn drop_duplicates(set: &mut ObjectSet) {
    let mut first: BTreeMap<_, (String, usize)> = BTreeMap::new();
    for document in &set.documents {
        let place = (document.file.clone(), document.line);
        let Some((file, line)) = first.get(&document.object) else {
            first.insert(document.object.clone(), place);
            continue;
        };
        set.problems.push(duplicate(document, file, *line));
        set.twice.insert(document.object.clone(), document.file.clone());
    }
    let ObjectSet { documents, twice, .. } = set;
    documents.retain(|document| !twice.contains_key(&document.object));
}

fn duplicate(document: &Document, file: &str, line: usize) -> Problem {
    Problem {
        file: document.file.clone(),
        line: Some(document.line),
        message: format!("{} is already at {file}:{line}; neither is taken", document.object),
        severity: Severity::Error,
    }
}

#[cfg(test)]
mod tests;
