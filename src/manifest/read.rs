//! Files of a commit → the objects in them and everything that is to be said of them.
//!
//! A file is parsed and checked once per blob id. A broken file costs its own objects only; while
//! any is broken the set says that it is incomplete.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::settings::RepoSettings;

use super::check::Finding;
use super::document::{self, Draft};
use super::{Document, ExtraRules, ObjectSet, Problem, Severity, SourceFile, settings, yaml};

/// Name of the settings file, at the root of the path Opsy reads.
pub const SETTINGS_FILE: &str = "opsy.yaml";
/// Larger than any manifest; a Kubernetes object may have 1.5 MB.
const MAX_FILE_BYTES: usize = 1024 * 1024;
/// A file that cannot be read but has none of these words holds none of our objects.
const OUR_WORDS: [&str; 3] = ["ami.opsy.dev", "PackerBuilder", "AMIRefresher"];

/// Reads commits one after another and remembers what did not change between them.
pub struct Reader {
    extra: ExtraRules,
    parsed: HashMap<(String, String), Arc<File>>,
    /// The last settings that could be read: a broken `opsy.yaml` must not change the owner.
    settings: Option<RepoSettings>,
}

/// What a file holds, whatever the settings are.
#[derive(Default)]
struct File {
    drafts: Vec<Draft>,
    findings: Vec<Finding>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::new(|_| Vec::new())
    }
}

impl Reader {
    /// `extra` are rules of other modules, run on every document that keeps all others.
    pub fn new(extra: impl Fn(&Document) -> Vec<(String, String)> + Send + Sync + 'static) -> Self {
        Self { extra: Box::new(extra), parsed: HashMap::new(), settings: None }
    }

    /// Reads the files of one commit. The order of the files does not matter.
    pub fn read(&mut self, files: &[SourceFile]) -> ObjectSet {
        let mut set = ObjectSet::default();
        let readable = self.settings(files, &mut set);
        let mut used = HashMap::new();
        let mut sorted: Vec<_> =
            files.iter().filter(|file| is_manifest(&file.path, set.settings.status_path())).collect();
        sorted.sort_by(|a, b| a.path.cmp(&b.path));
        for source in sorted {
            let file = self.file(source);
            used.insert((source.blob.clone(), source.path.clone()), Arc::clone(&file));
            set.problems.extend(file.findings.iter().map(|finding| problem(&source.path, finding)));
            let documents =
                file.drafts.iter().map(|draft| draft.document(&source.path, set.settings.namespace()));
            set.documents.extend(documents);
        }
        self.parsed = used;
        drop_duplicates(&mut set);
        if !readable {
            set.documents.clear();
            set.without_settings = true;
        }
        set
    }

    /// Puts the settings; false when none that can be trusted are known.
    fn settings(&mut self, files: &[SourceFile], set: &mut ObjectSet) -> bool {
        let read = match files.iter().find(|file| file.path == SETTINGS_FILE) {
            None => Some(RepoSettings::default()),
            Some(file) => {
                let (read, findings) = settings::read(&file.content, self.settings.as_ref());
                set.problems.extend(findings.iter().map(|finding| problem(SETTINGS_FILE, finding)));
                read
            }
        };
        self.settings = read.or_else(|| self.settings.take());
        set.settings = self.settings.clone().unwrap_or_default();
        self.settings.is_some()
    }

    fn file(&self, source: &SourceFile) -> Arc<File> {
        let key = (source.blob.clone(), source.path.clone());
        self.parsed.get(&key).cloned().unwrap_or_else(|| Arc::new(parse(&source.content, &self.extra)))
    }
}

/// Is this a file that may hold objects?
fn is_manifest(path: &str, status_path: &str) -> bool {
    let yaml = path.ends_with(".yaml") || path.ends_with(".yml");
    let status = path.strip_prefix(status_path).is_some_and(|rest| rest.starts_with('/'));
    yaml && !status && path != SETTINGS_FILE
}

fn parse(content: &[u8], extra: &ExtraRules) -> File {
    let text = match str::from_utf8(content) {
        Ok(text) if text.len() <= MAX_FILE_BYTES => text,
        Ok(text) => {
            let words = format!("has more than {MAX_FILE_BYTES} bytes and is not read");
            return File { drafts: Vec::new(), findings: vec![unreadable(text, 1, words)] };
        }
        Err(_) => {
            let words = "is not UTF-8 text and is not read".to_owned();
            let finding = unreadable(&String::from_utf8_lossy(content), 1, words);
            return File { drafts: Vec::new(), findings: vec![finding] };
        }
    };
    let stream = yaml::parse(text);
    let mut file = File::default();
    for (line, words) in stream.broken {
        file.findings.push(unreadable(text, line, format!("is not valid YAML: {words}")));
    }
    for parsed in &stream.documents {
        let contents = document::read(parsed, extra);
        file.drafts.extend(contents.drafts);
        file.findings.extend(contents.findings);
    }
    file
}

/// An error where our objects may be lost; a note in a file that has nothing to do with us.
fn unreadable(text: &str, line: usize, words: String) -> Finding {
    if OUR_WORDS.iter().any(|word| text.contains(word)) {
        Finding::error(line, words)
    } else {
        Finding::note(line, format!("{words}; it does not mention ami.opsy.dev: ignored"))
    }
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
    let mut twice = Vec::new();
    for document in &set.documents {
        let place = (document.file.clone(), document.line);
        let Some((file, line)) = first.get(&document.object) else {
            first.insert(document.object.clone(), place);
            continue;
        };
        set.problems.push(duplicate(document, file, *line));
        twice.push(document.object.clone());
    }
    set.documents.retain(|document| !twice.contains(&document.object));
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
