//! Manifests, pure: bytes of a commit in, documents and problems out; status in, files out.
//!
//! `read` turns YAML into documents with the line of every field, `check` is strict about them,
//! `write` renders status files and `amis.json`.

mod check;
mod content;
mod document;
mod file;
mod neighbours;
mod read;
mod settings;
pub mod write;
mod yaml;

pub use content::{Blobs, Content};
pub use file::MAX_FILE_BYTES;
pub use read::{Held, OBJECT_LIMIT, Reader, SETTINGS_FILE, is_settings};

use std::collections::BTreeMap;
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
    pub content: Content,
    pub form: Form,
}

/// How a path is kept in the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    #[default]
    File,
    /// It has content, and is not read by this name, and why: it is a link, or its name is not UTF-8.
    Unfit(String),
    /// Its content is not in the repository, and why. Without a manifest's name it may be a folder.
    Unknown(String),
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

/// What other modules have to say of a document: field path and words.
pub type Rule = Box<dyn Fn(&Document) -> Vec<(String, String)> + Send + Sync>;

/// Rules of other modules (the reconcilers' `spec::parse`).
pub struct ExtraRules {
    /// What is wrong.
    pub errors: Rule,
    /// What is to be known of a document without errors.
    pub notes: Rule,
}

/// What is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub file: String,
    pub line: Option<usize>,
    pub message: String,
    /// An error makes the set incomplete; nothing else does.
    pub severity: Severity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Note,
    /// The file, or a document of it, is another tool's.
    Foreign,
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
    /// Manifests and settings, also those that cannot be read: no build goes by them.
    pub own_files: Vec<String>,
    /// Objects with several manifests, and the file of the last one: none of them is taken.
    pub twice: BTreeMap<ObjectKey, String>,
    /// `opsy.yaml` cannot be read and never was: whose objects these are is not known.
    pub without_settings: bool,
    /// There are more objects than `OBJECT_LIMIT`: reading ended there, and none is kept.
    pub too_many_objects: bool,
}

impl ObjectSet {
    /// While any file is broken the set is incomplete: nothing is pruned, retired or swept.
    pub fn complete(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity != Severity::Error)
    }
}
