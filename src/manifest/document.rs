//! Turns a YAML document into an object of Opsy, or explains why it is not one.
//!
//! What the API server would set or ignore is ignored with a note. What it would refuse is an error here, before
//! anything is applied.

use std::sync::{Arc, LazyLock, Mutex};

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::api::checks::{closest, is_label, is_object_name};
use crate::api::lock::lock;
use crate::api::{AMIRefresherSpec, GROUP, Key, Kind, ObjectKey, PackerBuilderSpec, VERSION, schema};

use super::check::notes::{self, Note};
use super::check::{self, Finding};
use super::yaml::{Node, Parsed, Value};
use super::{Document, DocumentText, Rules, Severity};

/// Written by kubectl for itself. Applying it would claim that kubectl still owns the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Metadata that the server sets, or that has no meaning in a manifest in Git.
const SERVER_SET: [&str; 11] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];
const METADATA: [&str; 4] = ["annotations", "labels", "name", "namespace"];

/// Schemas of parts that are the same for both kinds.
static TEXT: LazyLock<Json> = LazyLock::new(|| json!({"type": "string"}));
static TEXTS: LazyLock<Json> =
    LazyLock::new(|| json!({"type": "object", "additionalProperties": {"type": "string"}}));
static FIELDS: LazyLock<Json> =
    LazyLock::new(|| json!({"properties": {"apiVersion": {}, "kind": {}, "metadata": {}, "spec": {}}}));
static METADATA_FIELDS: LazyLock<Json> = LazyLock::new(|| {
    let known: Map<_, _> = METADATA.map(|name| (name.to_owned(), Json::Null)).into_iter().collect();
    json!({"properties": known})
});

/// An object without errors, as the document that was last made from it: the next commit most likely has the same one.
#[derive(Debug)]
pub struct Draft(Mutex<Arc<Document>>);

impl Draft {
    pub fn new(document: Arc<Document>) -> Self {
        Self(Mutex::new(document))
    }

    /// Returns the document, as that of this file.
    pub fn document(&self, file: &str) -> Arc<Document> {
        let mut document = lock(&self.0);
        if document.file != file {
            file.clone_into(&mut Arc::make_mut(&mut document).file);
        }
        Arc::clone(&document)
    }

    /// Returns the document that was last made.
    pub fn last_document(&self) -> Arc<Document> {
        Arc::clone(&lock(&self.0))
    }
}

/// What a document contains: objects of Opsy, and findings about them.
#[derive(Default)]
pub struct Contents {
    pub drafts: Vec<Draft>,
    pub findings: Vec<Finding>,
}

/// What kind of document it is.
enum Sort<'a> {
    Ours(Kind),
    List(&'a [Node]),
    Foreign(String),
    Wrong(String),
    Empty,
}

/// Reads one document of a file.
pub fn read(parsed: &Parsed, rules: &Rules<'_>) -> Contents {
    let mut contents = Contents::default();
    let ours = node(&parsed.root, rules, &mut contents);
    if ours {
        let complaints = parsed.complaints.iter().map(|(line, words)| Finding::error(*line, words));
        let before = contents.findings.len();
        contents.findings.extend(complaints);
        if contents.findings.len() > before {
            contents.drafts.clear();
        }
    }
    contents
}

/// Reads an object or a list of objects. Returns true if it is meant for Opsy.
fn node(root: &Node, rules: &Rules<'_>, contents: &mut Contents) -> bool {
    match sort(root) {
        Sort::Empty => false,
        Sort::Foreign(why) => {
            contents.findings.push(Finding::foreign(root.line, why));
            false
        }
        Sort::Wrong(why) => {
            contents.findings.push(Finding::error(root.line, why));
            true
        }
        Sort::List(items) => {
            let ours = items.iter().filter(|item| node(item, rules, contents));
            ours.count() > 0
        }
        Sort::Ours(kind) => {
            let mut object = Object { kind, root, findings: Vec::new() };
            contents.drafts.extend(object.draft(rules));
            contents.findings.extend(object.findings);
            true
        }
    }
}

