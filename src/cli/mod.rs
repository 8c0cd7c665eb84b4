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

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    Run(Box<crate::settings::RunFlags>),
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
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Not clap's 2, which `run --once` uses for "stalled". Help and version are no errors.
            error.print()?;
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

/// Prints a result. A reader that has seen enough, like `head`, is no failure.
fn show(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
