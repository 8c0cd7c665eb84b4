//! Parses the manifest of a builder into a valid `Spec`, or returns all of its problems at once. Pure; `opsy validate`
//! uses it too. Plans read the settings of the manifest only from the `Spec`.

use crate::api::words::Trigger;
use std::time::Duration;

use super::commands::{self, PackerCommand};
use crate::api::builder::{BuilderRun, FailurePolicy, PackerBuilder, PackerBuilderSpec};
use crate::api::checks::{self, has_credentials};
use crate::api::ids::digest;
use crate::api::{Region, notifier};
use crate::aws::{Filter, ImageQuery, owners};
use crate::engine::PodSpec;
use crate::git::templates::{TemplateQuery, TemplateSource};

/// Default interval of reconciles. Reads of images are cached and shared, so it costs little.
const DEFAULT_TIMER: Duration = Duration::from_secs(10 * 60);
/// Maximum for `timeOuts.build`: a build occupies one of few slots that all namespaces share.
const MAX_BUILD_LIMIT: Duration = Duration::from_secs(24 * 3600);
/// Maximum for `timeOuts.pending`: a cluster scales up within minutes, and the build occupies a slot meanwhile.
const MAX_PENDING_LIMIT: Duration = Duration::from_secs(3600);
/// Minimum interval of reconciles: cached reads live longer than this, so a shorter one would observe nothing new.
const MIN_TIMER: Duration = Duration::from_secs(1);
/// Default for `timeOuts.build`. A build with region copies and encryption takes up to an hour; this is twice that.
const DEFAULT_BUILD_LIMIT: Duration = Duration::from_secs(2 * 3600);
const DEFAULT_PENDING_LIMIT: Duration = Duration::from_secs(10 * 60);
const DEFAULT_FAILURE_LIMIT: usize = 5;
/// Maximum for `failurePolicy.limit`: the history contains ten runs, so no more failures can be counted.
const MAX_FAILURES: i32 = 10;
const DEFAULT_BACKOFF: Duration = Duration::from_secs(5 * 60);
const DEFAULT_MAX_BACKOFF: Duration = Duration::from_secs(6 * 3600);
const REBUILD_ON: [&str; 4] = [
    Trigger::Expired.as_str(),
    Trigger::BaseImage.as_str(),
    Trigger::Template.as_str(),
    Trigger::Spec.as_str(),
];
/// Maximum length of a tag value in EC2. A value by which something is found must fit without being cut.
pub const MAX_TAG_VALUE: usize = 256;
/// Length of the hash in a tag: enough of a SHA-256 to distinguish the versions of one builder.
const HASH_DIGITS: usize = 16;
/// Version of the tag `opsy.dev/spec`. Values of other versions are not compared.
const SPEC_VERSION: &str = "v2-";

use crate::api::checks::{Problem, Problems};

/// The settings of a builder, with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub region: Region,
    /// The query for the base image, if one is requested.
    pub base: Option<ImageQuery>,
    /// Age at which an image is rebuilt; `None` means never.
    pub expires_in: Option<Duration>,
    pub timer: Duration,
    pub limit: Duration,
    pub pending_limit: Duration,
    pub suspended: bool,
    pub rebuild_on: RebuildOn,
    pub failures: Failures,
    pub template: TemplateQuery,
    pub commands: Vec<PackerCommand>,
    /// Value of the tag `opsy.dev/spec`.
    pub tag: String,
    pub repo_url: Option<String>,
    pub branch: Option<String>,
    /// Secret whose keys become environment variables of Packer.
    pub secret: Option<String>,
    pub debug: bool,
    /// How a build runs in a cluster. git-sync's repository is set when a run is requested.
    pub pod: PodSpec,
}

/// What makes an image outdated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuildOn {
    pub expired: bool,
    pub base_image: bool,
    pub template: bool,
    pub spec: bool,
    /// The manifest sets `rebuildOn`. Only then does it apply to adopted images too.
    pub explicit: bool,
}

