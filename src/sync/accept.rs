//! Requests of `opsy accept`: read only while a tip is held back, and removed only when they are answered.

use futures::future::BoxFuture;
use tracing::warn;

use crate::api::CommitId;

/// Where the requests are kept.
pub struct Accepts {
    /// The commit that a person accepts, if any.
    pub pending: Box<dyn Fn() -> BoxFuture<'static, Option<CommitId>> + Send + Sync>,
    /// Removes the request for a commit; false when it cannot.
    pub remove: Box<dyn Fn(CommitId) -> BoxFuture<'static, bool> + Send + Sync>,
}

/// The requests, as the loop sees them.
#[derive(Default)]
pub(super) struct Requests {
    kept: Option<Accepts>,
    /// Answered, but not yet removed: it must not be answered again.
    answered: Option<CommitId>,
}

impl Requests {
    pub fn new(kept: Accepts) -> Self {
        Self { kept: Some(kept), answered: None }
    }

    /// The commit that a person accepts, unless it was answered.
    pub async fn pending(&mut self) -> Option<CommitId> {
        if let Some(answered) = self.answered.take() {
            self.answer(answered).await;
        }
        let kept = self.kept.as_ref()?;
        (kept.pending)().await.filter(|commit| self.answered.as_ref() != Some(commit))
    }

    /// Removes a request that was answered.
    pub async fn answer(&mut self, commit: CommitId) {
        let Some(kept) = &self.kept else { return };
        if !(kept.remove)(commit.clone()).await {
            warn!(%commit, "the request to accept a commit cannot be removed yet");
            self.answered = Some(commit);
        }
    }
}
