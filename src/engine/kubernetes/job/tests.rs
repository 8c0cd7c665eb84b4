//! Tables of the Job and the ConfigMap that result from a request.

use super::containers::INSTALL;
use super::volumes::BIN;
use super::*;
use crate::api::builder::InputsRecord;
use crate::api::{BuildId, CommitId, Key, Owner, Region, RunName};
use crate::engine::{GitSyncRun, PodSpec as RequestedPod, RunFacts};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::sync::Arc;

pub fn request() -> RunRequest {
    RunRequest {
        name: RunName::parse("node-0123456789abcdef").expect("a name"),
        owner: Owner::parse("team-a").expect("an owner"),
        facts: RunFacts {
            builder: Key { namespace: "images".into(), name: "node".into() },
            build: BuildId::parse("0123456789abcdef").expect("an id"),
            region: Region::parse("us-east-1").expect("a region"),
            inputs: InputsRecord::default(),
            why: "Missing".into(),
            commit: CommitId::parse("a".repeat(40)).expect("a commit"),
            created_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
            owner: None,
        },
        steps: Vec::new(),
        env: [("PKR_VAR_x".to_owned(), "1".to_owned())].into(),
        secret: None,
        files: Arc::new(vec![file("packer/node.pkr.hcl", "source"), file("setup.sh", "#!/bin/sh")]),
        limit: Duration::from_secs(7200),
        pending_limit: Duration::from_secs(600),
        pod: RequestedPod::default(),
    }
}

fn file(path: &str, text: &str) -> TemplateFile {
    TemplateFile { path: path.into(), executable: path.ends_with(".sh"), content: text.into() }
}

fn setup() -> Setup {
    RunImages { runner: "opsy:1".into(), packer: "packer:1".into() }.into()
}

fn owner() -> OwnerReference {
    OwnerReference { kind: "PackerBuilder".into(), name: "node".into(), ..OwnerReference::default() }
}

fn settings(value: serde_json::Value) -> RunRequest {
    let settings = serde_json::from_value(value).expect("settings");
    RunRequest { pod: RequestedPod { settings, ..RequestedPod::default() }, ..request() }
}

fn pod_of(request: &RunRequest) -> PodSpec {
    job(request, &setup(), owner()).spec.and_then(|spec| spec.template.spec).expect("a pod")
}

fn container(pod: &PodSpec) -> Container {
    pod.containers[0].clone()
}

#[test]
fn a_job_has_no_retries_and_ends_in_any_case() {
    let job = job(&request(), &setup(), owner());
    let spec = job.spec.expect("a spec");
    assert_eq!(spec.backoff_limit, Some(0));
    assert_eq!(spec.ttl_seconds_after_finished, None, "its result is collected before it is deleted");
    assert_eq!(spec.active_deadline_seconds, Some(600 + 7200 + 600 + 300));
    let pod = spec.template.spec.expect("a pod");
    assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
    assert!(pod.termination_grace_period_seconds > Some(i64::try_from(GRACE.as_secs()).expect("small")));
    assert_eq!(job.metadata.owner_references, Some(vec![owner()]));
    let facts = &job.metadata.annotations.expect("annotations")[FACTS];
    let facts: RunFacts = serde_json::from_str(facts).expect("facts");
    assert_eq!(facts, request().facts);
}

#[test]
fn a_restricted_namespace_takes_the_pod() {
    let mut request = request();
    request.pod.git_sync = Some(sync());
    let pod = pod_of(&request);
    let context = pod.security_context.clone().expect("a context");
    assert_eq!((context.run_as_non_root, context.run_as_user), (Some(true), Some(pod::USER)));
    assert_eq!(context.seccomp_profile.expect("a profile").type_, "RuntimeDefault");
    for container in pod.containers.iter().chain(pod.init_containers.iter().flatten()) {
        let context = container.security_context.clone().expect("a context");
        assert_eq!(context.allow_privilege_escalation, Some(false), "{}", container.name);
        assert_eq!(context.capabilities.and_then(|c| c.drop), Some(vec!["ALL".to_owned()]));
    }
    assert_eq!((pod.automount_service_account_token, pod.service_account_name), (Some(false), None));
}

