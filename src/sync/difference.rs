//! What a commit changed, compared with the commit that was synced before it: whether its manifests can differ, and which
//! files that belong to no manifest and no status differ for templates.

use std::sync::Arc;

use super::input::can_be_manifest;
use crate::api::CommitId;
use crate::git::templates::At;
use crate::git::templates::choice::is_ignore_file;
use crate::git::tree::ChangedPath;
use crate::git::{Entry, EntryKind, Handle, Listing};

/// What differs between two synced commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The commit that was synced before.
    pub from: CommitId,
    /// Paths, from the root, of files that can be inputs of templates; `None` if they are unknown or too many.
    pub paths: Option<Arc<[String]>>,
}

/// The paths at which a commit differs from the one that was synced before it, outside of the status folder.
pub(super) struct Changes {
    /// The commit before.
    pub from: At,
    /// `None` if they are unknown or too many.
    paths: Option<Vec<ChangedPath>>,
}

/// What a commit has in common with the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Everything but the status files.
    All,
    /// The manifests.
    Manifests,
    /// Nothing that is known.
    Nothing,
}

impl Changes {
    /// Compares two commits. A commit that cannot be read makes the changes unknown.
    pub async fn between(git: &Handle, from: At, to: &CommitId) -> Self {
        let paths = git.changes(&from.commit, to, &from.opsy_files.status).await.unwrap_or_else(|error| {
            tracing::info!(%error, from = %from.commit, %to, "the commits cannot be compared");
            None
        });
        Self { from, paths }
    }

    /// `links_to_manifests` says whether a link has the name of a manifest.
    pub fn kept(&self, links_to_manifests: bool) -> Kept {
        match self.paths.as_deref() {
            Some([]) => Kept::All,
            Some(paths) if !links_to_manifests && keeps_manifests(paths) => Kept::Manifests,
            _ => Kept::Nothing,
        }
    }

    /// The files that differ, if all of them are and were plain files, and none of them is an ignore file.
    pub fn plain(&self) -> Option<impl Iterator<Item = &ChangedPath>> {
        let is_plain = |changed: &ChangedPath| changed.is_plain && !is_ignore_file(&changed.path);
        self.paths.as_deref().filter(|paths| paths.iter().all(is_plain)).map(<[_]>::iter)
    }

    /// What differs for templates. With another status folder, all of it is unknown.
    pub fn difference(&self, now: &At) -> Difference {
        let is_same_folder = self.from.opsy_files.status == now.opsy_files.status;
        let paths = self.paths.as_deref().filter(|_| is_same_folder);
        let paths = paths.and_then(|changed| template_paths(changed, &self.from, now));
        Difference { from: self.from.commit.clone(), paths: paths.map(Arc::from) }
    }
}

/// Whether a link of a commit has the name of a manifest: the content of any file can then be that of a manifest.
pub(super) fn links_to_manifests(listing: &Listing) -> bool {
    let is_link = |entry: &Entry| matches!(entry.kind, EntryKind::Link(_));
    listing.iter().any(|(path, entry)| is_link(entry) && can_be_manifest(path))
}

/// Returns true if the manifests of two commits are certainly the same although these paths differ: all of them are files
/// that were edited. Whatever comes or goes can change what a link points to, or exceed a limit of the list. Pure.
fn keeps_manifests(changed: &[ChangedPath]) -> bool {
    let is_kept = |changed: &ChangedPath| !can_be_manifest(&changed.path) && !is_ignore_file(&changed.path);
    changed.iter().all(|changed| changed.is_edited() && is_kept(changed))
}

