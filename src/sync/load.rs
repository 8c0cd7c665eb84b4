//! Loads a tip: decides whether it is held back, reads what differs from the synced commit, and sends the result to the
//! receivers.

use std::sync::Arc;

use tracing::{info, warn};

use super::difference::{Changes, Difference, Kept, links_to_manifests};
use super::edited::Reading;
use super::history::{self, Verdict};
use super::input::{self, Origin, Sources};
use super::status_files::{self, StatusFile, Wanted};
use super::{Sync, Synced, verification};
use crate::api::CommitId;
use crate::api::lock::lock;
use crate::api::status::LastSynced;
use crate::git::templates::At;
use crate::git::{GitError, Listing, Tip};
use crate::manifest::{OBJECT_LIMIT, ObjectSet, SETTINGS_FILE, is_settings};

/// The decision about a tip.
enum Judged {
    /// It is loaded. `is_accepted` means that only the request of a person allows this.
    Loaded { is_accepted: bool, is_verified: bool },
    /// It is held back, for this reason.
    Held(GitError),
}

impl Sync {
    /// Loads a tip, unless it is held back.
    pub(super) async fn load_tip(&mut self, tip: Tip, from: Origin) -> Result<Arc<Synced>, GitError> {
        let commit = tip.commit.clone();
        let mut judged = self.judge(&commit, None).await?;
        let mut request = None;
        if matches!(judged, Judged::Held(_)) && from == Origin::Remote {
            request = self.requests.pending().await;
            if request.is_some() {
                judged = self.judge(&commit, request.as_ref()).await?;
            }
        }
        let (is_accepted, is_verified) = match judged {
            Judged::Loaded { is_accepted, is_verified } => (is_accepted, is_verified),
            Judged::Held(held) => {
                if let Some(accepted) = request {
                    warn!(%accepted, tip = %commit, "the accepted commit does not release the tip");
                    self.requests.answer(accepted).await;
                }
                return Err(held);
            }
        };
        let synced = self.load_commit(tip, from).await?;
        if is_accepted || synced.commit == commit {
            self.git.note_last_synced(commit.clone());
            let source = history::source(&self.git);
            self.last = Some(LastSynced { commit: commit.clone(), source, verified: None });
        }
        if let Some(last) = self.last.as_mut().filter(|_| is_verified) {
            self.git.note_verified(commit.clone());
            last.verified = Some(commit.clone());
        }
        if let Some(accepted) = request {
            info!(%accepted, %commit, "the tip was accepted by a person and is loaded");
            self.requests.answer(accepted).await;
        }
        Ok(synced)
    }

    /// Decides about a tip: first by its history, then by its signatures.
    async fn judge(&self, tip: &CommitId, accepted: Option<&CommitId>) -> Result<Judged, GitError> {
        let last = self.last.as_ref();
        let verdict = history::judge(history::facts(&self.git, last, accepted, tip).await?);
        if let (Verdict::Hold, Some(last)) = (verdict, last) {
            let last = last.commit.clone();
            return Ok(Judged::Held(GitError::Rewritten { last, tip: tip.clone(), missing: None }));
        }
        match verification::verify(&self.git, tip, last, accepted, (self.now)()).await {
            Ok(is_verified) => Ok(Judged::Loaded { is_accepted: verdict == Verdict::Accept, is_verified }),
            Err(error) if error.holds_tip_back() => Ok(Judged::Held(error)),
            Err(error) => Err(error),
        }
    }

    /// Loads a commit.
    pub(super) async fn load_commit(&mut self, tip: Tip, from: Origin) -> Result<Arc<Synced>, GitError> {
        let again = self.reread.take();
        let before = self.synced.borrow().clone().filter(|_| !again);
        let loaded = self.load_after(before, tip, from).await;
        if again && loaded.is_err() {
            self.reread.put_back();
        }
        loaded
    }

    /// Loads a commit, unless its input is the same as that of `before`. Only what differs from `before` is read, if that
    /// suffices.
    async fn load_after(
        &mut self,
        before: Option<Arc<Synced>>,
        tip: Tip,
        from: Origin,
    ) -> Result<Arc<Synced>, GitError> {
        if let Some(same) = before.as_ref().filter(|_| self.seen.as_ref() == Some(&tip.commit)) {
            return Ok(Arc::clone(same));
        }
        let at = self.at.borrow().clone().filter(|_| before.is_some());
        let changes = match at {
            Some(at) => Some(Changes::between(&self.git, at, &tip.commit).await),
            None => None,
        };
        let kept = changes.as_ref().map_or(Kept::Nothing, |changes| changes.kept(self.links_to_manifests));
        let synced = match (before, changes) {
            // A commit of the agent's own, most likely.
            (Some(same), _) if kept == Kept::All => same,
            (Some(before), Some(changes)) if kept == Kept::Manifests => {
                self.load_again(&before, &tip.commit, &changes)
            }
            (Some(before), Some(changes)) => match self.load_edited(&before, &tip.commit, &changes).await? {
                Some(synced) => synced,
                None => self.load_listing(Some(before), &tip.commit, Some(changes), from).await?,
            },
            (before, changes) => self.load_listing(before, &tip.commit, changes, from).await?,
        };
        self.seen = Some(tip.commit);
        Ok(synced)
    }

    /// Loads a commit that has the same manifests as the one before.
    fn load_again(&mut self, before: &Synced, commit: &CommitId, changes: &Changes) -> Arc<Synced> {
        info!(%commit, "synced: no manifest differs");
        self.fingerprint = None;
        let at = At { commit: commit.clone(), opsy_files: Arc::clone(&changes.from.opsy_files) };
        let synced = Synced {
            commit: commit.clone(),
            set: Arc::clone(&before.set),
            status_files: Arc::clone(&before.status_files),
            difference: Some(changes.difference(&at)),
        };
        self.before = Some(changes.from.clone());
        self.announce(at, synced)
    }

