//! Containers of a build's pod. Pure; part of the Job.

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
/// git-sync tries a repository that does not answer so often.
const SYNC_FAILURES: &str = "5";

/// Init containers. All ask for what Packer's container does, which adds nothing to what the pod does: they run before
/// it. A quota that demands a limit demands it of each of them.
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

/// Fetches the repository at the run's commit. A server that sends only the tips of its branches sends it as long as it is
/// one, whatever the depth is: git-sync always asks for the commit itself.
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
        // Git-sync itself reads some of them. A private key is in no variable.
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
        // The result, and nothing that looks like one.
        termination_message_policy: Some("File".to_owned()),
        ..container(request)
    }
}

/// The builder's variables.
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

/// What all containers share: no rights, and last words where an init container fails.
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
