//! Containers of a build's pod, part of the Job. Pure.

use k8s_openapi::api::core::v1::{Capabilities, Container, EnvVar, SecurityContext};
use opsy_runner::request as wire;

use super::git_secret;
use super::resources::resources;
use super::setup::Setup;
use super::variables::{environment_of, variable};
use super::volumes::{BIN, CHECKOUT, CONFIG, FOLDER, SECRETS, mount};
use crate::engine::{GitSyncRun, RunRequest};

/// Name of the container whose termination message is the result.
pub const PACKER: &str = "packer";
pub const INSTALL: &str = "install";
/// How often git-sync tries to reach a repository.
const SYNC_FAILURES: &str = "5";

/// The init containers. All have the resources of Packer's container, which does not change those of the pod, because
/// they run before it. A quota that requires limits requires them of each container.
pub fn before(request: &RunRequest, setup: &Setup) -> Vec<Container> {
    let git_sync = request.pod.git_sync.as_ref().map(|sync| git_sync(sync, request));
    std::iter::once(install(request, setup)).chain(git_sync).collect()
}

fn install(request: &RunRequest, setup: &Setup) -> Container {
    let command = ["/opsy-runner", "install", FOLDER, "--from", CONFIG, "--runner", BIN];
    Container {
        name: INSTALL.to_owned(),
        image: Some(setup.images.runner.clone()),
        command: Some(command.map(str::to_owned).to_vec()),
        volume_mounts: Some(vec![
            mount("run", FOLDER, false),
            mount("bin", BIN, false),
            mount("config", CONFIG, true),
        ]),
        ..container(request)
    }
}

/// Fetches the repository at the run's commit. git-sync always requests that commit itself, whatever its depth. A
/// server that sends only the tips of branches sends it as long as it is one.
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
    let variables = variables.map(|(name, value)| variable(name, value));
    let key = sync.secret.as_deref().filter(|_| sync.is_ssh());
    let credentials = key.map_or_else(|| git_secret::login(sync), git_secret::ssh);
    let files = key.map(|_| mount(git_secret::VOLUME, git_secret::FOLDER, true));
    Container {
        name: sync.container.clone(),
        image: Some(sync.image.clone()),
        env: Some(variables.into_iter().chain(credentials).collect()),
        // git-sync reads some keys as its settings. With an SSH key, the Secret must not become variables.
        env_from: sync.secret.as_deref().filter(|_| key.is_none()).map(environment_of),
        volume_mounts: Some([mount("run", FOLDER, false)].into_iter().chain(files).collect()),
        ..container(request)
    }
}

pub fn packer(request: &RunRequest, setup: &Setup) -> Container {
    let secrets = request.secret.as_ref().map(|_| mount("secrets", SECRETS, true));
    let mounts = [mount("run", FOLDER, false), mount("bin", BIN, true)];
    Container {
        name: PACKER.to_owned(),
        image: Some(request.pod.image.clone().unwrap_or_else(|| setup.images.packer.clone())),
        command: Some([&format!("{BIN}/opsy-runner"), "run", FOLDER].map(str::to_owned).to_vec()),
        env: Some(environment(request)),
        env_from: request.secret.as_deref().map(environment_of),
        volume_mounts: Some(mounts.into_iter().chain(secrets).collect()),
        // Only the runner's report may be the result. The end of the log must not be taken for one.
        termination_message_policy: Some("File".to_owned()),
        ..container(request)
    }
}

/// The variables of `spec.builder.pod.env`.
fn environment(request: &RunRequest) -> Vec<EnvVar> {
    let written = request.pod.settings.env.iter().flatten();
    written
        .map(|written| {
            variable(
                written.name.as_deref().unwrap_or_default(),
                written.value.as_deref().unwrap_or_default(),
            )
        })
        .collect()
}

/// What all containers share: no privileges, and the end of the log as the message of a failure.
fn container(request: &RunRequest) -> Container {
    Container {
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
            ..SecurityContext::default()
        }),
        resources: Some(resources(&request.pod.settings)),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        ..Container::default()
    }
}
