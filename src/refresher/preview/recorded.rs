//! Decides about a refresher by its published status alone, for a plan without access to AWS. Which groups exist and what
//! they run is what the agent reported last; which of them are in scope and in which wave follows from the spec. Pure.

use jiff::Timestamp;

use super::{Group, GroupState, Intent, Preview, of_spec};
use crate::api::AMIRefresher;
use crate::api::refresher::NodeGroupStatus;
use crate::api::words::{self, NodeGroupKind};
use crate::refresher::memory::Memory;
use crate::refresher::node_group::{Lifecycle, NodeGroup};
use crate::refresher::plan::waves::outside_window;
use crate::refresher::plan::{explain_pause, node_groups};
use crate::refresher::spec::{Source, Spec};
use crate::refresher::target::Target;

pub(super) fn preview(object: &AMIRefresher, spec: &Spec, now: Timestamp) -> Preview {
    let status = object.status.clone().unwrap_or_default();
    let target = target(object, spec);
    let rows = status.node_groups.as_deref().unwrap_or_default();
    let groups: Vec<Group> = rows.iter().map(|row| group(spec, row, target.as_ref())).collect();
    Preview {
        intent: intent(spec, target.as_ref(), &groups, rows.is_empty()),
        target: target.as_ref().map(Target::to_string),
        closed: outside_window(&spec.policy, now).map(|delay| delay.why.message),
        groups,
        ..of_spec(spec)
    }
}

/// The image that `ami` names, or the target that the agent reported last.
fn target(object: &AMIRefresher, spec: &Spec) -> Option<Target> {
    match &spec.source {
        Source::Image(image) => Some(Target::single(image.clone())),
        _ => Memory::read(object.status.as_ref()).target,
    }
}

fn group(spec: &Spec, row: &NodeGroupStatus, target: Option<&Target>) -> Group {
    let named = NodeGroup::name_only(&row.name, Lifecycle::Active(None));
    let kind = row.kind.clone().unwrap_or_else(|| NodeGroupKind::Managed.to_string());
    Group {
        wave: wave(spec, row, &named),
        nodes: None,
        current: row.current_ami.clone(),
        state: state(spec, row, &kind, target),
        name: row.name.clone(),
    }
}

/// The wave that selects the group. Labels and tags of a group are not in its status, so a wave that selects by them
/// keeps the groups that it had.
fn wave(spec: &Spec, row: &NodeGroupStatus, named: &NodeGroup) -> Option<String> {
    let policy = &spec.policy;
    let had = policy.waves.iter().find(|wave| Some(&wave.name) == row.wave.as_ref());
    match had.filter(|wave| !wave.selects_by_name()) {
        Some(wave) => Some(wave.name.clone()),
        None => policy.wave_name(named).map(str::to_owned),
    }
}

fn state(spec: &Spec, row: &NodeGroupStatus, kind: &str, target: Option<&Target>) -> GroupState {
    let is_self_managed = kind == NodeGroupKind::SelfManaged.as_str();
    let in_scope = if is_self_managed { spec.scope.self_managed } else { spec.scope.managed };
    if !in_scope || spec.scope.excludes(&row.name) {
        return GroupState::Excluded;
    }
    match row.state.as_deref().and_then(words::GroupState::parse) {
        Some(words::GroupState::Unsupported | words::GroupState::Unknown) => {
            GroupState::Unsupported(row.reason.clone().unwrap_or_default())
        }
        _ => match target {
            Some(target)
                if target.images().iter().any(|image| Some(image.as_str()) == row.current_ami.as_deref()) =>
            {
                GroupState::OnTarget
            }
            target => GroupState::Drifted(target.map(Target::to_string)),
        },
    }
}

fn intent(spec: &Spec, target: Option<&Target>, groups: &[Group], is_new: bool) -> Intent {
    let drifted = groups.iter().filter(|group| matches!(group.state, GroupState::Drifted(_))).count();
    if let Some(paused) = &spec.paused {
        let why = explain_pause(paused, drifted);
        return Intent::Paused { message: why.message };
    }
    let Some(target) = target else {
        let message = "no image was rolled out yet".to_owned();
        return Intent::Wait { message };
    };
    if is_new {
        return Intent::Unknown { message: "its node groups are not in a published status yet".to_owned() };
    }
    match drifted {
        0 => Intent::Keep { message: format!("all node groups run {target}") },
        count => Intent::Move { message: format!("rolling out {target} to {}", node_groups(count)) },
    }
}
