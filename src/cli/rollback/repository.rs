//! The repository that `opsy rollback` changes: finds the file that declares an object, and commits the edited file onto
//! the tip of the branch, as the agent commits status.

use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};

use crate::agent::{now, signing, sources};
use crate::api::network::Network;
use crate::api::paths::join;
use crate::api::{CommitId, ObjectKey};
use crate::git::commit::{Change, Edit, Outcome};
use crate::git::github_app::Tokens;
use crate::git::patch::{configured_author, patch};
use crate::git::{Handle, History, Http, Options};
use crate::manifest::edit::{Pin, pin};
use crate::manifest::{Form, SETTINGS_FILE, is_manifest, settings_of};
use crate::settings::{EnvSecrets, GitFlags, SigningFlags};
use crate::sync::input::pick;

/// Why nothing is committed.
const REFUSED: &str = "the agent runs with --verify, so it refuses an unsigned commit with everything after it: sign \
                       with --signing-key, or commit the patch of --dry-run with a signature; if the agent does not \
                       verify signatures any more, use --allow-unsigned";
/// The warning about a commit that the agent may refuse.
const MAY_BE_REFUSED: &str = "the last commit of the branch is signed, this one is not, and the record of the agent, \
                              which says whether it verifies signatures, was not read: if the agent runs with \
                              --verify, it refuses the commit";

/// What becomes of an unsigned commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unsigned {
    Applied,
    MayBeRefused,
    Refused,
}

/// Decides about an unsigned commit. A signature of the tip alone says little: servers sign merges themselves.
fn unsigned(verifies: Option<bool>, is_tip_signed: bool) -> Unsigned {
    match verifies {
        Some(true) => Unsigned::Refused,
        Some(false) => Unsigned::Applied,
        None if is_tip_signed => Unsigned::MayBeRefused,
        None => Unsigned::Applied,
    }
}

/// Flags that select the repository. They are those of `opsy run`.
#[derive(clap::Args)]
pub struct RepositoryFlags {
    /// Commit to this repository: a URL or a local path
    #[arg(long, env = "OPSY_REPO", value_name = "URL|PATH")]
    pub repo: String,
    /// Commit to this branch; default: the default branch of the remote
    #[arg(long, env = "OPSY_BRANCH")]
    pub branch: Option<String>,
    /// Read manifests from this directory of the repository
    #[arg(long, env = "OPSY_PATH", default_value = "")]
    pub path: String,
    #[command(flatten)]
    pub git: GitFlags,
    #[command(flatten)]
    pub signing: SigningFlags,
    /// Commit without a signature although the agent verifies signatures
    #[arg(long)]
    pub allow_unsigned: bool,
}

/// A clone that is deleted when the command ends.
pub struct Repository {
    git: Handle,
    /// The commit may be unsigned whatever the agent does.
    allow_unsigned: bool,
    _clone: tempfile::TempDir,
}

/// The file that declares the object, from the root of the repository, and the change of it; the patch is empty if
/// nothing changes.
pub struct Changed {
    /// The tip that has the file.
    tip: CommitId,
    pub file: String,
    pub patch: String,
}

impl Repository {
    /// Opens the repository. Nothing is fetched yet.
    pub fn open(flags: &RepositoryFlags, network: &Network) -> anyhow::Result<Self> {
        let clone = tempfile::tempdir().context("cannot create a temporary directory for the clone")?;
        let tokens = Tokens::new(network, now)?;
        let (signers, signing_key) = signing::read(&flags.signing)?;
        let git = Handle::start(Options {
            address: sources::rules(&flags.git.addresses)?.parse(&flags.repo)?,
            branch: flags.branch.clone(),
            path: flags.path.clone(),
            folder: clone.path().join("clone"),
            credentials: Some(sources::credentials(&flags.git, &EnvSecrets::read(), &tokens)?),
            http: Http::new(network),
            history: History::Recent,
            signers,
            signing_key,
        })?;
        Ok(Self { git, allow_unsigned: flags.allow_unsigned, _clone: clone })
    }

