//! The contract: the two custom resources, their conditions, and the words every other module
//! speaks (ids, error classes, durations). Nothing in here does any I/O or knows another module.

pub mod annotations;
pub mod builder;
pub mod checks;
pub mod class;
pub mod conditions;
pub mod daily;
pub mod duration;
pub mod fence;
pub mod files;
pub mod glob;
pub mod ids;
pub mod network;
pub mod notifier;
pub mod proxy;
pub mod pushed;
pub mod refresher;
pub mod schema;
pub mod status;
pub mod steady;
pub mod undeclared;

/// API group of both kinds.
pub const GROUP: &str = "ami.opsy.dev";
/// Installs or updates the custom resource definitions. Helm owns them after an installation by the chart, so without
/// `--force-conflicts` the API server refuses the update.
pub const INSTALL_DEFINITIONS: &str = "opsy crds | kubectl apply --server-side --force-conflicts -f -";
/// Name of the agent's Lease where nobody names another.
pub const DEFAULT_LEASE: &str = "opsy";
/// API version of both kinds.
pub const VERSION: &str = "v1alpha1";

pub use builder::{PackerBuilder, PackerBuilderSpec, PackerBuilderStatus};
pub use class::{Class, Seen};
pub use ids::{
    BuildId, ClientToken, CommitId, ImageId, Key, Kind, ObjectKey, Owner, Region, RunName, TemplateId,
};
pub use pushed::{Pushed, Pushes};
pub use refresher::{AMIRefresher, AMIRefresherSpec, AMIRefresherStatus};
pub use undeclared::{Undeclared, UndeclaredObjects};
