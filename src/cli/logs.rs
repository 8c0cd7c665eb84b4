//! `opsy logs packerbuilder/NAME`: what Packer said in the builder's last run, or in one that is named. From
//! the run's folder, or from its pod by the person's own kubeconfig. Secrets were masked as it was written.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::AsyncReadExt;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, LogParams};
use opsy_runner::request::LOG;

use super::target::{self, Place, Target, wait};
use crate::api::builder::RunRecord;
use crate::api::{Key, Kind};
use crate::engine::kubernetes::error::Refusal;
use crate::engine::kubernetes::job::{PACKER, builder_label};
use crate::engine::kubernetes::pod::Sighting;
use crate::engine::kubernetes::{BUILDER, Cluster, RUN};
use crate::engine::standalone::{folders, logs_dir, runs_dir};
use crate::settings::StateFlags;
use crate::telemetry::out;

/// How often a file is looked at for more.
const LOOK: Duration = Duration::from_millis(300);
/// Bytes handed on at once.
const CHUNK: usize = 64 * 1024;

#[derive(clap::Args)]
pub struct Args {
    /// The builder: packerbuilder/NAME, or pb/NAME.
    target: Target,
    /// Print more as it comes, until the run ends.
    #[arg(long, short)]
    follow: bool,
    /// Another run than the last, by name.
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    state: StateFlags,
}

/// Prints the log of a run.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.target.kind != Kind::PackerBuilder {
        bail!("{} builds nothing: only a packerbuilder has logs", args.target);
    }
    if args.place.is_cluster() {
        wait(async { of_pod(args, &args.place.connect().await?).await })?;
    } else {
        of_folder(args)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn of_folder(args: &Args) -> anyhow::Result<()> {
    let namespace = args.place.namespace.clone().unwrap_or_else(|| "default".to_owned());
    let builder = Key { namespace, name: args.target.name.clone() };
    let state = args.state.dir()?;
    let folders = [runs_dir(&state), logs_dir(&state)];
    let found = last_run(&folders, &builder, args.run.as_deref());
    let Some(dir) = found.with_context(|| state.display().to_string())? else {
        bail!(
            "no log of such a run of {builder} in {}: the last five of a builder are kept",
            state.display()
        );
    };
    let log = dir.join(LOG);
    let mut file = match File::open(&log) {
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("{} has not started", dir.display()),
        file => file.with_context(|| log.display().to_string())?,
    };
    loop {
        let live = args.follow && is_live(&dir)?;
        if !pass_on(&mut file)? || !live {
            return Ok(());
        }
        pause();
    }
}

/// The newest run of a builder, or the named one, under way or collected.
fn last_run(places: &[PathBuf], builder: &Key, named: Option<&str>) -> io::Result<Option<PathBuf>> {
    let listed: io::Result<Vec<_>> = places.iter().map(|place| folders::list(place)).collect();
    let all = listed?.into_iter().flatten();
    let all = all.filter_map(|run| Some((run.facts.ok()?, run.name, run.path)));
    let wanted = all.filter(|(facts, name, _)| {
        facts.builder == *builder && named.is_none_or(|named| name.as_str() == named)
    });
    Ok(wanted.max_by_key(|(facts, ..)| facts.created_at).map(|(.., path)| path))
}

/// A run that was harvested meanwhile is over, too.
fn is_live(dir: &Path) -> io::Result<bool> {
    Ok(dir.exists() && opsy_runner::read_report(dir)?.is_none())
}

/// Prints what there is; false when nobody reads any more. The log may have been cut to make room for
/// the result.
fn pass_on(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() < file.stream_position()? {
        file.seek(SeekFrom::Start(0))?;
    }
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(true),
            read if !out::bytes(&chunk[..read])? => return Ok(false),
            _ => {}
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a file that grows tells nobody")]
fn pause() {
    std::thread::sleep(LOOK);
}

async fn of_pod(args: &Args, cluster: &Cluster) -> anyhow::Result<()> {
    let name = &args.target.name;
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let mut labels = format!("{BUILDER}={}", builder_label(name));
    if let Some(run) = &args.run {
        labels = format!("{labels},{RUN}={run}");
    }
    let found = pods.list(&ListParams::default().labels(&labels)).await.map_err(Refusal::from)?.items;
    let newest = found.into_iter().max_by_key(|pod| pod.metadata.creation_timestamp.clone());
    let Some(pod) = newest else { return of_status(args, cluster).await };
    if let Some(words) = not_started(&pod) {
        bail!("{words}");
    }
    let params =
        LogParams { follow: args.follow, container: Some(PACKER.to_owned()), ..LogParams::default() };
    let name = pod.metadata.name.unwrap_or_default();
    let mut stream = pods.log_stream(&name, &params).await.map_err(Refusal::from)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk).await? {
            0 => return Ok(()),
            read if !out::bytes(&chunk[..read])? => return Ok(()),
            _ => {}
        }
    }
}

/// A pod goes when its run is collected; of its log, the builder's status has the lines that matter.
async fn of_status(args: &Args, cluster: &Cluster) -> anyhow::Result<()> {
    let (name, namespace) = (&args.target.name, &cluster.namespace);
    let objects = target::objects(cluster, Kind::PackerBuilder);
    let object = objects.get_opt(name).await.map_err(target::refused)?;
    let object = object.with_context(|| format!("no packerbuilder {name:?} in namespace {namespace}"))?;
    let history = serde_json::from_value::<Vec<RunRecord>>(object.data["status"]["history"].clone());
    let history = history.unwrap_or_default();
    let is_named = |run: &&RunRecord| args.run.as_deref().is_none_or(|named| named.ends_with(&run.id));
    let Some(run) = history.iter().find(is_named) else {
        bail!("no such run of {name} in namespace {namespace}: status has the last ten");
    };
    let id = &run.id;
    out::error(format_args!(
        "the pod of build {id} is gone, and its log with it; this is what its status has:"
    ));
    out::lines(&recorded(run))?;
    Ok(())
}

/// What is kept of a run, for people.
fn recorded(run: &RunRecord) -> String {
    let mut lines = vec![format!("{} {}", run.result, run.cause().unwrap_or_default()).trim_end().to_owned()];
    lines.extend(run.errors.iter().flatten().skip(1).cloned());
    lines.extend(run.output.iter().flatten().map(|line| format!("  {line}")));
    lines.extend(run.advice.clone());
    lines.push(String::new());
    lines.join("\n")
}

/// What to say of a pod whose Packer has not run yet.
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
