//! Observes a refresher by what the agent has published alone, for a plan without access to AWS: the groups, their images
//! and the target are those that it reported last. The plan is that of the agent, as far as it needs no other facts. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{BuilderInputs, MAX_RECORDS, Preview, after_record, assumed_verdicts, of_plan};
use crate::api::builder::LaneImage;
use crate::api::refresher::NodeGroupStatus;
use crate::api::words::{GroupState, NodeGroupKind};
use crate::api::{
    AMIRefresher, Assumption, Class, ImageId, Key, Seen, TemplateId, conditions, reasons, tags,
};
use crate::aws::{Image, LaunchTemplateVersion, ManagedNodegroup, Tags, TemplateVersion};
use crate::refresher::BuilderImages;
use crate::refresher::memory::{Memory, Rollout};
use crate::refresher::node_group::{Lifecycle, NodeGroup, sorted};
use crate::refresher::observed::{Account, FreshGroups, Observed, SourceImages};
use crate::refresher::plan::{PlanInput, plan};
use crate::refresher::spec::{Source, Spec};
use crate::refresher::step::{Explanation, Plan};

/// Stands for a launch template whose ID only EKS knows.
const UNKNOWN_TEMPLATE: &str = "lt-00000000000000000";
/// Stands for a version of it.
const UNKNOWN_VERSION: &str = "1";

/// The decision by these facts.
pub fn preview(input: PlanInput<'_>) -> Preview {
    let mut memory = input.memory.clone();
    let mut plan = plan_or_assume(PlanInput { memory: &memory, ..input });
    for _ in 0..MAX_RECORDS {
        let Some(next) = after_record(&plan, &memory) else { break };
        memory = next;
        plan = plan_or_assume(PlanInput { memory: &memory, ..input });
    }
    let mut preview = of_plan(PlanInput { memory: &memory, ..input }, &plan);
    // The number of nodes is not published.
    preview.groups.iter_mut().for_each(|group| group.nodes = None);
    Preview { assumed: assumed(input.spec), ..preview }
}

/// The plan of the agent. If it depends on what only AWS knows, such as the progress of an update, the groups that are
/// left to move are moved.
fn plan_or_assume(input: PlanInput<'_>) -> Plan {
    let is_moving = |rollout: &Rollout| rollout.is_open() && rollout.moving().next().is_some();
    let rollout = input.memory.rollout.as_ref().filter(|rollout| is_moving(rollout));
    match rollout {
        None => match plan(input) {
            Plan::Read(_) => goes_on(input, "the rollout goes on".to_owned()),
            plan => plan,
        },
        Some(rollout) => goes_on(input, format!("the rollout of {} is in progress", rollout.target)),
    }
}

fn goes_on(input: PlanInput<'_>, message: String) -> Plan {
    Plan::Wait { why: Explanation::new(reasons::ROLLING_OUT, message), look: input.spec.timer, busy: true }
}

/// What is assumed to be as it was when the status was published.
fn assumed(spec: &Spec) -> Vec<Assumption> {
    let cluster = format!("{} in {}", spec.cluster, spec.region);
    let mut assumed = vec![Assumption { what: "the node groups of its cluster", about: cluster }];
    if matches!(spec.source, Source::Filters(_) | Source::Cluster) {
        let about = format!("{:?}", spec.source);
        assumed.push(Assumption { what: "the newest image of its source", about });
    }
    assumed
}

/// What the status of a builder names: its active images, and what they were built from.
pub struct Built<'a> {
    pub images: &'a BuilderImages,
    pub inputs: &'a BuilderInputs<'a>,
}

