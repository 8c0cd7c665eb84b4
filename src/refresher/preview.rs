//! What the agent would do with a refresher next, without doing it, for `opsy plan`. It observes and plans as a reconcile
//! does, and returns the decision with the node groups that it concerns. `recorded` decides by the published status alone.

mod recorded;
mod source;

use std::sync::Arc;

use super::memory::Memory;
use super::observed::Observed;
use super::plan::PlanInput;
use super::plan::waves::outside_window;
use super::spec::{Source, Spec};
use super::status::current_target;
use super::step::{Plan, Step};
use super::survey::{GroupDrift, survey};
use super::target::Target;
use super::{Asked, Context, decide, spec};
use crate::api::{AMIRefresher, Facts, Key};
pub use source::{BuiltBy, ImageSource};

/// The decision about one refresher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    pub key: Key,
    pub intent: Intent,
    /// The image that the groups should run.
    pub target: Option<String>,
    /// Where it comes from: which builds would change it.
    pub source: ImageSource,
    pub groups: Vec<Group>,
    /// In order; empty if the spec has no waves.
    pub waves: Vec<Wave>,
    /// Why no group may start now, by windows and freezes.
    pub closed: Option<String>,
    /// A failed rollout is rolled back.
    pub rolls_back: bool,
}

/// What would happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Node groups are moved to the target.
    Move { message: String },
    /// They would be moved, but not yet: an approval, a window, a freeze or a soak is missing.
    Hold { message: String },
    /// All groups run the target.
    Keep { message: String },
    /// It is suspended or disabled: drift is reported, and nothing is moved.
    Paused { message: String },
    /// There is no image yet.
    Wait { message: String },
    /// A person must act.
    Stalled { message: String },
    /// Something could not be read.
    Unknown { message: String },
}

/// A node group, compared with the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    pub wave: Option<String>,
    /// Number of nodes, if it is known.
    pub nodes: Option<u32>,
    pub current: Option<String>,
    pub state: GroupState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupState {
    OnTarget,
    /// It does not run the target, and can be moved to this image, if that is known.
    Drifted(Option<String>),
    Excluded,
    /// It is not moved, and why.
    Unsupported(String),
}

/// A wave, as the spec has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    pub name: String,
    /// Seconds.
    pub soak: u64,
    pub needs_approval: bool,
    pub max_parallel: Option<usize>,
}

/// Decides about one refresher.
pub async fn preview(object: &Arc<AMIRefresher>, ctx: &Context, facts: Facts) -> Preview {
    let spec = match spec::parse(object) {
        Ok(spec) => spec,
        Err(problems) => {
            let each: Vec<String> = problems.iter().map(|(path, what)| format!("{path}: {what}")).collect();
            return invalid(object, each.join("; "));
        }
    };
    let memory = Memory::read(object.status.as_ref());
    match facts {
        Facts::Recorded => recorded::preview(object, &spec, (ctx.now)()),
        Facts::Live => live(&spec, &memory, ctx).await,
    }
}

async fn live(spec: &Spec, memory: &Memory, ctx: &Context) -> Preview {
    let asked = Asked { retry_requested: false, retried: None, now: (ctx.now)() };
    let (observed, plan) = decide(spec, memory, ctx, asked).await;
    of_plan(asked.input(spec, memory, &observed, ctx), &plan)
}

/// The decision for a plan. Pure.
pub(super) fn of_plan(input: PlanInput<'_>, plan: &Plan) -> Preview {
    let PlanInput { spec, observed, .. } = input;
    let target = current_target(input, input.memory.rollout.as_ref());
    let groups = groups(input, target.as_ref());
    Preview {
        intent: intent(spec, plan, &groups),
        target: target.as_ref().map(Target::to_string),
        source: ImageSource::of(spec, observed.source_images.known()),
        closed: outside_window(&spec.policy, input.now).map(|delay| delay.why.message),
        groups,
        ..of_spec(spec)
    }
}

