//! The refresher's spec as written → what the plan works by. Pure: every default of the kind lives
//! here, and every problem is collected with the path of its field.

use std::time::Duration;

use globset::{GlobSet, GlobSetBuilder};

use crate::api::builder::AmiFilter;
use crate::api::checks::{Problems, is_object_name};
use crate::api::conditions::Suspension;
use crate::api::ids::digest;
use crate::api::{AMIRefresher, AMIRefresherSpec, ImageId, Key, Region, Undeclared, annotations, notifier};
use crate::aws::eks::MaxUnavailable;
use crate::aws::{Filter, ImageQuery, owners};

/// How often to look where nothing is written.
const TIMER: Duration = Duration::from_secs(600);
/// The shortest pause between two looks: a smaller timer would only spend API quota.
const SHORTEST_TIMER: Duration = Duration::from_secs(1);
/// EKS takes 1 to 100, as a count and as a percentage.
const UNAVAILABLE: std::ops::RangeInclusive<i32> = 1..=100;

pub use crate::api::checks::Problem;

/// A valid refresher.
#[derive(Clone, Debug)]
pub struct Spec {
    pub key: Key,
    pub region: Region,
    pub cluster: String,
    pub source: Source,
    pub scope: Scope,
    /// Images older than this are not rolled out.
    pub expires_in: Option<Duration>,
    pub timer: Duration,
    pub how: How,
    pub paused: Option<Paused>,
}

/// What names the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `ami`: exactly this image.
    Image(ImageId),
    /// `amiFilters`: the newest eligible image they find.
    Filters(ImageQuery),
    /// `amiFrom`: the images of a builder.
    Builder(Key),
    /// Nothing is named: the newest active image built for the cluster.
    Cluster,
}

/// Which node groups are rolled.
#[derive(Clone, Debug)]
pub struct Scope {
    /// As written, to tell a name from a glob.
    named: Vec<String>,
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Scope {
    /// Does a person name this very group? Then they vouch for what cannot be found out.
    pub fn names(&self, group: &str) -> bool {
        self.named.iter().any(|name| name == group)
    }

    /// Is this group to be left alone?
    pub fn excludes(&self, group: &str) -> bool {
        self.exclude.is_match(group) || self.include.as_ref().is_some_and(|globs| !globs.is_match(group))
    }
}

/// How node groups are rolled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct How {
    pub force: bool,
    /// What the group must be configured with; `None` leaves it as it is.
    pub max_unavailable: Option<MaxUnavailable>,
    /// How many groups may be updated at once.
    pub max_parallel: usize,
}

/// Why nothing new is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Paused {
    Suspended,
    Disabled,
    /// Its manifest is gone from Git, and it is not pruned yet.
    NotInGit,
    /// Its manifest is in this file, which cannot be read.
    ManifestBroken {
        file: String,
    },
}

impl Spec {
    /// The spec of an object without a document: nothing new is started. What people paused stays so.
    pub fn undeclared(self, why: Undeclared) -> Self {
        let paused = match why {
            Undeclared::Gone => Paused::NotInGit,
            Undeclared::Broken { file } => self.paused.clone().unwrap_or(Paused::ManifestBroken { file }),
        };
        Self { paused: Some(paused), ..self }
    }

    /// Changes whenever a person changed how to roll, so that a failed update may be tried again.
    pub fn fingerprint(&self) -> String {
        let max = self.how.max_unavailable;
        let named = match &self.source {
            Source::Image(id) => id.as_str(),
            _ => "",
        };
        let parts = [
            named.to_owned(),
            self.how.force.to_string(),
            format!("{:?}", max.and_then(|max| max.count)),
            format!("{:?}", max.and_then(|max| max.percentage)),
        ];
        digest(&parts.each_ref().map(String::as_str))[..16].to_owned()
    }
}

