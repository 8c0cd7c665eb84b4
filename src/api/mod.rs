//! The contract: the two custom resources, their conditions, and the types that all other modules share (IDs, error
//! classes, durations). Nothing in here performs I/O or depends on another module.

pub mod annotations;
pub mod approvals;
pub mod aws_codes;
pub mod backoff;
pub mod builder;
pub mod checks;
pub mod class;
pub mod conditions;
pub mod daily;
pub mod duration;
pub mod facts;
pub mod fence;
pub mod files;
pub mod filters;
pub mod git_host;
pub mod glob;
pub mod ids;
pub mod lock;
pub mod network;
pub mod notifier;
pub mod paths;
pub mod proxy;
pub mod pushed;
pub mod reasons;
pub mod refresher;
pub mod schema;
pub mod sorted;
pub mod status;
pub mod steady;
pub mod tags;
pub mod text;
pub mod time;
pub mod undeclared;
pub mod version;
pub mod words;

/// API group of both kinds.
pub const GROUP: &str = "ami.opsy.dev";
/// The command that installs or updates the custom resource definitions. After an installation with the chart, Helm
/// owns their fields, so the API server refuses the update without `--force-conflicts`.
pub const INSTALL_DEFINITIONS: &str = "opsy crds | kubectl apply --server-side --force-conflicts -f -";
/// Default name of the agent's Lease.
pub const DEFAULT_LEASE: &str = "opsy";
/// API version of both kinds.
pub const VERSION: &str = "v1alpha1";

pub use builder::{PackerBuilder, PackerBuilderSpec, PackerBuilderStatus};
pub use class::{Class, Seen};
pub use facts::{Assumption, Facts};
pub use ids::{
    BuildId, ClientToken, CommitId, ImageId, InstanceId, Key, Kind, ObjectKey, Owner, Region, RunName,
    TemplateId,
};
pub use pushed::{Pushed, Pushes};
pub use refresher::{AMIRefresher, AMIRefresherSpec, AMIRefresherStatus};
pub use undeclared::{Undeclared, UndeclaredObjects};
pub use version::ObjectVersion;
