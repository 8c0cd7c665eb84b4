//! What the live view of `opsy run --once` and `opsy status --watch` says: how many objects are in which state, and one
//! line for each that is working or needs attention. A `Frame` is made whenever objects are read, and its lines whenever
//! they are drawn. Pure.

use std::collections::BTreeMap;

use console::{Alignment, measure_text_width, pad_str, truncate_str};
use jiff::Timestamp;
use opsy_runner::request::Progress;

use crate::announce::refresher::waiting;
use crate::announce::{short_name, took};
use crate::api::builder::{PackerBuilderStatus, RunRecord};
use crate::api::conditions::{Condition, READY, RECONCILING, STALLED, SUSPENDED, is_true};
use crate::api::refresher::{AMIRefresherStatus, NodeGroupStatus, Rollout};
use crate::api::text::one_line;
use crate::api::words::{GroupState, RunPhase, RunResult, WaveState};
use crate::api::{Key, ObjectKey};
use crate::engine::ObjectHealth;
use crate::telemetry::out::{Size, visible};

/// What ends a line that is too long.
const CUT: &str = "…";
/// Between the cells of a line.
const GAP: &str = "  ";
/// Names of objects take at most a third of a line.
const NAME_PART: usize = 3;

/// What the view shows of all objects.
#[derive(Debug, Default)]
pub struct Frame {
    counts: BTreeMap<State, usize>,
    lines: Vec<Line>,
    /// Whether there are objects that may have a line, but whose status was not read.
    is_partial: bool,
}

/// The state in which an object is counted, in the order in which the numbers are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    InSync,
    InProgress,
    Suspended,
    Waiting,
    NotReady,
    Failing,
    NeedsAttention,
    WithoutStatus,
}

/// The line of an object.
#[derive(Debug)]
struct Line {
    name: String,
    step: String,
    since: Option<Timestamp>,
    /// How long it usually takes.
    usual: Option<String>,
    detail: String,
}

impl State {
    const fn label(self) -> &'static str {
        match self {
            Self::InSync => "in sync",
            Self::InProgress => "in progress",
            Self::Suspended => "suspended",
            Self::Waiting => "waiting on purpose",
            Self::NotReady => "not ready",
            Self::Failing => "failing, will be retried",
            Self::NeedsAttention => "needing attention",
            Self::WithoutStatus => "without status",
        }
    }

    /// The state by the conditions, for which it is not known whether an object that is not ready waits or fails.
    fn of(conditions: &[Condition]) -> Self {
        let states = [
            (SUSPENDED, Self::Suspended),
            (STALLED, Self::NeedsAttention),
            (RECONCILING, Self::InProgress),
            (READY, Self::InSync),
        ];
        let found = states.into_iter().find(|(kind, _)| is_true(conditions, kind)).map(|(_, state)| state);
        let has_status = conditions.iter().any(|condition| condition.r#type == READY);
        found.unwrap_or(if has_status { Self::NotReady } else { Self::WithoutStatus })
    }
}

impl From<ObjectHealth> for State {
    fn from(health: ObjectHealth) -> Self {
        match health {
            ObjectHealth::Settled => Self::InSync,
            ObjectHealth::Busy => Self::InProgress,
            ObjectHealth::Waiting => Self::Waiting,
            ObjectHealth::Failing => Self::Failing,
            ObjectHealth::Stalled => Self::NeedsAttention,
        }
    }
}

impl Frame {
    /// Adds a builder. `progress` is that of its build, and `health` that of its last reconcile, where they are known.
    pub fn add_builder(
        &mut self,
        object: &ObjectKey,
        status: &PackerBuilderStatus,
        progress: &BTreeMap<Key, Progress>,
        health: Option<ObjectHealth>,
    ) {
        let line = build(object, status, progress.get(&object.key));
        self.add(object, line, status.conditions.as_deref(), health);
    }

    /// Adds a refresher.
    pub fn add_refresher(
        &mut self,
        object: &ObjectKey,
        status: &AMIRefresherStatus,
        health: Option<ObjectHealth>,
    ) {
        self.add(object, rollout(object, status), status.conditions.as_deref(), health);
    }

    /// Counts an object without a line.
    pub fn count(&mut self, state: State) {
        *self.counts.entry(state).or_default() += 1;
    }

    /// Counts an object whose status is not read, since there is no room for its line. One that is suspended is waiting.
    pub fn count_unread(&mut self, state: State) {
        self.is_partial = true;
        self.count(state);
    }

