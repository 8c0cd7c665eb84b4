//! `opsy check`: whether everything that `opsy run` needs is there, one line per check. Changes nothing.

use std::process::ExitCode;

use super::{network, target};
use crate::agent::check::check;
use crate::agent::check::report::{Check, Group, Outcome, Report};
use crate::api::text::one_line;
use crate::settings::{AccessFlags, Output, OutputFlags};
use crate::telemetry::out;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    output: OutputFlags,
}

/// Prints the report. The exit code is 1 if a check failed or could not be determined.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // SAFETY: the command has started no thread yet.
    let network = unsafe { network::read(&args.access.network)? };
    target::wait(async {
        let report = check(&args.access, &network).await;
        if args.output.format == Output::Json {
            out::document(&serde_json::to_string_pretty(&report)?)?;
        } else {
            out::lines(&text(&report))?;
        }
        Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for group in Group::ALL {
        let lines: String = report.of_group(group).map(line).collect();
        if !lines.is_empty() {
            text += &format!("{}\n{lines}\n", group.title());
        }
    }
    text + &summary(report)
}

fn line(check: &Check) -> String {
    let mark = match check.outcome {
        Outcome::Passed => '✔',
        Outcome::Failed => '✗',
        Outcome::Undetermined => '?',
        Outcome::Skipped => '-',
    };
    // The message of a server can have several lines, and the name of a check contains names that others chose.
    let remedy = check.remedy.as_deref().map(|remedy| format!("    → {}\n", one_line(remedy)));
    let (name, message) = (one_line(&check.name), one_line(&check.message));
    format!("  {mark} {name}: {message}\n{}", remedy.unwrap_or_default())
}

fn summary(report: &Report) -> String {
    let kinds = [
        (Outcome::Passed, "passed"),
        (Outcome::Failed, "failed"),
        (Outcome::Undetermined, "undetermined"),
        (Outcome::Skipped, "not checked"),
    ];
    let counts = kinds.into_iter().map(|(outcome, word)| (report.count(outcome), word));
    let counts: Vec<_> =
        counts.filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    format!("{}\n", counts.join(", "))
}
