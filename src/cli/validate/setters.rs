//! The setters of a work tree: whether every marker is valid, names a builder that exists, and is in a file that may be
//! edited. The images that are known are those of `amis.json`.

use serde_json::Value;

use crate::api::builder::{LaneImage, PackerBuilderStatus};
use crate::api::paths::{is_within, join};
use crate::api::{Key, Kind, ObjectKey};
use crate::builder::SetterGuard;
use crate::git::EntryKind;
use crate::git::templates::links::Links;
use crate::git::worktree::WorkTree;
use crate::manifest::setters::{Found, Reference, Selected, Selection, SetterFile, SetterProblem};
use crate::manifest::write::AMIS_FILE;
use crate::manifest::{ObjectSet, Problem, SETTINGS_FILE};

/// Returns what is wrong with setters. `path` is the directory of the manifests, from the root of the work tree. The files
/// of the problems are relative to it.
pub fn problems(set: &ObjectSet, tree: &WorkTree, path: &str) -> Vec<Problem> {
    let settings = &set.settings;
    let selection = Selection::new(&settings.setters.clone().unwrap_or_default(), settings.namespace());
    if selection.is_empty() {
        return Vec::new();
    }
    let amis = amis(tree, &join(path, settings.status_path()));
    let declared = Declared { set, amis };
    let guard = SetterGuard::new(set, path, |url| tree.is_clone_of(url));
    let links = Links::of(&tree.listing);
    let files = tree.listing.all_under("").filter(|(_, entry)| matches!(entry.kind, EntryKind::File { .. }));
    let selected = Selected::new(&selection, files.map(|(file, entry)| (file, entry.id.as_str())));
    let size = |id: &str| tree.size(id).ok().and_then(|size| usize::try_from(size).ok());
    let sizes: Vec<usize> = selected.ids().map(|id| size(id).unwrap_or(usize::MAX)).collect();
    let (selected, mut problems) = selected.readable(sizes, &selection, &join(path, SETTINGS_FILE));
    for (file, (id, format)) in selected {
        let content = match tree.read(&id) {
            Ok(content) => content,
            Err(error) => {
                let message = format!("cannot be read: {error}");
                problems.push(SetterProblem { line: 1, message }.of(&file));
                continue;
            }
        };
        let (aliases, is_ignored) = (links.aliases(&file), tree.listing.get(&file).is_none());
        let file = SetterFile { path: file, format, content, aliases, is_ignored };
        let refusal = |name: &str, is_ignored| guard.refusal(name, is_ignored);
        let edit = file.edit(settings.namespace(), refusal, |reference| declared.find(reference));
        problems.extend(edit.err().into_iter().flatten().map(|found| found.of(&file.path)));
    }
    problems.into_iter().map(|problem| Problem { file: shown(&problem.file, path), ..problem }).collect()
}

/// The images that setters can refer to.
struct Declared<'a> {
    set: &'a ObjectSet,
    amis: Value,
}

impl Declared<'_> {
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
