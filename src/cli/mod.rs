//! The command line: one file per subcommand. They print and decide nothing.

pub mod annotate;
pub mod cancel;
pub mod crds;
pub mod logs;
pub mod packer_run;
pub mod progress;
pub mod reconcile;
pub mod run;
pub mod status;
pub mod suspend;
pub mod target;
pub mod validate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::settings;

/// Keeps machine images, and the nodes that run them, as a Git repository says.
#[derive(Parser)]
#[command(name = "opsy", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Work by a repository: build images, roll them out, commit status back.
    Run(Box<settings::RunFlags>),
    /// Check manifests in a folder, without AWS or a cluster.
    Validate(validate::Args),
    /// Show how builders and refreshers stand.
    Status(status::Args),
    /// Print what Packer said in a builder's last run.
    Logs(logs::Args),
    /// Have the agent look at an object anew, and say what it found.
    Reconcile(reconcile::Args),
    /// Start nothing new of an object, without a commit.
    Suspend(annotate::Named),
    /// Take `suspend` back.
    Resume(annotate::Named),
    /// Stop a builder's build that is under way.
    Cancel(annotate::Named),
    /// Print the custom resource definitions, or write all schemas to a folder.
    Crds(crds::Args),
    /// Run Packer once in a run's folder.
    #[command(hide = true)]
    PackerRun(packer_run::Args),
}

/// Runs the command the user gave.
pub fn main() -> anyhow::Result<ExitCode> {
    // SAFETY: this is what the program begins with, and nothing has started a thread.
    unsafe { settings::forget_empty_variables() };
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Not clap's 2, which `run --once` uses for "stalled". Help and version are no errors.
            let _ = error.print();
            return Ok(if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS });
        }
    };
    match cli.command {
        Command::Run(flags) => run::run(*flags),
        Command::Validate(args) => validate::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Reconcile(args) => reconcile::run(&args),
        Command::Suspend(args) => suspend::suspend(&args),
        Command::Resume(args) => suspend::resume(&args),
        Command::Cancel(args) => cancel::run(&args),
        Command::Crds(args) => crds::run(&args),
        Command::PackerRun(args) => Ok(packer_run::run(&args)),
    }
}

/// An error with its causes, each said once: some name theirs in their own words.
pub fn words(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        said if said.contains(&cause) => said.to_owned(),
        said => format!("{said}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;
    use clap::CommandFactory as _;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow!("no such file").context("reading k: no such file").context("no cluster");
        assert_eq!(super::words(&error), "no cluster: reading k: no such file");
    }

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
