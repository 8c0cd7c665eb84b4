//! Builds as Jobs on a real API server and, if there is a node, with real Packer in real pods.

mod agents;
mod fences;
mod git_sync;
mod jobs;
mod node;
mod outage;
mod pods;
mod refused;
mod registry;
mod rules;
mod samples;
mod trust;
mod world;

pub use world::request;
