//! The objects of a cluster: custom resources that are kept in sync with the loaded commit, and their status.
//!
//! ```text
//! commit ─load→ ledger: what differs? ─apply→ API server ─watch→ ledger, stores ─wake→ reconciles
//!                  ↑ kubectl edit, deletion, failed apply: apply again ┘
//! ```
//!
//! `home` is the entry (the trait `Home`), `shared` the state of all tasks. `ledger` decides what to send, from
//! `ownership` with `fingerprint` (what differs, who owns which field), `reverts` (does another writer interfere), `failure` (when to
//! retry) and `places` (what can be read); `apply` sends it through `client`; `watch` observes the result; `kinds`
//! decodes it.

mod apply;
mod client;
mod events;
mod explain;
mod failure;
mod fingerprint;
mod home;
mod kinds;
mod ledger;
mod ownership;
mod places;
mod reverts;
mod shared;
mod watch;

pub use home::ClusterHome;
pub use ownership::applies_annotation;