#[test]
fn in_another_namespace_a_job_has_no_owner_and_ends_with_a_ttl() {
    let elsewhere = Setup { namespace: Some("builds".to_owned()), ..setup() };
    let job = job(&request(), &elsewhere, owner());
    assert_eq!(job.metadata.namespace.as_deref(), Some("builds"));
    assert_eq!(job.metadata.owner_references, None);
    assert_eq!(job.spec.expect("a spec").ttl_seconds_after_finished, Some(7 * 24 * 3600));
    let map = config_map(&request(), &elsewhere, owner()).expect("it fits");
    assert_eq!((map.metadata.namespace.as_deref(), map.metadata.owner_references), (Some("builds"), None));
}

#[test]
fn only_install_can_write_the_runner_that_supervises_packer() {
    let mut request = request();
    request.pod.git_sync = Some(sync());
    let pod = pod_of(&request);
    let mounts = |container: &Container| {
        let mut mounts = container.volume_mounts.clone().expect("mounts").into_iter();
        mounts.find(|mount| mount.mount_path == BIN).map(|mount| mount.read_only)
    };
    let all: Vec<_> = pod.init_containers.iter().flatten().chain(&pod.containers).map(mounts).collect();
    assert_eq!(all, [Some(Some(false)), None, Some(Some(true))], "install, git-sync, Packer");
    let command = container(&pod).command.expect("a command");
    assert_eq!(command, ["/opsy-bin/opsy-runner", "run", "/opsy-run"]);
}

#[test]
fn a_run_cannot_fill_the_disk_of_its_node() {
    let size = |request: &RunRequest| {
        let volumes = pod_of(request).volumes.expect("volumes");
        let run = volumes.into_iter().find(|volume| volume.name == "run").expect("the run's folder");
        run.empty_dir.and_then(|dir| dir.size_limit).map(|size| size.0)
    };
    assert_eq!(size(&request()).as_deref(), Some("10Gi"));
    let resources = serde_json::json!({"resources": {"limits": {"ephemeral-storage": "40Gi"}}});
    assert_eq!(size(&settings(resources)).as_deref(), Some("40Gi"));
}

#[test]
fn images_are_pulled_with_the_secrets_of_the_flags_and_of_the_builder() {
    let names = |request: &RunRequest, flags: &[&str]| {
        let pull_secrets = flags.iter().map(|name| (*name).to_owned()).collect();
        let setup = Setup { pull_secrets, ..setup() };
        let spec = job(request, &setup, owner()).spec.and_then(|spec| spec.template.spec).expect("a pod");
        spec.image_pull_secrets.map(|all| all.into_iter().map(|secret| secret.name).collect::<Vec<_>>())
    };
    let own = settings(serde_json::json!({"imagePullSecrets": ["team", "registry"]}));
    assert_eq!(names(&request(), &[]), None, "the ServiceAccount's are used");
    assert_eq!(names(&request(), &["registry"]), Some(vec!["registry".to_owned()]));
    assert_eq!(names(&own, &["registry"]), Some(vec!["registry".to_owned(), "team".to_owned()]));
}

#[test]
fn the_files_are_delivered_unchanged() {
    let map = config_map(&request(), &setup(), owner()).expect("it fits");
    assert_eq!(map.immutable, Some(true));
    assert_eq!(map.metadata.owner_references, Some(vec![owner()]));
    let packed = &map.binary_data.as_ref().expect("files")[wire::FILES].0;
    assert_eq!(
        *packed,
        config_map(&request(), &setup(), owner()).expect("it fits").binary_data.expect("files")[wire::FILES]
            .0
    );
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&packed[..]));
    let entry = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.expect("an entry");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).expect("text");
        let path = entry.path().expect("a path").display().to_string();
        (path, entry.header().mode().expect("a mode"), text)
    };
    let entries: Vec<(String, u32, String)> = archive.entries().expect("entries").map(entry).collect();
    let expected = [("packer/node.pkr.hcl", 0o644, "source"), ("setup.sh", 0o755, "#!/bin/sh")];
    assert_eq!(entries, expected.map(|(path, mode, text)| (path.to_owned(), mode, text.to_owned())));
}

