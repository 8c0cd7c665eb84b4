//! What the agent itself remembers: annotations of its Lease, the one object that is its own. Who works
//! next reads it there.

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use tokio::time::timeout;

use super::error::Refusal;
use super::lease::Tenure;
use super::lease::notes::MEMORY;
use super::{Cluster, MANAGER, REQUEST_LIMIT};
use crate::api::{Class, CommitId};
use crate::engine::HomeError;

/// Annotation of the Lease by which a person accepts a commit: `opsy accept` sets it.
pub const ACCEPT: &str = "ami.opsy.dev/accept";
/// Renewals come in between; two in a row are rare.
const TRIES: u32 = 5;

/// What was kept last.
pub async fn read(cluster: &Cluster, lease: &str) -> Result<Option<String>, HomeError> {
    let lease = in_time(async { Ok(leases(cluster).get_opt(lease).await?) }).await?;
    let annotations = lease.and_then(|lease| lease.metadata.annotations);
    Ok(annotations.and_then(|mut annotations| annotations.remove(MEMORY)))
}

/// The commit that a person accepts, taken off the Lease.
pub async fn take_accepted(cluster: &Cluster, tenure: &Tenure) -> Result<Option<CommitId>, HomeError> {
    let lease = in_time(async { Ok(leases(cluster).get_opt(&tenure.lease).await?) }).await?;
    let annotations = lease.and_then(|lease| lease.metadata.annotations);
    let Some(accepted) = annotations.and_then(|mut annotations| annotations.remove(ACCEPT)) else {
        return Ok(None);
    };
    write_again(cluster, tenure, (ACCEPT, None)).await?;
    let invalid =
        |error| HomeError { class: Class::Invalid, message: format!("{ACCEPT} of the Lease: {error}") };
    CommitId::parse(accepted).map(Some).map_err(invalid)
}

/// Keeps a value as an annotation, beside what the Lease says, as long as it is ours.
pub async fn keep(cluster: &Cluster, tenure: &Tenure, name: &str, value: &str) -> Result<(), HomeError> {
    write_again(cluster, tenure, (name, Some(value))).await
}

type Annotation<'a> = (&'a str, Option<&'a str>);

async fn write_again(
    cluster: &Cluster,
    tenure: &Tenure,
    annotation: Annotation<'_>,
) -> Result<(), HomeError> {
    let leases = leases(cluster);
    let mut tries = 1;
    loop {
        match in_time(write(&leases, tenure, annotation)).await {
            Err(refusal) if refusal.is_conflict() && tries < TRIES => tries += 1,
            outcome => return Ok(outcome?),
        }
    }
}

async fn write(leases: &Api<Lease>, tenure: &Tenure, (name, value): Annotation<'_>) -> Result<(), Refusal> {
    let how = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let Tenure { lease: lease_name, identity } = tenure;
    let lease = leases.get_opt(lease_name).await?;
    let held = |lease: &Lease| lease.spec.as_ref()?.holder_identity.clone();
    let mut lease = lease.filter(|lease| held(lease).as_ref() == Some(identity)).ok_or_else(not_ours)?;
    lease.metadata.managed_fields = None;
    let annotations = lease.metadata.annotations.get_or_insert_default();
    match value {
        Some(value) => annotations.insert(name.to_owned(), value.to_owned()),
        None => annotations.remove(name),
    };
    leases.replace(lease_name, &how, &lease).await?;
    Ok(())
}

fn not_ours() -> Refusal {
    refusal("the Lease is another's, or gone: nothing is kept in it")
}

async fn in_time<T>(request: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let outcome = timeout(REQUEST_LIMIT, request).await;
    outcome.unwrap_or_else(|_| Err(refusal("the API server does not answer")))
}

fn refusal(message: &str) -> Refusal {
    Refusal { class: Class::TRANSIENT, message: message.to_owned(), code: None }
}

fn leases(cluster: &Cluster) -> Api<Lease> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}
