//! Renders what Opsy commits: one status file per object, and `amis.json`. Pure: `publish` commits them.
//!
//! Files contain outcomes, so that their history is an audit trail: nothing that changes by itself, and nothing that
//! only reports that work is in progress or that a read failed. An object that is not settled keeps its last outcome,
//! which is why the current file is an argument.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::api::builder::LaneImage;
use crate::api::conditions::{Condition, READY, STALLED, is_true};
use crate::api::files::file_stem;
use crate::api::reasons;
use crate::api::refresher::{GroupNodes, NodeGroupStatus, Rollout, RolloutGroup};
use crate::api::words::GroupState;
use crate::api::{AMIRefresherStatus, GROUP, Key, Kind, ObjectKey, PackerBuilderStatus, VERSION};

use super::yaml;

/// Name of the file with all current images, in the status directory.
pub const AMIS_FILE: &str = "amis.json";
const HEADER: &str = "# Written by Opsy. Changes are overwritten.\n";
/// States of a node group that only report that work is in progress.
const UNDER_WAY: [&str; 2] = [GroupState::Updating.as_str(), GroupState::Pending.as_str()];
/// State of a node group that could not be read.
const UNKNOWN: &str = GroupState::Unknown.as_str();

/// The status of an object of either kind.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ObjectStatus {
    PackerBuilder(Box<PackerBuilderStatus>),
    AMIRefresher(Box<AMIRefresherStatus>),
}

/// Why a file of Opsy cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    #[error("line {line}: {words}")]
    Yaml { line: usize, words: String },
    #[error("it is not a status file of Opsy")]
    NotOurs,
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("it is not a map of builders, regions and architectures")]
    NotAMap,
    #[error("it cannot be written as YAML: {0}")]
    Unwritable(#[from] serde_saphyr::SerializeError),
}

/// Returns the path of an object's status file, relative to the status directory.
pub fn status_path(object: &ObjectKey) -> String {
    let plural = match object.kind {
        Kind::PackerBuilder => PLURALS[0],
        Kind::AMIRefresher => PLURALS[1],
    };
    format!("{}/{plural}/{}.yaml", object.key.namespace, file_stem(&object.key.name))
}

/// The names of the directories of both kinds.
const PLURALS: [&str; 2] = ["packerbuilders", "amirefreshers"];

/// Whether a path has the form of that of a status file.
pub fn is_status_path(path: &str) -> bool {
    let mut parts = path.split('/');
    let (plural, file) = (parts.nth(1).unwrap_or_default(), parts.next().unwrap_or_default());
    PLURALS.contains(&plural) && file.ends_with(".yaml") && parts.next().is_none()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusFile<'a> {
    api_version: String,
    kind: Kind,
    metadata: &'a Key,
    status: ObjectStatus,
}

/// Renders the status file of an object. `previous` is the current file.
pub fn status_file(key: &Key, status: &ObjectStatus, previous: Option<&str>) -> Result<String, BadFile> {
    let alone = render(key, status, None)?;
    let Some(previous) = previous.filter(|text| *text != alone) else {
        // Nothing in the current file is another outcome, so it stays as it is without being parsed.
        return Ok(alone);
    };
    match read_status_file(previous) {
        Ok((_, before)) => render(key, status, Some(before)),
        Err(_) => Ok(alone),
    }
}

/// Renders a status, with the outcomes before it for what has none.
fn render(key: &Key, status: &ObjectStatus, before: Option<ObjectStatus>) -> Result<String, BadFile> {
    let (kind, status) = match (status, before) {
        (ObjectStatus::PackerBuilder(now), Some(ObjectStatus::PackerBuilder(before))) => {
            (Kind::PackerBuilder, builder(now, &before))
        }
        (ObjectStatus::PackerBuilder(now), _) => {
            (Kind::PackerBuilder, builder(now, &PackerBuilderStatus::default()))
        }
        (ObjectStatus::AMIRefresher(now), Some(ObjectStatus::AMIRefresher(before))) => {
            (Kind::AMIRefresher, refresher(now, &before))
        }
        (ObjectStatus::AMIRefresher(now), _) => {
            (Kind::AMIRefresher, refresher(now, &AMIRefresherStatus::default()))
        }
    };
    let file = StatusFile { api_version: format!("{GROUP}/{VERSION}"), kind, metadata: key, status };
    Ok(format!("{HEADER}{}", to_yaml(&file)?))
}

