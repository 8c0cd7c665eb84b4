//! From the wire to a valid `Spec`, collecting every problem at once. Pure; `opsy validate` uses it
//! too. Nothing behind it reads the raw manifest for configuration.

use std::time::Duration;

use super::commands::{self, PackerCommand};
use crate::api::builder::{BuilderRun, FailurePolicy, PackerBuilder, PackerBuilderSpec};
use crate::api::checks::{self, has_credentials};
use crate::api::ids::digest;
use crate::api::{Region, notifier};
use crate::aws::{Filter, ImageQuery, owners};
use crate::engine::PodSpec;
use crate::git::templates::{Elsewhere, TemplateQuery};

/// How often to look where the manifest says nothing: image reads are shared, so this costs little.
const TIMER: Duration = Duration::from_secs(10 * 60);
/// The longest limit of a build: it holds one of few slots that all namespaces share.
const LONGEST_BUILD: Duration = Duration::from_secs(24 * 3600);
/// The longest time that a build waits to start: a cluster that scales up takes minutes, and it holds a slot meanwhile.
const LONGEST_PENDING: Duration = Duration::from_secs(3600);
/// Shortest time between reconciles: shared answers live longer than this, so less would show nothing new.
const SHORTEST_TIMER: Duration = Duration::from_secs(1);
/// A build with region copies and encryption takes up to an hour: twice that.
const BUILD_LIMIT: Duration = Duration::from_secs(2 * 3600);
const PENDING_LIMIT: Duration = Duration::from_secs(10 * 60);
const FAILURE_LIMIT: usize = 5;
/// History holds ten runs, so no more failures can be counted.
const MOST_FAILURES: i32 = 10;
const BACKOFF: Duration = Duration::from_secs(5 * 60);
const MAX_BACKOFF: Duration = Duration::from_secs(6 * 3600);
const REBUILD_ON: [&str; 4] = ["Expired", "BaseImage", "Template", "Spec"];
/// EC2's limit for the value of a tag. What is found again by a tag must fit in whole.
pub const TAG_VALUE: usize = 256;
/// Enough of a SHA-256 to tell versions of one builder apart.
const TAG_DIGITS: usize = 16;
/// The version of the tag `opsy.dev/spec`; those of another version are not compared.
const SPEC_VERSION: &str = "v2-";

pub use crate::api::checks::{Problem, Problems};

/// A builder as it is meant, with defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub region: Region,
    /// The base image, where one is asked for.
    pub base: Option<ImageQuery>,
    /// Age at which an image is rebuilt; absent means never.
    pub expires_in: Option<Duration>,
    pub timer: Duration,
    pub limit: Duration,
    pub pending_limit: Duration,
    pub suspended: bool,
    pub rebuild_on: RebuildOn,
    pub failures: Failures,
    pub template: TemplateQuery,
    pub commands: Vec<PackerCommand>,
    /// Tag value `opsy.dev/spec`.
    pub tag: String,
    pub repo_url: Option<String>,
    pub branch: Option<String>,
    /// Secret whose keys become Packer's environment.
    pub secret: Option<String>,
    pub debug: bool,
    /// How it runs in a cluster; git-sync's repository is filled in when a run is asked for.
    pub pod: PodSpec,
}

/// What makes a good image out of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuildOn {
    pub expired: bool,
    pub base_image: bool,
    pub template: bool,
    pub spec: bool,
    /// The manifest says so itself; only then does it hold for adopted images too.
    pub written: bool,
}

/// How failures are repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    pub limit: usize,
    pub backoff: Duration,
    pub max_backoff: Duration,
}

/// Reads a builder, or says all that is wrong with it as (field path, message).
pub fn parse(object: &PackerBuilder) -> Result<Spec, Vec<Problem>> {
    parse_in(object, |_| false)
}

/// The same for an agent whose own repository is at the addresses that `is_own` knows: naming it is the same
/// as naming none.
pub fn parse_in(object: &PackerBuilder, is_own: impl Fn(&str) -> bool) -> Result<Spec, Vec<Problem>> {
    let mut problems = Problems::default();
    check_tags(object, &mut problems);
    let spec = &object.spec;
    let region = region(spec.region.as_ref(), &mut problems);
    let run = spec.builder.clone().unwrap_or_default();
    if spec.builder.is_none() {
        problems.add("spec.builder", "missing: say where the Packer template is");
    }
    let commands = commands::normalise(&run, &mut problems);
    let template = TemplateQuery {
        elsewhere: elsewhere(spec, &run, &is_own),
        ..template_query(spec, &run, &commands, &mut problems)
    };
    let base = region.as_ref().and_then(|region| base_query(spec, region, &mut problems));
    let failures = failures(spec.failure_policy.as_ref(), &mut problems);
    let rebuild_on = rebuild_on(spec.rebuild_on.as_deref(), &mut problems);
    let times = times(spec, &mut problems);
    let pod = super::pod::spec(spec, &run, &mut problems);
    check_texts(spec, &run, &mut problems);
    let Some(region) = region.filter(|_| problems.0.is_empty()) else {
        return Err(problems.0);
    };
    Ok(Spec {
        tag: spec_tag(&region, &run, &commands, is_own),
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
        repo_url: written(run.repo_url),
        branch: written(run.branch),
        secret: written(run.secret),
        pod,
        region,
    })
}