/// Reads a refresher; on failure every problem found, not only the first.
pub fn parse(object: &AMIRefresher) -> Result<Spec, Vec<Problem>> {
    let mut problems = Problems::default();
    let spec = &object.spec;
    let key = Key {
        namespace: object.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        name: object.metadata.name.clone().unwrap_or_default(),
    };
    let region = problems.region("spec.region", &spec.region);
    if spec.cluster_name.trim().is_empty() {
        problems.add("spec.clusterName", "is empty: name the EKS cluster");
    }
    notifier::checks::check(spec.notifier.as_ref(), &mut problems);
    let source = source(spec, region.as_ref(), &key.namespace, &mut problems);
    let scope = scope(spec, &mut problems);
    let (expires_in, timer) = times(spec, &mut problems);
    let how = how(spec, &mut problems);
    match (region, source, scope) {
        (Some(region), Some(source), Some(scope)) if problems.0.is_empty() => Ok(Spec {
            region,
            cluster: spec.cluster_name.trim().to_owned(),
            source,
            scope,
            expires_in,
            timer: timer.unwrap_or(TIMER).max(SHORTEST_TIMER),
            how,
            paused: paused(object),
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
            let words = "must be the name of a PackerBuilder of the same namespace";
            problems.add("spec.amiFrom.packerBuilder", words);
            None
        }
    }
}

/// Owners and the other filters: EC2 wants owners as a parameter of their own.
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

fn scope(spec: &AMIRefresherSpec, problems: &mut Problems) -> Option<Scope> {
    let include = spec.node_groups.as_ref().and_then(|groups| groups.include.clone()).unwrap_or_default();
    let exclude = spec.exclude.clone().unwrap_or_default();
    let include_set = globs(&include, "spec.nodeGroups.include", problems)?;
    let exclude = globs(&exclude, "spec.exclude", problems)?;
    Some(Scope { named: include.clone(), include: (!include.is_empty()).then_some(include_set), exclude })
}

fn globs(patterns: &[String], path: &str, problems: &mut Problems) -> Option<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for glob in problems.globs(path, patterns) {
        set.add(glob);
    }
    problems.read(path, set.build())
}

/// `expiresIn` and `controllerTimer`, which may stand under `timeOuts` or directly under `spec`.
fn times(spec: &AMIRefresherSpec, problems: &mut Problems) -> (Option<Duration>, Option<Duration>) {
    let nested = spec.time_outs.clone().unwrap_or_default();
    let mut read = |field: &str, nested: Option<&String>, direct: Option<&String>| {
        // Empty texts and zeros are how the operator's manifests say nothing.
        let written = |text: &&String| !text.is_empty();
        let (nested, direct) = (nested.filter(written), direct.filter(written));
        if let (Some(nested), Some(direct)) = (nested, direct)
            && nested != direct
        {
            let words = format!("says {direct:?}, and spec.timeOuts.{field} says {nested:?}: keep one");
            problems.add(format!("spec.{field}"), words);
        }
        let path = if nested.is_some() { format!("spec.timeOuts.{field}") } else { format!("spec.{field}") };
        problems.duration(&path, nested.or(direct))
    };
    let expires = read("expiresIn", nested.expires_in.as_ref(), spec.expires_in.as_ref());
    let timer = read("controllerTimer", nested.controller_timer.as_ref(), spec.controller_timer.as_ref());
    (expires, timer)
}

fn how(spec: &AMIRefresherSpec, problems: &mut Problems) -> How {
    let config = spec.refresh_config.clone().unwrap_or_default();
    let written = |value: &i32| *value != 0;
    let (count, percentage) =
        (config.max_unavailable.filter(written), config.max_unavailable_percentage.filter(written));
    for (field, value) in [("maxUnavailable", count), ("maxUnavailablePercentage", percentage)] {
        if value.is_some_and(|value| !UNAVAILABLE.contains(&value)) {
            let words = format!("{} is out of bounds: it goes from 1 to 100", value.unwrap_or_default());
            problems.add(format!("spec.refreshConfig.{field}"), words);
        }
    }
    if count.is_some() && percentage.is_some() {
        let words = "EKS takes either a number or a percentage: drop this or `maxUnavailable`";
        problems.add("spec.refreshConfig.maxUnavailablePercentage", words);
    }
    let given = count.is_some() || percentage.is_some();
    How {
        force: config.force.unwrap_or(false),
        max_unavailable: given.then_some(MaxUnavailable { count, percentage }),
        max_parallel: if config.wait_for_completion == Some(false) { usize::MAX } else { 1 },
    }
}

/// Who suspended the refresher.
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
