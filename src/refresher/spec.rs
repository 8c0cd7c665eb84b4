//! Parses the spec of an AMIRefresher into what the plan uses. Every default of the kind is set here, and every problem
//! is collected with the path of its field. First in the reconcile, before anything is read. Pure.

mod health;
mod instance_refresh;
mod policy;

use std::ops::RangeInclusive;
use std::time::Duration;

use globset::{GlobSet, GlobSetBuilder};

use super::held::Held;
use super::node_group::name_in_aws;
use crate::api::checks::{Problem, Problems, is_object_name};
use crate::api::conditions::Suspension;
use crate::api::filters::AmiFilter;
use crate::api::ids::digest;
use crate::api::{AMIRefresher, AMIRefresherSpec, ImageId, Key, Region, Undeclared, annotations, notifier};
use crate::aws::autoscaling::RefreshPreferences;
use crate::aws::eks::MaxUnavailable;
use crate::aws::{Filter, ImageQuery, owners};
pub use health::SoakCheck;
pub use policy::{Policy, Wave};

/// The interval between reconciles if the spec sets none.
const TIMER: Duration = Duration::from_secs(600);
/// The shortest interval between reconciles: a shorter one would only consume API quota.
const SHORTEST_TIMER: Duration = Duration::from_secs(1);
/// EKS accepts 1 to 100, as a count and as a percentage.
const UNAVAILABLE: RangeInclusive<i32> = 1..=100;

/// A valid refresher.
#[derive(Clone, Debug)]
pub struct Spec {
    pub key: Key,
    pub region: Region,
    pub cluster: String,
    pub source: Source,
    pub scope: Scope,
    /// Images older than this are not eligible.
    pub expires_in: Option<Duration>,
    /// The interval between reconciles.
    pub timer: Duration,
    pub update: UpdateSettings,
    /// In which order, how many at once, and when node groups are moved.
    pub policy: Policy,
    pub paused: Option<Paused>,
    /// The images that a person holds back.
    pub held: Vec<Held>,
}

/// Where the target comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `ami`: exactly this image.
    Image(ImageId),
    /// `amiFilters`: the newest eligible image that matches.
    Filters(ImageQuery),
    /// `amiFrom`: the images of a builder.
    Builder(Key),
    /// None of them is set: the newest active image that was built for the cluster.
    Cluster,
}

/// The node groups that Opsy keeps on the target.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Managed node groups are in scope.
    pub managed: bool,
    /// Self-managed groups are in scope.
    pub self_managed: bool,
    /// Also those whose nodes nothing drains.
    pub allow_without_drain: bool,
    /// `nodeGroups.include` as written, to recognize a name among the globs.
    listed: Vec<String>,
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Scope {
    /// Whether `nodeGroups.include` lists exactly this name. Then the person who wrote it vouches that the image fits.
    pub fn lists(&self, group: &str) -> bool {
        self.listed.iter().any(|name| name == name_in_aws(group))
    }

    pub fn excludes(&self, group: &str) -> bool {
        let group = name_in_aws(group);
        self.exclude.is_match(group) || self.include.as_ref().is_some_and(|globs| !globs.is_match(group))
    }
}

/// How node groups are updated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateSettings {
    /// EKS continues even if pods cannot be evicted.
    pub force: bool,
    /// The update configuration that every group must have; `None` leaves it unchanged.
    pub max_unavailable: Option<MaxUnavailable>,
    /// The preferences of instance refreshes that are set.
    pub refresh: RefreshPreferences,
}

/// Why no update is started. Updates in progress are still followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paused {
    /// `suspend`, in the spec or as an annotation.
    Suspended,
    /// `refreshConfig.enable: false`.
    Disabled,
    /// The manifest was removed from Git, and the object is not pruned yet.
    NotInGit,
    /// The manifest is in this file, which is invalid.
    ManifestBroken { file: String },
}

impl Spec {
    /// The image that `ami` names.
    pub fn ami(&self) -> Option<&ImageId> {
        match &self.source {
            Source::Image(image) => Some(image),
            _ => None,
        }
    }

    /// The spec of an object that no manifest declares: no update is started. While the manifest is invalid, a
    /// suspended or disabled refresher stays reported as such.
    pub fn undeclared(self, why: Undeclared) -> Self {
        let paused = match why {
            Undeclared::Gone => Paused::NotInGit,
            Undeclared::Broken { file } => self.paused.clone().unwrap_or(Paused::ManifestBroken { file }),
        };
        Self { paused: Some(paused), ..self }
    }

