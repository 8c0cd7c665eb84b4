//! The setters of a work tree: whether every marker is valid, names a builder that exists, and is in a file that may be
//! edited. The images that are known are those of `amis.json`.

use std::collections::HashSet;

use serde_json::Value;

use crate::api::builder::{LaneImage, PackerBuilderStatus};
use crate::api::paths::{is_within, join};
use crate::api::{Key, Kind, ObjectKey};
use crate::builder::SetterGuard;
use crate::git::EntryKind;
use crate::git::templates::links::Links;
use crate::git::worktree::WorkTree;
use crate::manifest::setters::{
    Format, Found, MAX_BYTES, Reference, Selection, SetterProblem, edit, references,
};
use crate::manifest::write::AMIS_FILE;
use crate::manifest::{ObjectSet, Problem};

/// Returns what is wrong with setters. `path` is the directory of the manifests, from the root of the work tree. The files
/// of the problems are relative to it.
pub fn problems(set: &ObjectSet, tree: &WorkTree, path: &str) -> Vec<Problem> {
    let settings = &set.settings;
    let selection = Selection::new(&settings.setters.clone().unwrap_or_default(), settings.namespace());
    if selection.is_empty() {
        return Vec::new();
    }
    let amis = amis(tree, &join(path, settings.status_path()));
    let examined = Examined { set, amis, guard: SetterGuard::new(set, path, |_| false) };
    let links = Links::of(&tree.listing);
    let (mut problems, mut seen) = (Vec::new(), HashSet::new());
    for (file, entry) in tree.listing.all_under("") {
        let Some(format) = selection.format(file).filter(|_| matches!(entry.kind, EntryKind::File { .. }))
        else {
            continue;
        };
        let is_small = tree.size(&entry.id).is_ok_and(|size| size <= MAX_BYTES as u64);
        let Some(content) = is_small.then(|| tree.read(&entry.id).ok()).flatten() else { continue };
        seen.insert(file);
        let is_ignored = tree.listing.get(file).is_none();
        let names = std::iter::once((file.to_owned(), is_ignored))
            .chain(links.aliases(file).into_iter().map(|alias| (alias, false)));
        let found = examined.check(&names.collect::<Vec<_>>(), &content, &format).err().unwrap_or_default();
        problems.extend(found.into_iter().map(|found| found.of(&shown(file, path))));
    }
    let unreadable = selection.unreadable(|file| seen.contains(file));
    problems.extend(unreadable.map(|(file, problem)| problem.of(&shown(file, path))));
    problems
}

/// What setters are checked against.
struct Examined<'a> {
    set: &'a ObjectSet,
    amis: Value,
    guard: SetterGuard,
}

impl Examined<'_> {
    /// Returns all that is wrong with the setters of a file, as an error. Its names say whether they are ignored.
    fn check(
        &self,
        names: &[(String, bool)],
        content: &[u8],
        format: &Format,
    ) -> Result<(), Vec<SetterProblem>> {
        let namespace = self.set.settings.namespace();
        let references = references(content, format, namespace)?;
        let Some((line, _)) = references.first() else { return Ok(()) };
        let refusal = |(name, is_ignored): &(String, bool)| self.guard.refusal(name, *is_ignored);
        if let Some(message) = names.iter().find_map(refusal) {
            return Err(vec![SetterProblem { line: *line, message }]);
        }
        edit(content, format, namespace, &|reference| self.find(reference)).map(drop)
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
