//! `opsy status`: prints the status of builders and refreshers, from a state directory or a cluster. Read-only.

use crate::api::conditions::{FALSE, TRUE, UNKNOWN};
use std::process::ExitCode;

use anyhow::Context as _;
use kube::api::{Api, DynamicObject, ListParams};
use serde_json::Value;

use super::place::{ClusterPlace, Place, PlaceFlags, StatePlace};
use super::target;
use crate::api::conditions::{APPLIED, NOTIFIED, READY, SUSPENDED};
use crate::api::words::WaveState;
use crate::api::{DEFAULT_LEASE, Kind, ObjectKey};
use crate::engine::kubernetes::memory;
use crate::engine::standalone::home;
use crate::engine::standalone::{memory_file, objects_dir};
use crate::settings::Output;
use crate::telemetry::out;

/// Maximum number of objects per response of the API server.
const PAGE: u32 = 500;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: PlaceFlags,
    /// Show the objects of all namespaces of the cluster
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    all_namespaces: bool,
    /// Read the status of the repository from the Lease with this name
    #[arg(long, env = "OPSY_LEASE_NAME", value_name = "NAME", default_value = DEFAULT_LEASE)]
    lease_name: String,
    /// Output format
    #[arg(long, value_enum, default_value = "auto")]
    output: Output,
}

/// One object, from a state directory or a cluster.
struct Shown {
    object: ObjectKey,
    generation: i64,
    status: Value,
}

/// Prints a table, or JSON for machines.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (objects, nothing, memory) = target::wait(async {
        anyhow::Ok(match args.place.find().await? {
            Place::Cluster(place) => {
                let (objects, nothing) = from_cluster(args, &place).await?;
                // Few users are allowed to read the Lease, and the objects are more important.
                (objects, nothing, memory::read(&place.cluster, &args.lease_name).await.ok().flatten())
            }
            Place::State(place) => {
                let (objects, nothing) = from_state(args, &place)?;
                (objects, nothing, std::fs::read_to_string(memory_file(&place.path)).ok())
            }
        })
    })?;
    if args.output == Output::Json {
        out::document(&serde_json::to_string_pretty(&json(&objects))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    out::lines(&table(&repository(memory.as_deref())))?;
    if objects.is_empty() {
        out::line(nothing)?;
        return Ok(ExitCode::SUCCESS);
    }
    out::lines(&(table(&builders(&objects)) + &table(&refreshers(&objects)) + &table(&waves(&objects))))?;
    Ok(ExitCode::SUCCESS)
}

/// The names of the objects at a place, without their namespace.
pub async fn names(place: &PlaceFlags) -> anyhow::Result<Vec<(Kind, String)>> {
    match place.find().await? {
        Place::State(place) => {
            let held = home::read_all(&objects_dir(&place.path)).with_context(|| place.to_string())?;
            Ok(held.objects.into_keys().map(|object| (object.kind, object.key.name)).collect())
        }
        Place::Cluster(place) => {
            let mut names = Vec::new();
            for kind in [Kind::PackerBuilder, Kind::AMIRefresher] {
                let objects = list(&target::objects(&place.cluster, kind)).await?;
                names.extend(objects.into_iter().filter_map(|object| Some((kind, object.metadata.name?))));
            }
            Ok(names)
        }
    }
}

/// The objects of a state directory, and the message if there are none.
fn from_state(args: &Args, place: &StatePlace) -> anyhow::Result<(Vec<Shown>, String)> {
    place.warning().iter().for_each(out::error);
    let wanted =
        |object: &ObjectKey| args.place.namespace.as_ref().is_none_or(|n| *n == object.key.namespace);
    let held = home::read_all(&objects_dir(&place.path)).with_context(|| place.to_string())?;
    held.unreadable.values().for_each(out::error);
    let stored = held.objects.into_iter().filter(|(object, _)| wanted(object));
    let shown =
        stored.map(|(object, stored)| Shown { object, generation: stored.generation, status: stored.status });
    let nothing = format!(
        "No builders or refreshers in the {place}. Start `opsy run` with it, or select another with --state, \
         or a cluster with --kubeconfig."
    );
    Ok((shown.collect(), nothing))
}

/// The custom resources of a cluster, and the message if there are none.
async fn from_cluster(args: &Args, place: &ClusterPlace) -> anyhow::Result<(Vec<Shown>, String)> {
    let cluster = &place.cluster;
    let mut shown = Vec::new();
    for kind in [Kind::PackerBuilder, Kind::AMIRefresher] {
        let api = match args.all_namespaces {
            true => target::all_objects(cluster, kind),
            false => target::objects(cluster, kind),
        };
        shown.extend(list(&api).await?.into_iter().map(|object| live(kind, object)));
    }
    let hint = place.hint();
    let nothing = match args.all_namespaces {
        true => format!("No builders or refreshers in {place}{hint}."),
        false => {
            let namespace = &cluster.namespace;
            format!("No builders or refreshers in namespace {namespace} of {place} (-A shows all{hint}).")
        }
    };
    Ok((shown, nothing))
}

async fn list(api: &Api<DynamicObject>) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = api.list(&page).await.map_err(target::refused)?;
        objects.extend(list.items);
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(objects),
        }
    }
}

