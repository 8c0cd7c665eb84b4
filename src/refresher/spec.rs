//! The refresher's spec as written → what the plan works by. Pure: every default of the kind lives
//! here, and every problem is collected with the path of its field.

use std::time::Duration;

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::api::builder::AmiFilter;
use crate::api::ids::digest;
use crate::api::{AMIRefresher, AMIRefresherSpec, ImageId, Key, Region, annotations, duration};
use crate::aws::eks::MaxUnavailable;
use crate::aws::{Filter, ImageQuery};

/// How often to look where nothing is written.
const TIMER: Duration = Duration::from_secs(600);
/// The shortest pause between two looks: a smaller timer would only spend API quota.
const SHORTEST_TIMER: Duration = Duration::from_secs(1);
/// Owners looked in where the filters name none: never every public image.
const DEFAULT_OWNERS: [&str; 2] = ["self", "amazon"];
/// EKS takes 1 to 100, as a count and as a percentage.
const UNAVAILABLE: std::ops::RangeInclusive<i32> = 1..=100;

/// A problem: the path of the field, and what is wrong with it.
pub type Problem = (String, String);

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
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Scope {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    Suspended,
    Disabled,
}

impl Spec {
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
    let mut problems = Vec::new();
    let spec = &object.spec;
    let key = Key {
        namespace: object.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
        name: object.metadata.name.clone().unwrap_or_default(),
    };
    let region = note(&mut problems, "spec.region", Region::parse(spec.region.clone()));
    if spec.cluster_name.trim().is_empty() {
        problems.push(problem("spec.clusterName", "is empty: name the EKS cluster"));
    }
    let source = source(spec, region.as_ref(), &key.namespace, &mut problems);
    let scope = scope(spec, &mut problems);
    let (expires_in, timer) = times(spec, &mut problems);
    let how = how(spec, &mut problems);
    match (region, source, scope) {
        (Some(region), Some(source), Some(scope)) if problems.is_empty() => Ok(Spec {
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
        _ => Err(problems),
    }
}

fn source(
    spec: &AMIRefresherSpec,
    region: Option<&Region>,
    namespace: &str,
    problems: &mut Vec<Problem>,
) -> Option<Source> {
    if let Some(ami) = spec.ami.as_ref().filter(|ami| !ami.is_empty()) {
        return note(problems, "spec.ami", ImageId::parse(ami.trim())).map(Source::Image);
    }
    if let Some(filters) = spec.ami_filters.as_ref().filter(|filters| !filters.is_empty()) {
        let (owners, filters) = query(filters, problems);
        return region.map(|region| Source::Filters(ImageQuery { region: region.clone(), owners, filters }));
    }
    let Some(from) = &spec.ami_from else { return Some(Source::Cluster) };
    match from.packer_builder.as_deref().map(str::trim).filter(|name| !name.is_empty()) {
        Some(name) => Some(Source::Builder(Key { namespace: namespace.to_owned(), name: name.to_owned() })),
        None => {
            problems.push(problem("spec.amiFrom.packerBuilder", "is missing: name the PackerBuilder"));
            None
        }
    }
}

/// Owners and the other filters: EC2 wants owners as a parameter of their own.
fn query(written: &[AmiFilter], problems: &mut Vec<Problem>) -> (Vec<String>, Vec<Filter>) {
    let (mut owners, mut filters) = (Vec::new(), Vec::new());
    for (index, filter) in written.iter().enumerate() {
        let path = format!("spec.amiFilters[{index}]");
        let name = filter.name.as_deref().map(str::trim).unwrap_or_default();
        let values = filter.values.clone().unwrap_or_default();
        if name.is_empty() {
            problems.push(problem(&format!("{path}.name"), "is missing"));
        }
        if values.is_empty() {
            problems.push(problem(&format!("{path}.values"), "is empty: give at least one value"));
        }
        match name {
            "owner-id" | "owner-alias" => owners.extend(values),
            _ => filters.push(Filter { name: name.to_owned(), values }),
        }
    }
    if owners.is_empty() {
        owners = DEFAULT_OWNERS.map(str::to_owned).to_vec();
    }
    owners.sort();
    owners.dedup();
    (owners, filters)
}

fn scope(spec: &AMIRefresherSpec, problems: &mut Vec<Problem>) -> Option<Scope> {
    let include = spec.node_groups.as_ref().and_then(|groups| groups.include.clone()).unwrap_or_default();
    let exclude = spec.exclude.clone().unwrap_or_default();
    let include_set = globs(&include, "spec.nodeGroups.include", problems)?;
    let exclude = globs(&exclude, "spec.exclude", problems)?;
    Some(Scope { include: (!include.is_empty()).then_some(include_set), exclude })
}

fn globs(patterns: &[String], path: &str, problems: &mut Vec<Problem>) -> Option<GlobSet> {
    let mut set = GlobSetBuilder::new();
    for (index, pattern) in patterns.iter().enumerate() {
        if let Some(glob) = note(problems, &format!("{path}[{index}]"), Glob::new(pattern)) {
            set.add(glob);
        }
    }
    note(problems, path, set.build())
}

/// `expiresIn` and `controllerTimer`, which may stand under `timeOuts` or directly under `spec`.
fn times(spec: &AMIRefresherSpec, problems: &mut Vec<Problem>) -> (Option<Duration>, Option<Duration>) {
    let nested = spec.time_outs.clone().unwrap_or_default();
    let mut read = |field: &str, nested: Option<&String>, direct: Option<&String>| {
        // Empty texts and zeros are how the operator's manifests say nothing.
        let written = |text: &&String| !text.is_empty();
        let (nested, direct) = (nested.filter(written), direct.filter(written));
        if let (Some(nested), Some(direct)) = (nested, direct)
            && nested != direct
        {
            let words = format!("says {direct:?}, and spec.timeOuts.{field} says {nested:?}: keep one");
            problems.push(problem(&format!("spec.{field}"), &words));
        }
        let path = if nested.is_some() { format!("spec.timeOuts.{field}") } else { format!("spec.{field}") };
        nested.or(direct).and_then(|text| note(problems, &path, duration::parse(text)))
    };
    let expires = read("expiresIn", nested.expires_in.as_ref(), spec.expires_in.as_ref());
    let timer = read("controllerTimer", nested.controller_timer.as_ref(), spec.controller_timer.as_ref());
    (expires, timer)
}

fn how(spec: &AMIRefresherSpec, problems: &mut Vec<Problem>) -> How {
    let config = spec.refresh_config.clone().unwrap_or_default();
    let written = |value: &i32| *value != 0;
    let (count, percentage) =
        (config.max_unavailable.filter(written), config.max_unavailable_percentage.filter(written));
    for (field, value) in [("maxUnavailable", count), ("maxUnavailablePercentage", percentage)] {
        if value.is_some_and(|value| !UNAVAILABLE.contains(&value)) {
            problems.push(problem(&format!("spec.refreshConfig.{field}"), "must be from 1 to 100"));
        }
    }
    if count.is_some() && percentage.is_some() {
        let words = "EKS takes maxUnavailable or maxUnavailablePercentage, not both";
        problems.push(problem("spec.refreshConfig", words));
    }
    let given = count.is_some() || percentage.is_some();
    How {
        force: config.force.unwrap_or(false),
        max_unavailable: given.then_some(MaxUnavailable { count, percentage }),
        max_parallel: if config.wait_for_completion == Some(false) { usize::MAX } else { 1 },
    }
}

fn paused(object: &AMIRefresher) -> Option<Paused> {
    let annotated = annotations::suspended(&object.metadata);
    let enabled = object.spec.refresh_config.as_ref().and_then(|config| config.enable).unwrap_or(true);
    if annotated || object.spec.suspend.unwrap_or(false) {
        Some(Paused::Suspended)
    } else {
        (!enabled).then_some(Paused::Disabled)
    }
}

fn problem(path: &str, message: &str) -> Problem {
    (path.to_owned(), message.to_owned())
}

/// The value, or its problem noted.
fn note<T, E: std::fmt::Display>(problems: &mut Vec<Problem>, path: &str, read: Result<T, E>) -> Option<T> {
    read.map_err(|error| problems.push((path.to_owned(), error.to_string()))).ok()
}
