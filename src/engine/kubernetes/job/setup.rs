//! Settings of all builds in this cluster, part of the Job. Pure.

use std::collections::BTreeSet;

use super::network::PodNetwork;
use crate::api::Key;

/// Container images of the pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunImages {
    /// Image with `/opsy-runner`.
    pub runner: String,
    /// Image with Packer, for builders that name none.
    pub packer: String,
}

/// What belongs to the agent itself, and may not be used by builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The agent's ServiceAccount, if known.
    pub account: Option<Key>,
    /// Secrets with credentials of the agent.
    pub secrets: BTreeSet<Key>,
}

/// The flags about builds, and what the agent knows about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    pub images: RunImages,
    /// Pull secrets of every build.
    pub pull_secrets: Vec<String>,
    /// Namespace of all builds. By default, builds run in the namespace of their builder.
    pub namespace: Option<String>,
    pub own: Own,
    pub network: PodNetwork,
}

impl Setup {
    /// The namespace of a builder's runs.
    pub fn namespace_of<'a>(&'a self, builder: &'a Key) -> &'a str {
        self.namespace.as_deref().unwrap_or(&builder.namespace)
    }

    /// Whether a builder's runs are in another namespace than the builder.
    pub fn is_elsewhere(&self, builder: &Key) -> bool {
        self.namespace_of(builder) != builder.namespace
    }
}

impl From<RunImages> for Setup {
    fn from(images: RunImages) -> Self {
        Self { images, ..Self::default() }
    }
}
