//! How builds run in this cluster, whatever a builder says. Pure; part of the Job.

use std::collections::BTreeSet;

use super::network::PodNetwork;
use crate::api::Key;

/// Images of the pod where a builder names none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunImages {
    /// Has `/opsy-runner`.
    pub runner: String,
    /// Has Packer.
    pub packer: String,
}

/// What is the agent's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The ServiceAccount that the agent has, if it has one and knows it.
    pub account: Option<Key>,
    /// Secrets with credentials of the agent.
    pub secrets: BTreeSet<Key>,
}

/// What the flags say about builds, and what the agent knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    pub images: RunImages,
    /// Secrets that every build pulls its images with.
    pub pull_secrets: Vec<String>,
    /// Namespace of all builds, if it is not that of their builders.
    pub namespace: Option<String>,
    pub own: Own,
    pub network: PodNetwork,
}

impl Setup {
    /// The namespace a builder's runs are in.
    pub fn namespace_of<'a>(&'a self, builder: &'a Key) -> &'a str {
        self.namespace.as_deref().unwrap_or(&builder.namespace)
    }

    /// Do a builder's runs have another namespace than the builder?
    pub fn is_elsewhere(&self, builder: &Key) -> bool {
        self.namespace_of(builder) != builder.namespace
    }
}

impl From<RunImages> for Setup {
    fn from(images: RunImages) -> Self {
        Self { images, ..Self::default() }
    }
}
