//! What a run is made of in a cluster: a ConfigMap with the request and the files, and a Job. Pure.
//!
//! The pod: `install` copies the runner and unpacks the ConfigMap into the run's folder (git-sync, where it
//! is asked for, puts the repository there instead), then `packer` is that runner, supervising Packer in any
//! image that has one. The folder is an emptyDir: it ends with the pod, the result is the container's
//! termination message.

pub mod network;
mod resources;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use k8s_openapi::ByteString;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMap, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvFromSource, EnvVar,
    EnvVarSource, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile, SecretEnvSource,
    SecretKeySelector, SecretVolumeSource, SecurityContext, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use opsy_runner::request as wire;

use super::{BUILDER, FACTS, MANAGED_BY, OWNER, RUN};
use crate::api::builder::{self as api, PodSettings};
use crate::api::files::TemplateFile;
use crate::api::ids::digest;
use crate::engine::{GitSyncRun, RunRequest};
use resources::{resources, small};

/// Name of the container whose termination message is the result.
pub const PACKER: &str = "packer";
const INSTALL: &str = "install";
/// The run's folder in the pod. Short: Packer's plugins have sockets below it. Not `/opsy`, which is the
/// agent in the runner's image, and a folder cannot be mounted over a file.
const FOLDER: &str = "/opsy-run";
const CONFIG: &str = "/opsy-config";
const SECRETS: &str = "/opsy-secrets";
/// git-sync keeps its checkouts here, and links the right one to the work folder.
const CHECKOUT: &str = "/opsy-run/git";
/// Packer's clean-up takes minutes: it waits for instances to end.
const GRACE: Duration = Duration::from_secs(600);
/// Until a pod that was asked to stop is killed: the runner's grace, and time for it to report.
const POD_GRACE: Duration = Duration::from_secs(900);
/// Between the end of a run by its own limit and the Job's deadline: the Job is the last resort.
const MARGIN: Duration = Duration::from_secs(300);
/// An API server takes a ConfigMap of 1 MiB; what frames the files in it counts too.
const CONFIG_LIMIT: usize = 900 * 1024;
/// A restricted namespace takes no root; nobody's id in Packer's images.
const USER: i64 = 65532;
/// git-sync tries a repository that does not answer so often.
const SYNC_FAILURES: &str = "5";
/// Longest value of a label.
const LABEL: usize = 63;

