//! The engine: where objects are stored, where builds run, and the one loop over both kinds of objects.
//!
//! ```text
//! kubernetes or standalone ─objects→ stores, queues (objects, feed) ─keys→ drive ─reconcile→ builder, refresher
//!                                                                            │ ↑ Pass
//!         Home: status, Events, finalizers ←─────────────────────────────────┴──→ board: health, for `--once`
//!         Runs: start, stop and read runs of Packer ←── builder
//!         Nodes: read nodes and what runs on them ←── refresher (only in a cluster)
//! ```
//!
//! Four files are the contracts: [`home`] (objects, status, Secrets, Events, the agent's memory), [`runs`] (runs of
//! Packer), [`nodes`] (nodes and their pods) and [`pass`] (what a reconcile returns). [`kubernetes`] and [`standalone`]
//! each implement the first two, and [`kubernetes`] the third.

pub mod board;
pub mod drive;
pub mod ended;
pub mod error;
mod facts;
pub mod feed;
pub mod home;
mod json_text;
pub mod kubernetes;
pub mod nodes;
pub mod objects;
pub mod packed;
pub mod pass;
pub mod runs;
pub mod standalone;
pub mod writes;

pub use error::EngineError;
pub use facts::RunFacts;
pub use home::{AgentMemory, EventRecorder, Home, Load, Owned, SecretReader, Seed, StatusUpdate, Wakes};
pub use pass::{Note, ObjectHealth, Pass, Wake};
pub use runs::{
    Artifact, Failure, GitSyncRun, PodSpec, ReportDetails, Run, RunRequest, RunState, Runs, Stop,
};
