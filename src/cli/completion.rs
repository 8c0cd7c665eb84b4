//! `opsy completion SHELL`: prints the script with which a shell completes commands, flags and names of objects.
//!
//! The script calls `opsy` again for each completion, so that it fits the installed version and knows the objects.

use std::ffi::OsStr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Shells};

use super::objects as live;
use super::place::PlaceFlags;
use super::target;
use crate::api::Kind;
use crate::telemetry::out;

/// The variable by which the script asks for completions.
const VARIABLE: &str = "COMPLETE";
/// A person waits for the completion: a cluster that takes longer contributes no names.
const LIMIT: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
            Self::Powershell => "powershell",
        }
    }
}

/// Prints the script.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let shells = Shells::builtins();
    let shell = shells.completer(args.shell.name()).expect("the library knows these shells");
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "opsy", "opsy", "opsy", &mut script)?;
    out::bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Handles a request of the script, if this process was started by one.
pub fn answer<C: CommandFactory>() {
    let command: fn() -> Command = C::command;
    CompleteEnv::with_factory(command).var(VARIABLE).complete();
}

/// The objects that exist where commands act, as `KIND/NAME`. Without access to them, there are none.
fn objects() -> Vec<CompletionCandidate> {
    let names = target::wait(async {
        let names = tokio::time::timeout(LIMIT, live::names(&PlaceFlags::default())).await;
        anyhow::Ok(names.unwrap_or_else(|_| Ok(Vec::new())).unwrap_or_default())
    });
    let shown = |(kind, name): (Kind, String)| CompletionCandidate::new(format!("{}/{name}", kind.short()));
    names.unwrap_or_default().into_iter().map(shown).collect()
}

/// Completions for a value that names an object.
pub fn complete(current: &OsStr) -> Vec<CompletionCandidate> {
    let start = current.to_string_lossy();
    let starts =
        |candidate: &CompletionCandidate| candidate.get_value().to_string_lossy().starts_with(&*start);
    objects().into_iter().filter(starts).collect()
}