/// Images of the pod where a builder names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunImages {
    /// Has `/opsy-runner`.
    pub runner: String,
    /// Has Packer.
    pub packer: String,
}

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
pub fn config_map(request: &RunRequest, owner: OwnerReference) -> Result<ConfigMap, Unfit> {
    let mut binary = BTreeMap::new();
    if request.pod.git_sync.is_none() {
        binary.insert(wire::FILES.to_owned(), ByteString(packed(&request.files)?));
    }
    let wire = serde_json::to_string(&wire_request(request)).expect("a request has only text keys");
    let size = wire.len() + binary.values().map(|bytes| bytes.0.len()).sum::<usize>();
    if size > CONFIG_LIMIT {
        return Err(Unfit::TooLarge { size });
    }
    Ok(ConfigMap {
        metadata: metadata(request, owner),
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

fn wire_request(request: &RunRequest) -> wire::Request {
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
        secrets: Vec::new(),
        secrets_dir: request.secret.as_ref().map(|_| SECRETS.to_owned()),
        limit_seconds: request.limit.as_secs(),
        grace_seconds: GRACE.as_secs(),
        plugins: None,
    }
}

/// The Job of a run.
pub fn job(request: &RunRequest, images: &RunImages, owner: OwnerReference) -> Job {
    let facts = serde_json::to_string(&request.facts).expect("facts have only text keys");
    let mut metadata = metadata(request, owner);
    metadata.annotations = Some([(FACTS.to_owned(), facts)].into());
    Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            completions: Some(1),
            parallelism: Some(1),
            active_deadline_seconds: Some(seconds(deadline(request))),
            // A pod that is being deleted counts as failed at once, so that a pod that never started does
            // not hold the Job up; with no retries left nothing replaces it.
            pod_replacement_policy: Some("TerminatingOrFailed".to_owned()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels(request)),
                    annotations: Some(pod_annotations(&request.pod.settings)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(request, images)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn metadata(request: &RunRequest, owner: OwnerReference) -> ObjectMeta {
    ObjectMeta {
        name: Some(request.name.to_string()),
        namespace: Some(request.facts.builder.namespace.clone()),
        labels: Some(labels(request)),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

fn labels(request: &RunRequest) -> BTreeMap<String, String> {
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

/// Autoscalers are asked to leave the node alone: a build that is moved begins anew.
fn pod_annotations(settings: &PodSettings) -> BTreeMap<String, String> {
    let stay = [
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
        ("karpenter.sh/do-not-disrupt", "true"),
    ];
    let stay = stay.map(|(name, value)| (name.to_owned(), value.to_owned()));
    stay.into_iter().chain(settings.annotations.clone().unwrap_or_default()).collect()
}

fn pod(request: &RunRequest, images: &RunImages) -> PodSpec {
    let PodSettings { node_selector, tolerations, .. } = request.pod.settings.clone();
    let install = vec![install(images)];
    let git_sync = request.pod.git_sync.as_ref().map(|sync| git_sync(sync, request));
    PodSpec {
        init_containers: Some(install.into_iter().chain(git_sync).collect()),
        containers: vec![packer(request, images)],
        volumes: Some(volumes(request)),
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(seconds(POD_GRACE)),
        service_account_name: request.pod.service_account.clone(),
        automount_service_account_token: Some(request.pod.service_account.is_some()),
        enable_service_links: Some(false),
        node_selector,
        tolerations: tolerations.map(|all| all.into_iter().map(toleration).collect()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

fn install(images: &RunImages) -> Container {
    Container {
        name: INSTALL.to_owned(),
        image: Some(images.runner.clone()),
        command: Some(["/opsy-runner", "install", FOLDER, "--from", CONFIG].map(str::to_owned).to_vec()),
        volume_mounts: Some(vec![mount("run", FOLDER, false), mount("config", CONFIG, true)]),
        resources: Some(small()),
        ..container()
    }
}

/// Fetches the repository at the run's commit. The keys of its Secret are `username` and `token`, as the
/// operator reads them, or whatever git-sync itself reads from its environment.
fn git_sync(sync: &GitSyncRun, request: &RunRequest) -> Container {
    let work = format!("{FOLDER}/{}", wire::WORK);
    let variables = [
        ("GITSYNC_REPO", sync.repository.as_str()),
        ("GITSYNC_REF", request.facts.commit.as_str()),
        ("GITSYNC_ROOT", CHECKOUT),
        ("GITSYNC_LINK", &work),
        ("GITSYNC_ONE_TIME", "true"),
        ("GITSYNC_MAX_FAILURES", SYNC_FAILURES),
        ("HOME", FOLDER),
    ];
    let credentials = sync.secret.iter().flat_map(|secret| {
        [("GITSYNC_USERNAME", "username"), ("GITSYNC_PASSWORD", "token")]
            .map(|(name, key)| variable_of(name, secret, key))
    });
    Container {
        name: sync.container.clone(),
        image: Some(sync.image.clone()),
        env: Some(
            variables.map(|(name, value)| variable(name, value)).into_iter().chain(credentials).collect(),
        ),
        env_from: sync.secret.as_deref().map(environment_of),
        volume_mounts: Some(vec![mount("run", FOLDER, false)]),
        resources: Some(small()),
        ..container()
    }
}

fn packer(request: &RunRequest, images: &RunImages) -> Container {
    let settings = &request.pod.settings;
    let env = settings.env.iter().flatten().map(|written| {
        variable(written.name.as_deref().unwrap_or_default(), written.value.as_deref().unwrap_or_default())
    });
    let secrets = request.secret.as_ref().map(|_| mount("secrets", SECRETS, true));
    Container {
        name: PACKER.to_owned(),
        image: Some(request.pod.image.clone().unwrap_or_else(|| images.packer.clone())),
        command: Some([&format!("{FOLDER}/opsy-runner"), "run", FOLDER].map(str::to_owned).to_vec()),
        env: Some(env.collect()),
        env_from: request.secret.as_deref().map(environment_of),
        volume_mounts: Some([mount("run", FOLDER, false)].into_iter().chain(secrets).collect()),
        resources: Some(resources(settings)),
        // The result, and nothing that looks like one.
        termination_message_policy: Some("File".to_owned()),
        ..container()
    }
}

/// What all containers share: no rights, and last words where an init container fails.
fn container() -> Container {
    Container {
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
            ..SecurityContext::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}

fn volumes(request: &RunRequest) -> Vec<Volume> {
    let run = Volume {
        name: "run".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    };
    let config = Volume {
        name: "config".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: request.name.to_string(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    let secrets = request.secret.as_ref().map(|name| Volume {
        name: "secrets".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.clone()),
            // A missing Secret is told by the environment, in words; a missing volume only by an event.
            optional: Some(true),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    [run, config].into_iter().chain(secrets).collect()
}

fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    }
}

fn environment_of(secret: &str) -> Vec<EnvFromSource> {
    let secret_ref = Some(SecretEnvSource { name: secret.to_owned(), optional: Some(false) });
    vec![EnvFromSource { secret_ref, ..EnvFromSource::default() }]
}

/// A key of a Secret; one that is not there leaves the variable as it is.
fn variable_of(name: &str, secret: &str, key: &str) -> EnvVar {
    let key = SecretKeySelector { name: secret.to_owned(), key: key.to_owned(), optional: Some(true) };
    let value_from = Some(EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() });
    EnvVar { name: name.to_owned(), value_from, ..EnvVar::default() }
}

fn variable(name: &str, value: &str) -> EnvVar {
    // `$(NAME)` is Kubernetes' own syntax; what is written here is meant as it stands.
    let value = value.replace("$(", "$$(");
    EnvVar { name: name.to_owned(), value: Some(value), value_from: None }
}

fn toleration(written: api::Toleration) -> Toleration {
    Toleration {
        key: written.key,
        operator: written.operator,
        value: written.value,
        effect: written.effect,
        toleration_seconds: written.toleration_seconds,
    }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
