//! Opsy keeps machine images, and the nodes that run them, as a Git repository says.
//!
//! ```text
//!  Git remote ─fetch→ git ─files→ manifest (pure) ─documents→ sync ──→ agent: prune, load
//!                                                                        │
//!                                        engine: objects and status, one loop over both kinds
//!                  ┌─────────────────────────────────────────────────────┤
//!  builder: observe → plan (pure) → one step → report    refresher: observe → plan (pure) → one step → report
//!                  │ runs of Packer (engine, runner/)                     │ launch template versions, updates
//!                  └──────────────── aws ─────────────────────────────────┘
//!  Git remote ←push─ git ←one commit per batch─ publish ←files─ agent::render ←status─ engine
//! ```
//!
//! | module | what it owns | must not touch |
//! |---|---|---|
//! | [`api`] | the two kinds, ids, conditions, durations, error classes | any I/O, any other module |
//! | [`settings`] | flags, variables, `opsy.yaml` | |
//! | [`manifest`] | YAML → documents and problems; status → files | clients, clock, environment, `async` |
//! | [`git`] | the bare clone: fetch, read, verify, commit, push, templates | other edges, policy |
//! | [`aws`] | EC2, EKS, STS: calls, paging, shared answers, one error table | other edges, policy |
//! | [`engine`] | where objects and status live, where builds run, the loop; a room each for one machine and for a cluster | other edges, policy |
//! | [`announce`] | status → words for people, the same everywhere; pure | any other module but `api` |
//! | [`notify`] | who is told, where, when; one file per sink | other edges, policy |
//! | [`builder`], [`refresher`] | what to do and why, one step at a time | each other; Git but for templates |
//! | [`sync`], [`publish`] | the two Git loops | AWS, reconcilers |
//! | [`webhook`] | deliveries of push webhooks: who sent them, the proof, what was pushed | other edges, policy |
//! | [`agent`] | wiring: start, stop, who is handed what | decisions |
//! | [`cli`], [`telemetry`] | what people and machines read | decisions |
//!
//! `tests/it/map.rs` holds the sources against this table.

// They end the program when nobody reads: `telemetry::out` does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod agent;
pub mod announce;
pub mod api;
pub mod aws;
pub mod builder;
pub mod cli;
pub mod engine;
pub mod git;
pub mod manifest;
pub mod notify;
pub mod publish;
pub mod refresher;
pub mod settings;
pub mod sync;
pub mod telemetry;
pub mod webhook;
