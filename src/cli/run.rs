//! `opsy run`: starts the agent and prints its progress.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::thread::available_parallelism;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::progress;
use crate::agent::{Agent, Signals, memory};
use crate::engine::ObjectHealth;
use crate::git;
use crate::settings::{Output, RunFlags};
use crate::telemetry::{self, out};

/// Maximum number of worker threads. The agent mostly waits: on a large node, a thread per core would only use memory.
const WORKERS: usize = 4;

/// Runs the agent until it is done or receives a signal.
pub fn run(flags: RunFlags) -> anyhow::Result<ExitCode> {
    memory::share();
    let people = match flags.output.format {
        Output::Auto => std::io::stdout().is_terminal(),
        Output::Text => true,
        Output::Json => false,
    };
    telemetry::start(people);
    let network = flags.access.network.read().map_err(anyhow::Error::msg)?;
    if let Some(proxy) = network.proxies.https().or(network.proxies.http()) {
        tracing::info!(%proxy, no_proxy = network.proxies.no_proxy(), "requests go through a proxy");
    }
    if let Some(authorities) = &network.authorities {
        // SAFETY: the runtime is created below, and nothing else has started a thread.
        unsafe { git::trust(authorities)? };
    }
    // A build runs as the same user and must not read the agent's memory and environment. The kernel has no reason to
    // refuse this protection; if it does, the agent is only as well protected as any other program.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "builds of this user can read the memory and environment of the agent");
    }
    let workers = available_parallelism().map_or(1, |cores| cores.get().min(WORKERS));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let once = flags.once;
        // Handle signals before the lock or the Lease shows that the agent is running.
        let mut signals = Signals::new()?;
        let agent = tokio::select! {
            agent = Agent::start(flags, network) => agent?,
            () = signals.next() => {
                tracing::info!("stopped during startup");
                return Ok(if once { ExitCode::FAILURE } else { ExitCode::SUCCESS });
            }
        };
        let (objects, runs) = agent.parts();
        let board = objects.board.clone();
        if people {
            tokio::spawn(progress::follow(board.listen(), runs));
        }
        let code = if once { agent.once(signals).await? } else { agent.run(signals).await? };
        if people && once {
            out::progress(summary(board.health().into_values().collect()));
        }
        anyhow::Ok(code)
    });
    // Do not wait for a Git thread that hangs in a system call.
    runtime.shutdown_background();
    outcome
}

fn summary(all: Vec<ObjectHealth>) -> String {
    let count = |health| all.iter().filter(|one| **one == health).count();
    let words = [
        (ObjectHealth::Settled, "in sync"),
        (ObjectHealth::Busy, "in progress"),
        (ObjectHealth::Waiting, "waiting on purpose (opsy status shows why)"),
        (ObjectHealth::Failing, "failing, will be retried (opsy status shows why)"),
        (ObjectHealth::Stalled, "needing attention (opsy status shows why)"),
    ];
    let parts = words.into_iter().filter(|(health, _)| count(*health) > 0);
    let parts: Vec<_> = parts.map(|(health, words)| format!("{} {words}", count(health))).collect();
    if parts.is_empty() { "no objects in the repository".to_owned() } else { parts.join(", ") }
}
