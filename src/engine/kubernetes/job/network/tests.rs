//! Tables: what is added to a Job and its ConfigMap.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

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

/// A Job as `job` makes it, as far as it matters here.
fn job(env: &Value) -> Job {
    let job = json!({
        "metadata": {"name": "run"},
        "spec": {"template": {"spec": {
            "initContainers": [{"name": "install"}, {"name": "git-sync", "env": [{"name": "GITSYNC_REPO", "value": "r"}]}],
            "containers": [{"name": "packer", "env": env}],
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

fn pod(network: &Network, written: &Value) -> PodSpec {
    let job = PodNetwork::new(network).in_job(job(written));
    job.spec.and_then(|spec| spec.template.spec).expect("a pod")
}

#[test]
fn a_build_gets_proxies_and_authorities_and_its_installation_nothing() {
    let pod = pod(&network("http://proxy:3128", "10.0.0.0/8,$(X)"), &json!([]));
    let near = "169.254.169.254,169.254.170.2,169.254.170.23,fd00:ec2::23,fd00:ec2::254";
    let no_proxy = format!("10.0.0.0/8,$$(X),{near}");
    let proxies = [
        ("HTTPS_PROXY", "http://proxy:3128"),
        ("https_proxy", "http://proxy:3128"),
        ("NO_PROXY", no_proxy.as_str()),
        ("no_proxy", no_proxy.as_str()),
    ];
    let file = "/opsy-authorities/ca.pem";
    let with = |more: &[(&'static str, &'static str)]| {
        let all = proxies.into_iter().chain(more.iter().copied());
        all.collect::<BTreeMap<&str, &str>>()
    };
    let init = pod.init_containers.as_deref().expect("init containers");
    assert_eq!(env(&pod.containers[0]), with(&[("SSL_CERT_FILE", file)]));
    let git = [("GIT_SSL_CAINFO", file), ("GIT_SSL_CAPATH", "/etc/ssl/certs"), ("GITSYNC_REPO", "r")];
    assert_eq!(env(&init[1]), with(&git));
    assert_eq!((env(&init[0]), &init[0].volume_mounts), (BTreeMap::new(), &None));
    let mounts = pod.containers[0].volume_mounts.as_deref().expect("a mount");
    let volume = &pod.volumes.as_deref().expect("a volume")[0];
    assert_eq!((mounts[0].name.as_str(), volume.name.as_str()), ("authorities", "authorities"));
    assert_eq!(volume.config_map.as_ref().map(|source| source.name.as_str()), Some("run"));
}

#[test]
fn what_a_builder_sets_stays() {
    let written = json!([
        {"name": "https_proxy", "value": "http://other:1"},
        {"name": "NO_PROXY", "value": ""},
        {"name": "SSL_CERT_FILE", "value": "/mine"},
    ]);
    let pod = pod(&network("http://proxy:3128", "10.0.0.0/8"), &written);
    let expected = [("https_proxy", "http://other:1"), ("NO_PROXY", ""), ("SSL_CERT_FILE", "/mine")];
    assert_eq!(env(&pod.containers[0]), expected.into());
}

#[test]
fn the_credentials_of_a_proxy_stay_with_the_agent() {
    let pod = pod(&network("http://ann:hunter2@proxy:3128", "10.0.0.0/8"), &json!([]));
    let variables = env(&pod.containers[0]);
    assert_eq!(variables.get("HTTPS_PROXY"), None);
    assert!(variables["no_proxy"].starts_with("10.0.0.0/8,169.254.169.254,"), "{variables:?}");
    assert!(!format!("{pod:?}").contains("hunter2"));
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
