//! `opsy run`: follows the repository until a signal, and ends in order.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::future::select_all;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::engine::while_held;
use super::running::Running;
use super::{Agent, Signals, metrics, pushes};
use crate::loader;
use crate::task;
use crate::telemetry::health::Stage;

/// The last push has this long.
const LAST_PUSH: Duration = Duration::from_secs(15);
/// The sync has this long to end.
const SYNC_END: Duration = Duration::from_secs(15);
/// Notifications have this long: those that are left are recorded in status, and the next start delivers them.
const LAST_NOTIFICATIONS: Duration = Duration::from_secs(5);

impl Agent {
    /// Works until SIGINT or SIGTERM. A second signal ends it at once.
    ///
    /// # Errors
    /// The claim was lost, or a loop has ended.
    pub async fn run(mut self, signals: Signals) -> anyhow::Result<ExitCode> {
        let lost = self.running.claim.take_lost();
        while_held(lost, self.work(signals)).await
    }

    async fn work(self, mut signals: Signals) -> anyhow::Result<ExitCode> {
        let Self { sync, interval, inbox, git, mut running } = self;
        running.reconcile_repository();
        metrics::check_sync(&running.health, sync.state(), interval);
        let wakeup = Arc::new(Notify::new());
        let templates = running.template_repositories.clone();
        let listeners =
            vec![pushes::wake_sync(git, wakeup.clone()), pushes::fetch_templates(templates.clone())];
        let _following = task::spawn("following pushes", pushes::follow(inbox, listeners));
        let syncing = tokio::spawn(sync.run(interval, wakeup, running.stop.clone()));
        task::detach("following template repositories", templates.follow(running.stop.clone()));
        running.load_commits(&mut signals).await?;
        tracing::info!("stopping; builds continue, and the agent resumes them at its next start");
        tokio::select! {
            () = running.shut_down(syncing) => Ok(ExitCode::SUCCESS),
            () = signals.next() => Ok(ExitCode::FAILURE),
        }
    }
}

impl Running {
    /// Loads each synced commit until a signal.
    async fn load_commits(&mut self, signals: &mut Signals) -> anyhow::Result<()> {
        let mut failures = 0;
        loop {
            tokio::select! {
                changed = self.synced.changed() => {
                    changed.context("the sync has ended")?;
                    failures = self.loader.retry(0).await;
                }
                () = loader::pause_after(failures) => failures = self.loader.retry(failures).await,
                () = self.loader.readable_again() => failures = self.loader.retry(failures).await,
                () = signals.next() => return Ok(()),
                _ = select_all(&mut self.loops) => anyhow::bail!("a reconcile loop has ended"),
            }
        }
    }

    async fn shut_down(mut self, syncing: JoinHandle<()>) {
        self.health.enter(Stage::Stopping);
        // First, because reconciles record what was delivered.
        self.notifications.notifier.drain(LAST_NOTIFICATIONS).await;
        // From here on, the saved status of the repository belongs to the next agent.
        self.reconciling = None;
        self.end_reconciles().await;
        self.publisher.flush(LAST_PUSH).await;
        self.stop.cancel();
        // The sync stops between two attempts. One that hangs in a system call is abandoned.
        let _ = tokio::time::timeout(SYNC_END, syncing).await;
        (self.claim.release)().await;
    }
}
