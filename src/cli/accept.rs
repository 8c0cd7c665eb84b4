//! `opsy accept COMMIT`: makes the agent apply a commit of a rewritten branch, or one without a trusted signature.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::annotate::MANAGER;
use super::place::{ClusterPlace, Place, PlaceFlags};
use super::target;
use crate::api::{CommitId, DEFAULT_LEASE};
use crate::engine::kubernetes::memory;
use crate::engine::standalone::requests;
use crate::telemetry::out;

#[derive(clap::Args)]
pub struct Args {
    /// Full ID of the commit, from the message of the condition (BranchRewritten or CommitNotVerified)
    #[arg(value_name = "COMMIT", value_parser = |text: &str| CommitId::parse(text))]
    commit: CommitId,
    /// Name of the agent's Lease, in the namespace of the agent (-n)
    #[arg(long, env = "OPSY_LEASE_NAME", value_name = "NAME", default_value = DEFAULT_LEASE)]
    lease_name: String,
    #[command(flatten)]
    place: PlaceFlags,
}

/// Requests acceptance of the commit. The agent reads the request at its next check of the repository.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    target::wait(async {
        let (place, later) = match args.place.find().await? {
            Place::Cluster(place) => {
                in_cluster(args, &place).await?;
                (place.to_string(), "")
            }
            Place::State(place) => {
                let written = requests::accept(&place.path, &args.commit);
                written
                    .with_context(|| format!("cannot write to the {place}; run as the user of the agent"))?;
                let later = if place.has_agent() { "" } else { "; no agent is running there" };
                (place.to_string(), later)
            }
        };
        out::line(format_args!(
            "commit {} is accepted ({place}); if the tip of the branch is this commit or descends from it, \
             the agent applies the tip at its next check of the repository{later}",
            args.commit
        ))?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn in_cluster(args: &Args, place: &ClusterPlace) -> anyhow::Result<()> {
    let cluster = &place.cluster;
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let patch = json!({ "metadata": { "annotations": { memory::ACCEPT: args.commit } } });
    let how = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let done = leases.patch(&args.lease_name, &how, &Patch::Merge(&patch)).await;
    let (namespace, lease) = (&cluster.namespace, &args.lease_name);
    match done {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => bail!(
            "no agent has its Lease {lease} in namespace {namespace} of {place}; name its namespace with -n, or its \
             Lease with --lease-name"
        ),
        Err(error) => Err(target::refused(error)).with_context(|| {
            format!(
                "the Lease {namespace}/{lease} of the agent cannot be annotated; select the namespace of the agent \
                 with -n"
            )
        }),
    }
}