/// The facts in status.
pub fn observe(
    object: &AMIRefresher,
    spec: &Spec,
    memory: &Memory,
    built: &Built<'_>,
    now: Timestamp,
) -> Observed {
    let rows = object.status.as_ref().and_then(|status| status.node_groups.as_deref()).unwrap_or_default();
    let groups: Vec<NodeGroup> = rows.iter().map(|row| group(spec, memory, row)).collect();
    let source_images = match &spec.source {
        Source::Image(_) => Seen::Is(SourceImages::Named),
        Source::Builder(builder) => Seen::Is(of_builder(spec, builder, built, now)),
        Source::Filters(_) | Source::Cluster => offered(object, memory, now),
    };
    let templates = templates(&groups);
    Observed {
        fresh_groups: FreshGroups::All,
        fresh_source_images: true,
        verdicts: assumed_verdicts(spec),
        images: images(spec, memory, &groups, source_images.known()),
        fresh_templates: templates.keys().cloned().collect(),
        templates,
        ..Observed::first(
            Seen::Is(Account::Allowed),
            match groups.is_empty() {
                true => not_published("its node groups are not in the published status yet"),
                false => sorted(groups),
            },
            source_images,
        )
    }
}

fn not_published<T>(what: &str) -> Seen<T> {
    Seen::Unknown(Class::TRANSIENT, what.to_owned())
}

/// The images that the status of the builder names, with the tags that their promotion gave them.
fn of_builder(spec: &Spec, builder: &Key, built: &Built<'_>, now: Timestamp) -> SourceImages {
    let Some(lanes) = (built.images)(builder) else { return SourceImages::NoBuilder };
    let inputs = (built.inputs)(builder).unwrap_or_default();
    let tags = [
        (tags::BROUGHT_BY.0, Some(tags::BROUGHT_BY.1.to_owned())),
        (tags::BUILDER, Some(builder.to_string())),
        (tags::STATUS, Some(tags::ACTIVE.to_owned())),
        (tags::BASE, inputs.base_ami),
        (tags::TEMPLATE, inputs.template),
        (tags::SPEC, inputs.spec),
    ];
    let tags: Tags = tags.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    let is_offered = |lane: &&LaneImage| lane.region == spec.region.as_str() && lane.gone != Some(true);
    let image = |lane: &LaneImage| {
        let named = Image::named(ImageId::parse(lane.id.as_str()).ok()?, String::new());
        let (architecture, tags) = (lane.architecture.clone(), tags.clone());
        // Its age is not published: an image that is too old is replaced by its builder.
        Some((named.id.clone(), Some(Image { architecture, created: Some(now), tags, ..named })))
    };
    SourceImages::Built(lanes.iter().filter(is_offered).filter_map(image).collect())
}