#[test]
fn a_path_that_leads_outside_is_an_error_and_no_panic() {
    let files = vec![TemplateFile { path: "a/../../b".to_owned(), executable: false, content: Vec::new() }];
    let request = RunRequest { files: files.into(), ..request() };
    assert!(
        matches!(config_map(&request, &setup(), owner()), Err(Unfit::Path { path, .. }) if path == "a/../../b")
    );
}

#[test]
fn files_that_do_not_fit_are_refused_with_their_size_and_the_remedy() {
    // Hashes do not compress.
    let noise: String = (0..40_000).map(|n: u32| digest(&[&n.to_string()])).collect();
    let large = RunRequest { files: Arc::new(vec![file("blob", &noise)]), ..request() };
    // `expect_err` would print the whole map.
    let Err(error @ Unfit::TooLarge { size }) = config_map(&large, &setup(), owner()) else {
        panic!("it fits")
    };
    assert!(size > CONFIG_LIMIT);
    let words = error.to_string();
    assert!(words.contains("gitSync") && words.contains(&size.to_string()), "{words}");
}

#[test]
fn a_secret_becomes_environment_variables_and_is_mounted_to_be_masked() {
    let request = RunRequest { secret: Some("aws".into()), ..request() };
    let pod = pod_of(&request);
    let packer = container(&pod);
    let from = packer.env_from.expect("a source")[0].secret_ref.clone().expect("a secret");
    assert_eq!((from.name.as_str(), from.optional), ("aws", Some(false)));
    assert!(packer.volume_mounts.expect("mounts").iter().any(|m| m.mount_path == SECRETS));
    let map = config_map(&request, &setup(), owner()).expect("it fits");
    let wire: wire::Request =
        serde_json::from_str(&map.data.expect("data")[wire::REQUEST]).expect("a request");
    assert_eq!(wire.secrets_dir.as_deref(), Some(SECRETS));
}

#[test]
fn resources_are_the_builders_with_defaults_for_those_it_does_not_mention() {
    let quantities = |request: &RunRequest| {
        let pod = pod_of(request);
        let resources = container(&pod).resources.expect("resources");
        // A quota that requires limits requires them of init containers too.
        assert_eq!(pod.init_containers.expect("some")[0].resources, Some(resources.clone()));
        let text = |all: Option<BTreeMap<String, Quantity>>| {
            all.into_iter().flatten().map(|(k, v)| format!("{k}={}", v.0)).collect::<Vec<_>>().join(" ")
        };
        (text(resources.requests), text(resources.limits))
    };
    let cases = [
        (serde_json::json!({}), ("cpu=100m ephemeral-storage=1Gi memory=512Mi", "memory=2Gi")),
        (
            serde_json::json!({"requests": {"memory": "4Gi"}}),
            ("cpu=100m ephemeral-storage=1Gi memory=4Gi", ""),
        ),
        (
            serde_json::json!({"limits": {"memory": "256Mi", "ephemeral-storage": "9Gi"}}),
            ("cpu=100m", "ephemeral-storage=9Gi memory=256Mi"),
        ),
        (
            serde_json::json!({"requests": {"cpu": 2}}),
            ("cpu=2 ephemeral-storage=1Gi memory=512Mi", "memory=2Gi"),
        ),
    ];
    for (resources, expected) in cases {
        let (requests, limits) = quantities(&settings(serde_json::json!({ "resources": resources })));
        assert_eq!((requests.as_str(), limits.as_str()), expected, "{resources}");
    }
}

