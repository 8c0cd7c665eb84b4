//! The checks of `opsy check`: what an agent with the same flags needs of Git, AWS, the cluster, Packer and sinks.
//! Reads only, and takes no lock or Lease, so that it can run beside the agent.
//!
//! ```text
//! git: a clone that is removed afterwards ─> objects and settings ─┬─> aws (dry runs and reads)
//!                                                                  ├─> cluster (reads and access reviews)
//!                                                                  ├─> packer
//!                                                                  └─> notifications
//! ```

mod aws;
pub mod cluster;
mod declared;
mod definitions;
mod git;
mod notifications;
mod packer;
mod rbac;
pub mod report;

use std::sync::Arc;

use super::standalone;
use crate::api::network::Network;
use crate::engine::SecretReader;
use crate::manifest::ObjectSet;
use crate::settings::{AccessFlags, EnvSecrets};
use report::{Check, Group, Report};

/// Makes all checks. One that fails does not end the others.
pub async fn check(flags: &AccessFlags, network: &Network) -> Report {
    let variables = EnvSecrets::read();
    let (mut checks, set) = git::check(flags, &variables, network).await;
    // What the manifests declare is unknown if they cannot be read. Everything else is checked all the same.
    let set = set.unwrap_or_default();
    let (of_aws, aws) = aws::check(&set, network).await;
    checks.extend(of_aws);
    let (secrets, own) = match flags.cluster.is_kubernetes() {
        true => {
            let (of_cluster, cluster) = cluster::check(flags, network, &set).await;
            checks.extend(of_cluster);
            let own = cluster.as_ref().map(|cluster| cluster.namespace.clone());
            (cluster.map(|cluster| Arc::new(cluster) as Arc<dyn SecretReader>), own)
        }
        false => (Some(Arc::new(standalone::secrets(flags, &variables)) as Arc<dyn SecretReader>), None),
    };
    checks.extend(packer::check(flags).await);
    checks.extend(match (secrets, aws) {
        (Some(secrets), Some(aws)) => notifications::check(flags, network, &set, (secrets, aws), own).await,
        _ => vec![Group::Notifications.skipped("sinks", "not checked: see the failed checks above")],
    });
    Report::of(checks)
}

/// The objects and settings of a commit.
type Set = Arc<ObjectSet>;
type Checks = Vec<Check>;