fn region(text: Option<&String>, problems: &mut Problems) -> Option<Region> {
    let Some(text) = checks::written(text) else {
        problems.add("spec.region", "missing: name the AWS region the image is built in");
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
            problems.add(path, "must be longer than nothing");
        }
        read.unwrap_or(or)
    };
    let build = positive(problems, "spec.timeOuts.build", times.build.as_ref(), BUILD_LIMIT);
    let pending = positive(problems, "spec.timeOuts.pending", times.pending.as_ref(), PENDING_LIMIT);
    for (field, limit, longest, text) in
        [("build", build, LONGEST_BUILD, "24h"), ("pending", pending, LONGEST_PENDING, "1h")]
    {
        if limit > longest {
            problems.add(
                format!("spec.timeOuts.{field}"),
                format!("must be at most {text}: a build holds a slot that others wait for"),
            );
        }
    }
    let timer = positive(problems, "spec.timeOuts.controllerTimer", times.controller_timer.as_ref(), TIMER);
    Times {
        expires_in: problems.duration("spec.timeOuts.expiresIn", times.expires_in.as_ref()),
        timer: timer.max(SHORTEST_TIMER),
        build,
        pending,
    }
}

fn failures(policy: Option<&FailurePolicy>, problems: &mut Problems) -> Failures {
    let policy = policy.cloned().unwrap_or_default();
    let limit = policy.limit.map_or(FAILURE_LIMIT, |limit| {
        if !(1..=MOST_FAILURES).contains(&limit) {
            problems.add("spec.failurePolicy.limit", format!("{limit} is not between 1 and {MOST_FAILURES}"));
        }
        usize::try_from(limit).unwrap_or(FAILURE_LIMIT)
    });
    let backoff = problems.duration("spec.failurePolicy.backoff", policy.backoff.as_ref()).unwrap_or(BACKOFF);
    let max = problems.duration("spec.failurePolicy.maxBackoff", policy.max_backoff.as_ref());
    Failures { limit, backoff, max_backoff: max.unwrap_or(MAX_BACKOFF).max(backoff) }
}

fn rebuild_on(words: Option<&[String]>, problems: &mut Problems) -> RebuildOn {
    let Some(words) = words else {
        return RebuildOn { expired: true, base_image: true, template: true, spec: true, written: false };
    };
    let mut on = RebuildOn { expired: false, base_image: false, template: false, spec: false, written: true };
    for (index, word) in words.iter().enumerate() {
        problems.word(format!("spec.rebuildOn[{index}]"), word, &REBUILD_ON);
        on.expired |= word == "Expired";
        on.base_image |= word == "BaseImage";
        on.template |= word == "Template";
        on.spec |= word == "Spec";
    }
    on
}

/// The query for the base image. It always names owners and at least one filter beside them:
/// without, EC2 would list every public image.
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
            "names owners only: add a filter, such as name, or every image of theirs would match",
        );
    }
    let (owners, filters) = owners::split(read);
    Some(ImageQuery { region: region.clone(), owners, filters })
}

/// What is found again by the value of a tag must not be cut off there.
fn check_tags(object: &PackerBuilder, problems: &mut Problems) {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let key = format!("{}/{name}", object.metadata.namespace.as_deref().unwrap_or("default"));
    if key.chars().count() > TAG_VALUE {
        let words = format!(
            "with its namespace it has {} characters, and images are found by both in a tag of at most {TAG_VALUE}: \
             use a shorter name",
            key.chars().count()
        );
        problems.add("metadata.name", words);
    }
    let cluster = object.spec.cluster_name.as_deref().unwrap_or_default();
    if cluster.chars().count() > TAG_VALUE {
        let words = format!("has more than {TAG_VALUE} characters, the most that a tag may have");
        problems.add("spec.clusterName", words);
    }
}

/// All the repository's files a build reads: the template of the build, what other commands name,
/// variables files, and `builder.inputs`.
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
    let dir = written(run.dir.clone()).map(|dir| problems.path("spec.builder.dir", &dir));
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
    let whole = spec.git_sync.as_ref().is_some_and(|git| written(git.image.clone()).is_some());
    TemplateQuery { template, others, dir, var_files, inputs, whole, elsewhere: None }
}

/// The repository and branch that the manifest names, unless they are those of the agent.
fn elsewhere(spec: &PackerBuilderSpec, run: &BuilderRun, is_own: impl Fn(&str) -> bool) -> Option<Elsewhere> {
    let repository = written(run.repo_url.clone()).filter(|url| !is_own(url));
    let branch = written(run.branch.clone());
    let secret = spec.git_sync.as_ref().and_then(|sync| written(sync.secret.clone()));
    let is_elsewhere = repository.is_some() || branch.is_some();
    // The agent's own repository is read with the agent's own credentials.
    let secret = secret.filter(|_| repository.is_some());
    is_elsewhere.then_some(Elsewhere { repository, branch, secret })
}

/// What goes by its text alone.
fn check_texts(spec: &PackerBuilderSpec, run: &BuilderRun, problems: &mut Problems) {
    // A credential in the address would end up in tags, logs and status.
    if run.repo_url.as_deref().is_some_and(has_credentials) {
        let words = "holds a user or password; take it out of the URL, and change it where it is valid: it is in the history now";
        problems.add("spec.builder.repoURL", words);
    }
    problems.name("spec.builder.secret", run.secret.as_ref());
    problems.name("spec.builder.jobServiceAccountName", run.job_service_account_name.as_ref());
    problems.name("spec.gitSync.secret", spec.git_sync.as_ref().and_then(|sync| sync.secret.as_ref()));
    notifier::checks::check(spec.notifier.as_ref(), problems);
}

/// Tag value `opsy.dev/spec`: what of the manifest goes into an image, with a format version. However a
/// repository or a path is spelled, the same one gives the same value.
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
    format!("{SPEC_VERSION}{}", &digest(&parts)[..TAG_DIGITS])
}

/// An empty text is one that was not written.
pub fn written(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}
