//! Who made the commits that messages name: looked up in the clones once and kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use crate::announce::Change;
use crate::api::CommitId;
use crate::api::git_host;
use crate::api::lock::lock;
use crate::git::Handle;
use crate::git::templates::Templates;
use crate::sync::Synced;

/// Commits that are kept. Messages name only the last few of each object.
const LIMIT: usize = 256;

/// The commits that were looked up.
pub struct Commits {
    git: Handle,
    templates: Templates,
    synced: watch::Receiver<Option<Arc<Synced>>>,
    known: Mutex<BTreeMap<String, Change>>,
}

impl Commits {
    pub fn new(git: Handle, templates: Templates, synced: watch::Receiver<Option<Arc<Synced>>>) -> Self {
        Self { git, templates, synced, known: Mutex::default() }
    }

    /// What is known of a commit. Of one that no clone has, messages name only the ID.
    pub fn get(&self, id: &str) -> Option<Change> {
        lock(&self.known).get(id).cloned()
    }

    /// Looks a commit up, unless it is known.
    pub async fn look_up(&self, id: &str) {
        if lock(&self.known).contains_key(id) {
            return;
        }
        let Ok(commit) = CommitId::parse(id) else { return };
        let Some((described, repository)) = self.templates.describe(&commit, &self.status_folder()).await
        else {
            return;
        };
        let url = git_host::commit_url(&repository, described.id.as_str());
        let (author, subject) = (described.author, described.subject);
        let change = Change { id: described.id.to_string(), author, subject, url };
        let mut known = lock(&self.known);
        if known.len() >= LIMIT {
            known.clear();
        }
        known.insert(id.to_owned(), change);
    }

    /// The folder that only the agent's own commits change: for them, the commit of a person is named that came before.
    fn status_folder(&self) -> String {
        let synced = self.synced.borrow();
        let path = synced.as_ref().map_or("", |synced| synced.set.settings.status_path());
        self.git.status_folder(path)
    }
}