/// Renders YAML that every reader understands in the same way: one line per string, quoted wherever some YAML reader
/// would misread it.
pub fn to_yaml(value: &impl Serialize) -> Result<String, BadFile> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    let mut text = serde_saphyr::to_string_with_options(value, options)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// Returns what a status file contributes to an object whose status is lost: what Opsy publishes. Anyone who can push
/// can write such a file, and must not decide what is garbage-collected, or which Job is a run of this agent.
pub fn seed(status: ObjectStatus) -> ObjectStatus {
    match status {
        ObjectStatus::PackerBuilder(status) => builder(&status, &PackerBuilderStatus::default()),
        ObjectStatus::AMIRefresher(status) => refresher(&status, &AMIRefresherStatus::default()),
    }
}

/// Parses a status file.
pub fn read_status_file(text: &str) -> Result<(ObjectKey, ObjectStatus), BadFile> {
    let stream = yaml::parse(text);
    if let Some((line, words)) = stream.broken.into_iter().next() {
        return Err(BadFile::Yaml { line, words });
    }
    let parsed = stream.documents.into_iter().next().ok_or(BadFile::NotOurs)?;
    let file: ReadBack = serde_json::from_value(parsed.root.json()).map_err(|_| BadFile::NotOurs)?;
    let status = match file.kind {
        Kind::PackerBuilder => ObjectStatus::PackerBuilder(serde_json::from_value(file.status)?),
        Kind::AMIRefresher => ObjectStatus::AMIRefresher(serde_json::from_value(file.status)?),
    };
    Ok((ObjectKey { kind: file.kind, key: file.metadata }, status))
}

#[derive(Deserialize)]
struct ReadBack {
    kind: Kind,
    metadata: Key,
    #[serde(default = "no_status")]
    status: Value,
}

fn no_status() -> Value {
    json!({})
}

/// Returns the outcomes of a builder. The progress of a run, pending garbage collection and notifications stay in the
/// engine.
fn builder(now: &PackerBuilderStatus, before: &PackerBuilderStatus) -> ObjectStatus {
    let settled = settled(&now.conditions);
    let word = if settled { &now.state } else { &before.state };
    ObjectStatus::PackerBuilder(Box::new(PackerBuilderStatus {
        state: word.clone(),
        conditions: outcome(&now.conditions, &before.conditions),
        failed_job_count: now.failed_job_count,
        last_run: now.last_run,
        last_run_status: now.last_run_status.clone(),
        last_run_message: now.last_run_message.clone(),
        last_run_base_image_id: now.last_run_base_image_id.clone(),
        last_run_built_image_id: now.last_run_built_image_id.clone(),
        images: now.images.as_ref().or(before.images.as_ref()).map(|images| undated(images)),
        inputs: now.inputs.clone(),
        history: now.history.clone(),
        ..Default::default()
    }))
}

/// Removes the time since which an image is active, which stays in the engine. While it is recent, the image counts
/// before its tags are visible, and a file in Git must not cause that.
fn undated(images: &[LaneImage]) -> Vec<LaneImage> {
    images.iter().map(|image| LaneImage { since: None, ..image.clone() }).collect()
}

/// Returns the outcomes of a refresher, and its rollout: nothing else knows what a group ran before.
fn refresher(now: &AMIRefresherStatus, before: &AMIRefresherStatus) -> ObjectStatus {
    let groups = now.node_groups.as_ref().map(|groups| {
        groups
            .iter()
            .map(|group| node_group(group, before.node_groups.as_deref().unwrap_or_default()))
            .collect()
    });
    ObjectStatus::AMIRefresher(Box::new(AMIRefresherStatus {
        conditions: outcome(&now.conditions, &before.conditions),
        target_ami: now.target_ami.clone().or_else(|| before.target_ami.clone()),
        drifted: now.drifted,
        node_groups: groups.or_else(|| before.node_groups.clone()),
        rollout: now.rollout.clone().map(without_progress),
        observed_generation: None,
        last_handled_reconcile_at: None,
        notifications: None,
        ..now.clone()
    }))
}

/// Removes the rows of the waves while they change. What a later reconcile needs is in the rows of the groups.
fn without_progress(rollout: Rollout) -> Rollout {
    let waves = rollout.waves.filter(|_| rollout.finished_at.is_some());
    let groups = rollout.groups.map(|groups| groups.into_iter().map(without_pods).collect());
    Rollout { waves, groups, ..rollout }
}