    fn add(
        &mut self,
        object: &ObjectKey,
        working: Option<Line>,
        conditions: Option<&[Condition]>,
        health: Option<ObjectHealth>,
    ) {
        let conditions = conditions.unwrap_or_default();
        let by_conditions = State::of(conditions);
        let state = match health.map(State::from) {
            Some(State::Waiting) if by_conditions == State::Suspended => State::Suspended,
            Some(state) => state,
            None => by_conditions,
        };
        let stalled = || Line::new(object, STALLED, None, ready_message(conditions));
        let line = working.or_else(|| (state == State::NeedsAttention).then(stalled));
        self.count(state);
        self.lines.extend(line);
    }

    /// The lines for this space: first the numbers, then the objects as far as there is room.
    pub fn lines(&self, now: Timestamp, size: Size) -> Vec<String> {
        let room = size.lines.saturating_sub(1);
        let shown = if self.lines.len() > room { room.saturating_sub(1) } else { self.lines.len() };
        let rows: Vec<_> = self.lines[..shown].iter().map(|line| line.cells(now, size.columns)).collect();
        let mut lines = vec![self.summary()];
        lines.extend(aligned(&rows));
        let hidden = self.lines.len() - shown;
        if hidden > 0 && room > 0 {
            let hidden = if self.is_partial { String::new() } else { format!("{hidden} ") };
            lines.push(format!("{CUT} and {hidden}more"));
        }
        lines.iter().map(|line| truncate_str(line, size.columns, CUT).into_owned()).collect()
    }

    fn summary(&self) -> String {
        if self.counts.is_empty() { "no objects yet".to_owned() } else { counted(&self.counts, |_| "") }
    }
}

/// How many objects are in which health, for the end of a run.
pub fn summary(all: impl IntoIterator<Item = ObjectHealth>) -> String {
    let mut counts = BTreeMap::new();
    for health in all {
        *counts.entry(State::from(health)).or_default() += 1;
    }
    let hint = |state| match state {
        State::InSync | State::InProgress => "",
        _ => " (opsy status shows why)",
    };
    if counts.is_empty() { "no objects in the repository".to_owned() } else { counted(&counts, hint) }
}

fn counted(counts: &BTreeMap<State, usize>, hint: impl Fn(State) -> &'static str) -> String {
    let parts = counts.iter().map(|(state, count)| format!("{count} {}{}", state.label(), hint(*state)));
    parts.collect::<Vec<_>>().join(", ")
}

/// The line of a builder with a live run. Its runner knows before the status that it runs.
fn build(object: &ObjectKey, status: &PackerBuilderStatus, progress: Option<&Progress>) -> Option<Line> {
    let phase = match RunPhase::parse(status.job_status.as_deref()?)? {
        RunPhase::Pending if progress.is_some() => RunPhase::Running,
        phase => phase,
    };
    let progress = progress.filter(|_| phase == RunPhase::Running);
    let command = progress.map(|progress| progress.command.as_str()).or(status.command.as_deref());
    let step = match phase {
        RunPhase::Running => command.filter(|command| !command.is_empty()).unwrap_or(phase.as_str()),
        RunPhase::Pending | RunPhase::Stopping => phase.as_str(),
    };
    let detail = match progress {
        // Packer marks the lines that begin a step.
        Some(progress) => progress.line.trim().trim_start_matches("==> ").to_owned(),
        None if phase == RunPhase::Pending => ready_message(status.conditions.as_deref().unwrap_or_default()),
        None => String::new(),
    };
    let since = status.job_facts.as_ref().and_then(|facts| facts.created_at);
    let usual = usual(status.history.as_deref().unwrap_or_default());
    Some(Line { usual, ..Line::new(object, step, since, detail) })
}

/// The median duration of the successful runs.
fn usual(history: &[RunRecord]) -> Option<String> {
    let succeeded = history.iter().filter(|run| run.result == RunResult::Succeeded.as_str());
    let mut times: Vec<_> = succeeded.filter_map(|run| Some((run.started_at?, run.ended_at?))).collect();
    times.sort_by_key(|(started, ended)| ended.duration_since(*started));
    let (started, ended) = times.get(times.len() / 2)?;
    took(Some(*started), Some(*ended))
}

