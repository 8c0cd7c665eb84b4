//! `opsy logs packerbuilder/NAME`: prints the Packer log of the last run of a builder, of the one before it, or of a named
//! run. Reads it from the directory of the run, or from its pod with the kubeconfig of the user. Secrets are already masked
//! in the log.

use std::cmp::Reverse;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap_complete::ArgValueCompleter;
use futures::AsyncReadExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, LogParams};
use opsy_runner::request::LOG;

use super::completion;
use super::place::{ClusterPlace, Place, PlaceFlags, StatePlace};
use super::target::{self, Target, wait};
use crate::api::builder::{PackerBuilderStatus, RunRecord};
use crate::api::words::RunPhase;
use crate::api::{BuildId, Key, Kind, RunName};
use crate::engine::kubernetes::error::Refusal;
use crate::engine::kubernetes::job::{PACKER, builder_label};
use crate::engine::kubernetes::pod::Sighting;
use crate::engine::kubernetes::{BUILDER, RUN};
use crate::engine::standalone::{folders, logs_dir, runs_dir};
use crate::telemetry::out;

/// How often to check whether the log has grown.
const LOOK: Duration = Duration::from_millis(300);
/// Bytes copied at once.
const CHUNK: usize = 64 * 1024;

#[derive(clap::Args)]
pub struct Args {
    /// The builder: packerbuilder/NAME, or pb/NAME
    #[arg(value_name = "KIND/NAME", add = ArgValueCompleter::new(completion::complete))]
    target: Target,
    /// Print new lines until the run ends
    #[arg(long, short)]
    follow: bool,
    /// Print the log of this run instead of the last one: a build ID of `opsy history`, or the name of the run
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// Print the log of the run before the last one
    #[arg(long, short, conflicts_with_all = ["run", "follow"])]
    previous: bool,
    /// Look for build pods in this namespace, if the agent runs builds in a separate namespace
    #[arg(long, env = "OPSY_BUILDS_NAMESPACE", value_name = "NAME")]
    builds_namespace: Option<String>,
    #[command(flatten)]
    place: PlaceFlags,
}

/// Prints the log of a run.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.target.kind != Kind::PackerBuilder {
        bail!("{} has no logs: name a PackerBuilder, such as pb/NAME", args.target);
    }
    wait(async {
        match args.place.find().await? {
            Place::Cluster(place) => of_pod(args, &place).await?,
            Place::State(place) => of_state(args, &place)?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn of_state(args: &Args, place: &StatePlace) -> anyhow::Result<()> {
    place.warning().iter().for_each(out::error);
    let namespace = args.place.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let builder = Key { namespace, name: args.target.name.clone() };
    let places = [runs_dir(&place.path), logs_dir(&place.path)];
    let runs = runs_of(&places, &builder).with_context(|| place.to_string())?;
    let Some(dir) = choose(&runs, args) else {
        if runs.is_empty() {
            bail!(
                "no log of {builder} in the {place}: no run is recorded (select another namespace with -n, another \
                 state directory with --state, or a cluster with --kubeconfig)"
            );
        }
        let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
        bail!(
            "no log of {} of {builder} in the {place}, which has the runs {} (the last five are kept)",
            wanted(args),
            names.join(", ")
        );
    };
    let log = dir.join(LOG);
    let mut file = match File::open(&log) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("Packer has not started in {}; try again in a few seconds", dir.display())
        }
        file => file.with_context(|| log.display().to_string())?,
    };
    let mut printed = out::Log::new();
    loop {
        let live = args.follow && is_live(dir)?;
        if !pass_on(&mut file, &mut printed)? || !live {
            printed.end()?;
            return Ok(());
        }
        pause();
    }
}

/// The run that the arguments select, for messages.
fn wanted(args: &Args) -> String {
    match (&args.run, args.previous) {
        (Some(run), _) => format!("run {run}"),
        (None, true) => "the run before the last one".to_owned(),
        (None, false) => "a run".to_owned(),
    }
}

/// A run with its directory.
struct KnownRun {
    name: RunName,
    build: BuildId,
    created: Timestamp,
    path: PathBuf,
}

/// The runs of a builder, in progress and ended, newest first.
fn runs_of(places: &[PathBuf], builder: &Key) -> io::Result<Vec<KnownRun>> {
    let listed: io::Result<Vec<_>> = places.iter().map(|place| folders::list(place)).collect();
    let known = listed?.into_iter().flatten().filter_map(|run| {
        let facts = run.facts.ok().filter(|facts| facts.builder == *builder)?;
        Some(KnownRun { name: run.name, build: facts.build, created: facts.created_at, path: run.path })
    });
    let mut runs: Vec<KnownRun> = known.collect();
    runs.sort_by_key(|run| Reverse(run.created));
    // The log of a run whose directory is about to be removed is in both places.
    runs.dedup_by(|later, first| later.name == first.name);
    Ok(runs)
}

/// The directory of the run that the arguments select.
fn choose<'a>(runs: &'a [KnownRun], args: &Args) -> Option<&'a Path> {
    let is_named = |run: &&KnownRun, named: &str| run.name.as_str() == named || run.build.as_str() == named;
    let run = match &args.run {
        Some(named) => runs.iter().find(|run| is_named(run, named)),
        None => runs.get(usize::from(args.previous)),
    };
    run.map(|run| run.path.as_path())
}