    /// A hash of what a person can change to have a failed update retried.
    pub fn fingerprint(&self) -> String {
        let max = self.update.max_unavailable;
        let ami = match &self.source {
            Source::Image(id) => id.as_str(),
            _ => "",
        };
        let mut parts = vec![
            ami.to_owned(),
            self.update.force.to_string(),
            format!("{:?}", max.and_then(|max| max.count)),
            format!("{:?}", max.and_then(|max| max.percentage)),
        ];
        // Without settings of instance refreshes, the hash is the same as that of earlier versions.
        if self.update.refresh != RefreshPreferences::default() {
            parts.push(format!("{:?}", self.update.refresh));
        }
        digest(&parts.iter().map(String::as_str).collect::<Vec<_>>())[..16].to_owned()
    }
}

/// The key of an object.
pub fn key(object: &AMIRefresher) -> Key {
    Key {
        namespace: object.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        name: object.metadata.name.clone().unwrap_or_default(),
    }
}

/// Parses the spec.
///
/// # Errors
/// Every problem of the spec, not only the first.
pub fn parse(object: &AMIRefresher) -> Result<Spec, Vec<Problem>> {
    let mut problems = Problems::default();
    let spec = &object.spec;
    let key = key(object);
    let region = problems.region("spec.region", &spec.region);
    if spec.cluster_name.trim().is_empty() {
        problems.add("spec.clusterName", "is empty: name the EKS cluster");
    }
    notifier::checks::check(spec.notifier.as_ref(), &mut problems);
    let source = source(spec, region.as_ref(), &key.namespace, &mut problems);
    let scope = scope(spec, &mut problems);
    let (expires_in, timer) = times(spec, &mut problems);
    let held = held(spec, source.as_ref(), &mut problems);
    let update = update_settings(spec, &mut problems);
    // Only an explicit `false` updates all groups at once.
    let waits = spec.refresh_config.as_ref().and_then(|config| config.wait_for_completion) != Some(false);
    let policy = policy::policy(object, waits, &mut problems);
    match (region, source, scope) {
        (Some(region), Some(source), Some(scope)) if problems.0.is_empty() => Ok(Spec {
            region,
            cluster: spec.cluster_name.trim().to_owned(),
            source,
            scope,
            expires_in,
            timer: timer.unwrap_or(TIMER).max(SHORTEST_TIMER),
            update,
            policy,
            paused: paused(object),
            held,
            key,
        }),
        _ => Err(problems.0),
    }
}

fn source(
    spec: &AMIRefresherSpec,
    region: Option<&Region>,
    namespace: &str,
    problems: &mut Problems,
) -> Option<Source> {
    if let Some(ami) = spec.ami.as_ref().filter(|ami| !ami.is_empty()) {
        return problems.read("spec.ami", ImageId::parse(ami.trim())).map(Source::Image);
    }
    if let Some(filters) = spec.ami_filters.as_ref().filter(|filters| !filters.is_empty()) {
        let (owners, filters) = query(filters, problems);
        return region.map(|region| Source::Filters(ImageQuery { region: region.clone(), owners, filters }));
    }
    let Some(from) = &spec.ami_from else { return Some(Source::Cluster) };
    match from.packer_builder.as_deref().map(str::trim).filter(|name| is_object_name(name)) {
        Some(name) => Some(Source::Builder(Key { namespace: namespace.to_owned(), name: name.to_owned() })),
        None => {
            let message = "must be the name of a PackerBuilder in the same namespace";
            problems.add("spec.amiFrom.packerBuilder", message);
            None
        }
    }
}

/// Owners and the other filters: the EC2 API has a separate parameter for owners.
fn query(written: &[AmiFilter], problems: &mut Problems) -> (Vec<String>, Vec<Filter>) {
    let mut filters = Vec::new();
    for (index, filter) in written.iter().enumerate() {
        let Some((name, values)) = problems.filter(&format!("spec.amiFilters[{index}]"), filter) else {
            continue;
        };
        filters.push(Filter { name, values });
    }
    owners::split(filters)
}

fn held(spec: &AMIRefresherSpec, source: Option<&Source>, problems: &mut Problems) -> Vec<Held> {
    let mut held = Vec::new();
    for (index, written) in spec.held.iter().flatten().enumerate() {
        let path = format!("spec.held[{index}].ami");
        let Some(ami) = written.ami.as_deref().map(str::trim).filter(|ami| !ami.is_empty()) else {
            problems.add(path, "is required: the ID of an image, for example ami-0123456789abcdef0");
            continue;
        };
        let Some(image) = problems.read(&path, ImageId::parse(ami)) else { continue };
        if source == Some(&Source::Image(image.clone())) {
            problems.add(path, "is also spec.ami: remove one of the two");
        }
        held.push(Held { image, reason: written.reason.clone().filter(|reason| !reason.trim().is_empty()) });
    }
    held
}

