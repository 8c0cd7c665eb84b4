//! Flags for the cluster: the engine, the namespaces, the images of build pods, and the Lease.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::duration;
use crate::api::DEFAULT_LEASE;
use crate::api::checks::{is_label, is_object_name};

/// The default Packer image. It has an exact version, because it has access to the credentials of builds. A digest in
/// `--packer-image` pins it completely.
const PACKER_IMAGE: &str = "hashicorp/packer:1.11.2";
/// The Lease is renewed after each third of its duration, and a request can take a second.
const SHORTEST_LEASE: Duration = Duration::from_secs(3);

/// Where objects are stored and builds run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// Use kubernetes in a pod or with --kubeconfig, else standalone
    Auto,
    /// Store objects in a state directory and run builds as processes
    Standalone,
    /// Store objects as custom resources and run builds as Jobs
    Kubernetes,
}

/// Flags for the access to the cluster.
#[derive(Args, Clone, Debug)]
pub struct ClusterFlags {
    /// Select where objects are stored and builds run
    #[arg(long, env = "OPSY_ENGINE", value_enum, default_value = "auto")]
    pub engine: EngineChoice,
    /// Use the cluster of this kubeconfig instead of the cluster of the pod; with --engine kubernetes outside of a pod, the
    /// default is the kubeconfig of kubectl
    #[arg(long, env = "OPSY_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Manage the objects of these namespaces; `*` means all; default: the namespace of the agent
    #[arg(long, env = "OPSY_NAMESPACES", value_delimiter = ',', value_name = "NAME,…")]
    pub namespaces: Vec<String>,
    /// Use this image, which contains `/opsy-runner`, in build pods
    #[arg(long, env = "OPSY_RUNNER_IMAGE", value_name = "IMAGE", default_value = "")]
    pub runner_image: String,
    /// Use this Packer image for builders that do not name one
    #[arg(long, env = "OPSY_PACKER_IMAGE", value_name = "IMAGE", default_value = PACKER_IMAGE)]
    pub packer_image: String,
    /// Run builds in this namespace; default: the namespace of each builder
    #[arg(long, env = "OPSY_BUILDS_NAMESPACE", value_parser = namespace, value_name = "NAME")]
    pub builds_namespace: Option<String>,
    /// Use the Lease with this name; agents of different repositories in one namespace need different Leases
    #[arg(long, env = "OPSY_LEASE_NAME", value_name = "NAME", default_value = DEFAULT_LEASE, value_parser = object_name)]
    pub lease_name: String,
}

/// Flags for the pods of the agent and of its builds.
#[derive(Args, Clone, Debug)]
pub struct PodFlags {
    /// Pull the images of build pods with these Secrets in the namespace of the pods
    #[arg(long, env = "OPSY_IMAGE_PULL_SECRETS", value_delimiter = ',', value_parser = object_name, value_name = "NAME,…")]
    pub image_pull_secrets: Vec<String>,
    /// Refuse to run builds under this ServiceAccount, which is the agent's own; default: ask the cluster for it
    #[arg(long, env = "OPSY_SERVICE_ACCOUNT", value_parser = object_name, value_name = "NAME")]
    pub service_account: Option<String>,
    /// Never give builds these Secrets in the agent's namespace, which hold credentials of the agent
    #[arg(long, env = "OPSY_OWN_SECRETS", value_delimiter = ',', value_parser = object_name, value_name = "NAME,…")]
    pub own_secrets: Vec<String>,
    /// Record this name as the holder of the Lease; default: the host name and a random suffix
    #[arg(long, env = "OPSY_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,
    /// Roll out to the node group of this node, which is the agent's own, after all others of its wave
    #[arg(long, env = "OPSY_NODE_NAME", value_name = "NAME", value_parser = object_name)]
    pub node_name: Option<String>,
    /// Let another replica take the Lease this long after its last renewal
    #[arg(long, env = "OPSY_LEASE_DURATION", default_value = "15s", value_parser = lease_duration)]
    pub lease_duration: Duration,
}

impl ClusterFlags {
    /// Returns true if the engine is kubernetes.
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    pub fn is_kubernetes(&self) -> bool {
        match self.engine {
            EngineChoice::Kubernetes => true,
            EngineChoice::Standalone => false,
            EngineChoice::Auto => {
                self.kubeconfig.is_some() || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
            }
        }
    }
}

fn lease_duration(text: &str) -> Result<Duration, String> {
    let lease = duration(text).map_err(|error| error.to_string())?;
    match lease < SHORTEST_LEASE {
        true => Err(format!("must be at least {}s", SHORTEST_LEASE.as_secs())),
        false => Ok(lease),
    }
}

fn object_name(text: &str) -> Result<String, String> {
    match is_object_name(text) {
        true => Ok(text.to_owned()),
        false => Err("is not a valid object name".to_owned()),
    }
}

fn namespace(text: &str) -> Result<String, String> {
    match is_label(text) {
        true => Ok(text.to_owned()),
        false => Err("is not a valid namespace name".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_has_a_floor_and_names_are_names() {
        assert_eq!(lease_duration("3s"), Ok(Duration::from_secs(3)));
        for text in ["0s", "2s", "1"] {
            assert!(lease_duration(text).is_err(), "{text}");
        }
        assert!(lease_duration("0s").is_err_and(|words| words.contains("at least 3s")));
        assert!(object_name("git.credentials").is_ok() && object_name("Git").is_err());
        assert!(namespace("builds").is_ok() && namespace("a.b").is_err());
    }
}