    /// Finds the file at the tip that declares the object, and what would change in it.
    pub async fn find(&self, object: &ObjectKey, change: &Pin) -> anyhow::Result<Changed> {
        let tip = self.git.fetch().await?;
        let root = self.git.options().path.clone();
        let listing = self.git.list(&tip.commit).await?;
        let picked = pick(&listing, &root).map_err(|why| anyhow!("the repository {why}"))?;
        let files = picked.into_iter().filter(|file| file.form == Form::File);
        let files: Vec<_> = files.map(|file| (file.path, file.id)).collect();
        let files = self.git.read(files).await?;
        let settings = files.iter().find(|file| file.path == SETTINGS_FILE);
        let settings = settings.map(|file| settings_of(&file.content)).unwrap_or_default();
        let manifests = files.iter().filter(|file| is_manifest(&file.path, settings.status_path()));
        for file in manifests {
            let Ok(text) = str::from_utf8(&file.content) else { continue };
            let path = join(&root, &file.path);
            let edited = pin(text, object, settings.namespace(), change).map_err(|why| {
                anyhow!("{path} cannot be edited, because {why}: edit `ami` and `held` in it yourself")
            })?;
            if let Some(edited) = edited {
                let patch = patch(&path, text, &edited)?;
                return Ok(Changed { tip: tip.commit, file: path, patch });
            }
        }
        let place = if root.is_empty() { String::new() } else { format!(" below {root}") };
        bail!(
            "no manifest{place} declares {} {}: check --repo, --branch, --path and -n",
            object.kind,
            object.key
        )
    }

    /// Whether an unsigned commit may be added to the tip. `verifies` is whether the agent verifies signatures, if its
    /// record says so. The warning is about a commit that the agent may refuse.
    pub async fn check_signature(
        &self,
        changed: &Changed,
        verifies: Option<bool>,
    ) -> anyhow::Result<Option<&'static str>> {
        let options = self.git.options();
        if self.allow_unsigned || options.signing_key.is_some() {
            return Ok(None);
        }
        // The flag is that of the agent.
        let verifies = if options.signers.is_some() { Some(true) } else { verifies };
        let is_signed = self.git.is_signed(&changed.tip).await?;
        match unsigned(verifies, is_signed) {
            Unsigned::Refused => bail!(REFUSED),
            Unsigned::MayBeRefused => Ok(Some(MAY_BE_REFUSED)),
            Unsigned::Applied => Ok(None),
        }
    }

    /// Commits the change of the file onto the tip of the branch.
    pub async fn commit(
        &self,
        object: &ObjectKey,
        Changed { file, .. }: &Changed,
        change: &Pin,
        reason: &str,
    ) -> anyhow::Result<CommitId> {
        let author = configured_author().context(
            "Git does not know who commits: set user.name and user.email with `git config --global`",
        )?;
        let branch = self.git.branch().context("the repository has no branch")?;
        let (object, pinned) = (object.clone(), change.clone());
        let message = format!("Roll back {} {} to {}\n\n{reason}\n", object.kind, object.key, change.ami);
        let namespace = object.key.namespace.clone();
        let edit = move |content: Option<&[u8]>| {
            let text = content.and_then(|content| str::from_utf8(content).ok()).unwrap_or_default();
            // Found before: a manifest without a namespace belongs to this one.
            let edited = pin(text, &object, &namespace, &pinned)?;
            edited.map(String::into_bytes).ok_or_else(|| format!("no longer declares {}", object.key))
        };
        let change = Change {
            branch,
            edits: [(file.clone(), Edit::Merge(Arc::new(edit)))].into(),
            versions: std::collections::BTreeMap::new(),
            settled: Arc::default(),
            message: Arc::new(move |_| message.clone()),
            author,
            time: now(),
        };
        match self.git.commit(&change).await? {
            Outcome::Pushed { commit, .. } => Ok(commit),
            Outcome::Unchanged => bail!("{file} has changed meanwhile, and nothing is left to commit"),
            Outcome::Rejected { message } => {
                bail!(
                    "the server rejected the push: {message}; open a pull request with the patch of --dry-run"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_agent_that_verifies_refuses_an_unsigned_commit() {
        for (verifies, is_tip_signed, expected) in [
            (Some(true), true, Unsigned::Refused),
            (Some(true), false, Unsigned::Refused),
            (Some(false), true, Unsigned::Applied),
            (Some(false), false, Unsigned::Applied),
            (None, true, Unsigned::MayBeRefused),
            (None, false, Unsigned::Applied),
        ] {
            assert_eq!(unsigned(verifies, is_tip_signed), expected, "{verifies:?} {is_tip_signed}");
        }
    }
}
