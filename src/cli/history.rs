//! `opsy history KIND/NAME`: the last runs of a builder, or the last rollouts of a refresher, newest first. Read-only.

use std::collections::BTreeSet;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::annotate::Named;
use super::format::{self, Format};
use super::table::{optional, row, short, table};
use super::target::{self, Target};
use crate::announce::took;
use crate::api::Kind;
use crate::api::builder::{PackerBuilderStatus, RunRecord};
use crate::api::refresher::{AMIRefresherStatus, RolloutGroup, RolloutRecord};
use crate::api::words::{RolloutResult, RunPhase};
use crate::telemetry::out;

/// The result that is shown for a rollout in progress.
const IN_PROGRESS: &str = "InProgress";

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    object: Named,
    /// Output format
    #[arg(long, short, value_enum, value_name = "FORMAT", default_value = "text")]
    output: Format,
}

/// Prints the history.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    target::wait(async {
        let live = args.object.find().await?;
        let (spec, status) = (&live.object["spec"], &live.object["status"]);
        let rows = match args.object.target.kind {
            Kind::PackerBuilder => runs(&decoded(status)),
            Kind::AMIRefresher => rollouts(&decoded(status), builder(args, spec).await.as_ref()),
        };
        if rows.len() < 2 && args.output == Format::Text {
            out::line(format_args!("{} has no history yet ({})", live.name, live.place()))?;
            return Ok(ExitCode::SUCCESS);
        }
        let history: Vec<Value> = match args.object.target.kind {
            Kind::PackerBuilder => records(live_run(&decoded(status)), status),
            Kind::AMIRefresher => records(live_rollout(&decoded(status)), status),
        };
        format::print(args.output, &history, || table(&rows))?;
        Ok(ExitCode::SUCCESS)
    })
}

fn decoded<T: Default + serde::de::DeserializeOwned>(status: &Value) -> T {
    serde_json::from_value(status.clone()).unwrap_or_default()
}

/// The builder that a refresher follows, with its runs. Without it, the reasons of rollouts are less precise.
async fn builder(args: &Args, spec: &Value) -> Option<(Target, Vec<RunRecord>)> {
    let name = spec["amiFrom"]["packerBuilder"].as_str()?.to_owned();
    let target = Target { kind: Kind::PackerBuilder, name };
    let named = Named { target, place: args.object.place.clone() };
    let status: PackerBuilderStatus = decoded(&named.find().await.ok()?.object["status"]);
    Some((named.target, status.history?))
}

/// The recorded runs or rollouts, with the one in progress.
fn records(live: Option<impl Serialize>, status: &Value) -> Vec<Value> {
    let live = live.and_then(|live| serde_json::to_value(live).ok());
    live.into_iter().chain(status["history"].as_array().cloned().unwrap_or_default()).collect()
}

/// The run in progress.
fn live_run(status: &PackerBuilderStatus) -> Option<RunRecord> {
    let phase = status.job_status.as_ref().filter(|phase| RunPhase::parse(phase).is_some())?;
    let facts = status.job_facts.as_ref()?;
    Some(RunRecord {
        id: facts.build.clone(),
        result: phase.clone(),
        why: Some(facts.why.clone()),
        commit: Some(facts.commit.clone()),
        started_at: facts.created_at,
        ..RunRecord::default()
    })
}

/// The rollout in progress.
fn live_rollout(status: &AMIRefresherStatus) -> Option<RolloutRecord> {
    let live = status.rollout.as_ref().filter(|rollout| rollout.finished_at.is_none())?;
    Some(RolloutRecord {
        id: live.id.clone(),
        target: live.target.clone(),
        result: IN_PROGRESS.to_owned(),
        started_at: live.started_at,
        ..RolloutRecord::default()
    })
}

/// The runs of a builder, with the one in progress.
fn runs(status: &PackerBuilderStatus) -> Vec<Vec<String>> {
    let mut rows =
        vec![row(&["BUILD", "RESULT", "WHY", "STARTED", "DURATION", "COMMIT", "IMAGES", "MESSAGE"])];
    rows.extend(live_run(status).iter().map(run_row));
    rows.extend(status.history.iter().flatten().map(run_row));
    rows
}

fn run_row(run: &RunRecord) -> Vec<String> {
    vec![
        run.id.clone(),
        run.result.clone(),
        optional(run.why.as_ref()),
        optional(run.started_at.as_ref()),
        duration(run.started_at, run.ended_at),
        run.commit.as_deref().map_or_else(|| "-".to_owned(), short),
        list(run.images.iter().flatten()),
        run.explained().unwrap_or_default(),
    ]
}

/// The rollouts of a refresher, with the one in progress.
fn rollouts(status: &AMIRefresherStatus, builder: Option<&(Target, Vec<RunRecord>)>) -> Vec<Vec<String>> {
    let head = ["ROLLOUT", "RESULT", "WHY", "STARTED", "DURATION", "FROM", "IMAGE", "NODE GROUPS", "MESSAGE"];
    let mut rows = vec![row(&head)];
    if let Some(live) = status.rollout.as_ref().filter(|rollout| rollout.finished_at.is_none()) {
        let rollback = live.rollback.is_some().then(|| "rollback".to_owned());
        let groups = live.groups.iter().flatten();
        let from: BTreeSet<&String> =
            groups.clone().filter_map(|group| group.previous_ami.as_ref()).collect();
        let failures = groups.clone().filter_map(|group| group.last_failure.as_deref());
        let is_done = |group: &&RolloutGroup| group.finished_at.is_some() && group.last_failure.is_none();
        let done = groups.clone().filter(is_done).count();
        rows.push(vec![
            live.id.clone(),
            IN_PROGRESS.to_owned(),
            rollback.unwrap_or_else(|| why(&live.target, builder)),
            optional(live.started_at.as_ref()),
            "-".to_owned(),
            list(from),
            live.target.clone(),
            format!("{done}/{}", groups.clone().count()),
            failures.collect::<Vec<_>>().join("; "),
        ]);
    }
    rows.extend(status.history.iter().flatten().map(|record| rollout_row(record, builder)));
    rows
}

