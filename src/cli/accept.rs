//! `opsy accept COMMIT`: has the agent go on from a commit although the branch was rewritten, or no trusted signer signed
//! it.

use std::process::ExitCode;

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::annotate::MANAGER;
use super::place::{ClusterPlace, Place, PlaceFlags};
use super::target;
use crate::api::{CommitId, DEFAULT_LEASE};
use crate::engine::kubernetes::memory;
use crate::engine::standalone::asked;
use crate::telemetry::out;

#[derive(clap::Args)]
pub struct Args {
    /// The full ID of the commit, as the condition BranchRewritten or CommitNotVerified names it
    #[arg(value_name = "COMMIT", value_parser = |text: &str| CommitId::parse(text))]
    commit: CommitId,
    /// Name of the agent's Lease, in the namespace of the agent (-n)
    #[arg(long, env = "OPSY_LEASE_NAME", value_name = "NAME", default_value = DEFAULT_LEASE)]
    lease_name: String,
    #[command(flatten)]
    place: PlaceFlags,
}

/// Asks the agent; it goes on when it looks at the repository next.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    target::wait(async {
        let (place, later) = match args.place.find().await? {
            Place::Cluster(place) => {
                in_cluster(args, &place).await?;
                (place.to_string(), "")
            }
            Place::State(place) => {
                let written = asked::accept(&place.path, &args.commit);
                written.with_context(|| {
                    format!("the {place} cannot be written; run as the user of the agent")
                })?;
                let later = if place.has_agent() { "" } else { "; no agent is running there" };
                (place.to_string(), later)
            }
        };
        out::line(format_args!(
            "commit {} is accepted ({place}); if the branch is at it or at a later one, the agent goes on when it \
             checks the repository next{later}",
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
    done.map(drop).map_err(target::refused).with_context(|| {
        format!(
            "the Lease {}/{} of the agent cannot be annotated; -n names the namespace of the agent",
            cluster.namespace, args.lease_name
        )
    })
}
