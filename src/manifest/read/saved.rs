//! What was parsed of files, as lines of text. Most files are the same at the next start, and parsing them would be half of
//! its work. Only files with objects and without findings are saved: findings refer to the content. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Parsed, Reader};
use crate::api::ObjectKey;
use crate::manifest::document::Draft;
use crate::manifest::file::File;
use crate::manifest::{Document, DocumentText, Form, Rules, SourceFile};

/// All files are saved together, once so many were parsed since the last time. To parse fewer takes a few milliseconds.
const MANY: usize = 100;

/// Files that were parsed before the start of the process.
#[derive(Default)]
pub struct SavedFiles {
    namespace: String,
    by_blob: HashMap<String, Arc<File>>,
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Start<'a> {
    /// That of objects whose manifest names none. Rules can depend on it.
    namespace: &'a str,
}

/// The first line of a file. One line per draft follows, with the document of each.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    blob: &'a str,
    is_ours: bool,
    drafts: Vec<DraftHead>,
}

/// What is known of a draft besides the text of its document.
#[derive(Serialize, Deserialize)]
struct DraftHead {
    object: ObjectKey,
    line: usize,
}

impl SavedFiles {
    /// Reads the lines of `Reader::lines`. Returns `None` if they are others.
    pub fn of_lines(lines: &mut dyn Iterator<Item = String>) -> Option<Self> {
        let start = lines.next()?;
        let Start { namespace } = serde_json::from_str(&start).ok()?;
        let mut by_blob = HashMap::new();
        while let Some(line) = lines.next() {
            let Head { blob, is_ours, drafts } = serde_json::from_str(&line).ok()?;
            let drafts = drafts.into_iter().map(|head| Some(head.draft(lines.next()?)));
            let drafts = drafts.collect::<Option<_>>()?;
            by_blob.insert(blob.to_owned(), Arc::new(File::plain(is_ours, drafts)));
        }
        Some(Self { namespace: namespace.to_owned(), by_blob })
    }

    pub(super) fn len(&self) -> usize {
        self.by_blob.len()
    }

    /// Removes the files, unless they were parsed with this namespace. Returns how many it removed.
    pub(super) fn retain_of(&mut self, namespace: &str) -> usize {
        match self.namespace == namespace {
            true => 0,
            false => std::mem::take(&mut self.by_blob).len(),
        }
    }
}

impl DraftHead {
    fn draft(self, document: String) -> Draft {
        let json = DocumentText::of_valid(document);
        let document = Document { object: self.object, json, file: String::new(), line: self.line };
        Draft::new(Arc::new(document))
    }
}

impl Parsed {
    /// Takes a file from those that were saved. Two paths never share one, because drafts remember their path.
    pub(super) fn recalled(source: &SourceFile, saved: &mut SavedFiles) -> Option<Self> {
        let is_file = source.form == Form::File;
        let (blob, file) = is_file.then(|| saved.by_blob.remove_entry(&source.blob)).flatten()?;
        Some(Self { blob, form: Form::File, file })
    }

    fn is_plain(&self) -> bool {
        self.form == Form::File && !self.file.drafts.is_empty() && !self.file.has_findings()
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        let documents: Vec<_> = self.file.drafts.iter().map(Draft::last_document).collect();
        let heads = documents
            .iter()
            .map(|document| DraftHead { object: document.object.clone(), line: document.line });
        let head = line(&Head { blob: &self.blob, is_ours: self.file.is_ours, drafts: heads.collect() });
        std::iter::once(head).chain(documents.into_iter().map(|document| document.json.as_str().to_owned()))
    }
}

fn line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("it has only strings, numbers and booleans")
}

impl Reader {
    /// Uses what was parsed before the start of the process. The same program must have parsed it, with the same rules.
    pub fn recall(&mut self, files: SavedFiles) {
        self.saved = files;
    }

    /// Returns whether many files were parsed since the lines were saved, or many of those saved are gone.
    pub fn must_save(&self) -> bool {
        self.unsaved >= MANY
    }

    /// Returns what was parsed of the last commit, as lines of text.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let start = line(&Start { namespace: &self.namespace });
        let plain = self.parsed.values().filter(|parsed| parsed.is_plain());
        std::iter::once(start).chain(plain.flat_map(Parsed::lines))
    }

    /// Counts from now on again.
    pub fn reset_unsaved(&mut self) {
        self.unsaved = 0;
    }

    /// Parses a file.
    pub(super) fn parse(&mut self, source: &SourceFile) -> Parsed {
        let rules = Rules { extra: &self.extra, namespace: &self.namespace };
        let parsed = Parsed::new(source, &rules);
        self.unsaved += usize::from(parsed.is_plain());
        parsed
    }
}
