//! What the containers of a build ask of a node. Pure; part of the Job.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::builder::{self as api, PodSettings};

/// Packer and its plugins take some 200 MiB; provisioners on this side, like Ansible, more.
const REQUESTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "512Mi")];
const MEMORY: &str = "memory";
const MEMORY_LIMIT: &str = "2Gi";

/// The builder's resources; the defaults only for what it says nothing about.
pub fn resources(settings: &PodSettings) -> ResourceRequirements {
    let written = settings.resources.clone().unwrap_or_default();
    let mut requests = amounts(written.requests);
    let mut limits = amounts(written.limits);
    let silent = |name: &str, requests: &Amounts, limits: &Amounts| {
        !requests.contains_key(name) && !limits.contains_key(name)
    };
    let limit_memory = silent(MEMORY, &requests, &limits);
    for (name, amount) in REQUESTS {
        if silent(name, &requests, &limits) {
            requests.insert(name.to_owned(), Quantity(amount.to_owned()));
        }
    }
    if limit_memory {
        limits.insert(MEMORY.to_owned(), Quantity(MEMORY_LIMIT.to_owned()));
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}

type Amounts = BTreeMap<String, Quantity>;

fn amounts(written: Option<BTreeMap<String, api::Quantity>>) -> Amounts {
    written.into_iter().flatten().map(|(name, amount)| (name, Quantity(amount.0))).collect()
}

/// Less than Packer asks for: init containers run before it, so they add nothing.
pub fn small() -> ResourceRequirements {
    let amounts = |all: &[(&str, &str)]| {
        all.iter().map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned()))).collect()
    };
    ResourceRequirements {
        requests: Some(amounts(&[("cpu", "50m"), ("memory", "64Mi")])),
        limits: Some(amounts(&[("memory", "512Mi")])),
        claims: None,
    }
}
