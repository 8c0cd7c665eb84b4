//! `opsy crds`: the custom resource definitions for API servers, and the schemas for editors.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use crate::agent::check::report as checks;
use crate::api::schema;
use crate::manifest::write::to_yaml;
use crate::preview::report::Report;
use crate::settings::RepoSettings;
use crate::telemetry::out;

#[derive(clap::Args)]
pub struct Args {
    /// Write the definitions and the schemas for editors to this directory instead of printing the definitions
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the definitions, ready for `kubectl apply`, or writes everything to a directory.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(dir) = &args.dir else {
        for (_, crd) in schema::crds() {
            out::bytes(format!("---\n{}", to_yaml(crd)?).as_bytes())?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    for (name, text) in files()? {
        let path = dir.join(name);
        let parent = path.parent().unwrap_or(dir);
        fs::create_dir_all(parent).with_context(|| format!("{} cannot be created", parent.display()))?;
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        out::line(path.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Every generated file: its path in the directory, and its content.
pub fn files() -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for (kind, crd) in schema::crds() {
        let plural = crd["spec"]["names"]["plural"].as_str().unwrap_or_default();
        files.push((format!("crds/{plural}.yaml"), to_yaml(crd)?));
        files.push((format!("{}.json", kind.to_string().to_lowercase()), to_json(&schema::editor(*kind))?));
    }
    let mut settings = schema::closed(schema::of::<RepoSettings>());
    settings["title"] = json!("opsy.yaml");
    files.push(("opsy.json".to_owned(), to_json(&settings)?));
    let mut plan = serde_json::to_value(schemars::schema_for!(Report))?;
    plan["title"] = json!("Output of `opsy plan --output json`");
    files.push(("plan.json".to_owned(), to_json(&plan)?));
    let mut check = serde_json::to_value(schemars::schema_for!(checks::Report))?;
    check["title"] = json!("Output of `opsy check --output json`");
    files.push(("check.json".to_owned(), to_json(&check)?));
    Ok(files)
}

fn to_json(value: &Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

#[cfg(test)]
mod tests;
