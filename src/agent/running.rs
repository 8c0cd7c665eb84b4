//! The parts that run as long as the agent, and the steps in which they end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::engine::Claim;
use crate::api::ObjectKey;
use crate::engine::objects::Objects;
use crate::engine::{ObjectHealth, Runs};
use crate::git::templates::sources::Sources;
use crate::loader::Loader;
use crate::notifications::Notifications;
use crate::publish::Publisher;
use crate::repository::Repository;
use crate::sync::Synced;
use crate::task;
use crate::telemetry::health::{Health, Stage};

/// Running reconciles have this long to end.
const RECONCILES_END: Duration = Duration::from_secs(30);
/// With `--once`, notifications have this long: there may be no next start soon, and chat services accept about one
/// message per second.
const ONCE_NOTIFICATIONS: Duration = Duration::from_secs(60);

/// Everything that lives as long as the agent.
pub struct Running {
    pub objects: Arc<Objects>,
    pub runs: Arc<dyn Runs>,
    pub synced: watch::Receiver<Option<Arc<Synced>>>,
    pub loader: Loader,
    /// The reconcile loops of both kinds.
    pub loops: Vec<JoinHandle<()>>,
    pub publisher: Publisher,
    /// Stops the loops of Git.
    pub stop: CancellationToken,
    pub claim: Claim,
    pub health: Arc<Health>,
    pub notifications: Arc<Notifications>,
    pub repository: Arc<Repository>,
    /// Reconciles the repository, from when a commit can be loaded.
    pub reconciling: Option<AbortOnDropHandle<()>>,
    pub template_repositories: Sources,
    /// From when it is true, no build is started.
    pub ending: Arc<AtomicBool>,
    /// The endpoints, which end when this is dropped.
    pub _serving: Vec<AbortOnDropHandle<()>>,
}

impl Running {
    /// Waits until nothing is in progress and notifications are delivered. Returns the health of all objects.
    pub async fn settled(&mut self) -> BTreeMap<ObjectKey, ObjectHealth> {
        let board = self.objects.board.clone();
        board.wait_until_settled().await;
        // Notifications and the push take their time. A build that started meanwhile would outlive this agent; one that
        // started before the flag was set is waited for.
        self.ending.store(true, Ordering::Relaxed);
        board.wait_until_settled().await;
        self.reconcile_repository();
        self.repository.reconcile().await;
        self.notifications.notifier.drain(ONCE_NOTIFICATIONS).await;
        // A reconcile records what was delivered.
        board.settled().await
    }

    /// Starts to reconcile the repository.
    pub fn reconcile_repository(&mut self) {
        self.reconciling = Some(task::spawn("reconciling the repository", self.repository.clone().run()));
    }

    /// Ends the queues and waits for running reconciles. One that does not end in time is aborted, so that it does
    /// nothing after the claim is released; one that blocks its thread cannot be.
    pub async fn end_reconciles(&mut self) {
        self.health.enter(Stage::Stopping);
        self.objects.close();
        let end = Instant::now() + RECONCILES_END;
        for mut running in self.loops.drain(..) {
            if tokio::time::timeout_at(end, &mut running).await.is_err() {
                tracing::warn!("a reconcile did not end in time: it is aborted");
                running.abort();
                let _ = running.await;
            }
        }
    }
}
