//! What the containers of a build ask of a node. Pure; part of the Job.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::builder::{self as api, PodSettings};

/// Packer and its plugins take some 200 MiB; provisioners on this side, like Ansible, more.
const REQUESTS: [(&str, &str); 3] = [("cpu", "100m"), ("memory", "512Mi"), (STORAGE, "1Gi")];
const MEMORY: &str = "memory";
const MEMORY_LIMIT: &str = "2Gi";
const STORAGE: &str = "ephemeral-storage";
/// Plugins and a checkout take hundreds of megabytes; templates that pack images on this side take gigabytes.
const STORAGE_LIMIT: &str = "10Gi";

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

/// How much a run may write to its folder: what the builder allows its container to take of a node's disk, if it says so.
pub fn run_size(settings: &PodSettings) -> Quantity {
    let limits = settings.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let written = limits.and_then(|limits| limits.get(STORAGE)).map(|amount| amount.0.clone());
    Quantity(written.unwrap_or_else(|| STORAGE_LIMIT.to_owned()))
}