fn scope(spec: &AMIRefresherSpec, problems: &mut Problems) -> Option<Scope> {
    let groups = spec.node_groups.clone().unwrap_or_default();
    let (managed, self_managed) = (groups.managed.unwrap_or(true), groups.self_managed.unwrap_or(false));
    if !managed && !self_managed {
        let message = "and selfManaged are false, so no group is updated: set one of them to true";
        problems.add("spec.nodeGroups.managed", message);
    }
    let include = groups.include.unwrap_or_default();
    let exclude = spec.exclude.clone().unwrap_or_default();
    let include_set = globs(&include, "spec.nodeGroups.include", problems)?;
    let exclude = globs(&exclude, "spec.exclude", problems)?;
    Some(Scope {
        managed,
        self_managed,
        allow_without_drain: groups.allow_without_drain.unwrap_or(false),
        listed: include.clone(),
        include: (!include.is_empty()).then_some(include_set),
        exclude,
    })
}

fn globs(patterns: &[String], path: &str, problems: &mut Problems) -> Option<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for glob in problems.globs(path, patterns) {
        set.add(glob);
    }
    problems.read(path, set.build())
}

/// `expiresIn` and `controllerTimer`, which are accepted under `timeOuts` and directly under `spec`.
fn times(spec: &AMIRefresherSpec, problems: &mut Problems) -> (Option<Duration>, Option<Duration>) {
    let nested = spec.time_outs.clone().unwrap_or_default();
    let mut read = |field: &str, nested: Option<&String>, direct: Option<&String>| {
        // In the operator's manifests, an empty string and 0 mean that a field is not set.
        let is_set = |text: &&String| !text.is_empty();
        let (nested, direct) = (nested.filter(is_set), direct.filter(is_set));
        if let (Some(nested), Some(direct)) = (nested, direct)
            && nested != direct
        {
            let message =
                format!("is {direct:?}, but spec.timeOuts.{field} is {nested:?}: remove one of the two");
            problems.add(format!("spec.{field}"), message);
        }
        let path = if nested.is_some() { format!("spec.timeOuts.{field}") } else { format!("spec.{field}") };
        problems.duration(&path, nested.or(direct))
    };
    let expires = read("expiresIn", nested.expires_in.as_ref(), spec.expires_in.as_ref());
    let timer = read("controllerTimer", nested.controller_timer.as_ref(), spec.controller_timer.as_ref());
    (expires, timer)
}

fn update_settings(spec: &AMIRefresherSpec, problems: &mut Problems) -> UpdateSettings {
    let config = spec.refresh_config.clone().unwrap_or_default();
    let is_set = |value: &i32| *value != 0;
    let (count, percentage) =
        (config.max_unavailable.filter(is_set), config.max_unavailable_percentage.filter(is_set));
    for (field, value) in [("maxUnavailable", count), ("maxUnavailablePercentage", percentage)] {
        if let Some(value) = value.filter(|value| !UNAVAILABLE.contains(value)) {
            let message = format!("must be between 1 and 100, but is {value}");
            problems.add(format!("spec.refreshConfig.{field}"), message);
        }
    }
    if count.is_some() && percentage.is_some() {
        let message = "EKS accepts either a number or a percentage: remove this field or `maxUnavailable`";
        problems.add("spec.refreshConfig.maxUnavailablePercentage", message);
    }
    let is_given = count.is_some() || percentage.is_some();
    UpdateSettings {
        force: config.force.unwrap_or(false),
        max_unavailable: is_given.then_some(MaxUnavailable { count, percentage }),
        refresh: instance_refresh::preferences(config.instance_refresh.as_ref(), problems),
    }
}

/// Whether the refresher is suspended, and where.
pub fn suspension(object: &AMIRefresher) -> Option<Suspension> {
    Suspension::of(object.spec.suspend.unwrap_or(false), annotations::suspended(&object.metadata))
}

fn paused(object: &AMIRefresher) -> Option<Paused> {
    let enabled = object.spec.refresh_config.as_ref().and_then(|config| config.enable).unwrap_or(true);
    if suspension(object).is_some() {
        Some(Paused::Suspended)
    } else {
        (!enabled).then_some(Paused::Disabled)
    }
}
