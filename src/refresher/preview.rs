//! What the agent would do with a refresher next, without doing it, for `opsy plan`. It observes and plans as a reconcile
//! does, and returns the decision with the node groups that it concerns. `recorded` observes by the published status
//! alone, `source` knows which builds change the target, and `next` what happens with the next image.

mod next;
pub(super) mod recorded;
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use super::held::FailedImages;
use super::memory::Memory;
use super::node_group::NodeGroup;
use super::observed::Observed;
use super::plan::PlanInput;
use super::plan::newer_target;
use super::plan::waves::outside_window;
use super::spec::{Paused, Source, Spec};
use super::status::current_target;
use super::step::{Explanation, Plan, Step};
use super::survey::{GroupDrift, survey};
use super::target::Target;
use super::{Asked, Context, cluster_refusal, decide_by, observe, retried_images, retry_requested, spec};
use crate::api::builder::InputsRecord;
use crate::api::{AMIRefresher, Assumption, Facts, Key, reasons};
use crate::probe::Verdict;
pub use next::Next;
pub use source::{BuiltBy, ImageSource};

/// At most this many plans that only record something are followed: what people requested, and what was found.
const MAX_RECORDS: usize = 20;

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
    /// The newer target that is rolled out when the rollout in progress has ended.
    pub followed_by: Option<String>,
    /// The images that are not rolled out again.
    pub failed: FailedImages,
    /// What could not be read, and was assumed not to have changed.
    pub assumed: Vec<Assumption>,
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
    /// A person must act. `until_next_image`: the cause is the image, so that another one is rolled out.
    Stalled { message: String, until_next_image: bool },
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
    /// It could not be read, and why.
    Unreadable(String),
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

/// Returns what the active images of a builder were built from, by its published status.
pub type BuilderInputs<'a> = dyn Fn(&Key) -> Option<InputsRecord> + Send + Sync + 'a;

/// Decides about one refresher.
pub async fn preview(
    object: &Arc<AMIRefresher>,
    ctx: &Context,
    facts: Facts,
    inputs: &BuilderInputs<'_>,
) -> Preview {
    let spec = match spec::parse(object) {
        Ok(spec) => spec,
        Err(problems) => {
            let each: Vec<String> = problems.iter().map(|(path, what)| format!("{path}: {what}")).collect();
            return invalid(object, each.join("; "));
        }
    };
    if let Some(message) = cluster_refusal(&spec, ctx) {
        return Preview { intent: Intent::Stalled { message, until_next_image: false }, ..of_spec(&spec) };
    }
    let memory = Memory::read(object.status.as_ref());
    let retried = retried_images(object);
    let retry_requested = retry_requested(object, &memory, retried.as_ref());
    let asked = Asked { retry_requested, retried: retried.as_ref(), now: (ctx.now)() };
    match facts {
        Facts::Recorded => {
            let built = recorded::Built { images: &ctx.builder_images, inputs };
            let observed = recorded::observe(object, &spec, &memory, &built, asked.now);
            recorded::preview(asked.input(&spec, &memory, &observed, ctx))
        }
        Facts::Live => live(&spec, memory, ctx, asked).await,
    }
}

async fn live(spec: &Spec, mut memory: Memory, ctx: &Context, asked: Asked<'_>) -> Preview {
    let observed = observe::observe(spec, &memory, ctx, asked.retry_requested).await;
    let observed = Observed { verdicts: assumed_verdicts(spec), ..observed };
    let (mut observed, mut plan) = decide_by(observed, spec, &memory, ctx, asked).await;
    for _ in 0..MAX_RECORDS {
        let Some(next) = after_record(&plan, &memory) else { break };
        memory = next;
        (observed, plan) = decide_by(observed, spec, &memory, ctx, asked).await;
    }
    of_plan(asked.input(spec, &memory, &observed, ctx), &plan)
}

/// A plan asks no server that a manifest names, because anyone can propose a manifest. The checks are assumed to be good.
fn assumed_verdicts(spec: &Spec) -> BTreeMap<String, Verdict> {
    let good = || Verdict { is_good: true, response: "not asked".to_owned() };
    spec.policy.health.checks.iter().map(|check| (check.name.clone(), good())).collect()
}

/// The memory after a plan that starts nothing, but only records what people requested, what was found, or what has
/// ended: the decision follows it.
pub(super) fn after_record(plan: &Plan, memory: &Memory) -> Option<Memory> {
    let Plan::Record { rollout, .. } = plan else { return None };
    let before = memory.rollout.as_ref().filter(|before| before.id == rollout.id)?;
    let begins = rollout.groups.keys().any(|group| !before.groups.contains_key(group));
    (!begins).then(|| Memory { rollout: Some(rollout.clone()), ..memory.clone() })
}

