//! What a build pod needs in a closed network: the agent's proxies, and its certificate authorities as a file in the
//! run's ConfigMap. Packer receives the variables as defaults of its runner, which the builder's Secret and the image
//! override. git-sync has no runner, so they are added to its container, where the keys of its Secret override them.
//! Pure.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, EnvVar, KeyToPath, PodSpec, Volume,
};

use super::variables::variable_of;
use super::volumes::mount;
use super::{CONFIG_LIMIT, PACKER, Unfit};
use crate::api::network::{CERT_FILE, Network};
use crate::api::proxy::{Proxies, Proxy};

/// Key in the ConfigMap, and name of the file.
const FILE: &str = "ca.pem";
const VOLUME: &str = "authorities";
const FOLDER: &str = "/opsy-authorities";
/// The directory of the public authorities in common images. Git reads it in addition to its file.
const PUBLIC: &str = "/etc/ssl/certs";
/// The only init container that does not use the network.
const INSTALL: &str = "install";

/// What build pods need of the agent's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodNetwork {
    proxies: Vec<(String, String)>,
    authorities: Option<String>,
}

impl PodNetwork {
    pub fn new(network: &Network) -> Self {
        let authorities = network.authorities.as_ref().map(|authorities| authorities.pem().to_owned());
        Self { proxies: variables(&network.proxies), authorities }
    }

    /// Whether builds do not receive one of the proxies, because its address contains credentials.
    pub fn withholds(network: &Network) -> bool {
        let proxies = [network.proxies.http(), network.proxies.https()];
        proxies.into_iter().flatten().any(Proxy::has_credentials)
    }

    /// Adds the file of the authorities to the run's ConfigMap.
    ///
    /// # Errors
    /// The template's files leave no room for it.
    pub fn with_file(&self, mut map: ConfigMap) -> Result<ConfigMap, Unfit> {
        let Some(pem) = &self.authorities else { return Ok(map) };
        let strings = map.data.iter().flatten().map(|(_, string)| string.len());
        let bytes = map.binary_data.iter().flatten().map(|(_, bytes)| bytes.0.len());
        let size = strings.chain(bytes).sum::<usize>() + pem.len();
        if size > CONFIG_LIMIT {
            return Err(Unfit::TooLarge { size });
        }
        map.data.get_or_insert_default().insert(FILE.to_owned(), pem.clone());
        Ok(map)
    }

    /// Variables that Packer receives unless something else sets them.
    pub fn defaults(&self) -> impl Iterator<Item = (String, String)> {
        let trusted = self.authorities.as_ref().map(|_| (CERT_FILE.to_owned(), format!("{FOLDER}/{FILE}")));
        self.proxies.iter().cloned().chain(trusted)
    }

    /// Mounts the file into the containers that use the network, and adds the variables to git-sync's.
    pub fn in_job(&self, mut job: Job) -> Job {
        let name = job.metadata.name.clone().unwrap_or_default();
        if let Some(pod) = job.spec.as_mut().and_then(|spec| spec.template.spec.as_mut()) {
            self.add_to_pod(pod, name);
        }
        job
    }

    fn add_variables(&self, container: &mut Container) {
        for (name, value) in &self.proxies {
            set(container, name, value);
        }
        if self.authorities.is_some() {
            // The public authorities must remain valid. Programs written in Go read the system's directories in
            // addition to `SSL_CERT_FILE`; Git does so only if the directory is set.
            set(container, "GIT_SSL_CAINFO", &format!("{FOLDER}/{FILE}"));
            set(container, "GIT_SSL_CAPATH", PUBLIC);
        }
    }

    fn add_to_pod(&self, pod: &mut PodSpec, config_map: String) {
        if self.authorities.is_some() {
            pod.volumes.get_or_insert_default().push(volume(config_map));
        }
        let fetching = pod.init_containers.iter_mut().flatten().filter(|container| container.name != INSTALL);
        for container in pod.containers.iter_mut().chain(fetching) {
            if container.name != PACKER {
                self.add_variables(container);
            }
            if self.authorities.is_some() {
                container.volume_mounts.get_or_insert_default().push(mount(VOLUME, FOLDER, true));
            }
        }
    }
}

/// Link-local services of AWS (instance metadata, Pod Identity). The agent never uses a proxy for them; other programs
/// need them in NO_PROXY.
const NEAR: [&str; 5] =
    ["169.254.169.254", "169.254.170.2", "169.254.170.23", "fd00:ec2::23", "fd00:ec2::254"];

/// The proxy variables, in upper and lower case, because programs differ. A proxy whose address contains credentials is
/// left out: they are a secret of the agent.
fn variables(proxies: &Proxies) -> Vec<(String, String)> {
    let open =
        |proxy: Option<&Proxy>| proxy.filter(|proxy| !proxy.has_credentials()).map(ToString::to_string);
    let is_any = proxies.http().or(proxies.https()).is_some();
    let written = Some(proxies.no_proxy()).filter(|list| !list.is_empty());
    let no_proxy = is_any.then(|| written.into_iter().chain(NEAR).collect::<Vec<_>>().join(","));
    let named = [
        ("HTTP_PROXY", open(proxies.http())),
        ("HTTPS_PROXY", open(proxies.https())),
        ("NO_PROXY", no_proxy),
    ];
    let set = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
    set.flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_ascii_lowercase(), value)])
        .collect()
}

/// Sets a variable that a key of the container's Secret overrides, in upper or lower case: a builder may need another
/// proxy. Kubernetes uses the last of several variables with one name, and leaves out one whose key does not exist.
fn set(container: &mut Container, name: &str, value: &str) {
    // Kubernetes would expand `$(NAME)`.
    let value = Some(value.replace("$(", "$$("));
    let secrets = container.env_from.iter().flatten().filter_map(|source| source.secret_ref.as_ref());
    let secrets: Vec<String> = secrets.map(|secret| secret.name.clone()).collect();
    let env = container.env.get_or_insert_default();
    env.push(EnvVar { name: name.to_owned(), value, value_from: None });
    let keys = if name.chars().any(|letter| letter.is_ascii_lowercase()) {
        vec![name.to_ascii_uppercase(), name.to_owned()]
    } else {
        vec![name.to_ascii_lowercase(), name.to_owned()]
    };
    for secret in &secrets {
        env.extend(keys.iter().map(|key| variable_of(name, secret, key)));
    }
}

fn volume(config_map: String) -> Volume {
    let item = KeyToPath { key: FILE.to_owned(), path: FILE.to_owned(), mode: None };
    let source = ConfigMapVolumeSource {
        name: config_map,
        items: Some(vec![item]),
        ..ConfigMapVolumeSource::default()
    };
    Volume { name: VOLUME.to_owned(), config_map: Some(source), ..Volume::default() }
}

#[cfg(test)]
mod tests;
