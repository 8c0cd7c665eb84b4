//! The format of commands that print either text for people or a document for machines.

use std::borrow::Cow;

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
        Format::Json => out::document(&json(value)?),
        Format::Yaml => out::bytes(yaml(value)?.as_bytes()),
    }?;
    Ok(())
}

/// The value as JSON that does not control a terminal.
fn json(value: &impl Serialize) -> anyhow::Result<String> {
    Ok(out::escaped(&serde_json::to_string_pretty(value)?).into_owned())
}

/// The value as YAML that does not control a terminal. The YAML writer escapes control characters, but not those that
/// reorder a line. With these, the value is printed as JSON, which is YAML, too.
pub fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    let text = to_yaml(value).context("the output is not valid YAML")?;
    match out::escaped(&text) {
        Cow::Borrowed(_) => Ok(text),
        Cow::Owned(_) => Ok(json(value)? + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn documents_control_no_terminal_and_keep_their_values() {
        for text in [
            "plain: ü\t\n\"quoted\"",
            "\u{1b}]0;title\u{7}\r\u{7f}\u{80}\u{85}\u{9b}2J\u{9f}",
            "\u{9b} \u{202a}\u{202e}\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}",
        ] {
            let value = json!({"author": text, "subjects": [text]});
            let (json, yaml) = (super::json(&value).expect("JSON"), yaml(&value).expect("YAML"));
            for document in [&json, &yaml] {
                assert_eq!(&out::visible(document), document, "nothing is left to escape");
            }
            assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON"), value);
            assert_eq!(serde_saphyr::from_str::<Value>(&yaml).expect("YAML"), value);
        }
    }
}
