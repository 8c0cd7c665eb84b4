//! What the agent itself remembers: annotations of its Lease, the one object that is its own. Who works
//! next reads it there.

use std::collections::BTreeMap;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::PostParams;
use tokio::time::timeout;

use super::error::Refusal;
use super::lease::Tenure;
use super::lease::notes::{self, MEMORY, PUSHES};
use super::{Cluster, MANAGER, REQUEST_LIMIT};
use crate::api::{Class, CommitId, Pushed};
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

/// The commit that a person accepts. A value that is not a commit is removed, so that the error is reported once.
pub async fn accepted(cluster: &Cluster, tenure: &Tenure) -> Result<Option<CommitId>, HomeError> {
    let lease = in_time(async { Ok(leases(cluster).get_opt(&tenure.lease).await?) }).await?;
    let annotations = lease.and_then(|lease| lease.metadata.annotations);
    let Some(accepted) = annotations.and_then(|mut annotations| annotations.remove(ACCEPT)) else {
        return Ok(None);
    };
    match CommitId::parse(accepted.clone()) {
        Ok(commit) => Ok(Some(commit)),
        Err(error) => {
            remove_accepted(cluster, tenure, &accepted).await?;
            Err(HomeError { class: Class::Invalid, message: format!("{ACCEPT} of the Lease: {error}") })
        }
    }
}

/// Removes the request to accept a commit, unless it is for another one now.
pub async fn remove_accepted(cluster: &Cluster, tenure: &Tenure, commit: &str) -> Result<(), HomeError> {
    let remove = |annotations: &mut Annotations| {
        if annotations.get(ACCEPT).is_some_and(|accepted| accepted == commit) {
            annotations.remove(ACCEPT);
        }
    };
    write_again(cluster, tenure, &remove).await
}

/// Keeps a value as an annotation, beside what the Lease says, as long as it is ours.
pub async fn keep(cluster: &Cluster, tenure: &Tenure, name: &str, value: &str) -> Result<(), HomeError> {
    let keep = |annotations: &mut Annotations| drop(annotations.insert(name.to_owned(), value.to_owned()));
    write_again(cluster, tenure, &keep).await
}

/// Notes pushes on a Lease that another replica holds: its holder reads them when it renews the Lease next. Without a
/// Lease nothing is noted, since the first replica that works fetches anyway.
pub async fn note_pushes(
    cluster: &Cluster,
    lease: &str,
    pushes: &[Pushed],
    unique: &str,
) -> Result<(), HomeError> {
    let leases = leases(cluster);
    let mut tries = 1;
    loop {
        match in_time(add_pushes(&leases, lease, pushes, unique)).await {
            Err(refusal) if refusal.is_conflict() && tries < TRIES => tries += 1,
            outcome => return Ok(outcome?),
        }
    }
}

async fn add_pushes(leases: &Api<Lease>, name: &str, pushes: &[Pushed], unique: &str) -> Result<(), Refusal> {
    let Some(mut lease) = leases.get_opt(name).await? else { return Ok(()) };
    let mut noted = notes::pushes(&lease);
    noted.add(pushes, unique);
    lease.metadata.managed_fields = None;
    lease.metadata.annotations.get_or_insert_default().insert(PUSHES.to_owned(), noted.to_string());
    let how = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    leases.replace(name, &how, &lease).await?;
    Ok(())
}

type Annotations = BTreeMap<String, String>;
type Edit<'a> = &'a (dyn Fn(&mut Annotations) + Send + Sync);

async fn write_again(cluster: &Cluster, tenure: &Tenure, edit: Edit<'_>) -> Result<(), HomeError> {
    let leases = leases(cluster);
    let mut tries = 1;
    loop {
        match in_time(write(&leases, tenure, edit)).await {
            Err(refusal) if refusal.is_conflict() && tries < TRIES => tries += 1,
            outcome => return Ok(outcome?),
        }
    }
}

async fn write(leases: &Api<Lease>, tenure: &Tenure, edit: Edit<'_>) -> Result<(), Refusal> {
    let how = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let Tenure { lease: lease_name, identity } = tenure;
    let lease = leases.get_opt(lease_name).await?;
    let held = |lease: &Lease| lease.spec.as_ref()?.holder_identity.clone();
    let mut lease = lease.filter(|lease| held(lease).as_ref() == Some(identity)).ok_or_else(not_ours)?;
    lease.metadata.managed_fields = None;
    edit(lease.metadata.annotations.get_or_insert_default());
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
