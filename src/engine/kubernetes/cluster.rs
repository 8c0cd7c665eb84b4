//! The connection to a cluster, and the namespaces that the agent watches in it.

mod network;

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};

use super::REQUEST_LIMIT;
use super::error::{self, Refusal};
use crate::api::network::Network;
use crate::api::{DEFAULT_LEASE, Owner};

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

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
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
                    None => Kubeconfig::read().map_err(ConnectError::NotInCluster)?,
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

    /// Connects as kubectl does, for the commands: with the person's kubeconfig, else with the credentials of the pod,
    /// and in `namespace`, else in the context's own. Also returns the cluster's name for people.
    pub async fn connect_as_user(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
        namespace: Option<&str>,
        network: &Network,
    ) -> Result<(Self, String), ConnectError> {
        let options = KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
        let file = kubeconfig.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
        let mut context = None;
        let (mut config, proxy) = match file {
            Ok(file) => {
                context = options.context.clone().or_else(|| file.current_context.clone());
                with_kubeconfig(file, &options).await?
            }
            Err(error) => (Config::incluster().map_err(|_| ConnectError::Kubeconfig(error))?, None),
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

/// Whether kubectl has a cluster by default. An unreadable kubeconfig counts: the error of the connection explains it.
pub fn has_kubeconfig() -> bool {
    match Kubeconfig::read() {
        Ok(file) => file.current_context.is_some_and(|context| !context.is_empty()),
        Err(KubeconfigError::FindPath) => false,
        Err(KubeconfigError::ReadConfig(error, _)) => error.kind() != ErrorKind::NotFound,
        Err(_) => true,
    }
}