/// The line of a refresher with a rollout in progress.
fn rollout(object: &ObjectKey, status: &AMIRefresherStatus) -> Option<Line> {
    let rollout = status.rollout.as_ref().filter(|rollout| rollout.finished_at.is_none())?;
    let groups = status.node_groups.as_deref().unwrap_or_default();
    let updating: Vec<_> = groups.iter().filter(|group| is_in(group, GroupState::Updating)).collect();
    let mut parts = Vec::new();
    parts.extend(rollout.rollback.as_ref().map(|_| "rolling back".to_owned()));
    parts.push(updated(groups));
    let wave = updating.iter().find_map(|group| group.wave.as_deref());
    parts.extend(wave.map(|wave| format!("wave {wave}")));
    parts.extend(updating.iter().map(|group| group_progress(group, rollout)));
    if updating.is_empty() {
        let ready = || ready_message(status.conditions.as_deref().unwrap_or_default());
        parts.push(waiting(rollout).map_or_else(ready, str::to_owned));
    }
    parts.retain(|part| !part.is_empty());
    let step = if updating.is_empty() { resting_wave(rollout) } else { WaveState::Updating };
    Some(Line::new(object, step.as_str(), rollout.started_at, parts.join(", ")))
}

/// The state of the rollout while no group is updated: that of the wave that soaks or waits.
fn resting_wave(rollout: &Rollout) -> WaveState {
    let is_any_in = |state: &WaveState| {
        rollout.waves.iter().flatten().any(|wave| wave.state.as_deref() == Some(state.as_str()))
    };
    [WaveState::Soaking, WaveState::Waiting].into_iter().find(is_any_in).unwrap_or(WaveState::Pending)
}

/// How many node groups run the target.
fn updated(groups: &[NodeGroupStatus]) -> String {
    let ignored = [GroupState::Excluded, GroupState::Unsupported];
    let counted = groups.iter().filter(|group| !ignored.iter().any(|state| is_in(group, *state)));
    let (current, all) = counted.fold((0, 0), |(current, all), group| {
        (current + i32::from(is_in(group, GroupState::Current)), all + 1)
    });
    format!("{current}/{all} node groups")
}

/// A group that is updated: how many nodes are replaced, if the nodes are observed, and its reason.
fn group_progress(group: &NodeGroupStatus, rollout: &Rollout) -> String {
    let entry = rollout.groups.iter().flatten().find(|entry| entry.name == group.name);
    let nodes = entry.and_then(|entry| entry.nodes.as_ref());
    let nodes = nodes.and_then(|nodes| {
        let total = nodes.total?;
        Some(format!(" {}/{total} nodes", total.saturating_sub(nodes.left.unwrap_or(total)).max(0)))
    });
    let reason = group.reason.as_deref().map(|reason| format!(": {reason}"));
    format!("{}{}{}", group.name, nodes.unwrap_or_default(), reason.unwrap_or_default())
}

fn is_in(group: &NodeGroupStatus, state: GroupState) -> bool {
    group.state.as_deref() == Some(state.as_str())
}

fn ready_message(conditions: &[Condition]) -> String {
    let ready = conditions.iter().find(|condition| condition.r#type == READY);
    ready.and_then(|ready| ready.message.clone()).unwrap_or_default()
}

impl Line {
    fn new(object: &ObjectKey, step: &str, since: Option<Timestamp>, detail: String) -> Self {
        let name = format!("{}/{}", object.kind.short(), short_name(object));
        Self { name, step: step.to_lowercase(), since, usual: None, detail }
    }

    fn cells(&self, now: Timestamp, columns: usize) -> [String; 4] {
        let name = truncate_str(&self.name, columns / NAME_PART, CUT).into_owned();
        let usual = self.usual.as_ref().map_or(String::new(), |usual| format!(" (usually {usual})"));
        let elapsed = took(self.since, Some(now)).map_or(String::new(), |elapsed| elapsed + &usual);
        [name, self.step.clone(), elapsed, self.detail.clone()]
            .map(|cell| visible(&one_line(&cell)).into_owned())
    }
}

/// The rows with columns as wide as their widest cell. An empty column takes no space.
fn aligned(rows: &[[String; 4]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| measure_text_width(&row[column])).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    let line = |row: &[String; 4]| {
        let cells = row.iter().zip(widths).filter(|(_, width)| *width > 0);
        let cells = cells.map(|(cell, width)| pad_str(cell, width, Alignment::Left, None).into_owned());
        cells.collect::<Vec<_>>().join(GAP).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests;
