//! The tables of `opsy status`: rows from the status of objects. Pure.

use serde_json::Value;

use crate::api::conditions::{APPLIED, FALSE, NOTIFIED};
use crate::api::status::RepositoryStatus;
use crate::api::words::WaveState;
use crate::api::{Kind, ObjectKey};
use crate::cli::objects::Object;
use crate::cli::ready::{cells, ready_cells};
use crate::cli::table::{optional, row, short, table, text};

/// All tables. `wide` adds columns.
pub fn all(objects: &[Object], wide: bool) -> String {
    table(&builders(objects, wide)) + &table(&refreshers(objects, wide)) + &table(&waves(objects))
}

fn refreshers_of(objects: &[Object]) -> impl Iterator<Item = (&ObjectKey, &Value)> {
    let refreshers = objects.iter().filter(|object| object.id.kind == Kind::AMIRefresher);
    refreshers.map(|object| (&object.id, &object.status))
}

/// The failing conditions of the repository, as the agent recorded them.
pub fn repository(status: &RepositoryStatus) -> Vec<Vec<String>> {
    let mut rows = vec![row(&["REPOSITORY", "STATUS", "REASON", "MESSAGE"])];
    for condition in status.conditions.iter().flatten().filter(|condition| condition.status == FALSE) {
        let (reason, message) = (optional(condition.reason.as_ref()), optional(condition.message.as_ref()));
        rows.push(vec![condition.r#type.clone(), condition.status.clone(), reason, message]);
    }
    rows
}

fn builders(objects: &[Object], wide: bool) -> Vec<Vec<String>> {
    let further: &[&str] = if wide { &["LAST RUN", "ENDED", "COMMIT", "LANES"] } else { &[] };
    let head = ["PACKERBUILDER", "READY", "REASON", "IMAGE", "BASE IMAGE"];
    let mut rows = vec![row(&[&head, further, &["MESSAGE"]].concat())];
    for builder in objects.iter().filter(|object| object.id.kind == Kind::PackerBuilder) {
        let Object { id: object, status, held, .. } = builder;
        let [ready, reason, message] = ready_cells(status);
        let mut cells =
            vec![object.key.to_string(), ready, reason, image(status), text(&status["lastRunBaseImageID"])];
        if wide {
            let commit = short(&text(&status["history"][0]["commit"]));
            cells.extend([text(&status["lastRunStatus"]), text(&status["lastRun"]), commit, lanes(status)]);
        }
        let held: String = held.iter().map(|image| format!(" ({image})")).collect();
        cells.push(message + &trouble(status) + &held);
        rows.push(cells);
    }
    rows
}

fn refreshers(objects: &[Object], wide: bool) -> Vec<Vec<String>> {
    let groups = |status: &Value| status["nodeGroups"].as_array().cloned().unwrap_or_default();
    let in_wave = |status: &Value| groups(status).iter().any(|group| group["wave"].is_string());
    let has_waves = refreshers_of(objects).any(|(_, status)| in_wave(status));
    let further: &[&str] = if wide { &["DRIFTED", "LAST ROLLOUT", "ENDED"] } else { &[] };
    let wave: &[&str] = if has_waves { &["WAVE"] } else { &[] };
    let head = ["AMIREFRESHER", "READY", "REASON", "TARGET"];
    let head = [&head, further, &["NODE GROUP", "IMAGE"], wave, &["STATE"]].concat();
    let mut rows = vec![row(&head)];
    for (object, status) in refreshers_of(objects) {
        let [ready, reason, message] = ready_cells(status);
        let mut cells = vec![object.key.to_string(), ready, reason, text(&status["targetAMI"])];
        if wide {
            let drifted = status["drifted"].as_i64();
            cells.push(optional(drifted.as_ref()));
            cells.extend([text(&status["lastRunStatus"]), text(&status["lastRun"])]);
        }
        let columns = cells.len();
        cells.push(message + &trouble(status));
        rows.push(cells);
        for group in groups(status) {
            let mut cells = vec![String::new(); columns];
            cells.extend([text(&group["name"]), text(&group["currentAMI"])]);
            cells.extend(has_waves.then(|| text(&group["wave"])));
            cells.push(group_state(&group));
            rows.push(cells);
        }
    }
    rows
}

/// The state of a node group, with its reason.
pub fn group_state(group: &Value) -> String {
    let state = [text(&group["state"]), group["reason"].as_str().unwrap_or_default().to_owned()];
    state.join(" ").trim().to_owned()
}

/// The waves of the rollouts, with what each waits for.
fn waves(objects: &[Object]) -> Vec<Vec<String>> {
    let mut rows = vec![row(&["AMIREFRESHER", "WAVE", "STATE", "UPDATED", "STARTED", "FINISHED", "MESSAGE"])];
    for (object, status) in refreshers_of(objects) {
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

/// The active image of each lane.
fn lanes(status: &Value) -> String {
    let lane = |lane: &Value| ["region", "architecture", "id"].map(|field| text(&lane[field])).join("/");
    let lanes: Vec<_> = status["images"].as_array().into_iter().flatten().map(lane).collect();
    if lanes.is_empty() { "-".to_owned() } else { lanes.join(",") }
}

/// Failing conditions other than Ready.
fn trouble(status: &Value) -> String {
    let kinds = [(APPLIED, "not applied"), (NOTIFIED, "notifications fail")];
    let failing = kinds.into_iter().filter_map(|(kind, word)| {
        let [status, _, message] = cells(status, kind);
        (status == FALSE).then(|| format!(" ({word}: {message})"))
    });
    failing.collect()
}

#[cfg(test)]
mod tests;
