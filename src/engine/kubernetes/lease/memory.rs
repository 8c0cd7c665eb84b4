//! The agent's own state, saved as annotations of its Lease: the one object that belongs to the agent itself. The next
//! holder of the Lease reads it there.

use std::collections::BTreeMap;

use k8s_openapi::Resource as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Api;
use kube::api::PostParams;
use tokio::time::timeout;

use super::Tenure;
use super::notes::{self, MEMORY, PUSHES};
use crate::api::{CommitId, Pushed};
use crate::engine::EngineError;
use crate::engine::kubernetes::error::Refusal;
use crate::engine::kubernetes::{Cluster, MANAGER, REQUEST_LIMIT};

/// Annotation of the Lease by which a person accepts a commit. `opsy accept` sets it.
pub const ACCEPT: &str = "ami.opsy.dev/accept";
/// Attempts of one write. A renewal of the Lease may come in between; more than one in a row is rare.
const TRIES: u32 = 5;

/// A Lease that exists.
pub struct Found {
    /// The state that was saved last.
    pub memory: Option<String>,
}

/// The Lease with the state that was saved last; `None` if there is no such Lease.
pub async fn find(cluster: &Cluster, lease: &str) -> Result<Option<Found>, Refusal> {
    let lease = in_time(async { Ok(leases(cluster).get_opt(lease).await?) }).await?;
    let memory = |lease: Lease| lease.metadata.annotations?.remove(MEMORY);
    Ok(lease.map(|lease| Found { memory: memory(lease) }))
}

/// The state that was saved last.
pub async fn read(cluster: &Cluster, lease: &str) -> Result<Option<String>, EngineError> {
    Ok(find(cluster, lease).await?.and_then(|found| found.memory))
}

/// The Lease as Events name it. `kubectl describe` shows only Events with its UID; without a response of the API server
/// there is none.
pub async fn reference(cluster: &Cluster, lease: &str) -> ObjectReference {
    let found = in_time(async { Ok(leases(cluster).get_opt(lease).await?) }).await.ok().flatten();
    ObjectReference {
        api_version: Some(Lease::API_VERSION.to_owned()),
        kind: Some(Lease::KIND.to_owned()),
        name: Some(lease.to_owned()),
        namespace: Some(cluster.namespace.clone()),
        uid: found.and_then(|lease| lease.metadata.uid),
        ..ObjectReference::default()
    }
}

/// The commit that a person accepted. A value that is not a commit ID is removed, so that the error is reported once.
pub async fn accepted(cluster: &Cluster, tenure: &Tenure) -> Result<Option<CommitId>, EngineError> {
    let lease = in_time(async { Ok(leases(cluster).get_opt(&tenure.lease).await?) }).await?;
    let annotations = lease.and_then(|lease| lease.metadata.annotations);
    let Some(accepted) = annotations.and_then(|mut annotations| annotations.remove(ACCEPT)) else {
        return Ok(None);
    };
    match CommitId::parse(accepted.clone()) {
        Ok(commit) => Ok(Some(commit)),
        Err(error) => {
            remove_accepted(cluster, tenure, &accepted).await?;
            Err(EngineError::invalid(format!("{ACCEPT} of the Lease: {error}")))
        }
    }
}

/// Removes the request to accept a commit, unless it names another one by now.
pub async fn remove_accepted(cluster: &Cluster, tenure: &Tenure, commit: &str) -> Result<(), EngineError> {
    let remove = |annotations: &mut Annotations| {
        if annotations.get(ACCEPT).is_some_and(|accepted| accepted == commit) {
            annotations.remove(ACCEPT);
        }
    };
    update(cluster, tenure, &remove).await
}

/// Saves a value as an annotation of the Lease, if this replica holds it.
pub async fn save(cluster: &Cluster, tenure: &Tenure, name: &str, value: &str) -> Result<(), EngineError> {
    let insert = |annotations: &mut Annotations| drop(annotations.insert(name.to_owned(), value.to_owned()));
    update(cluster, tenure, &insert).await
}

/// Records pushes on a Lease that another replica holds. The holder reads them at its next renewal. Without a Lease
/// nothing is recorded: the first replica that acquires it fetches anyway.
pub async fn note_pushes(
    cluster: &Cluster,
    lease: &str,
    pushes: &[Pushed],
    unique: &str,
) -> Result<(), EngineError> {
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

/// Edits the annotations. A write that loses against a renewal is repeated.
async fn update(cluster: &Cluster, tenure: &Tenure, edit: Edit<'_>) -> Result<(), EngineError> {
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
    let holder = |lease: &Lease| lease.spec.as_ref()?.holder_identity.clone();
    // Another holder has its own state, which must not be overwritten.
    let mut lease = lease.filter(|lease| holder(lease).as_ref() == Some(identity)).ok_or_else(not_held)?;
    // Left out, they are maintained by the server.
    lease.metadata.managed_fields = None;
    edit(lease.metadata.annotations.get_or_insert_default());
    leases.replace(lease_name, &how, &lease).await?;
    Ok(())
}

fn not_held() -> Refusal {
    Refusal::without_response("nothing is saved: another replica holds the Lease, or it was deleted")
}

async fn in_time<T>(request: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let outcome = timeout(REQUEST_LIMIT, request).await;
    outcome.unwrap_or_else(|_| Err(Refusal::without_response("the API server does not respond")))
}

fn leases(cluster: &Cluster) -> Api<Lease> {
    Api::namespaced(cluster.client.clone(), &cluster.namespace)
}
