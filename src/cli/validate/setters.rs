//! The setters of a work tree: whether every marker is valid, names a builder that exists, and is in a file that may be
//! edited. The images that are known are those of `amis.json`.

use std::collections::HashSet;

use serde_json::Value;

use crate::api::builder::{LaneImage, PackerBuilderStatus};
use crate::api::paths::{is_within, join};
use crate::api::{Key, Kind, ObjectKey};
use crate::builder::SetterGuard;
use crate::git::EntryKind;
use crate::git::worktree::WorkTree;
use crate::manifest::setters::{Found, MAX_BYTES, Reference, Selection, SetterProblem, edit, references};
use crate::manifest::write::AMIS_FILE;
use crate::manifest::{ObjectSet, Problem, Severity};

/// Returns what is wrong with setters. `path` is the directory of the manifests, from the root of the work tree. The files
/// of the problems are relative to it.
pub fn problems(set: &ObjectSet, tree: &WorkTree, path: &str) -> Vec<Problem> {
    let settings = &set.settings;
    let selection = Selection::new(&settings.setters.clone().unwrap_or_default(), settings.namespace());
    if selection.is_empty() {
        return Vec::new();
    }
    let status = join(path, settings.status_path());
    let examined =
        Examined { set, amis: amis(tree, &status), status, guard: SetterGuard::new(set, path, |_| false) };
    let (mut problems, mut seen) = (Vec::new(), HashSet::new());
    for (file, entry) in tree.listing.all_under("") {
        let Some(format) = selection.format(file).filter(|_| matches!(entry.kind, EntryKind::File { .. }))
        else {
            continue;
        };
        let size = tree.size(&entry.id).unwrap_or(u64::MAX);
        let Some(content) = (size <= MAX_BYTES as u64).then(|| tree.read(&entry.id).ok()).flatten() else {
            continue;
        };
        seen.insert(file);
        let namespace = settings.namespace();
        let found = references(&content, &format, namespace).and_then(|references| {
            let Some((line, _)) = references.first() else { return Ok(Vec::new()) };
            let is_ignored = tree.listing.get(file).is_none();
            match examined.refusal(file).filter(|_| !is_ignored) {
                Some(message) => Err(vec![SetterProblem { line: *line, message }]),
                None => edit(&content, &format, namespace, &|reference| examined.find(reference)),
            }
        });
        let of_file = found.err().unwrap_or_default().into_iter();
        problems.extend(of_file.map(|found| at(&shown(file, path), found)));
    }
    let absent = selection.json_files().filter(|file| !seen.contains(file));
    let message = "is not a file of the repository: correct setters.json in opsy.yaml";
    problems.extend(
        absent.map(|file| at(&shown(file, path), SetterProblem { line: 1, message: message.to_owned() })),
    );
    problems
}

/// What setters are checked against.
struct Examined<'a> {
    set: &'a ObjectSet,
    amis: Value,
    /// The status directory, from the root.
    status: String,
    guard: SetterGuard,
}

impl Examined<'_> {
    fn refusal(&self, file: &str) -> Option<String> {
        let is_status = is_within(file, &self.status);
        let why = || "is in the status directory, which only Opsy writes: remove the marker".to_owned();
        is_status.then(why).or_else(|| self.guard.refusal(file))
    }

    fn find(&self, reference: &Reference) -> Found {
        let key = &reference.builder;
        let object = ObjectKey { kind: Kind::PackerBuilder, key: key.clone() };
        if !self.set.declares(&object) && self.set.complete() {
            return reference.find(None);
        }
        reference.find(Some(&PackerBuilderStatus { images: Some(self.images(key)), ..Default::default() }))
    }

    /// The images of a builder in `amis.json`.
    fn images(&self, builder: &Key) -> Vec<LaneImage> {
        let regions = self.amis[builder.to_string()].as_object().into_iter().flatten();
        let lanes = |(region, lanes): (&String, &Value)| {
            let lanes = lanes.as_object().into_iter().flatten();
            let image = |(architecture, id): (&String, &Value)| LaneImage {
                region: region.clone(),
                architecture: architecture.clone(),
                id: id.as_str().unwrap_or_default().to_owned(),
                ..LaneImage::default()
            };
            lanes.map(image).collect::<Vec<_>>()
        };
        regions.flat_map(lanes).collect()
    }
}

fn amis(tree: &WorkTree, status: &str) -> Value {
    let entry = tree.listing.all_under(status).find(|(path, _)| *path == join(status, AMIS_FILE));
    let content = entry.and_then(|(_, entry)| tree.read(&entry.id).ok());
    content.and_then(|content| serde_json::from_slice(&content).ok()).unwrap_or_default()
}

/// Returns a path from the root as it is relative to the directory of the manifests.
fn shown(file: &str, path: &str) -> String {
    match file.strip_prefix(path).map(|rest| rest.trim_start_matches('/')) {
        Some(rest) if path.is_empty() || is_within(file, path) => rest.to_owned(),
        _ => format!("{}{file}", "../".repeat(path.split('/').count())),
    }
}

fn at(file: &str, SetterProblem { line, message }: SetterProblem) -> Problem {
    Problem { file: file.to_owned(), line: Some(line), message, severity: Severity::Error }
}
