//! `opsy run`: starts the agent and prints its progress.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::thread::available_parallelism;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::progress;
use crate::agent::{Agent, Signals, heap};
use crate::engine::Standing;
use crate::git;
use crate::settings::{Output, RunFlags};
use crate::telemetry::{self, out};

/// The agent mostly waits. On a large node a worker per core would only take memory.
const WORKERS: usize = 4;

/// Runs the agent until it is done or receives a signal.
pub fn run(flags: RunFlags) -> anyhow::Result<ExitCode> {
    heap::share();
    let people = match flags.output {
        Output::Auto => std::io::stdout().is_terminal(),
        Output::Text => true,
        Output::Json => false,
    };
    telemetry::start(people);
    let network = flags.network.read().map_err(anyhow::Error::msg)?;
    if let Some(proxy) = network.proxies.https().or(network.proxies.http()) {
        tracing::info!(%proxy, no_proxy = network.proxies.no_proxy(), "requests go through a proxy");
    }
    if let Some(authorities) = &network.authorities {
        // SAFETY: the runtime is made below, and nothing else has started a thread.
        unsafe { git::trust(authorities)? };
    }
    // A build runs as the same user: it must not read the agent's memory and environment. Where the kernel refuses, which
    // it has no reason for, the agent is as safe as other programs are.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "builds of this user can read the environment of the agent");
    }
    let workers = available_parallelism().map_or(1, |cores| cores.get().min(WORKERS));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let outcome = runtime.block_on(async {
        let once = flags.once;
        // Before the lock or the Lease shows that it runs.
        let mut signals = Signals::new()?;
        let agent = tokio::select! {
            agent = Agent::start(flags, network) => agent?,
            () = signals.next() => {
                tracing::info!("stopped during the start");
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
            out::progress(summary(board.standings().into_values().collect()));
        }
        anyhow::Ok(code)
    });
    // A thread of Git may hang in a system call: it is left behind.
    runtime.shutdown_background();
    outcome
}

fn summary(standings: Vec<Standing>) -> String {
    let count = |standing| standings.iter().filter(|s| **s == standing).count();
    let words = [
        (Standing::Settled, "in sync"),
        (Standing::Busy, "in progress"),
        (Standing::Waiting, "waiting on purpose (opsy status shows for what)"),
        (Standing::Failing, "failing, will be retried (opsy status shows why)"),
        (Standing::Stalled, "needing attention (opsy status shows why)"),
    ];
    let parts = words.into_iter().filter(|(standing, _)| count(*standing) > 0);
    let parts: Vec<_> = parts.map(|(standing, words)| format!("{} {words}", count(standing))).collect();
    if parts.is_empty() { "no objects in the repository".to_owned() } else { parts.join(", ") }
}
