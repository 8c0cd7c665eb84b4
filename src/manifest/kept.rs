//! Parsed files as lines of text, which another process reads instead of the manifests. Pure.
//!
//! A line is only valid for the program that wrote it: another version may find other problems. Whoever stores the lines
//! ensures that.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::check::Finding;
use super::draft::Draft;
use super::file::{File, Rest};
use super::{Document, DocumentText, Severity};
use crate::api::ObjectKey;

/// Stores lines for the next process of the same program.
pub trait KeptLines: Send {
    /// Calls `each` for every stored line. A line is as it was stored; one that is damaged is left out.
    fn read(&self, each: &mut dyn FnMut(&str));
    /// Stores lines in place of the others.
    fn replace(&self, lines: &mut dyn Iterator<Item = String>);
}

/// Files by blob ID.
pub type KeptFiles = HashMap<String, Arc<File>>;

/// Returns the files of all stored lines.
pub fn read(lines: &dyn KeptLines) -> KeptFiles {
    let mut files = KeptFiles::new();
    lines.read(&mut |line| {
        if let Ok(stored) = serde_json::from_str::<StoredFile>(line) {
            files.insert(stored.blob.clone(), Arc::new(stored.into()));
        }
    });
    files
}

/// Returns the line of a file.
pub fn line(blob: &str, file: &File) -> String {
    serde_json::to_string(&StoredFile::of(blob, file)).expect("a file has only string keys and whole numbers")
}

#[derive(Serialize, Deserialize)]
struct StoredFile {
    blob: String,
    is_ours: bool,
    is_template: bool,
    drafts: Vec<StoredDraft>,
    /// Line, severity and message.
    findings: Vec<(usize, Severity, String)>,
    rest: Rest,
    unread: Vec<(usize, String)>,
}

#[derive(Serialize, Deserialize)]
struct StoredDraft {
    is_placed: bool,
    object: ObjectKey,
    json: String,
    line: usize,
}

impl StoredFile {
    fn of(blob: &str, file: &File) -> Self {
        let finding = |it: &Finding| (it.line, it.severity, it.message.clone());
        Self {
            blob: blob.to_owned(),
            is_ours: file.is_ours,
            is_template: file.is_template,
            drafts: file.drafts.iter().map(StoredDraft::of).collect(),
            findings: file.findings.iter().map(finding).collect(),
            rest: file.rest.clone(),
            unread: file.unread.clone(),
        }
    }
}

impl StoredDraft {
    fn of(draft: &Draft) -> Self {
        let (is_placed, made) = draft.made();
        let (object, json) = (made.object.clone(), made.json.as_str().to_owned());
        Self { is_placed, object, json, line: made.line }
    }
}

impl From<StoredFile> for File {
    fn from(stored: StoredFile) -> Self {
        let finding = |(line, severity, message)| Finding { line, message, severity };
        Self {
            is_ours: stored.is_ours,
            is_template: stored.is_template,
            drafts: stored.drafts.into_iter().map(Draft::from).collect(),
            findings: stored.findings.into_iter().map(finding).collect(),
            rest: stored.rest,
            unread: stored.unread,
        }
    }
}

impl From<StoredDraft> for Draft {
    fn from(stored: StoredDraft) -> Self {
        let StoredDraft { is_placed, object, json, line } = stored;
        let document = Document { object, json: DocumentText(json.into()), file: String::new(), line };
        Self::new(is_placed, Arc::new(document))
    }
}