fn sort(root: &Node) -> Sort<'_> {
    if root.is_null() {
        return Sort::Empty;
    }
    let text = |field: &str| root.get(field).and_then(Node::text);
    let (Some(version), Some(kind)) = (text("apiVersion"), text("kind")) else {
        return without_kind(root);
    };
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let known = [Kind::PackerBuilder, Kind::AMIRefresher].into_iter().find(|known| known.to_string() == kind);
    match (group, known) {
        (GROUP, Some(known)) if version == VERSION => Sort::Ours(known),
        (GROUP, Some(known)) => {
            Sort::Wrong(format!("apiVersion: {known} has no version {version}; write {GROUP}/{VERSION}"))
        }
        (GROUP, None) if kind.ends_with("List") => items(root, kind),
        (GROUP, None) => {
            let meant = closest(kind, ["PackerBuilder", "AMIRefresher"].into_iter());
            let meant = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
            Sort::Wrong(format!("kind: {GROUP} has no kind {kind}{meant}"))
        }
        ("", None) if kind == "List" => items(root, kind),
        (_, Some(known)) if closest(group, [GROUP].into_iter()).is_some() => {
            Sort::Wrong(format!("apiVersion: {known} belongs to {GROUP}/{VERSION}, not to {group}"))
        }
        _ => Sort::Foreign(format!("{kind} is not a kind of Opsy: ignored")),
    }
}

/// Classifies a document that lacks apiVersion or kind. It belongs to Opsy if the other field says so.
fn without_kind(root: &Node) -> Sort<'static> {
    let half = |field: &str| root.get(field).and_then(Node::text).unwrap_or_default();
    if half("apiVersion").starts_with(GROUP) {
        return Sort::Wrong("kind: is required but missing".to_owned());
    }
    match half("kind") {
        kind @ ("PackerBuilder" | "AMIRefresher") => {
            Sort::Wrong(format!("apiVersion: is required but missing; {kind} belongs to {GROUP}/{VERSION}"))
        }
        _ => {
            Sort::Foreign("has no apiVersion and kind, so it is not a Kubernetes object: ignored".to_owned())
        }
    }
}

fn items<'a>(root: &'a Node, kind: &str) -> Sort<'a> {
    match root.get("items").map(|items| &items.value) {
        Some(Value::List(items)) => Sort::List(items),
        Some(_) => Sort::Wrong(format!("items: must be a list in a {kind}")),
        None => Sort::Empty,
    }
}

/// An object that is being checked.
struct Object<'a> {
    kind: Kind,
    root: &'a Node,
    findings: Vec<Finding>,
}

