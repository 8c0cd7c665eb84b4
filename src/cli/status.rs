//! `opsy status`: prints the status of builders and refreshers, from a state directory or a cluster. Read-only.
//!
//! `objects` reads and selects them, `tables` formats them, and `watch` prints what changes.

pub mod tables;
mod watch;

use std::process::ExitCode;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde_json::Value;

use super::format;
use super::objects::{Object, Observed, ReadFlags};
use super::select::SelectFlags;
use super::table::table;
use super::target;
use crate::api::GROUP;
use crate::telemetry::out;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    select: SelectFlags,
    #[command(flatten)]
    read: ReadFlags,
    /// Output format
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value = "text")]
    output: Output,
    /// Show a live view on a terminal, else print what changes, until interrupted
    #[arg(long, short)]
    watch: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Text,
    Wide,
    Json,
    Yaml,
    Name,
}

impl Output {
    /// Whether it is for people, with the problems of the repository.
    fn is_table(self) -> bool {
        matches!(self, Self::Text | Self::Wide)
    }
}

impl ValueEnum for Output {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Text, Self::Wide, Self::Json, Self::Yaml, Self::Name]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Text => PossibleValue::new("text").alias("auto").help("A table"),
            Self::Wide => PossibleValue::new("wide").help("A table with more columns"),
            Self::Json => PossibleValue::new("json").help("JSON for machines"),
            Self::Yaml => PossibleValue::new("yaml").help("The same as YAML"),
            Self::Name => PossibleValue::new("name").help("Only the names, as other commands accept them"),
        })
    }
}

/// Prints the status once, or whenever it changes. The exit code is 1 if an object that is named does not
/// exist, or if a selected one cannot be read.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    target::wait(async {
        let reader = args.read.connect().await?;
        if args.watch {
            return watch::follow(args, &reader).await;
        }
        let mut observed = reader.read().await?;
        let missing = args.select.select(&mut observed.objects, &mut observed.unreadable);
        observed.errors(args.output.is_table()).for_each(out::error);
        print(args, &observed)?;
        Ok(reader.report(&missing, &observed))
    })
}

fn print(args: &Args, observed: &Observed) -> anyhow::Result<()> {
    let Observed { objects, repository, nothing, .. } = observed;
    match args.output {
        Output::Text | Output::Wide => {
            let repository = repository.clone().unwrap_or_default();
            out::lines(&table(&tables::repository(&repository)))?;
            if observed.is_empty() {
                let none = if args.select.is_all() { nothing } else { "No object matches." };
                out::line(none)?;
            }
            out::lines(&tables::all(objects, args.output == Output::Wide))?;
        }
        Output::Json => {
            format::print(format::Format::Json, &list(objects), String::new)?;
        }
        Output::Yaml => {
            format::print(format::Format::Yaml, &list(objects), String::new)?;
        }
        Output::Name => {
            out::lines(&objects.iter().map(|object| name(object) + "\n").collect::<String>())?;
        }
    }
    Ok(())
}

fn list(objects: &[Object]) -> Value {
    objects.iter().map(item).collect()
}

/// An object for machines.
fn item(object: &Object) -> Value {
    let mut item = serde_json::json!({
        "kind": object.id.kind.to_string(),
        "namespace": object.id.key.namespace,
        "name": object.id.key.name,
        "labels": object.labels,
        "generation": object.generation,
        "status": object.status,
    });
    if !object.held.is_empty() {
        item["held"] = serde_json::json!(object.held);
    }
    item
}

/// The name of an object as `kubectl get -o name` prints it.
fn name(object: &Object) -> String {
    format!("{}.{GROUP}/{}", object.id.kind.to_string().to_ascii_lowercase(), object.id.key.name)
}
