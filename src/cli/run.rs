//! `opsy run`: starts the agent and prints its progress.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::thread::available_parallelism;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::objects::{Object, held};
use super::progress::Progress;
use super::status::tables;
use super::{live, network};
use crate::agent::{Agent, Signals, memory};
use crate::api::Kind;
use crate::api::network::Network;
use crate::engine::objects::Objects;
use crate::settings::{Output, RunFlags};
use crate::telemetry::out::View;
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
    // SAFETY: the runtime is created below, and nothing else has started a thread.
    unsafe { network::trust(&network)? };
    // A build runs as the same user and must not read the agent's memory and environment. The kernel has no reason to
    // refuse this protection; if it does, the agent is only as well protected as any other program.
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "builds of this user can read the memory and environment of the agent");
    }
    let workers = available_parallelism().map_or(1, |cores| cores.get().min(WORKERS));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?;
    let outcome = runtime.block_on(work(flags, network, people));
    // Do not wait for a Git thread that hangs in a system call.
    runtime.shutdown_background();
    outcome
}

/// Runs the agent to its end. Prints its progress, and with `--once` the result, for people.
async fn work(flags: RunFlags, network: Network, people: bool) -> anyhow::Result<ExitCode> {
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
    let view = (people && once).then(View::begin).flatten();
    let has_view = view.is_some();
    let progress = people.then(|| Progress::start((objects.clone(), runs), view));
    let ended = match once {
        true => agent
            .once(signals)
            .await
            .map(|finished| (finished.code, live::summary(finished.health.into_values()))),
        false => agent.run(signals).await.map(|code| (code, String::new())),
    };
    if let Some(progress) = progress {
        progress.end().await;
    }
    if has_view && let Err(error) = print_table(&objects) {
        out::error(super::format_error(&error));
    }
    let (code, summary) = ended?;
    if people && once {
        out::progress(summary);
    }
    Ok(code)
}

/// Prints all objects, as `opsy status` does.
fn print_table(objects: &Objects) -> anyhow::Result<()> {
    let builders = objects.builders.all().map(|builder| Object::of(Kind::PackerBuilder, &builder));
    let refreshers = objects.refreshers.all().map(|refresher| Object::of(Kind::AMIRefresher, &refresher));
    let mut all = builders.chain(refreshers).collect::<anyhow::Result<Vec<_>>>()?;
    all.sort_by(|a, b| a.id.cmp(&b.id));
    held::mark(&mut all);
    out::lines(&tables::all(&all, false))?;
    Ok(())
}
