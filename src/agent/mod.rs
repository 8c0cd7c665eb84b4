//! The agent: wiring alone. It makes the parts, connects them, and starts and stops them in order; it decides nothing
//! about images, nodes or the repository.
//!
//! ```text
//! flags ─> inputs ─> endpoints ─> engine (standalone | kubernetes) ─> syncing: sync, loader
//!                                    └─> sources, notifications, publishing, metrics, reconcilers, repository
//! check: what all of it needs, without starting it
//! start: makes all of it          once, run: sync until nothing is left, or until a signal; then end in order
//! ```

mod accept;
pub mod check;
mod clock;
mod endpoints;
mod engine;
pub mod forge;
mod inputs;
mod kubernetes;
pub mod memory;
mod metrics;
mod notifications;
mod once;
pub mod planning;
mod publishing;
mod pushes;
mod reconcilers;
mod run;
mod running;
mod saving_reader;
mod signals;
pub mod signing;
pub mod sources;
mod specs;
mod standalone;
mod start;
mod syncing;
pub mod template_clones;
mod templates;

use std::sync::Arc;
use std::time::Duration;

use crate::engine::Runs;
use crate::engine::objects::Objects;
use crate::git::Handle;
use crate::sync::Sync;
use crate::webhook::Inbox;
pub use clock::now;
use running::Running;
pub use signals::Signals;
pub use specs::spec_problems;

/// An agent whose parts are started, except the sync.
pub struct Agent {
    sync: Sync,
    interval: Duration,
    /// Reported pushes, and the clone of the agent's own repository.
    inbox: Inbox,
    git: Handle,
    running: Running,
}

impl Agent {
    /// The objects and their runs, to show progress.
    pub fn parts(&self) -> (Arc<Objects>, Arc<dyn Runs>) {
        (self.running.objects.clone(), self.running.runs.clone())
    }
}