/// Returns true while the run is in progress. Its directory disappears when its result is collected.
fn is_live(dir: &Path) -> io::Result<bool> {
    Ok(dir.exists() && opsy_runner::read_report(dir)?.is_none())
}

/// Prints the rest of the file; returns false if the reader of the output is gone. Starts again at the beginning if the
/// log was cut to make room for the result.
fn pass_on(file: &mut File, printed: &mut out::Log) -> io::Result<bool> {
    if file.metadata()?.len() < file.stream_position()? {
        file.seek(SeekFrom::Start(0))?;
    }
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(true),
            read if !printed.print(&chunk[..read])? => return Ok(false),
            _ => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a file that grows sends no signal")]
fn pause() {
    std::thread::sleep(LOOK);
}

async fn of_pod(args: &Args, place: &ClusterPlace) -> anyhow::Result<()> {
    let (name, cluster) = (&args.target.name, &place.cluster);
    let pods_in = args.builds_namespace.as_ref().unwrap_or(&cluster.namespace);
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), pods_in);
    let mut labels = format!("{BUILDER}={}", builder_label(name));
    // Builders with the same name in different namespaces share the namespace of builds: select the pod by its run.
    let run = match (&args.run, args.previous || args.builds_namespace.is_some()) {
        (Some(run), _) => Some(run_name(name, run)),
        (None, true) => run_in_status(args, place).await?,
        (None, false) => None,
    };
    if let Some(run) = run {
        labels = format!("{labels},{RUN}={run}");
    }
    let found = pods.list(&ListParams::default().labels(&labels)).await.map_err(target::refused)?.items;
    let newest = found.into_iter().max_by_key(|pod| pod.metadata.creation_timestamp.clone());
    let Some(pod) = newest else { return of_status(args, place).await };
    if let Some(words) = not_started(&pod) {
        bail!("{words}");
    }
    let params =
        LogParams { follow: args.follow, container: Some(PACKER.to_owned()), ..LogParams::default() };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let mut stream = match pods.log_stream(name, &params).await {
        Ok(stream) => stream,
        Err(error) => return of_record(args, place, &pod, &error.into()).await,
    };
    let (mut chunk, mut printed) = (vec![0; CHUNK], out::Log::new());
    loop {
        match stream.read(&mut chunk).await? {
            0 => break,
            read if !printed.print(&chunk[..read])? => break,
            _ => {}
        }
    }
    printed.end()?;
    Ok(())
}

/// The name of a run that a person names by its build ID or by its name.
fn run_name(builder: &str, named: &str) -> String {
    BuildId::parse(named).map_or_else(|_| named.to_owned(), |build| RunName::of(builder, &build).to_string())
}

/// The last run in the status of the builder, or the one before it.
async fn run_in_status(args: &Args, place: &ClusterPlace) -> anyhow::Result<Option<String>> {
    let status = status(args, place).await?;
    if !args.previous {
        return Ok(status.job_name);
    }
    let Some(run) = recorded_run(args, &status) else { bail!("{}", no_such_run(args, place)) };
    Ok(Some(run_name(&args.target.name, &run.id)))
}

