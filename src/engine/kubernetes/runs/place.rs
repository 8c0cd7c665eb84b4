//! What is watched for runs: Jobs and pods, each in one namespace or in all. Pure.

use std::collections::BTreeSet;
use std::fmt;

use crate::engine::kubernetes::Scope;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    Jobs,
    Pods,
}

/// What one watch covers: Jobs or pods, in one namespace or in all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunPlace {
    pub resource: Resource,
    namespace: Option<String>,
}

impl RunPlace {
    /// Its namespace. `None` for all namespaces.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    pub fn covers(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|name| name == namespace)
    }
}

impl fmt::Display for RunPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{:?} of builds in namespace {namespace}", self.resource),
            None => write!(f, "{:?} of builds", self.resource),
        }
    }
}

/// All places with builds: the namespace for builds, else the watched namespaces.
pub fn places(scope: &Scope, builds: Option<&str>) -> Vec<RunPlace> {
    let own = builds.map(|name| Scope::Namespaces(vec![name.to_owned()]));
    let namespaces: Vec<Option<String>> = match own.as_ref().unwrap_or(scope) {
        Scope::All => vec![None],
        Scope::Namespaces(names) => {
            names.iter().collect::<BTreeSet<_>>().into_iter().cloned().map(Some).collect()
        }
    };
    let of = |resource| namespaces.iter().cloned().map(move |namespace| RunPlace { resource, namespace });
    [Resource::Jobs, Resource::Pods].into_iter().flat_map(of).collect()
}