    /// Loads a commit by the list of its files, unless the list is the same as before.
    async fn load_listing(
        &mut self,
        before: Option<Arc<Synced>>,
        commit: &CommitId,
        changes: Option<Changes>,
        from: Origin,
    ) -> Result<Arc<Synced>, GitError> {
        let listing = self.git.list(commit).await?;
        if let Some((path, why)) = listing.unreadable_ignore.clone() {
            // Ignored files would become objects and inputs. The last good commit stays in force.
            return Err(GitError::Path { path, why });
        }
        let path = self.git.options().path.clone();
        if !path.is_empty() && !listing.has_folder(&path) {
            return Err(GitError::NoPath { path, commit: commit.clone() });
        }
        if let Some(same) = before
            && self.fingerprint == Some(listing.fingerprint(&self.status_folder(&same.set)))
        {
            return Ok(same);
        }
        self.load(commit, &listing, changes, from).await
    }

    /// Reads everything of a commit whose input is new, and sends it to the receivers.
    async fn load(
        &mut self,
        commit: &CommitId,
        listing: &Arc<Listing>,
        changes: Option<Changes>,
        from: Origin,
    ) -> Result<Arc<Synced>, GitError> {
        self.reading = None;
        let (set, sources) = self.read(listing).await?;
        if set.without_settings {
            // Owner, accounts and paths would be guesses. The last good commit stays in force, if there is one.
            let words = set.problems.iter().find(|problem| is_settings(&problem.file));
            let (path, why) = words.map_or_else(
                || (SETTINGS_FILE.to_owned(), "cannot be read".to_owned()),
                |problem| (problem.file.clone(), problem.message.clone()),
            );
            return Err(GitError::Path { path, why });
        }
        let status = self.status_folder(&set);
        if status.is_empty() {
            let why = "must be a directory below the path that is read".to_owned();
            return Err(GitError::Path { path: "statusPath".to_owned(), why });
        }
        let wanted = Wanted { listing, folder: &status, settings: &set.settings, from, now: (self.now)() };
        let known = self.synced.borrow().as_ref().map(|synced| Arc::clone(&synced.status_files));
        let status_files =
            status_files::read(&self.git, wanted, known.as_deref().map_or(&[], Vec::as_slice)).await?;
        info!(%commit, objects = set.documents.len(), problems = set.problems.len(), "synced");
        self.fingerprint = Some(listing.fingerprint(&status));
        self.links_to_manifests = links_to_manifests(listing);
        let tree = self.git.directory_of(commit, &status).await?;
        let at = At { commit: commit.clone(), opsy_files: self.opsy_files(status, &set) };
        let difference = self.difference(&at, changes).await;
        self.reading = Some(Reading::new(listing, sources.bytes, sources.problems, tree));
        let (set, status_files) = (Arc::new(set), Arc::new(status_files));
        Ok(self.announce(at, Synced { commit: commit.clone(), set, status_files, difference }))
    }

    /// What differs from the commit that was synced before, if there is one.
    async fn difference(&mut self, now: &At, changes: Option<Changes>) -> Option<Difference> {
        // A commit that is read again is compared with the one before it: the first reading may not have been loaded.
        let before = self.at.borrow().clone().filter(|before| before.commit != now.commit);
        self.before = before.or(self.before.take());
        let before = self.before.clone()?;
        let changes = match changes.filter(|changes| changes.from == before) {
            Some(changes) => changes,
            None => Changes::between(&self.git, before, &now.commit).await,
        };
        Some(changes.difference(now))
    }

    /// Sends a commit to the receivers.
    pub(super) fn announce(&self, at: At, synced: Synced) -> Arc<Synced> {
        let synced = Arc::new(synced);
        // Templates first, so that every receiver of the new commit finds its templates.
        self.at.send_replace(Some(at));
        self.synced.send_replace(Some(Arc::clone(&synced)));
        synced
    }

    /// Reads the manifests of a commit, on a thread for blocking work, because it can take long.
    async fn read(&self, listing: &Arc<Listing>) -> Result<(ObjectSet, Sources), GitError> {
        let sources = input::sources(&self.git, listing).await?;
        let parse = Arc::clone(&self.parse);
        let work = move || {
            let mut parse = lock(&parse);
            let set = parse.read(&sources.files);
            if let Some(error) = sources.failure() {
                parse.discard();
                return Err(error);
            }
            if set.is_loadable() {
                parse.save();
            }
            Ok((set, sources))
        };
        let done = tokio::task::spawn_blocking(work).await;
        let (mut set, sources) = done.map_err(|error| {
            let why = format!("its manifests cannot be parsed: {error}");
            GitError::Path { path: "the commit".to_owned(), why }
        })??;
        if set.too_many_objects {
            let why = format!("declares more than {OBJECT_LIMIT} objects");
            return Err(GitError::Path { path: "the commit".to_owned(), why });
        }
        set.problems.extend(sources.problems.iter().cloned());
        set.problems.sort();
        Ok((set, sources))
    }

    /// Returns the status files that a branch has for a commit that was synced, if the branch exists.
    ///
    /// # Errors
    /// The branch cannot be read.
    pub async fn status_on(
        &self,
        branch: &str,
        synced: &Synced,
    ) -> Result<Option<Vec<StatusFile>>, GitError> {
        status_files::on_branch(&self.git, branch, &self.status_folder(&synced.set)).await
    }

    /// The status folder from the root of the repository.
    pub fn status_folder(&self, set: &ObjectSet) -> String {
        self.git.status_folder(set.settings.status_path())
    }
}
