//! The files with setters of the loaded commit, and their edits. A file is read once per commit; its edit is made again
//! from the tip that is committed to, so that nothing that others wrote is lost.

use std::sync::Arc;

use super::{Content, Rendered};
use crate::api::CommitId;
use crate::api::ids::digest;
use crate::api::paths::join;
use crate::git::commit::Edit;
use crate::git::templates::links::Links;
use crate::git::{Blob, EntryKind, GitError, Handle};
use crate::manifest::setters::{
    self, Format, Found, Reference, Selected, Selection, SetterEdit, SetterFile, SetterProblem,
};
use crate::manifest::{Problem, SETTINGS_FILE};
use crate::settings::{RepoSettings, SetterSettings};

/// Problems that the message names.
const NAMED: usize = 3;

/// The files of a commit that setters may edit.
#[derive(Debug, Default)]
pub(super) struct SetterFiles {
    read: Option<Read>,
}

/// What was read.
#[derive(Debug)]
struct Read {
    commit: CommitId,
    settings: SetterSettings,
    files: Vec<SetterFile>,
    /// Problems of files that cannot be read.
    problems: Vec<Problem>,
}

/// The edits of all files.
#[derive(Debug, Default)]
pub(super) struct SetterEdits {
    /// Their paths are relative to the root of the repository.
    pub files: Vec<Rendered>,
    problems: Vec<Problem>,
}

impl SetterEdits {
    /// Returns what is wrong, if anything is.
    pub fn failure(&self) -> Option<String> {
        let more = self.problems.len().saturating_sub(NAMED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let first: Vec<String> = self.problems.iter().take(NAMED).map(ToString::to_string).collect();
        (!first.is_empty()).then(|| format!("{}{more}", first.join("; ")))
    }

    /// Identifies the edits.
    pub fn version(&self) -> String {
        let parts =
            self.files.iter().flat_map(|file| [file.path.as_str(), file.version.as_deref().unwrap_or("")]);
        digest(&parts.collect::<Vec<_>>())
    }
}

impl SetterFiles {
    /// Returns the edits for the images that are active now.
    pub async fn edits(
        &mut self,
        git: &Handle,
        content: &dyn Content,
        settings: &RepoSettings,
    ) -> Result<SetterEdits, GitError> {
        let namespace = settings.namespace();
        let wanted = settings.setters.clone().unwrap_or_default();
        let selection = Selection::new(&wanted, namespace);
        let Some(commit) = content.commit().filter(|_| !selection.is_empty()) else {
            self.read = None;
            return Ok(SetterEdits::default());
        };
        let is_read = |read: &Read| read.commit == commit && read.settings == wanted;
        let read = match self.read.take().filter(is_read) {
            Some(read) => read,
            None => read_files(git, commit, wanted, &selection).await?,
        };
        let mut edits = SetterEdits { problems: read.problems.clone(), ..SetterEdits::default() };
        for file in &read.files {
            let (rendered, problems) = match edit(file, namespace, content) {
                Ok((rendered, withheld)) => (rendered, withheld),
                Err(problems) => (None, problems),
            };
            edits.files.extend(rendered);
            edits.problems.extend(problems.into_iter().map(|found| found.of(&file.path)));
        }
        self.read = Some(read);
        Ok(edits)
    }
}

/// Reads the files of a commit that the settings select.
async fn read_files(
    git: &Handle,
    commit: CommitId,
    settings: SetterSettings,
    selection: &Selection,
) -> Result<Read, GitError> {
    let listing = git.list(&commit).await?;
    let files = listing.all_under("").filter(|(_, entry)| matches!(entry.kind, EntryKind::File { .. }));
    let selected = Selected::new(selection, files.map(|(path, entry)| (path, entry.id.as_str())));
    let sizes = git.sizes(selected.ids().map(str::to_owned).collect()).await?;
    let settings_file = join(&git.options().path, SETTINGS_FILE);
    let (selected, problems) = selected.readable(sizes, selection, &settings_file);
    let wanted = selected.iter().map(|(path, (id, _))| (path.clone(), id.clone())).collect();
    let blobs = git.read(wanted).await?;
    let links = Links::of(&listing);
    let file = |((path, (_, format)), blob): ((String, (String, Format)), Blob)| {
        let is_ignored = listing.get(&path).is_none();
        SetterFile { aliases: links.aliases(&path), path, format, content: blob.content, is_ignored }
    };
    let files = selected.into_iter().zip(blobs).map(file).collect();
    Ok(Read { commit, settings, files, problems })
}

/// Returns the edit of a file, if it has setters, and the values that stay although they must not.
fn edit(
    file: &SetterFile,
    namespace: &str,
    content: &dyn Content,
) -> Result<(Option<Rendered>, Vec<SetterProblem>), Vec<SetterProblem>> {
    let refusal = |name: &str, is_ignored| content.refusal(name, is_ignored);
    let Some(SetterEdit { found, edited }) =
        file.edit(namespace, refusal, |reference| content.find(reference))?
    else {
        return Ok((None, Vec::new()));
    };
    let version = digest(&[&format!("{:?}", file.format), &format!("{found:?}"), namespace]);
    let (format, namespace) = (file.format.clone(), namespace.to_owned());
    let find = move |reference: &Reference| found.get(reference).cloned().unwrap_or(Found::Pending);
    // At another commit, the file can have other markers. Those with an error are reported when it is loaded.
    let amend = move |now: Option<&[u8]>| {
        let now = now.unwrap_or_default();
        let edited = setters::edit(now, &format, &namespace, &find);
        Ok(edited.map_or_else(|_| now.to_vec(), |edited| edited.content))
    };
    let rendered = Rendered {
        path: file.path.clone(),
        edit: Edit::Amend(Arc::new(amend)),
        resource: None,
        summary: None,
        trailers: Vec::new(),
        version: Some(version),
    };
    Ok((Some(rendered), edited.withheld))
}