/// Returns the changed paths that can be inputs of templates: a manifest is none, before and after it becomes one. An
/// ignore file can change what any template includes, so the difference is then unknown. Pure.
fn template_paths(changed: &[ChangedPath], before: &At, now: &At) -> Option<Vec<String>> {
    let (was_own, is_own) = (&before.opsy_files.files, &now.opsy_files.files);
    let mut paths = Vec::new();
    for ChangedPath { path, existed, exists, .. } in changed {
        if is_ignore_file(path) {
            return None;
        }
        let was_input = *existed && !was_own.contains(path);
        let is_input = *exists && !is_own.contains(path);
        if was_input || is_input {
            paths.push(path.clone());
        }
    }
    // A file can also become a manifest, or cease to be one, without a change of its own.
    if !Arc::ptr_eq(&before.opsy_files, &now.opsy_files) {
        paths.extend(was_own.symmetric_difference(is_own).cloned());
    }
    Some(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::templates::choice::OpsyFiles;

    fn at(commit: &str, files: &[&str]) -> At {
        let files = files.iter().map(|file| (*file).to_owned()).collect();
        let opsy_files = Arc::new(OpsyFiles { status: "status".to_owned(), files });
        At { commit: CommitId::parse(commit.repeat(40)).expect("an id"), opsy_files }
    }

    fn changed(path: &str, existed: bool, exists: bool) -> ChangedPath {
        ChangedPath { path: path.to_owned(), id: String::new(), existed, exists, is_plain: true }
    }

    fn paths(changes: Vec<ChangedPath>, before: &[&str], now: &[&str]) -> Option<Vec<String>> {
        template_paths(&changes, &at("a", before), &at("b", now))
    }

    #[test]
    fn manifests_are_no_inputs() {
        let changes = vec![changed("README.md", true, true), changed("a.yaml", true, true)];
        assert_eq!(paths(changes, &["a.yaml"], &["a.yaml"]), Some(vec!["README.md".to_owned()]));
        let replaced = vec![changed("packer", true, false), changed("packer/x.pkr.hcl", false, true)];
        let due = ["packer", "packer/x.pkr.hcl"].map(str::to_owned).to_vec();
        assert_eq!(paths(replaced, &[], &[]), Some(due));
    }

    #[test]
    fn a_file_that_becomes_a_manifest_or_ceases_to_be_one_is_a_change() {
        let now_a_manifest = paths(vec![changed("a.yaml", true, true)], &[], &["a.yaml"]);
        assert!(now_a_manifest.is_some_and(|paths| paths.contains(&"a.yaml".to_owned())));
        assert_eq!(paths(Vec::new(), &["a.yaml"], &[]), Some(vec!["a.yaml".to_owned()]));
        let added = paths(vec![changed("a.yaml", false, true)], &[], &["a.yaml"]);
        assert_eq!(added, Some(vec!["a.yaml".to_owned()]), "it may have a name that a template includes");
    }

    #[test]
    fn only_edited_files_that_are_no_manifests_keep_them() {
        let keeps = |path: &str, existed, exists| {
            keeps_manifests(&[changed("README.md", true, true), changed(path, existed, exists)])
        };
        assert!(keeps("packer/a.pkr.hcl", true, true));
        assert!(!keeps("packer/a.pkr.hcl", false, true), "it may be one file too many");
        assert!(!keeps("packer/a.pkr.hcl", true, false), "a link may have pointed to it");
        for path in ["a.yaml", "charts/Chart.yml", "Kustomization", "opsy.yaml", "packer/.opsyignore"] {
            assert!(!keeps(path, true, true), "{path}");
        }
        let link = ChangedPath { is_plain: false, ..changed("docs", true, true) };
        assert!(!keeps_manifests(&[link]), "a directory of manifests may be behind it");
    }

    #[test]
    fn links_with_the_name_of_a_manifest_are_recognized() {
        let found = |paths: &[&str]| {
            let link = |path: &&str| {
                let kind = EntryKind::Link("README.md".to_owned());
                ((*path).to_owned(), Entry { id: "0".repeat(40), kind })
            };
            links_to_manifests(&paths.iter().map(link).collect())
        };
        assert!(!found(&[]) && !found(&["docs"]));
        assert!(found(&["a.yaml", "docs"]) && found(&["docs", "x/a.yml"]));
    }

    #[test]
    fn an_ignore_file_makes_the_difference_unknown() {
        assert_eq!(paths(vec![changed("packer/.opsyignore", false, true)], &[], &[]), None);
    }
}
