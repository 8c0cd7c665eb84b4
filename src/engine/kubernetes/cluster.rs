//! The connection to a cluster, and the namespaces that the agent watches in it.

mod kubeconfig;
mod network;

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};

use super::REQUEST_LIMIT;
use super::error::{self, Refusal};
use crate::api::network::Network;
use crate::api::{DEFAULT_LEASE, Owner};
pub use kubeconfig::has_kubeconfig;

/// kube asks the API server to end each watch after 290 s, and then renews it. A connection without data for longer is
/// broken.
const WATCH_LIMIT: Duration = Duration::from_secs(320);

/// A connection and its namespaces.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    /// The agent's own namespace, which contains its Lease.
    pub namespace: String,
    pub scope: Scope,
}

/// The namespaces whose custom resources are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    Namespaces(Vec<String>),
}

impl Scope {
    /// Whether more than one namespace is watched.
    pub fn is_several(&self) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(names) => names.iter().any(|name| Some(name) != names.first()),
        }
    }

    pub fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespaces(names) => names.iter().any(|name| name == namespace),
        }
    }
}

/// What a person connects with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// The credentials of the pod.
    Pod,
    /// A kubeconfig, else that of kubectl, and one of its contexts, else the current one.
    Kubeconfig { file: Option<PathBuf>, context: Option<String> },
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    #[error("the credentials of the pod cannot be used: {0}")]
    Pod(#[from] kube::config::InClusterError),
    #[error("not in a pod, and the kubeconfig of kubectl cannot be used ({0}); name one with --kubeconfig")]
    NotInCluster(KubeconfigError),
    #[error("{0}")]
    Proxy(String),
    #[error("the Kubernetes client cannot be created: {}", error::chain(.0))]
    Client(kube::Error),
}

impl Cluster {
    /// Connects with a kubeconfig, else with the credentials of the pod, else with the kubeconfig of kubectl. No
    /// namespaces means the agent's own; `*` means all.
    pub async fn connect(
        kubeconfig: Option<&Path>,
        namespaces: &[String],
        network: &Network,
    ) -> Result<Self, ConnectError> {
        let (mut config, proxy) = match (kubeconfig, Config::incluster()) {
            (None, Ok(config)) => (config, None),
            (path, _) => {
                let file = match path {
                    Some(path) => Kubeconfig::read_from(path)?,
                    None => kubeconfig::read().map_err(ConnectError::NotInCluster)?,
                };
                with_kubeconfig(file, &KubeConfigOptions::default()).await?
            }
        };
        network::prepare(&mut config, proxy, network)?;
        config.connect_timeout = Some(REQUEST_LIMIT);
        config.read_timeout = Some(WATCH_LIMIT);
        let namespace = config.default_namespace.clone();
        let scope = match namespaces {
            [] => Scope::Namespaces(vec![namespace.clone()]),
            names if names.iter().any(|name| name == "*") => Scope::All,
            names => Scope::Namespaces(names.to_vec()),
        };
        let client = Client::try_from(config).map_err(ConnectError::Client)?;
        Ok(Self { client, namespace, scope })
    }

    /// Connects for a command: with exactly this access, and in `namespace`, else in the context's own. Also returns the
    /// cluster's name for people.
    pub async fn connect_as_user(
        access: &Access,
        namespace: Option<&str>,
        network: &Network,
    ) -> Result<(Self, String), ConnectError> {
        let (mut config, proxy, context) = match access {
            Access::Pod => (Config::incluster()?, None, None),
            Access::Kubeconfig { file, context } => {
                let file = file.as_ref().map_or_else(kubeconfig::read, Kubeconfig::read_from)?;
                let options = KubeConfigOptions { context: context.clone(), ..Default::default() };
                let context = context.clone().or_else(|| file.current_context.clone());
                let (config, proxy) = with_kubeconfig(file, &options).await?;
                (config, proxy, context)
            }
        };
        network::prepare(&mut config, proxy, network)?;
        config.connect_timeout = Some(REQUEST_LIMIT);
        let server = config.cluster_url.to_string();
        let server = server.trim_end_matches('/');
        let name =
            context.map_or_else(|| server.to_owned(), |context| format!("{server}, context {context}"));
        let namespace = namespace.map_or_else(|| config.default_namespace.clone(), str::to_owned);
        let client = Client::try_from(config).map_err(ConnectError::Client)?;
        Ok((Self { client, scope: Scope::Namespaces(vec![namespace.clone()]), namespace }, name))
    }

    /// The default owner: a hash of the cluster, the agent's namespace and, if it is not the default one, the name of
    /// the Lease.
    pub async fn owner(&self, lease: &str) -> Result<Owner, Refusal> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        // The UID of this namespace is the customary identity of a cluster.
        let system = namespaces.get_metadata("kube-system").await?;
        let uid = system.metadata.uid.unwrap_or_default();
        let lease = Some(lease).filter(|lease| *lease != DEFAULT_LEASE);
        let parts: Vec<&str> = [uid.as_str(), &self.namespace].into_iter().chain(lease).collect();
        let digest = crate::api::ids::digest(&parts);
        Ok(Owner::parse(&digest[..16]).expect("hex digits are an owner"))
    }
}

/// The configuration of a context, and its proxy.
async fn with_kubeconfig(
    mut file: Kubeconfig,
    options: &KubeConfigOptions,
) -> Result<(Config, Option<String>), KubeconfigError> {
    let proxy = network::take_proxy(&mut file, options.context.as_deref());
    Ok((Config::from_custom_kubeconfig(file, options).await?, proxy))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error of a connection with this kubeconfig and context.
    async fn refused(file: &Path, context: Option<&str>) -> String {
        let access = Access::Kubeconfig { file: Some(file.to_owned()), context: context.map(str::to_owned) };
        let connected = Cluster::connect_as_user(&access, None, &Network::default()).await;
        connected.map(|(_, name)| name).expect_err("it cannot be used").to_string()
    }

    #[tokio::test]
    async fn a_kubeconfig_or_a_context_that_cannot_be_used_selects_no_other_cluster() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = refused(&dir.path().join("missing"), None).await;
        assert!(missing.starts_with("the kubeconfig cannot be used"), "{missing}");
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "apiVersion: v1\nkind: Config\n").expect("written");
        let context = refused(&empty, Some("prod-eu")).await;
        assert!(context.contains("prod-eu"), "{context}");
    }
}