/// The images of the last target, and the newer one that was held then.
fn offered(object: &AMIRefresher, memory: &Memory, now: Timestamp) -> Seen<SourceImages> {
    let Some(target) = &memory.target else {
        return not_published("which image it rolls out is not in the published status yet");
    };
    let conditions = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_held = conditions
        .filter(|condition| condition.r#type == conditions::READY)
        .any(|ready| ready.reason.as_deref() == Some(reasons::IMAGE_HELD));
    let rollout = memory.rollout.as_ref();
    let held = rollout.and_then(|rollout| rollout.failed.iter().last()).filter(|_| is_held);
    let image = |id: &ImageId, created| Image { created, ..Image::named(id.clone(), String::new()) };
    let since = rollout.map_or(now, |rollout| rollout.started);
    let of_target = target.images().iter().map(|id| image(id, Some(since)));
    Seen::Is(SourceImages::Filtered(of_target.chain(held.map(|id| image(id, Some(now)))).collect()))
}

/// The images that the plan compares. With one image per architecture, it is not known which of them a group needs.
fn images(
    spec: &Spec,
    memory: &Memory,
    groups: &[NodeGroup],
    offered: Option<&SourceImages>,
) -> BTreeMap<ImageId, Seen<Option<Image>>> {
    let offered: Vec<&ImageId> = match offered {
        Some(SourceImages::Built(images)) if images.len() > 1 => return BTreeMap::new(),
        Some(SourceImages::Built(images)) => images.iter().map(|(id, _)| id).collect(),
        Some(SourceImages::Filtered(images)) => images.iter().map(|image| &image.id).collect(),
        _ => Vec::new(),
    };
    let target = memory.target.iter().chain(memory.rollout.iter().map(|rollout| &rollout.target));
    if target.clone().any(|target| target.images().len() > 1) {
        return BTreeMap::new();
    }
    let running = groups.iter().filter_map(|group| group.image.as_ref());
    let of_target = target.flat_map(|target| target.images());
    let all = running.chain(of_target).chain(offered).chain(spec.ami());
    all.map(|id| (id.clone(), Seen::Is(Some(Image::named(id.clone(), String::new()))))).collect()
}

fn group(spec: &Spec, memory: &Memory, row: &NodeGroupStatus) -> NodeGroup {
    let image = row.current_ami.as_deref().and_then(|id| ImageId::parse(id).ok());
    // Labels and tags are not in the status: a wave that selects by them keeps the groups that it had.
    let had = spec.policy.waves.iter().find(|wave| Some(&wave.name) == row.wave.as_ref());
    let (labels, tags) = had.map(|wave| wave.selected()).unzip();
    let read = ManagedNodegroup {
        name: row.name.clone(),
        status: "ACTIVE".to_owned(),
        ami_type: "CUSTOM".to_owned(),
        release_version: row.current_ami.clone(),
        launch_template: Some(in_force(memory, &row.name, image.as_ref())),
        labels: labels.cloned().unwrap_or_default(),
        tags: tags.cloned().unwrap_or_default(),
        ..ManagedNodegroup::default()
    };
    let read = NodeGroup::managed(&read, true);
    NodeGroup { lifecycle: unmovable(spec, row).unwrap_or_else(|| read.lifecycle.clone()), ..read }
}

/// The launch template version in force, as far as the rollout has recorded it.
fn in_force(memory: &Memory, group: &str, image: Option<&ImageId>) -> TemplateVersion {
    let rollout = memory.rollout.as_ref();
    match rollout.and_then(|rollout| rollout.groups.get(group)) {
        Some(entry) if image == Some(&entry.image) => TemplateVersion {
            template: entry.previous.template.clone(),
            version: entry.new_version.map_or(UNKNOWN_VERSION.to_owned(), |version| version.to_string()),
        },
        Some(entry) => entry.previous.clone(),
        None => TemplateVersion {
            template: TemplateId::parse(UNKNOWN_TEMPLATE).expect("seventeen hex digits are a template ID"),
            version: UNKNOWN_VERSION.to_owned(),
        },
    }
}

fn templates(groups: &[NodeGroup]) -> BTreeMap<TemplateId, Seen<Arc<Vec<LaunchTemplateVersion>>>> {
    let mut versions: BTreeMap<TemplateId, Vec<LaunchTemplateVersion>> = BTreeMap::new();
    for group in groups {
        let Some(in_force) = &group.launch_template else { continue };
        let Ok(number) = in_force.version.parse() else { continue };
        let image = group.image.as_ref().map(ToString::to_string);
        let version = LaunchTemplateVersion { number, image, ..LaunchTemplateVersion::default() };
        versions.entry(in_force.template.clone()).or_default().push(version);
    }
    versions.into_iter().map(|(template, versions)| (template, Seen::Is(Arc::new(versions)))).collect()
}

/// Why a group cannot be moved, as a state of its life cycle.
fn unmovable(spec: &Spec, row: &NodeGroupStatus) -> Option<Lifecycle> {
    let is_self_managed = row.kind.as_deref() == Some(NodeGroupKind::SelfManaged.as_str());
    if !(if is_self_managed { spec.scope.self_managed } else { spec.scope.managed }) {
        return Some(Lifecycle::NotRead);
    }
    let unreadable = |why: &str| Some(Lifecycle::Unreadable(Class::TRANSIENT, why.to_owned()));
    let reason = row.reason.as_deref().unwrap_or_default();
    match row.state.as_deref().and_then(GroupState::parse) {
        Some(GroupState::Unsupported) => Some(Lifecycle::Broken(reason.to_owned())),
        // Without a reason, only the target was unknown.
        Some(GroupState::Unknown) if !reason.is_empty() => unreadable(reason),
        _ if row.current_ami.is_none() => unreadable("its image is not in the published status"),
        _ => None,
    }
}
