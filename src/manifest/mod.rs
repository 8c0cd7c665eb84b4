//! Manifests, pure: bytes of a commit in, documents and problems out; status in, files out.
//!
//! `read` turns YAML into documents with the line of every field, `check` is strict about them,
//! `write` renders status files and `amis.json`.

mod check;
mod document;
mod read;
mod settings;
pub mod write;
mod yaml;

pub use read::{Reader, SETTINGS_FILE};

use std::sync::Arc;

use serde_json::Value;

use crate::api::ObjectKey;
use crate::settings::RepoSettings;

/// A file of the commit under the path Opsy reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative to the path Opsy reads.
    pub path: String,
    /// Git blob id: a file is parsed once per blob id.
    pub blob: String,
    pub content: Vec<u8>,
}

/// One object as written: what is applied is this, nulls stripped, not a re-serialised struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    pub object: ObjectKey,
    /// apiVersion, kind, metadata (name, namespace, labels, annotations) and spec.
    pub json: Json,
    pub file: String,
    /// Line of the document's first key.
    pub line: usize,
}

/// An object as JSON text, shared: a tenth of what it takes as a tree, and most are only kept and compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(Arc<str>);

impl Json {
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).expect("it was written from a value")
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

/// Rules of other modules (the reconcilers' `spec::parse`): field path and what is wrong with it.
pub type ExtraRules = Box<dyn Fn(&Document) -> Vec<(String, String)> + Send + Sync>;

/// What is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub file: String,
    pub line: Option<usize>,
    pub message: String,
    /// An error makes the set incomplete; a note does not.
    pub severity: Severity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Note,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.message),
            None => write!(f, "{}: {}", self.file, self.message),
        }
    }
}

/// Everything read from one commit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectSet {
    pub settings: RepoSettings,
    pub documents: Vec<Document>,
    pub problems: Vec<Problem>,
    /// `opsy.yaml` cannot be read and never was: whose objects these are is not known.
    pub without_settings: bool,
}

impl ObjectSet {
    /// While any file is broken the set is incomplete: nothing is pruned, retired or swept.
    pub fn complete(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity != Severity::Error)
    }
}
