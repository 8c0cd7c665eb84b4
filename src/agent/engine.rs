//! What an engine hands the agent, whichever it is, and the work while the agent holds its claim.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::api::Owner;
use crate::engine::objects::{Objects, Queues};
use crate::engine::{Home, Runs};

/// An engine, ready to work.
pub struct Engine {
    pub objects: Arc<Objects>,
    pub queues: Queues,
    pub home: Arc<dyn Home>,
    pub runs: Arc<dyn Runs>,
    /// Owner where `opsy.yaml` names none.
    pub owner: Owner,
    /// The agent's own namespace; there is none without a cluster.
    pub namespace: Option<String>,
    /// Whose agent it was so far.
    pub noted_owner: Option<String>,
    /// Folder of the bare clone.
    pub clone: PathBuf,
    /// No other agent's clone is ever ahead of this one: it may be started from while the remote is away.
    pub clone_is_newest: bool,
    pub claim: Claim,
}

/// What makes this the one agent that works. Given up last.
pub struct Claim {
    /// Ends when the claim is lost, saying how: nothing may be done any more.
    pub lost: BoxFuture<'static, String>,
    /// Lets the next agent take over at once.
    pub give_up: Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>,
}

/// Works while the claim is held. Whatever is being done, a take-over or the end, losing it comes first.
pub async fn while_held(
    lost: BoxFuture<'static, String>,
    work: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    tokio::select! {
        biased;
        why = lost => anyhow::bail!("{why}"),
        code = work => code,
    }
}
