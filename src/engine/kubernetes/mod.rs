//! The engine of a cluster: custom resources, Jobs, one Lease.
//!
//! This file connects, and holds the words all parts agree on: labels, annotations, the finalizer.

pub mod account;
mod apply;
pub mod error;
mod events;
pub mod home;
pub mod job;
mod kinds;
pub mod lease;
mod ledger;
pub mod memory;
mod network;
mod ownership;
mod places;
pub mod pod;
mod requests;
mod reverts;
pub mod runs;
mod secrets;
mod trouble;
mod watch;

use std::io::ErrorKind;
use std::path::Path;

use k8s_openapi::api::core::v1::Namespace;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};

use crate::api::network::Network;
use crate::api::{DEFAULT_LEASE, Owner};
use error::Refusal;
pub use ownership::applies_annotation;

/// Field manager of everything that is applied.
pub const MANAGER: &str = "opsy";
/// On everything we make or apply.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "opsy");
/// Label: whose it is. Nothing of another owner is changed.
pub const OWNER: &str = "ami.opsy.dev/owner";
/// Label of Jobs, their pods and ConfigMaps: the builder's name, shortened where it is too long for one.
pub const BUILDER: &str = "ami.opsy.dev/builder";
/// Label of Jobs, their pods and ConfigMaps: the run's name.
pub const RUN: &str = "ami.opsy.dev/run";
/// Annotation of Jobs: `RunFacts`.
pub const FACTS: &str = "ami.opsy.dev/facts";
/// Annotation of Jobs: that it was asked to stop, and what it was waiting for until then.
pub const STOP: &str = "ami.opsy.dev/stop";
/// Label of ServiceAccounts and Secrets that builds may use where several namespaces share the agent or the builds'
/// namespace.
pub const BUILD_LABEL: &str = "ami.opsy.dev/build";
/// Annotation of ServiceAccounts and Secrets in a namespace where builds of others run: the namespaces whose builders may
/// use them, with commas.
pub const BUILD_FOR: &str = "ami.opsy.dev/build-for";
/// Finalizer of a builder while a run of it lives.
pub const FINALIZER: &str = "ami.opsy.dev/run";
/// Requests without a watch end within this: an API server that hangs holds up nothing for ever.
pub const REQUEST_LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// A connection, and where to work with it.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    /// The agent's own namespace: its Lease is here.
    pub namespace: String,
    pub scope: Scope,
}

/// Where custom resources are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    Namespaces(Vec<String>),
}

impl Scope {
    /// Does the agent work for more than one namespace?
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
    #[error("not in a cluster, and no --kubeconfig: {0}")]
    NotInCluster(#[from] kube::config::InClusterError),
    #[error("{0}")]
    Proxy(String),
    #[error("no client can be made: {}", error::chain(.0))]
    Client(kube::Error),
}

impl Cluster {
    /// Connects by a kubeconfig, else as a pod does. No namespaces means the agent's own; `*` means all.
    pub async fn connect(
        kubeconfig: Option<&Path>,
        namespaces: &[String],
        network: &Network,
    ) -> Result<Self, ConnectError> {
        let mut proxy = None;
        let mut config = match kubeconfig {
            Some(path) => {
                let mut file = Kubeconfig::read_from(path)?;
                proxy = network::take_proxy(&mut file, None);
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?
            }
            None => Config::incluster()?,
        };
        network::prepare(&mut config, proxy, network)?;
        config.connect_timeout = Some(REQUEST_LIMIT);
        // Watches are answered within their own five minutes; kube renews them.
        config.read_timeout = Some(std::time::Duration::from_secs(320));
        let namespace = config.default_namespace.clone();
        let scope = match namespaces {
            [] => Scope::Namespaces(vec![namespace.clone()]),
            names if names.iter().any(|name| name == "*") => Scope::All,
            names => Scope::Namespaces(names.to_vec()),
        };
        let client = Client::try_from(config).map_err(ConnectError::Client)?;
        Ok(Self { client, namespace, scope })
    }

    /// Connects as kubectl does, for a person's command: their kubeconfig, else as a pod. It works in
    /// `namespace`, else in the context's own. Returns the cluster's name for people, too.
    pub async fn connect_as_user(
        kubeconfig: Option<&Path>,
        context: Option<&str>,
        namespace: Option<&str>,
        network: &Network,
    ) -> Result<(Self, String), ConnectError> {
        let options = KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
        let file = kubeconfig.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
        let (mut context, mut proxy) = (None, None);
        let mut config = match file {
            Ok(mut file) => {
                proxy = network::take_proxy(&mut file, options.context.as_deref());
                context = options.context.clone().or_else(|| file.current_context.clone());
                Config::from_custom_kubeconfig(file, &options).await?
            }
            Err(error) => Config::incluster().map_err(|_| ConnectError::Kubeconfig(error))?,
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

    /// Owner where nobody names one: this cluster's agent in this namespace, of several there the one with this Lease.
    pub async fn owner(&self, lease: &str) -> Result<Owner, Refusal> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let system = namespaces.get_metadata("kube-system").await?;
        let uid = system.metadata.uid.unwrap_or_default();
        let lease = Some(lease).filter(|lease| *lease != DEFAULT_LEASE);
        let parts: Vec<&str> = [uid.as_str(), &self.namespace].into_iter().chain(lease).collect();
        let digest = crate::api::ids::digest(&parts);
        Ok(Owner::parse(&digest[..16]).expect("hex digits are an owner"))
    }
}

/// Does kubectl have a cluster by default? A kubeconfig that cannot be read counts: connecting explains it.
pub fn has_kubeconfig() -> bool {
    match Kubeconfig::read() {
        Ok(file) => file.current_context.is_some_and(|context| !context.is_empty()),
        Err(KubeconfigError::FindPath) => false,
        Err(KubeconfigError::ReadConfig(error, _)) => error.kind() != ErrorKind::NotFound,
        Err(_) => true,
    }
}
