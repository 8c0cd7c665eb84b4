//! What the agent itself remembers: an annotation of its Lease, the one object that is its own. Who works
//! next reads it there.

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;

use super::error::Refusal;
use super::{Cluster, MANAGER, lease};
use crate::api::Class;
use crate::engine::HomeError;

/// Annotation of the Lease.
const MEMORY: &str = "ami.opsy.dev/memory";
/// Renewals come in between; two in a row are rare.
const TRIES: u32 = 5;

/// What was kept last.
pub async fn read(cluster: &Cluster) -> Result<Option<String>, HomeError> {
    let lease = leases(cluster).get_opt(lease::NAME).await.map_err(Refusal::from)?;
    let annotations = lease.and_then(|lease| lease.metadata.annotations);
    Ok(annotations.and_then(|mut annotations| annotations.remove(MEMORY)))
}

/// Keeps it, beside what the Lease says.
pub async fn keep(cluster: &Cluster, memory: &str) -> Result<(), HomeError> {
    let leases = leases(cluster);
    let mut tries = 1;
    loop {
        match write(&leases, memory).await {
            Err(refusal) if refusal.is_conflict() && tries < TRIES => tries += 1,
            outcome => return Ok(outcome?),
        }
    }
}

async fn write(leases: &Api<Lease>, memory: &str) -> Result<(), Refusal> {
    let how = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let mut lease = leases.get_opt(lease::NAME).await?.ok_or_else(|| Refusal {
        class: Class::TRANSIENT,
        message: "the Lease is not there".to_owned(),
        code: None,
    })?;
    lease.metadata.managed_fields = None;
    let annotations = lease.metadata.annotations.get_or_insert_default();
    annotations.insert(MEMORY.to_owned(), memory.to_owned());
    leases.replace(lease::NAME, &how, &lease).await?;
    Ok(())
}

fn leases(cluster: &Cluster) -> Api<Lease> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}
