//! Manifests. Pure: turns the bytes of a commit into documents and problems, and status into files.
//!
//! `read` turns YAML into documents with the line of every field, `check` validates them strictly, `write` renders
//! status files and `amis.json`, and `setters` edits values in files of other tools.

mod check;
mod content;
mod document;
mod documents;
pub mod edit;
mod file;
mod neighbours;
mod read;
pub mod setters;
mod settings;
pub mod write;
mod yaml;

pub use content::{Blobs, Content};
pub use documents::Documents;
pub use file::MAX_FILE_BYTES;
pub use read::{KnownFiles, OBJECT_LIMIT, Reader, SETTINGS_FILE, SavedFiles, is_manifest, is_settings};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::api::ObjectKey;
use crate::settings::RepoSettings;

/// Returns the settings in `opsy.yaml`. Those that cannot be read have their defaults.
pub fn settings_of(content: &[u8]) -> RepoSettings {
    settings::read(content, None).0.unwrap_or_default()
}

/// A file of the commit below the path that Opsy reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative to the path that Opsy reads.
    pub path: String,
    /// Git blob ID. A file is parsed once per blob ID.
    pub blob: String,
    pub content: Content,
    pub form: Form,
}

/// The files that differ from those of another commit.
#[derive(Clone, Debug, Default)]
pub struct Edited {
    pub edited: Vec<SourceFile>,
    pub added: Vec<SourceFile>,
    /// Their paths, relative to the path that Opsy reads.
    pub removed: Vec<String>,
}

/// How a path is stored in the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    #[default]
    File,
    /// It has content but is not read under this name, for this reason: it is a link, or its name is not UTF-8.
    Unfit(String),
    /// Its content is not in the repository, for this reason. If it does not have the name of a manifest, it may be a
    /// directory.
    Unknown(String),
}

/// One object as written. This is what is applied, without nulls, and not a struct that was serialized again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub object: ObjectKey,
    /// apiVersion, kind, metadata (name, namespace, labels, annotations) and spec.
    pub json: DocumentText,
    pub file: String,
    /// Line of the first key of the document.
    pub line: usize,
}

/// An object as JSON text, shared. It needs a tenth of the memory of a tree, and most documents are only kept and
/// compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentText(Arc<str>);

impl DocumentText {
    /// A text from which a tree can be made.
    pub fn of_valid(text: String) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).expect("it was written from a value")
    }
}

impl From<&Value> for DocumentText {
    fn from(value: &Value) -> Self {
        Self(value.to_string().into())
    }
}

/// A rule of another module. It returns field paths and messages for a document.
pub type Rule = Box<dyn Fn(&Document) -> Vec<(String, String)> + Send + Sync>;

/// Rules of other modules (the reconcilers' `spec::parse`).
pub struct ExtraRules {
    /// Returns the errors of a document.
    pub errors: Rule,
    /// Returns the notes about a document without errors.
    pub notes: Rule,
}

/// What files are read with.
struct Rules<'a> {
    extra: &'a ExtraRules,
    /// The namespace of objects that name none.
    namespace: &'a str,
}

/// What is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    pub file: String,
    pub line: Option<usize>,
    pub message: String,
    /// Only an error makes the set incomplete.
    pub severity: Severity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Error,
    Note,
    /// The file, or a document in it, belongs to another tool.
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
    pub documents: Documents,
    pub problems: Vec<Problem>,
    /// Manifests and settings, including those that cannot be read. They are never inputs of a build.
    pub own_files: Arc<BTreeSet<String>>,
    /// Objects with several manifests, and the file of the last one. None of the manifests is used.
    pub duplicates: BTreeMap<ObjectKey, String>,
    /// `opsy.yaml` cannot be read and never could be, so the owner of the objects is not known.
    pub without_settings: bool,
    /// There are more objects than `OBJECT_LIMIT`. Reading stopped there, and no object is kept.
    pub too_many_objects: bool,
}

impl ObjectSet {
    /// Returns whether the set is complete. While any file is broken it is not, and nothing is pruned, retired or
    /// garbage-collected.
    pub fn complete(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity != Severity::Error)
    }

    /// Returns whether the commit can be loaded. If not, the last one that could be stays in force.
    pub fn is_loadable(&self) -> bool {
        !self.without_settings && !self.too_many_objects
    }

    /// Returns whether a document declares the object.
    pub fn declares(&self, object: &ObjectKey) -> bool {
        self.documents.get(object).is_some()
    }
}
