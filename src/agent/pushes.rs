//! Push webhooks, wired: from the endpoint to the loop that fetches, on this replica or on the one that works.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use crate::api::{Pushed, Pushes};
use crate::engine::kubernetes::{Cluster, lease, memory};
use crate::git::sources::Sources;
use crate::git::{Handle, backoff};
use crate::settings::{EnvSecrets, RunFlags};
use crate::telemetry::health::Health;
use crate::webhook::{Inbox, Receiver, Secret};

/// A burst of pushes is one fetch, and another one after this.
const PAUSE: Duration = Duration::from_secs(1);

/// Decides what a push means to one user of repositories, and wakes it.
pub type Listener = Box<dyn Fn(&Pushed) + Send + Sync>;

/// Serves the endpoint where a flag asks for it. A replica that stands by serves it, too. With `--once`, the repository is
/// fetched once and nothing waits for pushes.
pub async fn receive(
    flags: &RunFlags,
    secrets: &EnvSecrets,
    health: &Arc<Health>,
    inbox: &Inbox,
) -> anyhow::Result<Option<AbortOnDropHandle<()>>> {
    let Some(address) = flags.webhook.webhook_listen.filter(|_| !flags.once) else { return Ok(None) };
    let file = flags.webhook.webhook_secret_file.clone().map(Secret::File);
    let secret = file.or_else(|| secrets.webhook.clone().map(Secret::Value));
    let secret = secret.ok_or_else(|| {
        anyhow::anyhow!("--webhook-listen needs a secret: set --webhook-secret-file or OPSY_WEBHOOK_SECRET")
    })?;
    let receiver = Receiver::new(secret, inbox.clone(), health.clone()).await?;
    Ok(Some(receiver.serve(address).await?))
}

/// Passes pushes on to the listeners, at most once per second.
pub async fn follow(inbox: Inbox, listeners: Vec<Listener>) {
    loop {
        for pushed in inbox.next().await {
            listeners.iter().for_each(|listener| listener(&pushed));
        }
        backoff::pause(PAUSE).await;
    }
}

/// Wakes the sync for pushes to its repository and branch.
pub fn wake_sync(git: Handle, wake: Arc<Notify>) -> Listener {
    Box::new(move |pushed| {
        let address = &git.options().address;
        let branch = git.branch();
        if pushed.concerns(|pushed| address.is_same(pushed), branch.as_deref()) {
            tracing::info!("a push was reported: fetching");
            wake.notify_one();
            return;
        }
        let pushed_to: Vec<String> = pushed.addresses.iter().map(|address| identity(address)).collect();
        tracing::info!(
            repository = address.identity(),
            branch,
            pushed_to = pushed_to.join(", "),
            pushed_branch = pushed.branch,
            "a push to another repository or branch was reported: the agent's own repository is not fetched"
        );
    })
}

/// Fetches the template repositories that pushes concern.
pub fn fetch_templates(repositories: Sources) -> Listener {
    Box::new(move |pushed| {
        drop(repositories.fetch_now(&pushed.addresses, pushed.branch.as_deref()));
    })
}

/// An address without a user, as addresses are compared.
fn identity(address: &str) -> String {
    crate::git::address::normal(address)
}

/// Notes pushes on the Lease for the replica that works. Ends never.
pub async fn pass_on(cluster: &Cluster, lease: &str, inbox: &Inbox) -> std::convert::Infallible {
    loop {
        let pushes = inbox.next().await;
        let noted = memory::note_pushes(cluster, lease, &pushes, &lease::identity()).await;
        if let Err(error) = noted {
            tracing::warn!(
                %error,
                "the replica that works is not notified of a push: it fetches at its next interval"
            );
        }
        backoff::pause(PAUSE).await;
    }
}

/// Takes up what other replicas note on the Lease.
pub async fn take_up(mut noted: watch::Receiver<Pushes>, inbox: Inbox) {
    let mut before = noted.borrow_and_update().clone();
    while noted.changed().await.is_ok() {
        let now = noted.borrow_and_update().clone();
        inbox.put(now.since(&before));
        before = now;
    }
}