/// What follows from the spec alone.
fn of_spec(spec: &Spec) -> Preview {
    let wave = |wave: &super::spec::Wave| Wave {
        name: wave.name.clone(),
        soak: wave.soak.as_secs(),
        needs_approval: wave.needs_approval,
        max_parallel: (wave.max_parallel != usize::MAX).then_some(wave.max_parallel),
    };
    let waves = spec.policy.has_waves().then(|| spec.policy.waves.iter().map(wave).collect());
    Preview {
        key: spec.key.clone(),
        intent: Intent::Keep { message: String::new() },
        target: match &spec.source {
            Source::Image(image) => Some(image.to_string()),
            _ => None,
        },
        source: ImageSource::of(spec, None),
        groups: Vec::new(),
        waves: waves.unwrap_or_default(),
        closed: None,
        rolls_back: spec.policy.rolls_back,
    }
}

fn invalid(object: &AMIRefresher, message: String) -> Preview {
    Preview {
        key: spec::key(object),
        intent: Intent::Stalled { message },
        target: None,
        source: ImageSource::Fixed,
        groups: Vec::new(),
        waves: Vec::new(),
        closed: None,
        rolls_back: false,
    }
}

fn groups(input: PlanInput<'_>, target: Option<&Target>) -> Vec<Group> {
    let (spec, observed): (&Spec, &Observed) = (input.spec, input.observed);
    let known = observed.groups.known().map(Vec::as_slice).unwrap_or_default();
    let rollout = input.memory.rollout.as_ref();
    let mut survey = survey(spec, target, rollout, known).keeping(&input.kept(), rollout);
    if let Some(target) = target {
        survey = survey.with_known_images(spec, target, observed);
    }
    let group = |(group, drift): &(&super::node_group::NodeGroup, GroupDrift)| Group {
        name: group.name.clone(),
        wave: spec.policy.wave_name(group).map(str::to_owned),
        nodes: Some(group.desired),
        current: group.image.as_ref().map(ToString::to_string),
        state: match drift {
            GroupDrift::Current => GroupState::OnTarget,
            GroupDrift::Drifted(image) => GroupState::Drifted(image.as_ref().map(ToString::to_string)),
            GroupDrift::Excluded => GroupState::Excluded,
            GroupDrift::Unsupported(why) | GroupDrift::Unusable(why) | GroupDrift::Unknown(_, why) => {
                GroupState::Unsupported(why.clone())
            }
        },
    };
    survey.groups.iter().map(group).collect()
}

fn intent(spec: &Spec, plan: &Plan, groups: &[Group]) -> Intent {
    let moves = groups.iter().any(|group| matches!(group.state, GroupState::Drifted(_)));
    match plan {
        Plan::Done { why, .. } => Intent::Keep { message: why.message.clone() },
        Plan::Act { step: Step::PruneVersions { .. }, why } => Intent::Keep { message: why.message.clone() },
        Plan::Record { why, .. } | Plan::Act { why, .. } if moves => {
            Intent::Move { message: why.message.clone() }
        }
        Plan::Record { why, .. } | Plan::Act { why, .. } => Intent::Keep { message: why.message.clone() },
        Plan::Wait { why, busy, .. } => {
            let message = why.message.clone();
            match (spec.paused.is_some(), why.delay().is_some(), *busy && moves) {
                (true, ..) => Intent::Paused { message },
                (_, true, _) => Intent::Hold { message },
                (.., true) => Intent::Move { message },
                _ => Intent::Wait { message },
            }
        }
        Plan::Stalled { why, .. } | Plan::Blocked { why, .. } => {
            Intent::Stalled { message: why.message.clone() }
        }
        Plan::Unknown(_, message) => Intent::Unknown { message: message.clone() },
        Plan::Read(need) => Intent::Unknown { message: format!("not read: {need:?}") },
    }
}
