//! Requests of `opsy accept`. They are read only while a tip is held back, and removed only after they were handled.

use futures::future::BoxFuture;
use tracing::warn;

use crate::api::CommitId;

/// Access to the stored requests.
pub struct Accepts {
    /// Reads the commit that a person accepts, if any.
    pub pending: Box<dyn Fn() -> BoxFuture<'static, Option<CommitId>> + Send + Sync>,
    /// Removes the request for a commit; returns false if it cannot be removed.
    pub remove: Box<dyn Fn(CommitId) -> BoxFuture<'static, bool> + Send + Sync>,
}

/// The requests that the sync loop has not handled yet.
#[derive(Default)]
pub(super) struct Requests {
    kept: Option<Accepts>,
    /// Handled, but not removed yet: it must not be handled again.
    answered: Option<CommitId>,
}

impl Requests {
    pub fn new(kept: Accepts) -> Self {
        Self { kept: Some(kept), answered: None }
    }

    /// The commit that a person accepts, unless the request was handled.
    pub async fn pending(&mut self) -> Option<CommitId> {
        if let Some(answered) = self.answered.take() {
            self.answer(answered).await;
        }
        let kept = self.kept.as_ref()?;
        (kept.pending)().await.filter(|commit| self.answered.as_ref() != Some(commit))
    }

    /// Removes a request that was handled.
    pub async fn answer(&mut self, commit: CommitId) {
        let Some(kept) = &self.kept else { return };
        if !(kept.remove)(commit.clone()).await {
            warn!(%commit, "the request to accept a commit cannot be removed yet");
            self.answered = Some(commit);
        }
    }
}
