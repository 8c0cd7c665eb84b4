//! `opsy logs packerbuilder/NAME`: prints the Packer log of the last run of a builder, or of a named run. Reads it from
//! the directory of the run, or from its pod with the kubeconfig of the user. Secrets are already masked in the log.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap_complete::ArgValueCompleter;
use futures::AsyncReadExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, LogParams};
use opsy_runner::request::LOG;

use super::completion;
use super::place::{ClusterPlace, Place, PlaceFlags, StatePlace};
use super::target::{self, Target, wait};
use crate::api::builder::RunRecord;
use crate::api::{Key, Kind};
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
    /// Print the log of this run instead of the last one
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    /// Look for build pods in this namespace, if the agent runs builds in a separate namespace
    #[arg(long, env = "OPSY_BUILDS_NAMESPACE", value_name = "NAME")]
    builds_namespace: Option<String>,
    #[command(flatten)]
    place: PlaceFlags,
}

/// Prints the log of a run.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.target.kind != Kind::PackerBuilder {
        bail!("{} has no logs: name a packerbuilder", args.target);
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
    let folders = [runs_dir(&place.path), logs_dir(&place.path)];
    let found = last_run(&folders, &builder, args.run.as_deref());
    let Some(dir) = found.with_context(|| place.to_string())? else {
        let run = args.run.as_ref().map_or_else(|| "a run".to_owned(), |run| format!("run {run}"));
        bail!(
            "no log of {run} of {builder} in the {place}, which keeps the last five of each builder (select \
             another namespace with -n, another state directory with --state, or a cluster with --kubeconfig)"
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
        let live = args.follow && is_live(&dir)?;
        if !pass_on(&mut file, &mut printed)? || !live {
            printed.end()?;
            return Ok(());
        }
        pause();
    }
}

/// The directory of the newest run of a builder, or of the named run, in progress or ended.
fn last_run(places: &[PathBuf], builder: &Key, named: Option<&str>) -> io::Result<Option<PathBuf>> {
    let listed: io::Result<Vec<_>> = places.iter().map(|place| folders::list(place)).collect();
    let all = listed?.into_iter().flatten();
    let all = all.filter_map(|run| Some((run.facts.ok()?, run.name, run.path)));
    let wanted = all.filter(|(facts, name, _)| {
        facts.builder == *builder && named.is_none_or(|named| name.as_str() == named)
    });
    Ok(wanted.max_by_key(|(facts, ..)| facts.created_at).map(|(.., path)| path))
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
    let run = match (&args.run, &args.builds_namespace) {
        // Builders with the same name in different namespaces share this namespace: select the pod by its run.
        (None, Some(_)) => run_in_status(args, place).await?,
        (run, _) => run.clone(),
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
    let name = pod.metadata.name.unwrap_or_default();
    let mut stream = pods.log_stream(&name, &params).await.map_err(Refusal::from)?;
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

/// The run that the status of the builder names.
async fn run_in_status(args: &Args, place: &ClusterPlace) -> anyhow::Result<Option<String>> {
    Ok(builder(args, place).await?.data["status"]["jobName"].as_str().map(str::to_owned))
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
    let (name, namespace) = (&args.target.name, &place.cluster.namespace);
    let object = builder(args, place).await?;
    let history = serde_json::from_value::<Vec<RunRecord>>(object.data["status"]["history"].clone());
    let history = history.unwrap_or_default();
    let is_named = |run: &&RunRecord| args.run.as_deref().is_none_or(|named| named.ends_with(&run.id));
    let Some(run) = history.iter().find(is_named) else {
        bail!("no such run of {name} in namespace {namespace}; its status has the last ten (opsy status)");
    };
    let id = &run.id;
    out::error(format_args!(
        "the pod of build {id} was deleted with its log; the status of the builder contains this:"
    ));
    out::lines(&recorded(run))?;
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
