//! `opsy status`: how builders and refreshers stand, from the state folder. Reads only.

use std::process::ExitCode;

use serde_json::Value;

use crate::api::conditions::{PUBLISHED, READY};
use crate::api::{Kind, ObjectKey};
use crate::engine::standalone::home::{self, Stored};
use crate::engine::standalone::objects_dir;
use crate::settings::{Output, StateFlags};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    state: StateFlags,
    #[arg(long, value_enum, default_value = "auto")]
    output: Output,
}

/// Prints a table, or JSON for machines.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let dir = args.state.dir()?;
    let objects = home::read_all(&objects_dir(&dir))?;
    if args.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&json(&objects))?);
        return Ok(ExitCode::SUCCESS);
    }
    if objects.is_empty() {
        println!("Nothing known in {}: has `opsy run` worked with this state folder?", dir.display());
        return Ok(ExitCode::SUCCESS);
    }
    print_table(&builders(&objects));
    print_table(&refreshers(&objects));
    Ok(ExitCode::SUCCESS)
}

fn json(objects: &[(ObjectKey, Stored)]) -> Value {
    let item = |(object, stored): &(ObjectKey, Stored)| {
        serde_json::json!({
            "kind": object.kind.to_string(),
            "namespace": object.key.namespace,
            "name": object.key.name,
            "generation": stored.generation,
            "status": stored.status,
        })
    };
    Value::Array(objects.iter().map(item).collect())
}

fn builders(objects: &[(ObjectKey, Stored)]) -> Vec<Vec<String>> {
    let mut rows = vec![row(&["PACKERBUILDER", "READY", "REASON", "IMAGE", "BASE IMAGE", "MESSAGE"])];
    for (object, stored) in objects.iter().filter(|(object, _)| object.kind == Kind::PackerBuilder) {
        let [ready, reason, message] = condition(&stored.status, READY);
        rows.push(vec![
            object.key.to_string(),
            ready,
            reason,
            text(&stored.status["lastRunBuiltImageID"]),
            text(&stored.status["lastRunBaseImageID"]),
            message + &unpublished(&stored.status),
        ]);
    }
    rows
}

fn refreshers(objects: &[(ObjectKey, Stored)]) -> Vec<Vec<String>> {
    let mut rows = vec![row(&["AMIREFRESHER", "READY", "REASON", "TARGET", "NODE GROUP", "IMAGE", "STATE"])];
    for (object, stored) in objects.iter().filter(|(object, _)| object.kind == Kind::AMIRefresher) {
        let status = &stored.status;
        let [ready, reason, message] = condition(status, READY);
        rows.push(vec![object.key.to_string(), ready, reason, text(&status["targetAMI"]), message]);
        for group in status["nodeGroups"].as_array().into_iter().flatten() {
            let state = [text(&group["state"]), group["reason"].as_str().unwrap_or_default().to_owned()];
            let state = state.join(" ").trim().to_owned();
            let cells = ["", "", "", ""].map(str::to_owned).into_iter();
            rows.push(cells.chain([text(&group["name"]), text(&group["currentAMI"]), state]).collect());
        }
    }
    rows
}

/// Status, reason and message of a condition.
fn condition(status: &Value, kind: &str) -> [String; 3] {
    let found = status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == kind);
    let Some(found) = found else { return ["Unknown", "-", "-"].map(str::to_owned) };
    ["status", "reason", "message"].map(|field| text(&found[field]))
}

fn unpublished(status: &Value) -> String {
    match condition(status, PUBLISHED) {
        [status, _, message] if status == "False" => format!(" (not published: {message})"),
        _ => String::new(),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// Columns as wide as their widest cell; the last one is as long as it is.
fn print_table(rows: &[Vec<String>]) {
    if rows.len() < 2 {
        return;
    }
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let ends_row = |row: &Vec<String>| row.len() > column + 1;
        rows.iter().filter(|row| ends_row(row)).map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    println!();
}
