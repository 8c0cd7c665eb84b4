//! What a command is about: `KIND/NAME`, and the cluster it is in. Shared by all commands that work
//! through a person's kubeconfig.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;
use kube::Api;
use kube::core::{ApiResource, DynamicObject};

use crate::api::{AMIRefresher, GROUP, INSTALL_DEFINITIONS, Key, Kind, ObjectKey, PackerBuilder};
use crate::engine::kubernetes::Cluster;
use crate::engine::kubernetes::error::Refusal;

/// An object as a person names it: its namespace comes from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub kind: Kind,
    pub name: String,
}

/// Why a text names no object.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadTarget {
    #[error("{0:?} is not KIND/NAME: write it like packerbuilder/node or ar/demo")]
    Shape(String),
    #[error("{0:?} is no kind of Opsy's: packerbuilder (pb) and amirefresher (ar) are")]
    Kind(String),
}

impl FromStr for Target {
    type Err = BadTarget;

    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let shape = || BadTarget::Shape(text.to_owned());
        let (kind, name) = text.split_once('/').ok_or_else(shape)?;
        if name.is_empty() || name.contains('/') || name.contains(char::is_whitespace) {
            return Err(shape());
        }
        Ok(Self { kind: kind_of(kind)?, name: name.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl Target {
    pub fn in_namespace(&self, namespace: &str) -> ObjectKey {
        let key = Key { namespace: namespace.to_owned(), name: self.name.clone() };
        ObjectKey { kind: self.kind, key }
    }
}

/// The kind a person means: singular, plural or short, with or without the group, as kubectl takes it.
pub fn kind_of(word: &str) -> Result<Kind, BadTarget> {
    let lower = word.to_ascii_lowercase();
    let bare = lower.strip_suffix(GROUP).and_then(|rest| rest.strip_suffix('.')).unwrap_or(&lower);
    match bare {
        "pb" | "packerbuilder" | "packerbuilders" => Ok(Kind::PackerBuilder),
        "ar" | "amirefresher" | "amirefreshers" => Ok(Kind::AMIRefresher),
        _ => Err(BadTarget::Kind(word.to_owned())),
    }
}

/// Which cluster, and where in it.
#[derive(clap::Args, Clone, Debug)]
pub struct Place {
    /// Cluster to look in. Default: as kubectl, $KUBECONFIG, else ~/.kube/config, else the pod's own.
    #[arg(long, env = "OPSY_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig. Default: its current one.
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// Namespace of the object. Default: the context's own.
    #[arg(long, short, value_name = "NAME")]
    pub namespace: Option<String>,
}

impl Place {
    /// Does the command line, or being in a pod, say that a cluster is meant?
    #[expect(clippy::disallowed_methods, reason = "the variable every pod has, read where flags are")]
    pub fn is_cluster(&self) -> bool {
        let flags = self.kubeconfig.is_some() || self.context.is_some();
        flags || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
    }

    /// Connects; the cluster's namespace is the object's.
    pub async fn connect(&self) -> anyhow::Result<Cluster> {
        let (context, namespace) = (self.context.as_deref(), self.namespace.as_deref());
        Cluster::connect_as_user(self.kubeconfig.as_deref(), context, namespace)
            .await
            .context("no cluster to look in")
    }
}

/// The objects of a kind, unread: commands change annotations and read status, whatever else is in them.
pub fn objects(cluster: &Cluster, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource(kind))
}

/// The same in all namespaces.
pub fn all_objects(cluster: &Cluster, kind: Kind) -> Api<DynamicObject> {
    Api::all_with(cluster.client.clone(), &resource(kind))
}

fn resource(kind: Kind) -> ApiResource {
    match kind {
        Kind::PackerBuilder => ApiResource::erase::<PackerBuilder>(&()),
        Kind::AMIRefresher => ApiResource::erase::<AMIRefresher>(&()),
    }
}

/// What a person does about a refusal.
pub fn refused(error: kube::Error) -> anyhow::Error {
    let refusal = Refusal::from(error);
    let install;
    let advice = match refusal.code {
        // An object that is not there is told of by name; a kind that is not, by a page of the server.
        Some(404) if !refusal.message.contains(GROUP) => {
            install = format!("; are the custom resource definitions installed? Run `{INSTALL_DEFINITIONS}`");
            install.as_str()
        }
        Some(401) => "; the kubeconfig's credentials are not accepted",
        None => "; is the cluster there?",
        _ => "",
    };
    anyhow::anyhow!("{refusal}{advice}")
}

/// Runs a command that asks a cluster.
pub fn wait<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests;