fn rollout_row(record: &RolloutRecord, builder: Option<&(Target, Vec<RunRecord>)>) -> Vec<String> {
    let groups = record.groups.iter().flatten();
    let done = groups.clone().filter(|group| group.result == RolloutResult::Done.as_str()).count();
    let from: BTreeSet<&String> = groups.clone().filter_map(|group| group.previous_ami.as_ref()).collect();
    let rollback = record.rollback_of.as_ref().map(|failed| format!("rollback of {failed}"));
    vec![
        record.id.clone(),
        record.result.clone(),
        rollback.unwrap_or_else(|| why(&record.target, builder)),
        optional(record.started_at.as_ref()),
        duration(record.started_at, record.finished_at),
        list(from),
        record.target.clone(),
        format!("{done}/{}", groups.count()),
        record.failures.as_ref().map_or(String::new(), |failures| failures.join("; ")),
    ]
}

/// Why an image was rolled out: the builder that made it, and why it was built.
fn why(target: &str, builder: Option<&(Target, Vec<RunRecord>)>) -> String {
    let made =
        |run: &&RunRecord| run.images.iter().flatten().any(|image| target.split(',').any(|one| one == image));
    let found = builder.and_then(|(name, runs)| Some((name, runs.iter().find(made)?)));
    let Some((builder, run)) = found else { return "new image".to_owned() };
    format!("{}/{}: {}", builder.kind.short(), builder.name, run.why.as_deref().unwrap_or("-"))
}

fn duration(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    optional(took(from, to).as_ref())
}

fn list<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    let items: Vec<&str> = items.into_iter().map(String::as_str).collect();
    if items.is_empty() { "-".to_owned() } else { items.join(",") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cells(rows: &[Vec<String>]) -> Vec<String> {
        rows.iter().skip(1).map(|row| row.join("|")).collect()
    }

    fn run(id: &str, result: &str, images: &[&str]) -> Value {
        json!({
            "id": id, "result": result, "why": "Template", "commit": "0123456789abcdef", "images": images,
            "startedAt": "2026-01-01T00:00:00Z", "endedAt": "2026-01-01T00:05:00Z",
        })
    }

    #[test]
    fn the_run_in_progress_comes_before_those_that_have_ended() {
        let mut failed = run("b1", "Failed", &[]);
        failed["errors"] = json!(["no space"]);
        let facts = json!({
            "build": "b2", "region": "r", "why": "Retry", "commit": "abc", "createdAt": "2026-01-02T00:00:00Z",
        });
        let mut status = json!({"jobStatus": "Running", "jobFacts": facts, "history": [failed]});
        let live = "b2|Running|Retry|2026-01-02T00:00:00Z|-|abc|-|";
        let ended = "b1|Failed|Template|2026-01-01T00:00:00Z|5 min|0123456789ab|-|no space";
        assert_eq!(cells(&runs(&decoded(&status))), [live, ended]);
        status["jobStatus"] = json!("Failed");
        assert_eq!(cells(&runs(&decoded(&status))), [ended]);
    }

    #[test]
    fn a_rollout_names_the_build_of_its_image_and_the_rollout_that_it_rolls_back() {
        let group = |result: &str| json!({"name": "web", "previousAMI": "ami-0", "result": result});
        let record = |id: &str, rollback: Value| {
            json!({
                "id": id, "target": "ami-1", "result": "Failed", "rollbackOf": rollback, "groups": [group("Done"), group("Failed")],
                "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T01:00:00Z", "failures": ["web: AccessDenied"],
            })
        };
        let moved = json!({"name": "a", "previousAMI": "ami-1", "finishedAt": "2026-01-02T00:00:00Z"});
        let stuck = json!({"name": "b", "previousAMI": "ami-1", "lastFailure": "b: no capacity"});
        let live = json!({"id": "r3", "target": "ami-2", "groups": [moved, stuck]});
        let status =
            json!({"rollout": live, "history": [record("r2", json!("r1")), record("r1", Value::Null)]});
        let target = "pb/node".parse().expect("a target");
        let builder = (target, vec![decoded(&run("b1", "Succeeded", &["ami-1"]))]);
        let rest = "2026-01-01T00:00:00Z|60 min|ami-0|ami-1|1/2|web: AccessDenied";
        let expected = [
            "r3|InProgress|new image|-|-|ami-1|ami-2|1/2|b: no capacity".to_owned(),
            format!("r2|Failed|rollback of r1|{rest}"),
            format!("r1|Failed|pb/node: Template|{rest}"),
        ];
        assert_eq!(cells(&rollouts(&decoded(&status), Some(&builder))), expected);
    }
}
