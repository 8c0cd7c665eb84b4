//! `opsy packer-run DIR`, hidden: the runner's path on one machine, the same as in a pod.

use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Args {
    /// Directory of the run
    dir: PathBuf,
}

/// Leaves the agent's session, so that the build outlives the agent and its terminal, and runs.
pub fn run(args: &Args) -> ExitCode {
    if let Err(error) = rustix::process::setsid() {
        // Already the leader of a session: nothing to leave.
        crate::telemetry::out::error(format_args!("no session of its own: {error}"));
    }
    opsy_runner::run(&args.dir)
}