/// The decision for a plan. Pure.
pub(super) fn of_plan(input: PlanInput<'_>, plan: &Plan) -> Preview {
    let PlanInput { spec, observed, .. } = input;
    let rollout = input.memory.rollout.as_ref();
    let target = current_target(input, rollout);
    let groups = groups(input, target.as_ref());
    Preview {
        intent: intent(spec, plan, &groups),
        target: target.as_ref().map(Target::to_string),
        source: ImageSource::of(spec, observed.source_images.known()),
        closed: outside_window(&spec.policy, input.now).map(|delay| delay.why.message),
        groups,
        followed_by: rollout
            .filter(|rollout| rollout.is_open())
            .and_then(|rollout| newer_target(input, rollout)),
        failed: rollout.map(|rollout| rollout.failed.clone()).unwrap_or_default(),
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
        followed_by: None,
        failed: FailedImages::default(),
        assumed: Vec::new(),
    }
}

fn invalid(object: &AMIRefresher, message: String) -> Preview {
    Preview {
        key: spec::key(object),
        intent: Intent::Stalled { message, until_next_image: false },
        target: None,
        source: ImageSource::Fixed,
        groups: Vec::new(),
        waves: Vec::new(),
        closed: None,
        rolls_back: false,
        followed_by: None,
        failed: FailedImages::default(),
        assumed: Vec::new(),
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
    // It shows the image, and is updated once more because its nodes may be mixed.
    let reopened = |group: &NodeGroup| {
        let entry = rollout.filter(|rollout| rollout.is_open())?.groups.get(&group.name)?;
        let starts = entry.is_open() && !entry.is_updating();
        starts.then(|| GroupState::Drifted(Some(entry.image.to_string())))
    };
    let group = |(group, drift): &(&NodeGroup, GroupDrift)| Group {
        name: group.name.clone(),
        wave: spec.policy.wave_name(group).map(str::to_owned),
        nodes: Some(group.desired),
        current: group.image.as_ref().map(ToString::to_string),
        state: match drift {
            GroupDrift::Current => reopened(group).unwrap_or(GroupState::OnTarget),
            GroupDrift::Drifted(image) => GroupState::Drifted(image.as_ref().map(ToString::to_string)),
            GroupDrift::Excluded => GroupState::Excluded,
            GroupDrift::Unsupported(why) | GroupDrift::Unusable(why) => GroupState::Unsupported(why.clone()),
            GroupDrift::Unknown(_, why) => GroupState::Unreadable(why.clone()),
        },
    };
    survey.groups.iter().map(group).collect()
}

fn intent(spec: &Spec, plan: &Plan, groups: &[Group]) -> Intent {
    let moves = groups.iter().any(|group| matches!(group.state, GroupState::Drifted(_)));
    let message = |why: &Explanation| why.message.clone();
    match (plan, &spec.paused) {
        (Plan::Stalled { why, .. } | Plan::Blocked { why, .. }, _) if !is_solved_by_image(why) => {
            Intent::Stalled { message: message(why), until_next_image: false }
        }
        // A move that has begun is not stopped.
        (Plan::Record { why, .. } | Plan::Act { why, .. }, _) if moves && !is_pruning(plan) => {
            Intent::Move { message: message(why) }
        }
        (_, Some(paused)) => Intent::Paused { message: explain_pause(paused) },
        (Plan::Done { why, .. } | Plan::Record { why, .. } | Plan::Act { why, .. }, None) => {
            Intent::Keep { message: message(why) }
        }
        (Plan::Wait { why, .. }, None) if why.delay().is_some() => Intent::Hold { message: message(why) },
        (Plan::Wait { why, busy: true, .. }, None) if moves => Intent::Move { message: message(why) },
        (Plan::Wait { why, .. }, None) => Intent::Wait { message: message(why) },
        (Plan::Stalled { why, .. } | Plan::Blocked { why, .. }, None) => {
            Intent::Stalled { message: message(why), until_next_image: true }
        }
        (Plan::Unknown(_, message), None) => Intent::Unknown { message: message.clone() },
        // The callers read what is needed before.
        (Plan::Read(_), None) => {
            Intent::Unknown { message: format!("not everything about {} was read", spec.key) }
        }
    }
}

fn is_pruning(plan: &Plan) -> bool {
    matches!(plan, Plan::Act { step: Step::PruneVersions { .. }, .. })
}

/// Whether the cause is the image, or what remains of its rollout: another image is rolled out nevertheless.
fn is_solved_by_image(why: &Explanation) -> bool {
    [
        reasons::ANOTHER_WRITER,
        reasons::IMAGE_HELD,
        reasons::KUBERNETES_TOO_NEW,
        reasons::NODE_GROUP_DEGRADED,
        reasons::NO_ELIGIBLE_IMAGE,
        reasons::UPDATE_FAILED,
        reasons::UPDATE_REFUSED,
    ]
    .contains(&why.reason)
}

fn explain_pause(paused: &Paused) -> String {
    match paused {
        Paused::Suspended => "it is suspended".to_owned(),
        Paused::Disabled => "refreshConfig.enable is false".to_owned(),
        Paused::NotInGit => "its manifest was removed".to_owned(),
        Paused::ManifestBroken { file } => format!("its manifest in {file} is invalid"),
    }
}