#[test]
fn the_builders_settings_reach_the_pod() {
    let mut request = settings(serde_json::json!({
        "nodeSelector": {"pool": "builds"},
        "tolerations": [{"key": "builds", "operator": "Exists", "effect": "NoSchedule"}],
        "annotations": {"karpenter.sh/do-not-disrupt": "false", "team": "a"},
        "env": [{"name": "HTTPS_PROXY", "value": "http://$(HOST)"}, {"name": "HOME", "value": "/tmp"}],
    }));
    request.pod.service_account = Some("packer".into());
    request.pod.image = Some("mine:2".into());
    let job = job(&request, &setup(), owner());
    let template = job.spec.expect("a spec").template;
    let annotations = template.metadata.and_then(|m| m.annotations).expect("annotations");
    assert_eq!(
        annotations["karpenter.sh/do-not-disrupt"], "false",
        "the builder's own value takes precedence"
    );
    assert_eq!(annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"], "false");
    let pod = template.spec.expect("a pod");
    assert_eq!(pod.node_selector.as_ref().expect("a selector")["pool"], "builds");
    assert_eq!(pod.tolerations.as_ref().expect("tolerations")[0].key.as_deref(), Some("builds"));
    assert_eq!(
        (pod.automount_service_account_token, pod.service_account_name.as_deref()),
        (Some(false), Some("packer"))
    );
    let packer = container(&pod);
    assert_eq!(packer.image.as_deref(), Some("mine:2"));
    let env = packer.env.expect("variables");
    assert_eq!(env[0].value.as_deref(), Some("http://$$(HOST)"));
    let map = config_map(&request, &setup(), owner()).expect("it fits");
    let wire: wire::Request =
        serde_json::from_str(&map.data.expect("data")[wire::REQUEST]).expect("a request");
    assert_eq!(
        wire.defaults["AWS_EC2_METADATA_DISABLED"], "true",
        "not the node's role, unless something enables it"
    );
    assert!(!wire.env.contains_key("HOME"), "the builder sets it");
}

fn sync() -> GitSyncRun {
    GitSyncRun {
        image: "git-sync:4".into(),
        container: "fetch".into(),
        secret: Some("git".into()),
        user: None,
        repository: "https://git.example/fleet".into(),
    }
}

#[test]
fn git_sync_fetches_the_commit_into_packers_working_directory_and_no_files_are_delivered() {
    let mut request = request();
    request.pod.git_sync = Some(sync());
    let pod = pod_of(&request);
    let containers = pod.init_containers.expect("init containers");
    assert_eq!(containers.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), [INSTALL, "fetch"]);
    let env = containers[1].env.clone().expect("variables");
    let value = |name: &str| env.iter().find(|v| v.name == name).and_then(|v| v.value.clone()).expect(name);
    assert_eq!(value("GITSYNC_REF"), "a".repeat(40));
    assert_eq!(value("GITSYNC_REPO"), "https://git.example/fleet");
    assert_eq!(value("GITSYNC_LINK"), "/opsy-run/work");
    assert_eq!(
        containers[1].env_from.as_ref().expect("a source")[0].secret_ref.as_ref().expect("a secret").name,
        "git"
    );
    let keys = env.iter().filter_map(|variable| {
        let key = variable.value_from.as_ref()?.secret_key_ref.as_ref()?;
        Some((variable.name.as_str(), key.name.as_str(), key.key.as_str(), key.optional))
    });
    let operators = [
        ("GITSYNC_USERNAME", "git", "username", Some(true)),
        ("GITSYNC_PASSWORD", "git", "password", Some(true)),
        ("GITSYNC_PASSWORD", "git", "token", Some(true)),
    ];
    assert_eq!(keys.collect::<Vec<_>>(), operators);
    assert!(pod.containers[0].env_from.is_none(), "Packer does not receive them");
    assert!(config_map(&request, &setup(), owner()).expect("it fits").binary_data.expect("a map").is_empty());
}

