//! The files with setters of the loaded commit, and their edits. A file is read once per commit; its edit is made again
//! from the tip that is committed to, so that nothing that others wrote is lost.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Content, Rendered};
use crate::api::CommitId;
use crate::api::ids::digest;
use crate::git::commit::Edit;
use crate::git::templates::links::Links;
use crate::git::{EntryKind, GitError, Handle};
use crate::manifest::Problem;
use crate::manifest::setters::{self, Format, Found, MAX_BYTES, Reference, Selection, SetterProblem};
use crate::settings::{RepoSettings, SetterSettings};

/// More files are not searched for markers: a glob that matches so many is a mistake.
const FILES: usize = 1_000;
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
    files: Vec<File>,
    /// Problems of files that cannot be read.
    problems: Vec<Problem>,
}

#[derive(Debug)]
struct File {
    /// From the root of the repository.
    path: String,
    format: Format,
    content: Vec<u8>,
    /// Its names through links: an input of a build can be one of them.
    aliases: Vec<String>,
    /// `.opsyignore` excludes it, so that it is neither a manifest nor an input of a build.
    is_ignored: bool,
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
    let mut selected = BTreeMap::new();
    for (path, entry) in listing.all_under("") {
        if let (EntryKind::File { .. }, Some(format)) = (&entry.kind, selection.format(path)) {
            selected.insert(path.to_owned(), (entry.id.clone(), format));
        }
    }
    let sizes = git.sizes(selected.values().map(|(id, _)| id.clone()).collect()).await?;
    let mut sizes = sizes.into_iter();
    selected.retain(|_, _| sizes.next().is_some_and(|size| size <= MAX_BYTES));
    let unreadable = selection.unreadable(|path| selected.contains_key(path));
    let mut problems: Vec<Problem> = unreadable.map(|(path, problem)| problem.of(path)).collect();
    if selected.len() > FILES {
        let message = format!("match {} files, more than {FILES}: name fewer", selected.len());
        problems.push(SetterProblem { line: 1, message }.of("setters.paths"));
        selected.clear();
    }
    let wanted = selected.iter().map(|(path, (id, _))| (path.clone(), id.clone())).collect();
    let blobs = git.read(wanted).await?;
    let links = Links::of(&listing);
    let file = |((path, (_, format)), blob): ((String, (String, Format)), crate::git::Blob)| {
        let is_ignored = listing.get(&path).is_none();
        File { aliases: links.aliases(&path), path, format, content: blob.content, is_ignored }
    };
    let files = selected.into_iter().zip(blobs).map(file).collect();
    Ok(Read { commit, settings, files, problems })
}

/// Returns the edit of a file, if it has setters, and the values that stay although they must not.
fn edit(
    file: &File,
    namespace: &str,
    content: &dyn Content,
) -> Result<(Option<Rendered>, Vec<SetterProblem>), Vec<SetterProblem>> {
    let references = setters::references(&file.content, &file.format, namespace)?;
    let Some((line, _)) = references.first() else { return Ok((None, Vec::new())) };
    let aliases = file.aliases.iter().map(|alias| (alias, false));
    let mut names = std::iter::once((&file.path, file.is_ignored)).chain(aliases);
    if let Some(message) = names.find_map(|(name, is_ignored)| content.refusal(name, is_ignored)) {
        return Err(vec![SetterProblem { line: *line, message }]);
    }
    let found: BTreeMap<Reference, Found> =
        references.into_iter().map(|(_, reference)| (reference.clone(), content.find(&reference))).collect();
    let version = digest(&[&format!("{:?}", file.format), &format!("{found:?}"), namespace]);
    let (format, namespace) = (file.format.clone(), namespace.to_owned());
    let find = move |reference: &Reference| found.get(reference).cloned().unwrap_or(Found::Pending);
    let withheld = setters::edit(&file.content, &format, &namespace, &find)?.withheld;
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
    Ok((Some(rendered), withheld))
}