/// How failed builds are retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    pub limit: usize,
    pub backoff: Duration,
    pub max_backoff: Duration,
}

/// Parses a builder. Returns all problems as (field path, message) if it is invalid.
pub fn parse(object: &PackerBuilder) -> Result<Spec, Vec<Problem>> {
    parse_in(object, |_| false)
}

/// Parses a builder for an agent. `is_own` returns whether an address is the agent's own repository; naming that
/// repository is the same as naming none.
pub fn parse_in(object: &PackerBuilder, is_own: impl Fn(&str) -> bool) -> Result<Spec, Vec<Problem>> {
    let mut problems = Problems::default();
    check_tags(object, &mut problems);
    let spec = &object.spec;
    let region = region(spec.region.as_ref(), &mut problems);
    let default = BuilderRun::default();
    let run = spec.builder.as_ref().unwrap_or(&default);
    if spec.builder.is_none() {
        problems.add("spec.builder", "is required: set dir to the path of the Packer template");
    }
    let commands = commands::normalize(run, &mut problems);
    let template = TemplateQuery {
        source: source(spec, run, &is_own),
        ..template_query(spec, run, &commands, &mut problems)
    };
    let base = region.as_ref().and_then(|region| base_query(spec, region, &mut problems));
    let failures = failures(spec.failure_policy.as_ref(), &mut problems);
    let rebuild_on = rebuild_on(spec.rebuild_on.as_deref(), &mut problems);
    let times = times(spec, &mut problems);
    let pod = super::pod::spec(spec, run, &mut problems);
    check_strings(spec, run, &mut problems);
    let Some(region) = region.filter(|_| problems.0.is_empty()) else {
        return Err(problems.0);
    };
    Ok(Spec {
        tag: spec_tag(&region, run, &commands, is_own),
        base,
        expires_in: times.expires_in,
        timer: times.timer,
        limit: times.build,
        pending_limit: times.pending,
        suspended: spec.suspend.unwrap_or(false),
        rebuild_on,
        failures,
        template,
        debug: run.debug.unwrap_or(false) || commands.iter().any(|command| command.debug),
        commands,
        repo_url: checks::written(run.repo_url.as_ref()).map(str::to_owned),
        branch: checks::written(run.branch.as_ref()).map(str::to_owned),
        secret: checks::written(run.secret.as_ref()).map(str::to_owned),
        pod,
        region,
    })
}

fn region(text: Option<&String>, problems: &mut Problems) -> Option<Region> {
    let Some(text) = checks::written(text) else {
        problems.add("spec.region", "is required: name the AWS region in which the image is built");
        return None;
    };
    problems.region("spec.region", text)
}

struct Times {
    expires_in: Option<Duration>,
    timer: Duration,
    build: Duration,
    pending: Duration,
}

fn times(spec: &PackerBuilderSpec, problems: &mut Problems) -> Times {
    let times = spec.time_outs.clone().unwrap_or_default();
    let positive = |problems: &mut Problems, path: &str, text: Option<&String>, or: Duration| {
        let read = problems.duration(path, text);
        if read == Some(Duration::ZERO) {
            problems.add(path, "must be greater than zero");
        }
        read.unwrap_or(or)
    };
    let build = positive(problems, "spec.timeOuts.build", times.build.as_ref(), DEFAULT_BUILD_LIMIT);
    let pending = positive(problems, "spec.timeOuts.pending", times.pending.as_ref(), DEFAULT_PENDING_LIMIT);
    for (field, limit, maximum, text) in
        [("build", build, MAX_BUILD_LIMIT, "24h"), ("pending", pending, MAX_PENDING_LIMIT, "1h")]
    {
        if limit > maximum {
            problems.add(
                format!("spec.timeOuts.{field}"),
                format!("must be at most {text}: a build occupies a slot that others wait for"),
            );
        }
    }
    let timer =
        positive(problems, "spec.timeOuts.controllerTimer", times.controller_timer.as_ref(), DEFAULT_TIMER);
    Times {
        expires_in: problems.duration("spec.timeOuts.expiresIn", times.expires_in.as_ref()),
        timer: timer.max(MIN_TIMER),
        build,
        pending,
    }
}