#[test]
fn over_ssh_only_git_sync_receives_the_key_and_only_as_a_file() {
    for (repository, is_ssh) in [
        ("ssh://git@git.example:2222/fleet", true),
        ("git@git.example:fleet", true),
        ("https://git.example/fleet", false),
    ] {
        let mut request = request();
        request.secret = Some("aws".into());
        request.pod.git_sync = Some(GitSyncRun { repository: repository.into(), ..sync() });
        let pod = pod_of(&request);
        let files = pod.volumes.iter().flatten().find(|volume| volume.name == "git-secret");
        assert_eq!(files.is_some(), is_ssh, "{repository}");
        let init = pod.init_containers.as_deref().expect("init containers");
        let mounts = |container: &Container| {
            let mounts = container.volume_mounts.iter().flatten();
            mounts.filter(|mount| mount.name == "git-secret").map(|mount| mount.read_only).collect::<Vec<_>>()
        };
        assert_eq!(mounts(&init[1]), if is_ssh { vec![Some(true)] } else { vec![] });
        assert!(mounts(&init[0]).is_empty() && mounts(&pod.containers[0]).is_empty());
        assert_eq!(init[1].env_from.is_none(), is_ssh, "the key would be a variable");
        let Some(files) = files.and_then(|volume| volume.secret.as_ref()) else { continue };
        assert_eq!((files.secret_name.as_deref(), files.default_mode), (Some("git"), Some(0o400)));
        let items = files.items.iter().flatten().map(|item| (item.key.as_str(), item.path.as_str()));
        let expected = [("ssh-privatekey", "ssh"), ("ssh", "ssh"), ("known_hosts", "known_hosts")];
        assert_eq!(items.collect::<Vec<_>>(), expected);
        let env = init[1].env.as_deref().expect("variables");
        let value = |name: &str| env.iter().find(|v| v.name == name).and_then(|v| v.value.as_deref());
        assert_eq!(value("GITSYNC_SSH_KEY_FILE"), Some("/etc/git-secret/ssh"));
        assert_eq!(value("GITSYNC_SSH_KNOWN_HOSTS_FILE"), Some("/etc/git-secret/known_hosts"));
        assert_eq!(
            (value("GITSYNC_SSH_KNOWN_HOSTS"), value("GITSYNC_ADD_USER")),
            (Some("true"), Some("true"))
        );
        let keys = env.iter().filter_map(|v| v.value_from.as_ref()?.secret_key_ref.as_ref());
        let required = keys.clone().filter(|key| key.optional == Some(false)).map(|key| key.key.as_str());
        assert_eq!(required.collect::<Vec<_>>(), ["known_hosts"], "a missing Secret is reported by it");
        assert!(keys.clone().all(|key| key.key.starts_with("GITSYNC_") || key.key == "known_hosts"));
    }
}

#[test]
fn the_secrets_user_name_takes_precedence_over_the_agents() {
    let mut request = request();
    request.pod.git_sync = Some(GitSyncRun { user: Some("x-access-token".into()), ..sync() });
    let env = pod_of(&request).init_containers.expect("init containers")[1].env.clone().expect("variables");
    let users = env.iter().filter(|variable| variable.name == "GITSYNC_USERNAME");
    let users: Vec<_> =
        users.map(|variable| (variable.value.as_deref(), variable.value_from.is_some())).collect();
    assert_eq!(users, [(Some("x-access-token"), false), (None, true)], "the last one that exists counts");
}

#[test]
fn a_long_name_is_shortened_to_a_unique_label() {
    assert_eq!(builder_label("node"), "node");
    let long = format!("{}.{}", "a".repeat(44), "b".repeat(60));
    let (one, other) = (builder_label(&long), builder_label(&format!("{long}c")));
    assert!(one.len() <= LABEL && one.starts_with(&"a".repeat(44)) && one != other, "{one} {other}");
    assert!(!one.contains(".-"));
}
