//! The files of a commit that syncing reads: manifests, and the status files Opsy wrote itself.

use crate::git::{Blob, EntryKind, GitError, Handle, Listing};
use crate::manifest::{Problem, Severity, SourceFile};
use crate::settings::RepoSettings;

/// Larger files are not even loaded: no manifest comes near, and the clone may hold anything.
const FILE_LIMIT: usize = 16 * 1024 * 1024;

/// Where the newest commits are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Remote,
    /// What was fetched before: the remote is away.
    Clone,
}

/// All YAML files below the path that is read. Links are never followed.
pub(super) async fn sources(
    git: &Handle,
    listing: &Listing,
) -> Result<(Vec<SourceFile>, Vec<Problem>), GitError> {
    let path = &git.options().path;
    let (files, links): (Vec<_>, Vec<_>) = listing
        .under(path)
        .map(|(file, entry)| (below(file, path), entry))
        .filter(|(file, _)| file.ends_with(".yaml") || file.ends_with(".yml"))
        .partition(|(_, entry)| matches!(entry.kind, EntryKind::File { .. }));
    let linked = |file: &str| problem(file, Severity::Note, "is a link and is not followed".to_owned());
    let mut problems: Vec<_> = links.iter().map(|(file, _)| linked(file)).collect();
    let files = files.into_iter().map(|(file, entry)| (file.to_owned(), entry.id.clone())).collect();
    let (small, large) = by_size(git, files).await?;
    for (file, size) in large {
        problems.push(problem(&file, Severity::Error, format!("has {size} bytes and is not read")));
    }
    let source = |blob: Blob| SourceFile { path: blob.path, blob: blob.id, content: blob.content };
    Ok((git.read(small).await?.into_iter().map(source).collect(), problems))
}

/// The status files: beside the manifests, or on the branch they are published to.
pub(super) async fn status_files(
    git: &Handle,
    settings: &RepoSettings,
    listing: &Listing,
    folder: &str,
    from: Origin,
) -> Result<Vec<(String, Vec<u8>)>, GitError> {
    let branch = settings.publish.as_ref().and_then(|publish| publish.branch.as_deref());
    let elsewhere = match branch.filter(|branch| Some(*branch) != git.branch().as_deref()) {
        Some(branch) => {
            let tip = match from {
                Origin::Remote => git.fetch_branch(branch).await?,
                Origin::Clone => git.last_fetched_branch(branch).await?,
            };
            let Some(tip) = tip else { return Ok(Vec::new()) };
            Some(git.list(&tip.commit).await?)
        }
        None => None,
    };
    let files = elsewhere
        .as_deref()
        .unwrap_or(listing)
        .under(folder)
        .filter(|(_, entry)| matches!(entry.kind, EntryKind::File { .. }))
        .map(|(file, entry)| (below(file, folder).to_owned(), entry.id.clone()))
        .collect();
    // A status file beyond all measure was not written by us.
    let (small, _) = by_size(git, files).await?;
    Ok(git.read(small).await?.into_iter().map(|blob| (blob.path, blob.content)).collect())
}

/// A file's path and blob id.
type Named = (String, String);

/// Files small enough to load, and the others with their sizes.
async fn by_size(git: &Handle, files: Vec<Named>) -> Result<(Vec<Named>, Vec<(String, usize)>), GitError> {
    let sizes = git.sizes(files.iter().map(|(_, id)| id.clone()).collect()).await?;
    let (small, large): (Vec<_>, Vec<_>) =
        files.into_iter().zip(sizes).partition(|(_, size)| *size <= FILE_LIMIT);
    let small = small.into_iter().map(|(file, _)| file).collect();
    Ok((small, large.into_iter().map(|((path, _), size)| (path, size)).collect()))
}

/// A path below a folder, from there.
fn below<'a>(path: &'a str, folder: &str) -> &'a str {
    path.strip_prefix(folder).unwrap_or(path).trim_start_matches('/')
}

fn problem(file: &str, severity: Severity, message: String) -> Problem {
    Problem { file: file.to_owned(), line: None, message, severity }
}