fn failures(policy: Option<&FailurePolicy>, problems: &mut Problems) -> Failures {
    let policy = policy.cloned().unwrap_or_default();
    let limit = policy.limit.map_or(DEFAULT_FAILURE_LIMIT, |limit| {
        if !(1..=MAX_FAILURES).contains(&limit) {
            problems.add(
                "spec.failurePolicy.limit",
                format!("must be between 1 and {MAX_FAILURES}, but is {limit}"),
            );
        }
        usize::try_from(limit).unwrap_or(DEFAULT_FAILURE_LIMIT)
    });
    let backoff =
        problems.duration("spec.failurePolicy.backoff", policy.backoff.as_ref()).unwrap_or(DEFAULT_BACKOFF);
    let max = problems.duration("spec.failurePolicy.maxBackoff", policy.max_backoff.as_ref());
    Failures { limit, backoff, max_backoff: max.unwrap_or(DEFAULT_MAX_BACKOFF).max(backoff) }
}

fn rebuild_on(words: Option<&[String]>, problems: &mut Problems) -> RebuildOn {
    let Some(words) = words else {
        return RebuildOn { expired: true, base_image: true, template: true, spec: true, explicit: false };
    };
    let mut on =
        RebuildOn { expired: false, base_image: false, template: false, spec: false, explicit: true };
    for (index, word) in words.iter().enumerate() {
        problems.word(format!("spec.rebuildOn[{index}]"), word, &REBUILD_ON);
        match Trigger::parse(word) {
            Some(Trigger::Expired) => on.expired = true,
            Some(Trigger::BaseImage) => on.base_image = true,
            Some(Trigger::Template) => on.template = true,
            Some(Trigger::Spec) => on.spec = true,
            Some(Trigger::Missing | Trigger::Deprecated | Trigger::Retry) | None => {}
        }
    }
    on
}

/// Returns the query for the base image. It always contains owners and at least one other filter. Otherwise, EC2 would
/// list every public image.
fn base_query(spec: &PackerBuilderSpec, region: &Region, problems: &mut Problems) -> Option<ImageQuery> {
    let filters = spec.ami_filters.as_deref().filter(|filters| !filters.is_empty())?;
    let mut read = Vec::new();
    for (index, filter) in filters.iter().enumerate() {
        let Some((name, values)) = problems.filter(&format!("spec.amiFilters[{index}]"), filter) else {
            continue;
        };
        read.push(Filter { name, values });
    }
    if read.iter().all(owners::is_owner) && problems.0.is_empty() {
        problems.add(
            "spec.amiFilters",
            "contains only owners: add another filter, such as name; otherwise all of their images match",
        );
    }
    let (owners, filters) = owners::split(read);
    Some(ImageQuery { region: region.clone(), owners, filters })
}

/// Checks the names by which images are found in tags. They must not be cut there.
fn check_tags(object: &PackerBuilder, problems: &mut Problems) {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let key = format!("{}/{name}", object.metadata.namespace.as_deref().unwrap_or("default"));
    if key.chars().count() > MAX_TAG_VALUE {
        let words = format!(
            "has {} characters together with its namespace, but the tag that contains both has at most \
             {MAX_TAG_VALUE}: use a shorter name",
            key.chars().count()
        );
        problems.add("metadata.name", words);
    }
    let cluster = object.spec.cluster_name.as_deref().unwrap_or_default();
    if cluster.chars().count() > MAX_TAG_VALUE {
        let words = format!("must have at most {MAX_TAG_VALUE} characters, the maximum of a tag");
        problems.add("spec.clusterName", words);
    }
}

