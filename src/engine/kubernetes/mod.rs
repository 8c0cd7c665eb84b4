//! The engine of a cluster: custom resources, Jobs, one Lease.
//!
//! ```text
//! lease     one agent at a time, and what is annotated on the Lease
//! objects   custom resources: apply the loaded commit, watch, write status, publish Events   (`Home`)
//! runs      builds as Jobs: start, watch Jobs and pods, read results                         (`Runs`)
//!   job     from a request to a Job and its ConfigMap (pure)
//!   pod     from a Job and its pod to a `Run` (pure)
//! nodes     nodes, the pods on them, and PodDisruptionBudgets                                (`Nodes`)
//! cluster, send, watching, secrets, account, error   the connection and what both halves need of it
//! access    what the agent may do, and which definitions are installed, for `opsy check`
//! ```
//!
//! This file contains the names that all parts agree on: labels, annotations, the finalizer.

pub mod access;
pub mod account;
mod cluster;
pub mod error;
pub mod job;
pub mod lease;
pub mod nodes;
pub mod objects;
pub mod pod;
pub mod runs;
mod secrets;
mod send;
mod watching;

use std::time::Duration;

pub use cluster::{Access, Cluster, ConnectError, Scope, has_kubeconfig};
pub use lease::memory;
pub use objects::applies_annotation;

/// Field manager of everything that is applied.
pub const MANAGER: &str = "opsy";
/// Label of everything that the agent creates or applies.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "opsy");
/// Label: the owner. The agent changes nothing of another owner.
pub const OWNER: &str = "ami.opsy.dev/owner";
/// Label of Jobs, their pods and ConfigMaps: the builder's name, shortened if it is too long for a label.
pub const BUILDER: &str = "ami.opsy.dev/builder";
/// Label of Jobs, their pods and ConfigMaps: the run's name.
pub const RUN: &str = "ami.opsy.dev/run";
/// Annotation of Jobs: `RunFacts`.
pub const FACTS: &str = "ami.opsy.dev/facts";
/// Annotation of Jobs: why the Job was stopped, and what it was waiting for until then.
pub const STOP: &str = "ami.opsy.dev/stop";
/// Label of ServiceAccounts and Secrets that builds may use, required if several namespaces share the agent or the
/// builds' namespace.
pub const BUILD_LABEL: &str = "ami.opsy.dev/build";
/// Annotation of ServiceAccounts and Secrets in a namespace that runs builds of other namespaces: a comma-separated
/// list of the namespaces whose builders may use them.
pub const BUILD_FOR: &str = "ami.opsy.dev/build-for";
/// Finalizer of a builder while one of its runs is live.
pub const FINALIZER: &str = "ami.opsy.dev/run";
/// Timeout of all requests but watches, so that an API server that hangs blocks nothing forever.
pub const REQUEST_LIMIT: Duration = Duration::from_secs(30);