/// Removes what the pods on the nodes of a group showed, which is of interest only while it is updated, and only in the
/// cluster.
fn without_pods(group: RolloutGroup) -> RolloutGroup {
    let nodes = group.nodes.map(|nodes| GroupNodes {
        total: nodes.total,
        updated_at: nodes.updated_at,
        ..GroupNodes::default()
    });
    RolloutGroup { nodes, ..group }
}

fn node_group(now: &NodeGroupStatus, before: &[NodeGroupStatus]) -> NodeGroupStatus {
    let state = now.state.as_deref().unwrap_or_default();
    if state == UNKNOWN
        && let Some(known) = before.iter().find(|group| group.name == now.name)
    {
        return known.clone();
    }
    if !UNDER_WAY.contains(&state) && state != UNKNOWN {
        return NodeGroupStatus { update_id: None, ..now.clone() };
    }
    NodeGroupStatus {
        state: None,
        update_id: None,
        reason: None,
        started_at: None,
        finished_at: None,
        ..now.clone()
    }
}

/// Returns whether the conditions contain an outcome that holds until something changes.
fn settled(conditions: &Option<Vec<Condition>>) -> bool {
    let conditions = conditions.as_deref().unwrap_or_default();
    let failed = |condition: &Condition| {
        // A failed build is an outcome although it is retried: a status file that says Ready would deny it.
        condition.r#type == READY && condition.reason.as_deref() == Some(reasons::BUILD_FAILED)
    };
    is_true(conditions, READY) || is_true(conditions, STALLED) || conditions.iter().any(failed)
}

/// Returns Ready and Stalled without text that changes by itself. Without a new outcome, returns the last one.
fn outcome(now: &Option<Vec<Condition>>, before: &Option<Vec<Condition>>) -> Option<Vec<Condition>> {
    if !settled(now) {
        return before.clone();
    }
    let conditions = now.as_deref().unwrap_or_default();
    let kept = conditions.iter().filter(|condition| condition.r#type == READY || condition.r#type == STALLED);
    let words = |condition: &Condition| condition.message.clone().filter(|_| condition.r#type == STALLED);
    let conditions = kept.map(|condition| Condition {
        r#type: condition.r#type.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: words(condition),
        ..Default::default()
    });
    Some(conditions.collect())
}

/// What happens to a builder's entry in `amis.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AmiUpdate {
    /// The images of the builder. If there are none, the entry stays as it is, because unknown images are not a change.
    /// An image that is gone has no entry, because nothing can be launched from it, and an image that a refresher holds
    /// is replaced before.
    Images(Vec<LaneImage>),
    /// The builder is deleted.
    Removed,
}

/// Renders `amis.json` with the entries of some builders changed and all others kept. An existing file that cannot be
/// parsed is an error, so that it is never overwritten.
pub fn amis_json(previous: Option<&[u8]>, updates: &BTreeMap<Key, AmiUpdate>) -> Result<Vec<u8>, BadFile> {
    let mut all: Map<String, Value> = match previous {
        None => Map::new(),
        Some(text) => match serde_json::from_slice(text)? {
            Value::Object(all) => all,
            _ => return Err(BadFile::NotAMap),
        },
    };
    for (key, update) in updates {
        match update {
            AmiUpdate::Removed => {
                all.remove(&key.to_string());
            }
            AmiUpdate::Images(images) if images.is_empty() => {}
            AmiUpdate::Images(images) if images.iter().all(is_gone) => {
                all.remove(&key.to_string());
            }
            AmiUpdate::Images(images) => {
                all.insert(key.to_string(), lanes(images));
            }
        }
    }
    let sorted: BTreeMap<_, _> = all.into_iter().map(|(key, value)| (key, sorted(value))).collect();
    let mut text = serde_json::to_vec_pretty(&sorted)?;
    text.push(b'\n');
    Ok(text)
}

fn is_gone(image: &LaneImage) -> bool {
    image.gone == Some(true)
}

/// Returns a map: region → architecture → image.
fn lanes(images: &[LaneImage]) -> Value {
    let mut regions: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for image in images.iter().filter(|image| !is_gone(image)) {
        regions.entry(&image.region).or_default().insert(&image.architecture, &image.id);
    }
    json!(regions)
}

/// Returns the same value with its keys in order.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> =
                fields.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            fields.into_iter().collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