/// Returns the files of the repository that a build reads: the template of the build, those of other commands, variable
/// files, and `builder.inputs`.
fn template_query(
    spec: &PackerBuilderSpec,
    run: &BuilderRun,
    commands: &[PackerCommand],
    problems: &mut Problems,
) -> TemplateQuery {
    let root = |path: &str| path.trim_end_matches('/').to_owned();
    let template = commands.last().map_or_else(|| ".".to_owned(), |build| root(&build.template));
    let mut others: Vec<String> = commands.iter().map(|command| root(&command.template)).collect();
    others.retain(|other| *other != template);
    others.sort();
    others.dedup();
    let dir = checks::written(run.dir.as_ref()).map(|dir| problems.path("spec.builder.dir", dir));
    let dir = dir.filter(|dir| *dir != template && !others.contains(dir) && dir != ".");
    let mut inputs = Vec::new();
    let globs = run.inputs.as_deref().unwrap_or_default();
    problems.globs("spec.builder.inputs", globs);
    for (index, glob) in globs.iter().enumerate() {
        inputs.push(problems.path(&format!("spec.builder.inputs[{index}]"), glob));
    }
    inputs.sort();
    inputs.dedup();
    let mut var_files: Vec<String> = commands.iter().flat_map(PackerCommand::var_files).cloned().collect();
    var_files.sort();
    var_files.dedup();
    let whole = spec.git_sync.as_ref().is_some_and(|git| checks::written(git.image.as_ref()).is_some());
    TemplateQuery { template, others, dir, var_files, inputs, whole, source: None }
}

/// Returns the repository and branch that the manifest names, unless they are those of the agent.
fn source(
    spec: &PackerBuilderSpec,
    run: &BuilderRun,
    is_own: impl Fn(&str) -> bool,
) -> Option<TemplateSource> {
    let repository = checks::written(run.repo_url.as_ref()).map(str::to_owned).filter(|url| !is_own(url));
    let branch = checks::written(run.branch.as_ref()).map(str::to_owned);
    let secret =
        spec.git_sync.as_ref().and_then(|sync| checks::written(sync.secret.as_ref()).map(str::to_owned));
    let is_other = repository.is_some() || branch.is_some();
    // The agent's own repository is read with the agent's own credentials.
    let secret = secret.filter(|_| repository.is_some());
    is_other.then_some(TemplateSource { repository, branch, secret })
}

/// Checks fields that are used as they are written.
fn check_strings(spec: &PackerBuilderSpec, run: &BuilderRun, problems: &mut Problems) {
    // A credential in the address would end up in tags, logs and status.
    if run.repo_url.as_deref().is_some_and(has_credentials) {
        let words = "contains a user name or password: remove it from the URL and revoke it, because the Git \
                     history contains it";
        problems.add("spec.builder.repoURL", words);
    }
    problems.name("spec.builder.secret", run.secret.as_ref());
    problems.name("spec.builder.jobServiceAccountName", run.job_service_account_name.as_ref());
    problems.name("spec.gitSync.secret", spec.git_sync.as_ref().and_then(|sync| sync.secret.as_ref()));
    notifier::checks::check(spec.notifier.as_ref(), problems);
}

/// Returns the value of the tag `opsy.dev/spec`: everything in the manifest that affects an image, with a format
/// version. Different spellings of one repository or path give the same value.
fn spec_tag(
    region: &Region,
    run: &BuilderRun,
    commands: &[PackerCommand],
    is_own: impl Fn(&str) -> bool,
) -> String {
    let repo = run.repo_url.as_deref().filter(|url| !url.is_empty() && !is_own(url));
    let repo = repo.map(checks::plain_url).unwrap_or_default();
    let dir = run.dir.as_deref().filter(|dir| !dir.is_empty()).unwrap_or(".");
    let dir = Problems::default().path("", dir);
    let mut parts = vec![region.to_string(), repo, dir, run.image.clone().unwrap_or_default()];
    parts.extend(commands.iter().map(PackerCommand::identity));
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    format!("{SPEC_VERSION}{}", &digest(&parts)[..HASH_DIGITS])
}
