//! Resource requests and limits of a build's containers, part of the Job. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::builder::{self as api, PodSettings};

/// Packer and its plugins need some 200 MiB; provisioners that run in the pod, like Ansible, need more.
const REQUESTS: [(&str, &str); 3] = [("cpu", "100m"), ("memory", "512Mi"), (STORAGE, "1Gi")];
const MEMORY: &str = "memory";
const MEMORY_LIMIT: &str = "2Gi";
const STORAGE: &str = "ephemeral-storage";
/// Plugins and a checkout need hundreds of megabytes; templates that build disk images in the pod need gigabytes.
const STORAGE_LIMIT: &str = "10Gi";

/// The builder's resources, with defaults only for resources that it does not mention.
pub fn resources(settings: &PodSettings) -> ResourceRequirements {
    let written = settings.resources.clone().unwrap_or_default();
    let mut requests = quantities(written.requests);
    let mut limits = quantities(written.limits);
    // A default request above the builder's limit, or a default limit below its request, would be invalid.
    let unset = |name: &str, requests: &Quantities, limits: &Quantities| {
        !requests.contains_key(name) && !limits.contains_key(name)
    };
    let limit_memory = unset(MEMORY, &requests, &limits);
    for (name, quantity) in REQUESTS {
        if unset(name, &requests, &limits) {
            requests.insert(name.to_owned(), Quantity(quantity.to_owned()));
        }
    }
    if limit_memory {
        limits.insert(MEMORY.to_owned(), Quantity(MEMORY_LIMIT.to_owned()));
    }
    ResourceRequirements { requests: Some(requests), limits: Some(limits), claims: None }
}

type Quantities = BTreeMap<String, Quantity>;

fn quantities(written: Option<BTreeMap<String, api::Quantity>>) -> Quantities {
    written.into_iter().flatten().map(|(name, quantity)| (name, Quantity(quantity.0))).collect()
}

/// Size limit of the run's directory: the builder's limit of ephemeral storage, if it sets one.
pub fn run_size(settings: &PodSettings) -> Quantity {
    let limits = settings.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let written = limits.and_then(|limits| limits.get(STORAGE)).map(|quantity| quantity.0.clone());
    Quantity(written.unwrap_or_else(|| STORAGE_LIMIT.to_owned()))
}
