//! The format of commands that print either text for people or a document for machines.

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

use crate::manifest::write::to_yaml;
use crate::telemetry::out;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Text for people
    Text,
    /// JSON for machines
    Json,
    /// The same as YAML
    Yaml,
}

/// Prints the text, or the value for machines.
pub fn print(format: Format, value: &impl Serialize, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    match format {
        Format::Text => out::lines(&text()),
        Format::Json => out::document(&serde_json::to_string_pretty(value)?),
        Format::Yaml => out::bytes(to_yaml(value).context("the output is not valid YAML")?.as_bytes()),
    }?;
    Ok(())
}
