//! What a commit changed for templates: the files that belong to no manifest and no status, compared with the commit
//! that was synced before it.

use std::sync::Arc;

use crate::api::CommitId;
use crate::git::Handle;
use crate::git::templates::At;
use crate::git::templates::choice::is_ignore_file;
use crate::git::tree::ChangedPath;

/// What differs between two synced commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The commit that was synced before.
    pub from: CommitId,
    /// Paths, from the root, of files that can be inputs of templates; `None` if they are unknown or too many.
    pub paths: Option<Arc<[String]>>,
}

/// Compares two commits. A commit that cannot be read makes the difference unknown.
pub(super) async fn between(git: &Handle, before: &At, now: &At) -> Difference {
    let paths = match before.opsy_files.status == now.opsy_files.status {
        true => git.changes(&before.commit, &now.commit, &now.opsy_files.status).await,
        false => Ok(None),
    };
    let paths = paths.unwrap_or_else(|error| {
        tracing::info!(%error, from = %before.commit, to = %now.commit, "the commits cannot be compared");
        None
    });
    let paths = paths.and_then(|changed| template_paths(changed, before, now));
    Difference { from: before.commit.clone(), paths: paths.map(Arc::from) }
}

/// Returns the changed paths that can be inputs of templates: a manifest is none, before and after it becomes one. An
/// ignore file can change what any template includes, so the difference is then unknown. Pure.
fn template_paths(changed: Vec<ChangedPath>, before: &At, now: &At) -> Option<Vec<String>> {
    let (was_own, is_own) = (&before.opsy_files.files, &now.opsy_files.files);
    let mut paths = Vec::new();
    for ChangedPath { path, existed, exists } in changed {
        if is_ignore_file(&path) {
            return None;
        }
        let was_input = existed && !was_own.contains(&path);
        let is_input = exists && !is_own.contains(&path);
        if was_input || is_input {
            paths.push(path);
        }
    }
    // A file can also become a manifest, or cease to be one, without a change of its own.
    paths.extend(was_own.symmetric_difference(is_own).cloned());
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
        ChangedPath { path: path.to_owned(), existed, exists }
    }

    fn paths(changes: Vec<ChangedPath>, before: &[&str], now: &[&str]) -> Option<Vec<String>> {
        template_paths(changes, &at("a", before), &at("b", now))
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
    fn an_ignore_file_makes_the_difference_unknown() {
        assert_eq!(paths(vec![changed("packer/.opsyignore", false, true)], &[], &[]), None);
    }
}
