//! Turns the files of a commit into objects and problems.
//!
//! A file is parsed and checked once per blob ID. A broken file affects only its own objects. While any file is broken,
//! the set is incomplete. `edited` reads a commit by its difference to the one before. `saved` passes on what was parsed to
//! the next process.

mod edited;
mod saved;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::api::files::{POINTER, is_pointer};
use crate::api::lock::lock;
use crate::api::paths::prefixes;
use crate::settings::RepoSettings;

pub use saved::SavedFiles;

use super::check::Finding;
use super::file::{self, File};
use super::neighbours::Neighbours;
use super::{
    Document, Documents, ExtraRules, Form, ObjectSet, Problem, Rules, Severity, SourceFile, settings,
};

/// Name of the settings file, at the root of the path that Opsy reads.
pub const SETTINGS_FILE: &str = "opsy.yaml";
/// A wrong name that users give to the settings file.
const MISTAKEN_SETTINGS: &str = "opsy.yml";

/// Maximum number of objects of a commit: all of them are kept and reconciled, and each takes about ten kilobytes.
pub const OBJECT_LIMIT: usize = 10_000;
/// Maximum number of findings that are kept per commit. Beyond it, one per file is kept, so that every broken file is
/// known.
const FINDINGS: usize = 5_000;

/// A file as it was parsed at its path. A link has the same blob ID as its target, but another form.
struct Parsed {
    blob: String,
    form: Form,
    file: Arc<File>,
}

impl Parsed {
    fn new(source: &SourceFile, rules: &Rules<'_>) -> Self {
        let file = Arc::new(file::parse(source, rules));
        Self { blob: source.blob.clone(), form: source.form.clone(), file }
    }

    fn is_of(&self, source: &SourceFile) -> bool {
        self.blob == source.blob && self.form == source.form
    }
}

/// Files that contained objects when they could last be read. Such a file never counts as another tool's. Only the
/// engine knows those from before the start of the process, so the set is shared with it.
#[derive(Clone, Debug, Default)]
pub struct KnownFiles(Arc<Mutex<HashSet<String>>>);

impl KnownFiles {
    /// Adds files that contained objects.
    pub fn learn(&self, files: impl IntoIterator<Item = String>) {
        self.lock().extend(files);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        lock(&self.0)
    }
}

/// Reads one commit after another and remembers what did not change between them.
pub struct Reader {
    extra: ExtraRules,
    /// By path.
    parsed: HashMap<String, Parsed>,
    /// The namespace with which they were parsed: that of objects whose manifest names none.
    namespace: String,
    /// What was parsed before the start of the process, until a commit is read.
    saved: SavedFiles,
    /// The number of files in which `parsed` may differ from what is saved.
    unsaved: usize,
    known_files: KnownFiles,
    /// The last settings that could be read. A broken `opsy.yaml` must not change the owner.
    settings: Option<RepoSettings>,
    /// The settings before the commit that was read last.
    settings_before: Option<RepoSettings>,
    /// The last commit, if a difference to it can be read.
    last: Option<Last>,
    guard: Guard,
}

/// What was read last, and what its files depend on besides their own content.
struct Last {
    set: ObjectSet,
    neighbours: Neighbours,
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
        Self {
            extra,
            parsed: HashMap::new(),
            namespace: String::new(),
            saved: SavedFiles::default(),
            unsaved: 0,
            known_files: KnownFiles::default(),
            settings: None,
            settings_before: None,
            last: None,
            guard,
        }
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

    /// Forgets what the last reading found, because the content of a file could not be read after all.
    pub fn discard(&mut self) {
        self.parsed.clear();
        self.last = None;
        self.settings.clone_from(&self.settings_before);
    }

