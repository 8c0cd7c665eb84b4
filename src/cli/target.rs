//! The object `KIND/NAME` that a command acts on, and the requests that all commands make to a cluster.

use std::fmt;
use std::future::Future;
use std::str::FromStr;

use kube::Api;
use kube::core::{ApiResource, DynamicObject};

use crate::api::{AMIRefresher, GROUP, INSTALL_DEFINITIONS, Key, Kind, ObjectKey, PackerBuilder};
use crate::engine::kubernetes::Cluster;
use crate::engine::kubernetes::error::Refusal;

/// An object as the command line names it, without its namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub kind: Kind,
    pub name: String,
}

/// Why a string is not a valid target.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadTarget {
    #[error("{0:?} must be KIND/NAME, such as packerbuilder/node or ar/demo")]
    Shape(String),
    #[error("{0:?} is an unknown kind: use packerbuilder (pb) or amirefresher (ar)")]
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

/// Formats an object for messages as kubectl does, with its namespace.
pub fn shown(object: &ObjectKey) -> String {
    format!("{}.{GROUP}/{}", object.kind.to_string().to_ascii_lowercase(), object.key)
}

/// Parses a kind as kubectl does: singular, plural or short name, with or without the group; also builder and refresher.
pub fn kind_of(word: &str) -> Result<Kind, BadTarget> {
    let lower = word.to_ascii_lowercase();
    let bare = lower.strip_suffix(GROUP).and_then(|rest| rest.strip_suffix('.')).unwrap_or(&lower);
    match bare {
        "pb" | "packerbuilder" | "packerbuilders" | "builder" | "builders" => Ok(Kind::PackerBuilder),
        "ar" | "amirefresher" | "amirefreshers" | "refresher" | "refreshers" => Ok(Kind::AMIRefresher),
        _ => Err(BadTarget::Kind(word.to_owned())),
    }
}

/// Untyped access to the objects of a kind: commands change annotations and read status, whatever else the objects
/// contain.
pub fn objects(cluster: &Cluster, kind: Kind) -> Api<DynamicObject> {
    Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource(kind))
}

/// Untyped access to the objects of a kind in all namespaces.
pub fn all_objects(cluster: &Cluster, kind: Kind) -> Api<DynamicObject> {
    Api::all_with(cluster.client.clone(), &resource(kind))
}

fn resource(kind: Kind) -> ApiResource {
    match kind {
        Kind::PackerBuilder => ApiResource::erase::<PackerBuilder>(&()),
        Kind::AMIRefresher => ApiResource::erase::<AMIRefresher>(&()),
    }
}

/// An error of the API server, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{refusal}{advice}")]
struct Refused {
    refusal: Refusal,
    advice: String,
}

/// Whether the API server denied a request because of missing rights.
pub fn is_forbidden(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.refusal.code == Some(403))
}

/// Whether the same request will be refused again: the object does not exist, or a right is missing.
pub fn is_permanent(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| matches!(refused.refusal.code, Some(403 | 404)))
}

/// Adds to an error of the API server what to do about it.
pub fn refused(error: kube::Error) -> anyhow::Error {
    let refusal = Refusal::from(error);
    let install;
    let advice = match refusal.code {
        // The message about a missing kind names nothing; that about a missing object its kind and its name.
        Some(404) if !refusal.message.contains("\" not found") => {
            install = format!("; install the custom resource definitions: `{INSTALL_DEFINITIONS}`");
            install.as_str()
        }
        Some(401) => "; renew the credentials of the kubeconfig",
        None => {
            "; check that the cluster is running and can be reached (--state DIR uses a state directory instead)"
        }
        _ => "",
    };
    anyhow::Error::new(Refused { advice: advice.to_owned(), refusal })
}

/// Runs a command to its end.
pub fn wait<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests;