impl Object<'_> {
    fn error(&mut self, path: &str, words: &str) {
        let line = self.root.line_of(path);
        self.findings.push(Finding::error(line, format!("{path}: {words}")));
    }

    /// Checks the object. All problems are reported at once, so only a part that cannot be read at all ends the checks.
    fn draft(&mut self, rules: &Rules<'_>) -> Option<Draft> {
        self.fields();
        let metadata = self.metadata();
        let spec = self.spec();
        let (mut metadata, spec) = (metadata?, spec?);
        let text = |field: &str| metadata[field].as_str().map(str::to_owned);
        let (name, namespace) = (text("name").unwrap_or_default(), text("namespace"));
        let namespace = namespace.unwrap_or_else(|| {
            metadata["namespace"] = Json::String(rules.namespace.to_owned());
            rules.namespace.to_owned()
        });
        let key = Key { namespace, name };
        let document = Document {
            object: ObjectKey { kind: self.kind, key },
            json: DocumentText::from(&json!({
                "apiVersion": format!("{GROUP}/{VERSION}"),
                "kind": self.kind.to_string(),
                "metadata": metadata,
                "spec": spec,
            })),
            file: String::new(),
            line: self.root.line,
        };
        let document = Arc::new(document);
        let draft = Draft::new(Arc::clone(&document));
        self.extra((rules.extra.errors)(&document));
        if self.is_wrong() {
            return None;
        }
        for (path, words) in (rules.extra.notes)(&document) {
            self.findings.push(Finding::note(self.root.line_of(&path), format!("{path}: {words}")));
        }
        Some(draft)
    }

    /// Adds the errors of other modules for fields without an error. If there are other errors, those for missing
    /// fields are left out, because such a field may only be misspelled.
    fn extra(&mut self, broken: Vec<(String, String)>) {
        let wrong = self.is_wrong();
        for (path, words) in broken.into_iter().filter(|(path, _)| !wrong || self.root.has(path)) {
            let known = format!("{path}: ");
            let said = |finding: &Finding| {
                finding.severity == Severity::Error && finding.message.starts_with(&known)
            };
            if !self.findings.iter().any(said) {
                self.error(&path, &words);
            }
        }
    }

    /// Checks the fields other than metadata and spec.
    fn fields(&mut self) {
        let Value::Map(entries) = &self.root.value else { return };
        for entry in entries {
            match entry.key.as_str() {
                "apiVersion" | "kind" | "metadata" | "spec" => {}
                "status" if entry.value.is_null() => {}
                "status" => self
                    .findings
                    .push(Finding::note(entry.line, "status: is written by Opsy and ignored here")),
                key => {
                    let message = check::unknown(key, "", &FIELDS);
                    self.findings.push(Finding::error(entry.line, message));
                }
            }
        }
    }

    fn metadata(&mut self) -> Option<Json> {
        let Some(node) = self.root.get("metadata") else {
            self.error("metadata", "is required but missing");
            return None;
        };
        let Value::Map(entries) = &node.value else {
            self.error("metadata", "must be a map");
            return None;
        };
        let (mut kept, mut ignored) = (Map::new(), Vec::new());
        for entry in entries.iter().filter(|entry| !entry.value.is_null()) {
            let key = entry.key.as_str();
            let path = format!("metadata.{key}");
            match key {
                "labels" | "annotations" => {
                    check::against(&entry.value, &TEXTS, &path, entry.line, &mut self.findings);
                    if key == "annotations" {
                        check::annotations::check(&entry.value, &mut self.findings);
                    }
                }
                "name" | "namespace" => {
                    check::against(&entry.value, &TEXT, &path, entry.line, &mut self.findings)
                }
                _ if SERVER_SET.contains(&key) => {
                    ignored.push(path);
                    continue;
                }
                _ => {
                    let message = check::unknown(key, "metadata", &METADATA_FIELDS);
                    self.findings.push(Finding::error(entry.line, message));
                    continue;
                }
            }
            kept.insert(key.to_owned(), entry.value.json());
        }
        if !ignored.is_empty() {
            let line = self.root.line_of(&ignored[0]);
            self.findings.push(Finding::note(
                line,
                format!("{}: set by the server and ignored here", ignored.join(", ")),
            ));
        }
        if let Some(Json::Object(annotations)) = kept.get_mut("annotations") {
            annotations.remove(LAST_APPLIED);
        }
        self.names(&kept);
        Some(Json::Object(kept))
    }

    fn names(&mut self, metadata: &Map<String, Json>) {
        match metadata.get("name") {
            None => self.error("metadata.name", "is required but missing"),
            Some(Json::String(name)) if !is_object_name(name) => {
                let words = format!(
                    "{name:?} is not a valid name: use a-z, 0-9, '-' and '.', with a letter or digit at both ends"
                );
                self.error("metadata.name", &words);
            }
            _ => {}
        }
        if let Some(Json::String(name)) = metadata.get("namespace")
            && !is_label(name)
        {
            self.error(
                "metadata.namespace",
                &format!("{name:?} is not a valid namespace: use at most 63 of a-z, 0-9 and '-'"),
            );
        }
        for (field, limited) in [("labels", true), ("annotations", false)] {
            let entries = metadata.get(field).and_then(Json::as_object).into_iter().flatten();
            for (key, value) in entries {
                if !is_qualified(key) {
                    self.error(&format!("metadata.{field}"), &format!("{key:?} is not a valid key"));
                }
                if limited && !value.as_str().is_none_or(|value| value.is_empty() || is_word(value)) {
                    self.error(
                        &format!("metadata.{field}.{key}"),
                        &format!("{value} is not a valid label value"),
                    );
                }
            }
        }
    }

    fn spec(&mut self) -> Option<Json> {
        let Some(node) = self.root.get("spec") else {
            self.error("spec", "is required but missing");
            return None;
        };
        check::against(node, schema::spec(self.kind), "spec", self.root.line_of("spec"), &mut self.findings);
        let spec = node.json();
        match notes(self.kind, &spec) {
            Ok(notes) => {
                let line_of = |path: &str| self.root.line_of(path);
                let notes =
                    notes.into_iter().map(|(path, words)| (line_of(&path), format!("{path}: {words}")));
                self.findings.extend(notes.map(|(line, words)| Finding::note(line, words)));
                Some(spec)
            }
            // The check against the schema has already reported why.
            Err(_) if self.is_wrong() => None,
            Err(error) => {
                self.error("spec", &error.to_string());
                None
            }
        }
    }

    fn is_wrong(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

/// Returns the notes about a spec, if it can be decoded.
fn notes(kind: Kind, spec: &Json) -> serde_json::Result<Vec<Note>> {
    Ok(match kind {
        Kind::PackerBuilder => notes::builder(&PackerBuilderSpec::deserialize(spec)?),
        Kind::AMIRefresher => notes::refresher(&AMIRefresherSpec::deserialize(spec)?),
    })
}

/// Returns whether this is a valid key of a label or annotation: a word, or a DNS name, a slash and a word.
fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, word)) => is_object_name(prefix) && is_word(word),
        None => is_word(key),
    }
}

/// Returns whether this is a word: up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends.
fn is_word(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric();
    (1..=63).contains(&text.len())
        && text.chars().all(|c| inner(c) || "-_.".contains(c))
        && text.starts_with(inner)
        && text.ends_with(inner)
}