/// The status of the builder. One that cannot be decoded counts as absent.
async fn status(args: &Args, place: &ClusterPlace) -> anyhow::Result<PackerBuilderStatus> {
    let mut object = builder(args, place).await?;
    Ok(serde_json::from_value(object.data["status"].take()).unwrap_or_default())
}

/// The ended run that the arguments select. A run in progress is not in the history, and the last run is its first.
fn recorded_run<'a>(args: &Args, status: &'a PackerBuilderStatus) -> Option<&'a RunRecord> {
    let mut history = status.history.iter().flatten();
    let is_live = status.job_status.as_deref().is_some_and(|phase| RunPhase::parse(phase).is_some());
    match &args.run {
        Some(named) => history.find(|run| named.ends_with(&run.id)),
        None => history.nth(usize::from(args.previous && !is_live)),
    }
}

fn no_such_run(args: &Args, place: &ClusterPlace) -> String {
    format!(
        "the status of builder {} in namespace {} of {place} has no record of {}; it keeps the last ten runs \
         (opsy history {})",
        args.target.name,
        place.cluster.namespace,
        wanted(args),
        args.target
    )
}

async fn builder(args: &Args, place: &ClusterPlace) -> anyhow::Result<DynamicObject> {
    let (name, namespace) = (&args.target.name, &place.cluster.namespace);
    let objects = target::objects(&place.cluster, Kind::PackerBuilder);
    let object = objects.get_opt(name).await.map_err(target::refused)?;
    object.with_context(|| {
        let hint = place.hint();
        format!(
            "no PackerBuilder {name:?} in namespace {namespace} of {place} (select another namespace with \
             -n{hint})"
        )
    })
}

/// Prints what the status of the builder keeps of a run whose pod is deleted.
async fn of_status(args: &Args, place: &ClusterPlace) -> anyhow::Result<()> {
    let status = status(args, place).await?;
    let Some(run) = recorded_run(args, &status) else { bail!("{}", no_such_run(args, place)) };
    let id = &run.id;
    out::error(format_args!(
        "the pod of build {id} was deleted with its log (only that of a failed build is kept, until the next build of the \
         builder starts); the status of the builder contains this:"
    ));
    out::lines(&recorded(run))?;
    Ok(())
}

/// Prints what the status of the builder keeps of the run of a pod whose log cannot be read, such as on a node that does not
/// respond. Of a run in progress, it keeps nothing.
async fn of_record(args: &Args, place: &ClusterPlace, pod: &Pod, why: &Refusal) -> anyhow::Result<()> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let unreadable = format!("the log of pod {name} cannot be read: {why}");
    let status = status(args, place).await.with_context(|| unreadable.clone())?;
    let run = pod.metadata.labels.as_ref().and_then(|labels| labels.get(RUN));
    let is_its = |record: &&RunRecord| run == Some(&run_name(&args.target.name, &record.id));
    let Some(record) = status.history.iter().flatten().find(is_its) else { bail!("{unreadable}") };
    let id = &record.id;
    out::error(format_args!("{unreadable}; the status of the builder contains this of build {id}:"));
    out::lines(&recorded(record))?;
    Ok(())
}

/// Formats what status keeps of a run.
fn recorded(run: &RunRecord) -> String {
    let mut lines = vec![format!("{} {}", run.result, run.cause().unwrap_or_default()).trim_end().to_owned()];
    lines.extend(run.errors.iter().flatten().skip(1).cloned());
    lines.extend(run.output.iter().flatten().map(|line| format!("  {line}")));
    lines.extend(run.advice.clone());
    lines.push(String::new());
    lines.join("\n")
}

/// The message for a pod in which Packer has not started yet.
fn not_started(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.iter().flatten();
    let states = statuses.filter(|status| status.name == PACKER).filter_map(|status| status.state.as_ref());
    if states.into_iter().any(|state| state.running.is_some() || state.terminated.is_some()) {
        return None;
    }
    let job = Job::default();
    let seen = Sighting { job: &job, job_gone: false, pod: Some(pod), pod_gone: false, refused: None };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let words = seen.waits_for().map_or(String::new(), |words| format!(": {words}"));
    Some(format!("Packer has not started in pod {name}{words}"))
}

#[cfg(test)]
mod tests;
