//! Tables of what is added to a Job and its ConfigMap.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use serde_json::json;

use super::*;
use crate::api::network::Authorities;

fn network(proxy: &'static str, no_proxy: &'static str) -> Network {
    let variable = move |name: &str| match name {
        "HTTPS_PROXY" => Some(proxy.to_owned()),
        "NO_PROXY" => Some(no_proxy.to_owned()),
        _ => None,
    };
    let authorities = Authorities::new("/etc/corp.pem".into(), "CERTIFICATES".into(), Vec::new());
    let proxies = Proxies::read(variable).expect("proxies");
    Network { proxies, authorities: Some(authorities), ..Network::default() }
}

/// The part of a Job from `job` that matters here.
fn job(secret: Option<&str>) -> Job {
    let from = secret.map(|name| json!([{"secretRef": {"name": name}}]));
    let job = json!({
        "metadata": {"name": "run"},
        "spec": {"template": {"spec": {
            "initContainers": [
                {"name": "install"},
                {"name": "git-sync", "env": [{"name": "GITSYNC_REPO", "value": "r"}], "envFrom": from},
            ],
            "containers": [{"name": "packer"}],
        }}},
    });
    serde_json::from_value(job).expect("a Job")
}

/// Variables of a container.
fn env(container: &Container) -> BTreeMap<&str, &str> {
    let variables = container.env.iter().flatten();
    variables
        .map(|variable| (variable.name.as_str(), variable.value.as_deref().unwrap_or_default()))
        .collect()
}

fn pod(network: &Network, secret: Option<&str>) -> PodSpec {
    let job = PodNetwork::new(network).in_job(job(secret));
    job.spec.and_then(|spec| spec.template.spec).expect("a pod")
}

/// The runner's defaults for Packer.
fn defaults(network: &Network) -> BTreeMap<String, String> {
    PodNetwork::new(network).defaults().collect()
}

const NEAR: &str = "169.254.169.254,169.254.170.2,169.254.170.23,fd00:ec2::23,fd00:ec2::254";

#[test]
fn packer_and_git_sync_receive_proxies_and_authorities_and_install_does_not() {
    let network = network("http://proxy:3128", "10.0.0.0/8,$(X)");
    let pod = pod(&network, None);
    let file = "/opsy-authorities/ca.pem";
    let proxies = |no_proxy: &str| {
        let all = [
            ("HTTPS_PROXY", "http://proxy:3128"),
            ("https_proxy", "http://proxy:3128"),
            ("NO_PROXY", no_proxy),
            ("no_proxy", no_proxy),
        ];
        all.map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    let owned = |map: BTreeMap<&str, &str>| {
        map.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>()
    };
    let init = pod.init_containers.as_deref().expect("init containers");
    assert!(env(&pod.containers[0]).is_empty(), "they would override the builder's Secret");
    let mut of_packer = BTreeMap::from(proxies(&format!("10.0.0.0/8,$(X),{NEAR}")));
    of_packer.insert("SSL_CERT_FILE".to_owned(), file.to_owned());
    assert_eq!(defaults(&network), of_packer);
    let mut of_git = BTreeMap::from(proxies(&format!("10.0.0.0/8,$$(X),{NEAR}")));
    let git = [("GIT_SSL_CAINFO", file), ("GIT_SSL_CAPATH", "/etc/ssl/certs"), ("GITSYNC_REPO", "r")];
    of_git.extend(git.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(owned(env(&init[1])), of_git);
    assert_eq!((env(&init[0]), &init[0].volume_mounts), (BTreeMap::new(), &None));
    let mounts = pod.containers[0].volume_mounts.as_deref().expect("a mount");
    let volume = &pod.volumes.as_deref().expect("a volume")[0];
    assert_eq!((mounts[0].name.as_str(), volume.name.as_str()), ("authorities", "authorities"));
    assert_eq!(volume.config_map.as_ref().map(|source| source.name.as_str()), Some("run"));
}

#[test]
fn the_secret_of_git_sync_overrides_what_the_agent_sets() {
    let pod = pod(&network("http://proxy:3128", ""), Some("git"));
    let env = pod.init_containers.as_deref().expect("init containers")[1].env.as_deref().expect("variables");
    let of = |name: &str| {
        let key = |variable: &EnvVar| {
            let key = variable.value_from.as_ref()?.secret_key_ref.as_ref()?;
            Some(format!("{}/{} {:?}", key.name, key.key, key.optional))
        };
        let all = env.iter().filter(|variable| variable.name == name);
        all.map(|variable| variable.value.clone().or_else(|| key(variable))).collect::<Vec<_>>()
    };
    let some = |text: &str| Some(text.to_owned());
    let lower =
        [some("http://proxy:3128"), some("git/HTTPS_PROXY Some(true)"), some("git/https_proxy Some(true)")];
    assert_eq!(of("https_proxy"), lower, "the last one that exists counts");
    let upper =
        [some("http://proxy:3128"), some("git/https_proxy Some(true)"), some("git/HTTPS_PROXY Some(true)")];
    assert_eq!(of("HTTPS_PROXY"), upper);
}

#[test]
fn a_build_never_receives_the_credentials_of_a_proxy() {
    let network = network("http://ann:hunter2@proxy:3128", "10.0.0.0/8");
    let (pod, defaults) = (pod(&network, None), defaults(&network));
    assert_eq!(defaults.get("HTTPS_PROXY"), None);
    assert!(defaults["no_proxy"].starts_with("10.0.0.0/8,169.254.169.254,"), "{defaults:?}");
    assert!(!format!("{pod:?}{defaults:?}").contains("hunter2"));
}

#[test]
fn the_file_must_fit_beside_the_template() {
    let network = PodNetwork::new(&network("http://proxy:3128", ""));
    let with = |size: usize| ConfigMap {
        binary_data: Some([("files".to_owned(), ByteString(vec![0; size]))].into()),
        ..ConfigMap::default()
    };
    let map = network.with_file(with(CONFIG_LIMIT - 12)).expect("it fits");
    assert_eq!(map.data.expect("texts")["ca.pem"], "CERTIFICATES");
    assert!(network.with_file(with(CONFIG_LIMIT - 11)).is_err());
    assert_eq!(PodNetwork::default().with_file(with(1)).expect("nothing to add").data, None);
}
