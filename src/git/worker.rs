//! A thread that runs jobs of `handle`: libgit2 blocks, and cannot be canceled.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use tokio::sync::oneshot;
use tracing::error;

use super::GitError;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A thread that owns an `S` and runs jobs on it, one after the other.
pub(super) struct Worker<S> {
    jobs: mpsc::Sender<Job<S>>,
}

impl<S> std::fmt::Debug for Worker<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Worker")
    }
}

impl<S> Clone for Worker<S> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone() }
    }
}

impl<S: 'static> Worker<S> {
    pub fn start(name: &str, make: impl Fn() -> S + Send + 'static) -> Result<Self, GitError> {
        let (jobs, queue) = mpsc::channel::<Job<S>>();
        let work = move || {
            let mut state = make();
            for job in queue {
                if catch_unwind(AssertUnwindSafe(|| job(&mut state))).is_err() {
                    error!("a Git job panicked: its thread starts again with a new state");
                    state = make();
                }
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        thread.map(|_| Self { jobs }).map_err(|_| GitError::ThreadEnded)
    }

    /// Runs a job without waiting for it. It is lost only with the thread.
    pub fn post(&self, job: impl FnOnce(&mut S) + Send + 'static) {
        self.jobs.send(Box::new(job)).ok();
    }

    /// Runs a job and returns its result.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let (reply, result) = oneshot::channel();
        // If the calling task was dropped, nothing waits for the result, and it is discarded.
        let job: Job<S> = Box::new(move |state| drop(reply.send(job(state))));
        self.jobs.send(job).map_err(|_| GitError::ThreadEnded)?;
        result.await.map_err(|_| GitError::ThreadEnded)?
    }
}
