//! `opsy status --watch`: on a terminal, one compact view that is redrawn; elsewhere, one line for each change.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::{Args, Output, item, name, tables};
use crate::announce::took;
use crate::api::Kind;
use crate::api::builder::{PackerBuilderStatus, RunRecord};
use crate::api::text::one_line;
use crate::api::words::{GroupState, RunPhase, RunResult};
use crate::cli::objects::{Object, Reader};
use crate::cli::ready::{ready_cells, summary};
use crate::cli::table::{row, table};
use crate::manifest::write::to_yaml;
use crate::telemetry::out;

/// How often the objects are read: a person notices no shorter delay, and an API server no such request.
const INTERVAL: Duration = Duration::from_secs(2);
/// Moves the cursor of a terminal to the upper left corner, and clears the screen.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// Prints until a signal ends the process, or the reader of the output is gone.
#[expect(clippy::disallowed_methods, reason = "a person watches, and the objects are in another process")]
pub async fn follow(args: &Args, reader: &Reader<'_>) -> anyhow::Result<ExitCode> {
    let redraws = args.output == Output::Text && std::io::stdout().is_terminal();
    let mut shown = BTreeMap::new();
    let mut reported = BTreeSet::new();
    loop {
        let mut observed = reader.read().await?;
        args.select.select(&mut observed.objects);
        for why in observed.unreadable {
            if reported.insert(why.clone()) {
                out::error(why);
            }
        }
        let goes_on = if redraws {
            out::bytes(CLEAR)? && out::lines(&view(&observed.objects, Timestamp::now()))?
        } else {
            let now = states(args.output, &observed.objects)?;
            let text = changes(&shown, &now);
            shown = now;
            out::lines(&text)?
        };
        if !goes_on {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What is printed for each object, or for a part of it, by its name.
fn states(output: Output, objects: &[Object]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut states = BTreeMap::new();
    for object in objects {
        let id = object.id.to_string();
        match output {
            Output::Text | Output::Wide => {
                states.insert(id.clone(), format!("{id}  {}", one_line(&summary(&object.status))));
                for group in object.status["nodeGroups"].as_array().into_iter().flatten() {
                    let group_name = group["name"].as_str().unwrap_or_default();
                    let state = one_line(&tables::group_state(group));
                    states.insert(format!("{id} {group_name}"), format!("{id}  {group_name}: {state}"));
                }
            }
            Output::Json => drop(states.insert(id, item(object).to_string())),
            Output::Yaml => drop(states.insert(id, format!("---\n{}", to_yaml(&item(object))?.trim_end()))),
            Output::Name => drop(states.insert(id, name(object))),
        }
    }
    Ok(states)
}

/// The lines for what differs: new and changed states, and what does not exist any more.
fn changes(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> String {
    let changed = now.iter().filter(|(name, state)| before.get(*name) != Some(state));
    let changed = changed.map(|(_, state)| state.clone() + "\n");
    let gone = before.keys().filter(|name| !now.contains_key(*name)).map(|name| format!("{name}  deleted\n"));
    changed.chain(gone).collect()
}

/// One row per object: whether it is ready, and how far its build or rollout is.
fn view(objects: &[Object], now: Timestamp) -> String {
    let mut rows = vec![row(&["OBJECT", "READY", "REASON", "PROGRESS", "MESSAGE"])];
    for object in objects {
        let [ready, reason, message] = ready_cells(&object.status);
        let progress = match object.id.kind {
            Kind::PackerBuilder => build(&object.status, now),
            Kind::AMIRefresher => rollout(&object.status),
        };
        rows.push(vec![
            object.id.to_string(),
            ready,
            reason,
            progress.unwrap_or_else(|| "-".to_owned()),
            message,
        ]);
    }
    if objects.is_empty() { "No objects.\n".to_owned() } else { table(&rows) }
}

/// How long the build in progress has been running, and how long builds usually take.
fn build(status: &Value, now: Timestamp) -> Option<String> {
    let status: PackerBuilderStatus = serde_json::from_value(status.clone()).ok()?;
    RunPhase::parse(status.job_status.as_deref()?)?;
    let elapsed = took(status.job_facts.as_ref()?.created_at, Some(now))?;
    let usual = usual(status.history.as_deref().unwrap_or_default());
    let usual = usual.map_or(String::new(), |usual| format!(" (usually {usual})"));
    Some(format!("building for {elapsed}{usual}"))
}

/// The median duration of the successful runs.
fn usual(history: &[RunRecord]) -> Option<String> {
    let succeeded = history.iter().filter(|run| run.result == RunResult::Succeeded.as_str());
    let mut times: Vec<_> = succeeded.filter_map(|run| Some((run.started_at?, run.ended_at?))).collect();
    times.sort_by_key(|(started, ended)| ended.duration_since(*started));
    let (started, ended) = times.get(times.len() / 2)?;
    took(Some(*started), Some(*ended))
}

/// How many node groups run the target, and the wave in progress.
fn rollout(status: &Value) -> Option<String> {
    let groups = status["nodeGroups"].as_array()?;
    let ignored = [GroupState::Excluded, GroupState::Unsupported].map(GroupState::as_str);
    let counted = groups.iter().filter(|group| !ignored.iter().any(|state| group["state"] == *state));
    let (current, all) = counted.fold((0, 0), |(current, all), group| {
        (current + i32::from(group["state"] == GroupState::Current.as_str()), all + 1)
    });
    let waves = status["rollout"]["waves"].as_array().into_iter().flatten();
    let wave = waves.filter(|wave| wave["finishedAt"].is_null()).find_map(|wave| wave["name"].as_str());
    let wave = wave.map_or(String::new(), |wave| format!(", wave {wave}"));
    Some(format!("{current}/{all} node groups{wave}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{Key, ObjectKey};

    fn object(kind: Kind, status: Value) -> Object {
        let key = Key { namespace: "default".to_owned(), name: "node".to_owned() };
        let id = ObjectKey { kind, key };
        Object { id, generation: 1, labels: BTreeMap::new(), spec: Value::Null, status }
    }

    fn ready(reason: &str) -> Value {
        json!([{"type": "Ready", "status": "True", "reason": reason, "message": "m\nn"}])
    }

    #[test]
    fn only_what_changes_is_a_line() {
        let group = |state: &str| json!({"conditions": ready("Done"), "nodeGroups": [{"name": "web", "state": state}]});
        let of = |objects: &[Object]| states(Output::Text, objects).expect("states");
        let first = of(&[object(Kind::PackerBuilder, json!({"conditions": ready("ImageReady")}))]);
        let all = "PackerBuilder/default/node  Ready=True ImageReady: m n\n";
        assert_eq!(changes(&BTreeMap::new(), &first), all);
        assert_eq!(changes(&first, &first), "");
        let (pending, current) =
            ["Pending", "Current"].map(|state| of(&[object(Kind::AMIRefresher, group(state))])).into();
        let line = "AMIRefresher/default/node  web: Current\n";
        assert_eq!(changes(&pending, &current), line);
        let gone = changes(&first, &current);
        assert!(gone.ends_with("PackerBuilder/default/node  deleted\n") && gone.contains(line), "{gone}");
        let json = states(Output::Json, &[object(Kind::PackerBuilder, Value::Null)]).expect("states");
        let json: Vec<Value> =
            json.values().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        assert_eq!(json[0]["name"], "node");
    }

    #[test]
    fn the_view_shows_how_far_builds_and_rollouts_are() {
        let run = |minutes: u32| {
            json!({
                "id": "a", "result": "Succeeded", "startedAt": "2026-01-01T00:00:00Z", "endedAt": format!("2026-01-01T00:{minutes}:00Z"),
            })
        };
        let facts = json!({"build": "a", "region": "r", "why": "Missing", "commit": "c", "createdAt": "2026-01-02T00:00:00Z"});
        let building =
            json!({"jobStatus": "Running", "jobFacts": facts, "history": [run(59), run(10), run(12)]});
        let now = "2026-01-02T00:01:30Z".parse().expect("a time");
        assert_eq!(build(&building, now).as_deref(), Some("building for 90 s (usually 12 min)"));
        assert_eq!(build(&json!({"jobStatus": "Succeeded", "jobFacts": facts}), now), None);
        let rolling = json!({
            "nodeGroups": [{"name": "a", "state": "Current"}, {"name": "b", "state": "Updating"}, {"name": "c", "state": "Excluded"}],
            "rollout": {"waves": [{"name": "canary", "finishedAt": "2026-01-01T00:00:00Z"}, {"name": "prod"}]},
        });
        assert_eq!(rollout(&rolling).as_deref(), Some("1/2 node groups, wave prod"));
        let text = view(&[object(Kind::PackerBuilder, building), object(Kind::AMIRefresher, rolling)], now);
        assert_eq!(text.lines().filter(|line| !line.is_empty()).count(), 3, "{text}");
    }
}
