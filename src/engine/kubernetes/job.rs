//! What a run is made of in a cluster: a ConfigMap with the request and the files, and a Job. Pure.
//!
//! The files beside it: `setup` (how builds run here, whatever a builder says), `pod` with `containers`, `volumes` and
//! `resources` (the Job's pod), `git_secret` (what git-sync gets of its Secret), `fences` (what a build may not be given).

mod containers;
pub mod fences;
pub mod git_secret;
pub mod network;
mod pod;
mod resources;
mod setup;
mod variables;
mod volumes;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{ConfigMap, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use opsy_runner::request as wire;

use super::{BUILDER, FACTS, MANAGED_BY, OWNER, RUN};
use crate::api::files::TemplateFile;
use crate::api::ids::digest;
use crate::engine::RunRequest;
pub use containers::PACKER;
pub use setup::{Own, RunImages, Setup};
use volumes::{FOLDER, SECRETS};

/// Packer's clean-up takes minutes: it waits for instances to end.
const GRACE: Duration = Duration::from_secs(600);
/// Between the end of a run by its own limit and the Job's deadline: the Job is the last resort.
const MARGIN: Duration = Duration::from_secs(300);
/// An API server takes a ConfigMap of 1 MiB; what frames the files in it counts too.
const CONFIG_LIMIT: usize = 900 * 1024;
/// No owner takes a Job with it that is in another namespace than its builder. Its result has been collected long
/// before, unless no agent has worked for so long.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// Packer would otherwise take the role of its node where it has no credentials.
const NO_NODE_ROLE: &str = "AWS_EC2_METADATA_DISABLED";
/// Longest value of a label.
const LABEL: usize = 63;

/// The files cannot be handed to a build.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("{path:?} among the template's files cannot be laid out: {why}")]
    Path { path: String, why: String },
    #[error(
    "the template's files have {size} bytes packed, more than a ConfigMap's {limit}: set spec.gitSync.image, \
     so that the build fetches the repository by itself, or leave out by .opsyignore what it does not need",
    limit = CONFIG_LIMIT
    )]
    TooLarge { size: usize },
}

/// Value of the label that names a builder. Two builders whose values are equal are told apart by the facts.
pub fn builder_label(name: &str) -> String {
    if name.len() <= LABEL {
        return name.to_owned();
    }
    let start = name[..45].trim_end_matches(['-', '.']);
    format!("{start}-{}", &digest(&[name])[..8])
}

/// How long after its creation a Job has surely ended.
pub fn deadline(request: &RunRequest) -> Duration {
    request.pending_limit + request.limit + GRACE + MARGIN
}

/// The request and the files, immutable. It is the builder's until the Job is there to own it.
pub fn config_map(request: &RunRequest, setup: &Setup, owner: OwnerReference) -> Result<ConfigMap, Unfit> {
    let mut binary = BTreeMap::new();
    if request.pod.git_sync.is_none() {
        binary.insert(wire::FILES.to_owned(), ByteString(packed(&request.files)?));
    }
    let wire = serde_json::to_string(&wire_request(request, setup)).expect("a request has only text keys");
    let size = wire.len() + binary.values().map(|bytes| bytes.0.len()).sum::<usize>();
    if size > CONFIG_LIMIT {
        return Err(Unfit::TooLarge { size });
    }
    Ok(ConfigMap {
        metadata: metadata(request, setup, owner),
        data: Some([(wire::REQUEST.to_owned(), wire)].into()),
        binary_data: Some(binary),
        immutable: Some(true),
    })
}

/// The same files always give the same bytes.
fn packed(files: &[TemplateFile]) -> Result<Vec<u8>, Unfit> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::best()));
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(if file.executable { 0o755 } else { 0o644 });
        header.set_size(file.content.len() as u64);
        let appended = archive.append_data(&mut header, &file.path, &file.content[..]);
        appended.map_err(|error| Unfit::Path { path: file.path.clone(), why: error.to_string() })?;
    }
    let packed = archive.into_inner().and_then(|mut gzip| gzip.flush().and_then(|()| gzip.finish()));
    Ok(packed.expect("memory takes any archive"))
}

fn wire_request(request: &RunRequest, setup: &Setup) -> wire::Request {
    let mut env = request.env.clone();
    let settings = &request.pod.settings;
    if !settings.env.iter().flatten().any(|variable| variable.name.as_deref() == Some("HOME")) {
        // The user has no home in most images, and tools want to write there.
        env.entry("HOME".to_owned()).or_insert_with(|| format!("{FOLDER}/config"));
    }
    wire::Request {
        // By PATH, as the image has it.
        packer: "packer".to_owned(),
        steps: request.steps.clone(),
        env,
        // In the container they would override the Secret of the builder.
        defaults: setup.network.defaults().chain([(NO_NODE_ROLE.to_owned(), "true".to_owned())]).collect(),
        secrets: Vec::new(),
        secrets_dir: request.secret.as_ref().map(|_| SECRETS.to_owned()),
        limit_seconds: request.limit.as_secs(),
        grace_seconds: GRACE.as_secs(),
        plugins: None,
    }
}

/// The Job of a run.
pub fn job(request: &RunRequest, setup: &Setup, owner: OwnerReference) -> Job {
    let facts = serde_json::to_string(&request.facts).expect("facts have only text keys");
    let mut metadata = metadata(request, setup, owner);
    let is_owned = metadata.owner_references.is_some();
    metadata.annotations = Some([(FACTS.to_owned(), facts)].into());
    Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            ttl_seconds_after_finished: (!is_owned)
                .then(|| i32::try_from(KEPT.as_secs()).unwrap_or(i32::MAX)),
            completions: Some(1),
            parallelism: Some(1),
            active_deadline_seconds: Some(seconds(deadline(request))),
            // A pod that is being deleted counts as failed at once, so that a pod that never started does
            // not hold the Job up; with no retries left nothing replaces it.
            pod_replacement_policy: Some("TerminatingOrFailed".to_owned()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels(request)),
                    annotations: Some(pod::annotations(&request.pod.settings)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod::pod(request, setup)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// An object may be owned only by another one of its namespace.
fn metadata(request: &RunRequest, setup: &Setup, owner: OwnerReference) -> ObjectMeta {
    let builder = &request.facts.builder;
    let namespace = setup.namespace_of(builder);
    ObjectMeta {
        name: Some(request.name.to_string()),
        owner_references: (namespace == builder.namespace).then(|| vec![owner]),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels(request)),
        ..ObjectMeta::default()
    }
}

/// What the Job, its pod and its ConfigMap are found by.
pub fn labels(request: &RunRequest) -> BTreeMap<String, String> {
    [
        (MANAGED_BY.0, MANAGED_BY.1.to_owned()),
        (OWNER, label_value(request.owner.as_str())),
        (BUILDER, builder_label(&request.facts.builder.name)),
        (RUN, request.name.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// An owner may begin or end with what a label's value may not.
fn label_value(text: &str) -> String {
    text.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