fn live(kind: Kind, mut object: DynamicObject) -> Shown {
    let name = ObjectKey::of(kind, &object);
    let generation = object.metadata.generation.unwrap_or_default();
    Shown { object: name, generation, status: object.data["status"].take() }
}

fn json(objects: &[Shown]) -> Value {
    let item = |shown: &Shown| {
        serde_json::json!({
            "kind": shown.object.kind.to_string(),
            "namespace": shown.object.key.namespace,
            "name": shown.object.key.name,
            "generation": shown.generation,
            "status": shown.status,
        })
    };
    Value::Array(objects.iter().map(item).collect())
}

fn of(objects: &[Shown], kind: Kind) -> impl Iterator<Item = &Shown> {
    objects.iter().filter(move |shown| shown.object.kind == kind)
}

/// The failing conditions of the repository, as the agent recorded them.
fn repository(memory: Option<&str>) -> Vec<Vec<String>> {
    let status = memory.and_then(|memory| serde_json::from_str::<Value>(memory).ok()).unwrap_or_default();
    let mut rows = vec![row(&["REPOSITORY", "STATUS", "REASON", "MESSAGE"])];
    for condition in status["conditions"].as_array().into_iter().flatten() {
        if condition["status"] == FALSE {
            rows.push(["type", "status", "reason", "message"].map(|field| text(&condition[field])).to_vec());
        }
    }
    rows
}

fn builders(objects: &[Shown]) -> Vec<Vec<String>> {
    let mut rows = vec![row(&["PACKERBUILDER", "READY", "REASON", "IMAGE", "BASE IMAGE", "MESSAGE"])];
    for Shown { object, status, .. } in of(objects, Kind::PackerBuilder) {
        let [ready, reason, message] = ready_row(status);
        rows.push(vec![
            object.key.to_string(),
            ready,
            reason,
            image(status),
            text(&status["lastRunBaseImageID"]),
            message + &trouble(status),
        ]);
    }
    rows
}

fn refreshers(objects: &[Shown]) -> Vec<Vec<String>> {
    let groups = |status: &Value| status["nodeGroups"].as_array().cloned().unwrap_or_default();
    let in_wave = |shown: &Shown| groups(&shown.status).iter().any(|group| group["wave"].is_string());
    let has_waves = of(objects, Kind::AMIRefresher).any(in_wave);
    let mut head =
        row(&["AMIREFRESHER", "READY", "REASON", "TARGET", "NODE GROUP", "IMAGE", "WAVE", "STATE"]);
    head.retain(|cell| has_waves || cell != "WAVE");
    let mut rows = vec![head];
    for Shown { object, status, .. } in of(objects, Kind::AMIRefresher) {
        let [ready, reason, message] = ready_row(status);
        rows.push(vec![
            object.key.to_string(),
            ready,
            reason,
            text(&status["targetAMI"]),
            message + &trouble(status),
        ]);
        for group in groups(status) {
            let state = [text(&group["state"]), group["reason"].as_str().unwrap_or_default().to_owned()];
            let state = state.join(" ").trim().to_owned();
            let cells = ["", "", "", ""].map(str::to_owned).into_iter();
            let wave = has_waves.then(|| text(&group["wave"]));
            let cells = cells.chain([text(&group["name"]), text(&group["currentAMI"])]).chain(wave);
            rows.push(cells.chain([state]).collect());
        }
    }
    rows
}

/// The waves of the rollouts, with what each waits for.
fn waves(objects: &[Shown]) -> Vec<Vec<String>> {
    let mut rows = vec![row(&["AMIREFRESHER", "WAVE", "STATE", "UPDATED", "STARTED", "FINISHED", "MESSAGE"])];
    for Shown { object, status, .. } in of(objects, Kind::AMIRefresher) {
        for wave in status["rollout"]["waves"].as_array().into_iter().flatten() {
            let count = |field: &str| wave[field].as_i64().unwrap_or_default();
            rows.push(vec![
                object.key.to_string(),
                text(&wave["name"]),
                text(&wave["state"]),
                format!("{}/{}", count("updated"), count("total")),
                text(&wave["startedAt"]),
                text(&wave["finishedAt"]),
                wave_message(wave),
            ]);
        }
    }
    rows
}

/// What a wave waits for, or how long it soaks.
fn wave_message(wave: &Value) -> String {
    let soaks = wave["soakUntil"].as_str().filter(|_| wave["state"] == WaveState::Soaking.as_str());
    let soaks = soaks.map(|until| format!("soaks until {until}"));
    wave["reason"].as_str().map(str::to_owned).or(soaks).unwrap_or_default()
}

/// The active image, or the number of lanes if there are several.
fn image(status: &Value) -> String {
    let lanes = status["images"].as_array().map(Vec::as_slice).unwrap_or_default();
    match lanes {
        [] => text(&status["lastRunBuiltImageID"]),
        [lane] if lane["gone"] == true => format!("{} (deleted)", text(&lane["id"])),
        [lane] => text(&lane["id"]),
        several => format!("{} lanes", several.len()),
    }
}