    /// Reads the files of one commit. The order of the files does not matter.
    pub fn read(&mut self, files: &[SourceFile]) -> ObjectSet {
        self.settings_before.clone_from(&self.settings);
        let last = self.last.take().map(|last| last.set).unwrap_or_default();
        let mut set = ObjectSet::default();
        let mut own_files = BTreeSet::new();
        let readable = self.settings(files, &mut set, &mut own_files);
        let neighbours = Neighbours::of(files);
        let (mut before, mut saved) = self.parsed_with(set.settings.namespace());
        let (mut used, mut findings) = (HashMap::with_capacity(before.len()), 0);
        let mut documents = Vec::with_capacity(last.documents.len());
        let mut sorted: Vec<_> =
            files.iter().filter(|file| self.is_read(file, set.settings.status_path())).collect();
        sorted.sort_by(|a, b| a.path.cmp(&b.path));
        for source in sorted {
            let known = before.remove_entry(&source.path).filter(|(_, parsed)| parsed.is_of(source));
            let (path, parsed) = known.unwrap_or_else(|| {
                let recalled = Parsed::recalled(source, &mut saved);
                (source.path.clone(), recalled.unwrap_or_else(|| self.parse(source)))
            });
            let file = Arc::clone(&parsed.file);
            own_files.extend(file.is_ours.then(|| source.path.clone()));
            let most = if findings < FINDINGS { file::FINDINGS } else { 1 };
            // What is not remembered is parsed again with the next commit.
            if file.kept() <= most {
                used.insert(path, parsed);
            }
            if let Some(why) = self.foreign(&source.path, &file, &neighbours) {
                let words = format!("{why}: ignored, although it mentions kinds of Opsy");
                set.problems.push(problem(&source.path, &Finding::note(1, words)));
                continue;
            }
            let found = file.findings(|| self.known_files.lock().contains(&source.path), most);
            findings += found.iter().filter(|finding| finding.severity != Severity::Foreign).count();
            set.problems.extend(found.iter().map(|finding| problem(&source.path, finding)));
            documents.extend(file.drafts.iter().map(|draft| draft.document(&source.path)));
            if documents.len() > OBJECT_LIMIT {
                set.too_many_objects = true;
                return set;
            }
        }
        self.parsed = used;
        self.unsaved += saved.len();
        self.remember(files, &documents);
        drop_duplicates(&mut set, &mut documents);
        set.own_files = if own_files == *last.own_files { last.own_files } else { own_files.into() };
        match readable {
            true => set.documents = documents.into_iter().collect::<Documents>().sharing(&last.documents),
            false => set.without_settings = true,
        }
        self.last = Some(Last { set: set.clone(), neighbours });
        set
    }

    /// Takes what was parsed with a namespace, in this process and before.
    fn parsed_with(&mut self, namespace: &str) -> (HashMap<String, Parsed>, SavedFiles) {
        let (mut parsed, mut saved) = (std::mem::take(&mut self.parsed), std::mem::take(&mut self.saved));
        if self.namespace != namespace {
            namespace.clone_into(&mut self.namespace);
            parsed.clear();
        }
        self.unsaved += saved.retain_of(namespace);
        (parsed, saved)
    }

    /// Adds the settings to the set. Returns false if no settings are known that can be trusted.
    fn settings(
        &mut self,
        files: &[SourceFile],
        set: &mut ObjectSet,
        own_files: &mut BTreeSet<String>,
    ) -> bool {
        let mistaken = files.iter().find(|file| is_settings(&file.path) && file.path != SETTINGS_FILE);
        if let Some(file) = mistaken {
            let words = format!("settings are read from {SETTINGS_FILE} only: rename this file");
            set.problems.push(problem(&file.path, &Finding::error(1, words)));
            own_files.insert(file.path.clone());
        }
        own_files.insert(SETTINGS_FILE.to_owned());
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

    /// Returns why a file that mentions Opsy belongs to another tool, if it does. A file that contained objects before
    /// does not: a mistake in it must not lose them.
    fn foreign(&self, path: &str, file: &File, neighbours: &Neighbours) -> Option<String> {
        let patched = neighbours.patched_by(path);
        let may_be_foreign = file.is_ours && (patched.is_some() || file.has_error());
        if !may_be_foreign || self.known_files.lock().contains(path) {
            return None;
        }
        if let Some(kustomization) = patched {
            return Some(format!("is a patch of {kustomization}"));
        }
        if let Some(chart) = neighbours.chart(path) {
            return Some(format!("is a template of the Helm chart {chart:?}"));
        }
        file.is_template.then(|| "is a template ({{ }}), not a manifest".to_owned())
    }

    /// Remembers the files that contain objects, and those that contained some before they broke.
    fn remember(&mut self, files: &[SourceFile], documents: &[Arc<Document>]) {
        let paths: HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
        // The file itself, or what is in the place of a directory above it.
        let is_broken = |path: &String| prefixes(path).any(|part| paths.contains(part));
        let mut known = self.known_files.lock();
        known.retain(is_broken);
        for document in documents {
            if !known.contains(&document.file) {
                known.insert(document.file.clone());
            }
        }
    }
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
/// Returns whether a file below the path that is read can contain manifests.
pub fn is_manifest(path: &str, status_path: &str) -> bool {
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
fn drop_duplicates(set: &mut ObjectSet, documents: &mut Vec<Arc<Document>>) {
    let ObjectSet { duplicates, problems, .. } = set;
    // Equal objects stay in the order of their files.
    documents.sort_by(|a, b| a.object.cmp(&b.object));
    for same in documents.chunk_by(|a, b| a.object == b.object) {
        for document in &same[1..] {
            problems.push(duplicate(document, &same[0]));
            duplicates.insert(document.object.clone(), document.file.clone());
        }
    }
    if !duplicates.is_empty() {
        documents.retain(|document| !duplicates.contains_key(&document.object));
    }
}

fn duplicate(document: &Document, first: &Document) -> Problem {
    Problem {
        file: document.file.clone(),
        line: Some(document.line),
        message: format!(
            "{} is already defined at {}:{}; neither definition is used",
            document.object, first.file, first.line
        ),
        severity: Severity::Error,
    }
}

#[cfg(test)]
mod tests;
