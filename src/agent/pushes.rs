//! Push webhooks: from the endpoint to the loops that fetch, on this replica or on the one that works.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use super::inputs::Inputs;
use crate::api::{Pushed, Pushes};
use crate::engine::kubernetes::{Cluster, lease, memory};
use crate::git::Handle;
use crate::git::address::normalized;
use crate::git::templates::sources::Sources;
use crate::telemetry::health::Health;
use crate::wait;
use crate::webhook::{Inbox, Receiver, Secret};

/// Pushes in quick succession cause one fetch, and one more after this pause.
const PAUSE: Duration = Duration::from_secs(1);

/// Decides whether a push concerns one user of repositories, and wakes it.
pub type Listener = Box<dyn Fn(&Pushed) + Send + Sync>;

/// Serves the webhook if a flag asks for it. With `--once`, nothing waits for pushes.
///
/// # Errors
/// There is no usable secret, or the address cannot be listened on.
pub async fn receive(
    inputs: &Inputs,
    health: &Arc<Health>,
    inbox: &Inbox,
) -> anyhow::Result<Option<AbortOnDropHandle<()>>> {
    let (flags, once) = (&inputs.flags.webhook, inputs.flags.once);
    let Some(address) = flags.webhook_listen.filter(|_| !once) else { return Ok(None) };
    let file = flags.webhook_secret_file.clone().map(Secret::File);
    let secret = file.or_else(|| inputs.secrets.webhook.clone().map(Secret::Value));
    let secret = secret.ok_or_else(|| {
        anyhow::anyhow!("--webhook-listen needs a secret: set --webhook-secret-file or OPSY_WEBHOOK_SECRET")
    })?;
    let receiver = Receiver::new(secret, inbox.clone(), health.clone()).await?;
    Ok(Some(receiver.serve(address).await?))
}

/// Passes pushes to the listeners, at most once per pause.
pub async fn follow(inbox: Inbox, listeners: Vec<Listener>) {
    loop {
        for pushed in inbox.next().await {
            listeners.iter().for_each(|listener| listener(&pushed));
        }
        wait::pause(PAUSE).await;
    }
}

/// Wakes the sync for pushes to its repository and branch.
pub fn wake_sync(git: Handle, wakeup: Arc<Notify>) -> Listener {
    Box::new(move |pushed| {
        let address = &git.options().address;
        let branch = git.branch();
        if pushed.concerns(|pushed| address.is_same(pushed), branch.as_deref()) {
            tracing::info!("a push was reported: fetching");
            wakeup.notify_one();
            return;
        }
        // Without the user part, which may be a credential.
        let pushed_to: Vec<String> = pushed.addresses.iter().map(|address| normalized(address)).collect();
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

/// Records pushes on the Lease for the replica that works. Never returns.
pub async fn forward(cluster: &Cluster, lease: &str, inbox: &Inbox) -> Infallible {
    loop {
        let pushes = inbox.next().await;
        if let Err(error) = memory::note_pushes(cluster, lease, &pushes, &lease::identity()).await {
            tracing::warn!(
                %error,
                "the replica that works is not notified of a push: it fetches at its next interval"
            );
        }
        wait::pause(PAUSE).await;
    }
}

/// Takes over the pushes that other replicas record on the Lease.
pub async fn accept_forwarded(mut recorded: watch::Receiver<Pushes>, inbox: Inbox) {
    let mut before = recorded.borrow_and_update().clone();
    while recorded.changed().await.is_ok() {
        let now = recorded.borrow_and_update().clone();
        inbox.put(now.since(&before));
        before = now;
    }
}