/// Status, reason and message of a condition.
fn condition(status: &Value, kind: &str) -> [String; 3] {
    let found = status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == kind);
    let Some(found) = found else { return [UNKNOWN, "-", "-"].map(str::to_owned) };
    ["status", "reason", "message"].map(|field| text(&found[field]))
}

/// Status, reason and message of Ready. For a suspended object, reason and message are those of Suspended.
fn ready_row(status: &Value) -> [String; 3] {
    let [ready, reason, message] = condition(status, READY);
    let [suspended, _, why] = condition(status, SUSPENDED);
    if suspended == TRUE { [ready, SUSPENDED.to_owned(), why] } else { [ready, reason, message] }
}

/// Failing conditions other than Ready.
fn trouble(status: &Value) -> String {
    let kinds = [(APPLIED, "not applied"), (NOTIFIED, "notifications fail")];
    let failing = kinds.into_iter().filter_map(|(kind, word)| {
        let [status, _, message] = condition(status, kind);
        (status == FALSE).then(|| format!(" ({word}: {message})"))
    });
    failing.collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| (*cell).to_owned()).collect()
}

/// Formats a table. Each column is as wide as its widest cell, except for the last cell of a row. Line breaks in a cell
/// become spaces, so that a row is one line.
fn table(rows: &[Vec<String>]) -> String {
    if rows.len() < 2 {
        return String::new();
    }
    let one_line = |cell: &String| cell.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(one_line).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let ends_row = |row: &Vec<String>| row.len() > column + 1;
        rows.iter().filter(|row| ends_row(row)).map(|row| row[column].chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Key;

    #[test]
    fn a_repository_in_trouble_is_shown_above_the_objects() {
        assert_eq!(table(&repository(None)) + &table(&repository(Some("{}"))), "");
        let memory = serde_json::json!({"conditions": [
            {"type": "Synced", "status": "False", "reason": "BranchRewritten", "message": "tip b, last a"},
            {"type": "Published", "status": "False", "reason": "PushRefused", "message": "protected\nbranch"},
            {"type": "Notified", "status": "True"},
        ]});
        let text = table(&repository(Some(&memory.to_string())));
        assert_eq!(text.lines().nth(1), Some("Synced      False   BranchRewritten  tip b, last a"), "{text}");
        assert_eq!(
            text.lines().nth(2),
            Some("Published   False   PushRefused      protected branch"),
            "{text}"
        );
    }

    #[test]
    fn a_row_is_a_line_with_all_that_needs_attention() {
        let condition = |kind: &str, status: &str, reason: &str, message: &str| serde_json::json!({"type": kind, "status": status, "reason": reason, "message": message});
        let status = serde_json::json!({"conditions": [
            condition("Ready", "True", "UpToDate", "good\nfor\tlong"),
            condition("Applied", "False", "Conflict", "another\nfield manager"),
            condition("Notified", "False", "TokenInvalid", "the token was revoked"),
            condition("Stalled", "False", "UpToDate", "no"),
            condition("Reconciling", "False", "UpToDate", "no"),
        ]});
        let key = Key { namespace: "default".to_owned(), name: "web".to_owned() };
        let object = ObjectKey { kind: Kind::PackerBuilder, key };
        let text = table(&builders(&[Shown { object, generation: 1, status }]));
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        let due =
            "good for long (not applied: another field manager) (notifications fail: the token was revoked)";
        assert!(lines[1].ends_with(due), "{text}");
    }

    #[test]
    fn each_wave_is_a_row_with_what_it_waits_for() {
        let status = serde_json::json!({ "rollout": { "waves": [
            { "name": "canary", "state": "Soaking", "updated": 1, "total": 1, "startedAt": "2026-01-01T00:00:00Z",
              "finishedAt": "2026-01-01T00:05:00Z", "soakUntil": "2026-01-01T00:35:00Z" },
            { "name": "prod", "state": "Waiting", "updated": 0, "total": 3, "reason": "wave \"canary\" soaks until noon" },
        ] } });
        let key = Key { namespace: "default".to_owned(), name: "nodes".to_owned() };
        let object = ObjectKey { kind: Kind::AMIRefresher, key };
        let text = table(&waves(&[Shown { object, generation: 1, status }]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1],
            "default/nodes  canary  Soaking  1/1      2026-01-01T00:00:00Z  2026-01-01T00:05:00Z  soaks until \
             2026-01-01T00:35:00Z"
        );
        assert_eq!(
            lines[2],
            "default/nodes  prod    Waiting  0/3      -                     -                     wave \"canary\" soaks \
             until noon"
        );
        assert_eq!(table(&waves(&[])), "");
    }

    #[test]
    fn a_suspended_object_is_as_ready_as_it_was_and_says_who_suspended_it() {
        let status = serde_json::json!({"conditions": [
            {"type": "Ready", "status": "True", "reason": "ImageReady", "message": "ami-1 active"},
            {"type": "Suspended", "status": "True", "reason": "Spec", "message": "suspended by spec.suspend"},
        ]});
        assert_eq!(ready_row(&status), ["True", "Suspended", "suspended by spec.suspend"]);
    }
}
