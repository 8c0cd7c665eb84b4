//! The objects of a run: a ConfigMap with the request and the files, and a Job. Pure.
//!
//! Its submodules: `setup` (settings of all builds in this cluster), `pod` with `containers`, `volumes`, `variables`
//! and `resources` (the Job's pod), `network` (proxies and authorities), `git_secret` (what git-sync receives of its
//! Secret), `fences` (what a build may not receive).

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

/// Time for Packer's cleanup, which takes minutes because it waits until instances are terminated.
const GRACE: Duration = Duration::from_secs(600);
/// Time between a run's own limit and the Job's deadline, which is the last resort.
const MARGIN: Duration = Duration::from_secs(300);
/// The API server accepts a ConfigMap of 1 MiB, which includes the encoding of the files.
const CONFIG_LIMIT: usize = 900 * 1024;
/// Seconds that an ended Job remains if the agent does not delete it: one of a failed run, which is kept for its log, and
/// one in a namespace other than its builder's, where the deletion of the builder cannot delete it. The result of a run is
/// collected within minutes, unless no agent runs.
pub const TTL: i32 = 7 * 24 * 3600;
/// Keeps Packer from using the role of its node if it has no credentials.
const NO_NODE_ROLE: &str = "AWS_EC2_METADATA_DISABLED";
/// Longest value of a label.
const LABEL: usize = 63;

/// Why the files cannot be delivered to a build.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("the path {path:?} of a template file is not valid: {why}")]
    Path { path: String, why: String },
    #[error(
    "the template's files have {size} bytes when packed, but a ConfigMap has room for {limit}: set \
     spec.gitSync.image, so that the build fetches the repository itself, or exclude what it does not need by \
     .opsyignore",
    limit = CONFIG_LIMIT
    )]
    TooLarge { size: usize },
}

/// Value of the label that names a builder. Two builders with equal values are distinguished by the facts.
pub fn builder_label(name: &str) -> String {
    if name.len() <= LABEL {
        return name.to_owned();
    }
    let start = name[..45].trim_end_matches(['-', '.']);
    format!("{start}-{}", &digest(&[name])[..8])
}

/// The Job's deadline, after which it has ended in any case.
pub fn deadline(request: &RunRequest) -> Duration {
    request.pending_limit + request.limit + GRACE + MARGIN
}

/// The immutable ConfigMap with the request and the files. The builder owns it until the Job exists.
pub fn config_map(request: &RunRequest, setup: &Setup, owner: OwnerReference) -> Result<ConfigMap, Unfit> {
    let mut binary = BTreeMap::new();
    if request.pod.git_sync.is_none() {
        binary.insert(wire::FILES.to_owned(), ByteString(packed(&request.files)?));
    }
    let wire = serde_json::to_string(&wire_request(request, setup)).expect("a request has only string keys");
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

/// The files as a compressed archive. Equal files always result in equal bytes.
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
        // In most images the pod's user has no home directory, and tools write to it.
        env.entry("HOME".to_owned()).or_insert_with(|| format!("{FOLDER}/config"));
    }
    wire::Request {
        // Found in the image's PATH.
        packer: "packer".to_owned(),
        steps: request.steps.clone(),
        env,
        // As variables of the container, they would override the builder's Secret.
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
    let facts = serde_json::to_string(&request.facts).expect("facts have only string keys");
    let mut metadata = metadata(request, setup, owner);
    let is_owned = metadata.owner_references.is_some();
    metadata.annotations = Some([(FACTS.to_owned(), facts)].into());
    Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            ttl_seconds_after_finished: (!is_owned).then_some(TTL),
            completions: Some(1),
            parallelism: Some(1),
            active_deadline_seconds: Some(seconds(deadline(request))),
            // A pod that is being deleted counts as failed at once, so that a pod that never started does not keep the
            // Job active. It is not replaced, because there are no retries.
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

/// The metadata of Job and ConfigMap. An owner must be in the same namespace.
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

/// The labels of the Job, its pod and its ConfigMap.
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

/// An owner may begin or end with characters that are not allowed there in a label.
fn label_value(text: &str) -> String {
    text.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
