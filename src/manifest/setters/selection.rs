//! Which files may be edited: those that `opsy.yaml` names. Pure.

use std::collections::BTreeMap;

use super::{MAX_BYTES, Reference, SetterProblem};
use crate::api::glob::Matcher;
use crate::settings::SetterSettings;

/// How the values of a file are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    Yaml,
    /// Terraform's language, and its variables files.
    Hcl,
    /// Pointers and what the values at them refer to.
    Json(Vec<(String, Reference)>),
}

/// The files that `opsy.yaml` allows to edit. Paths are relative to the root of the repository.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    globs: Vec<Matcher>,
    json: BTreeMap<String, Vec<(String, Reference)>>,
}

impl Selection {
    /// Settings that are not valid select nothing: reading `opsy.yaml` has refused them.
    pub fn new(settings: &SetterSettings, namespace: &str) -> Self {
        let globs = settings.paths.iter().flatten().filter_map(|glob| Matcher::new(glob).ok()).collect();
        let mut json: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for setter in settings.json.iter().flatten() {
            if let Ok(reference) = Reference::parse(&setter.value, namespace) {
                json.entry(setter.path.clone()).or_default().push((setter.pointer.clone(), reference));
            }
        }
        Self { globs, json }
    }

    pub fn is_empty(&self) -> bool {
        self.globs.is_empty() && self.json.is_empty()
    }

    /// Returns the format of a file that may be edited.
    pub fn format(&self, path: &str) -> Option<Format> {
        if let Some(values) = self.json.get(path) {
            return Some(Format::Json(values.clone()));
        }
        let format = match path.rsplit_once('.')?.1 {
            "yaml" | "yml" => Format::Yaml,
            "tf" | "tfvars" | "hcl" => Format::Hcl,
            _ => return None,
        };
        self.globs.iter().any(|glob| glob.is_match(path)).then_some(format)
    }

    /// Returns the JSON files that cannot be edited: files that exist and are not too large are `readable`.
    pub fn unreadable(&self, readable: impl Fn(&str) -> bool) -> impl Iterator<Item = (&str, SetterProblem)> {
        let message =
            || format!("is not a file of at most {MAX_BYTES} bytes: correct setters.json in opsy.yaml");
        let problem = move |path| (path, SetterProblem { line: 1, message: message() });
        self.json.keys().map(String::as_str).filter(move |path| !readable(path)).map(problem)
    }
}
