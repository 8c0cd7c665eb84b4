//! `opsy packer-run DIR` (hidden): runs a build on this machine with the same runner as in a pod.

use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Args {
    /// Directory of the run
    dir: PathBuf,
}

/// Starts a new session, so that the build outlives the agent and its terminal, and runs the runner.
pub fn run(args: &Args) -> ExitCode {
    if let Err(error) = rustix::process::setsid() {
        // This process already leads a session, so the build outlives the agent all the same.
        crate::telemetry::out::error(format_args!("cannot start a new session: {error}"));
    }
    opsy_runner::run(&args.dir)
}
