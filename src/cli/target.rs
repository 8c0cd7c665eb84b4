//! The object that a command is about, `KIND/NAME`, and the requests that all commands make to a cluster.

use std::fmt;
use std::future::Future;
use std::str::FromStr;

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
    #[error("{0:?} is not a kind of Opsy: use packerbuilder (pb) or amirefresher (ar)")]
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

/// An object in messages, as kubectl writes it, with its namespace.
pub fn shown(object: &ObjectKey) -> String {
    format!("{}.{GROUP}/{}", object.kind.to_string().to_ascii_lowercase(), object.key)
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

/// Adds to a refusal what a person does about it.
pub fn refused(error: kube::Error) -> anyhow::Error {
    let refusal = Refusal::from(error);
    let install;
    let advice = match refusal.code {
        // A missing object has its name in the answer; for a missing kind, the server sends a page.
        Some(404) if !refusal.message.contains(GROUP) => {
            install = format!("; install the custom resource definitions: `{INSTALL_DEFINITIONS}`");
            install.as_str()
        }
        Some(401) => "; renew the credentials of the kubeconfig",
        None => {
            "; check that the cluster is running and can be reached (--state DIR uses a state directory instead)"
        }
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
