//! The Git edge: keeps a bare clone between syncs, reads from tree objects, and commits onto a freshly fetched tip.
//!
//! ```text
//! Handle ──jobs──> network thread: poll (compare the refs in use) · mirror (compare all refs, fetch) · commit (tree, commit) · push
//!    └────jobs──> reading thread: listing and blobs of a commit ─> templates (pure choice of files)
//!                                  └──> signatures of commits, which the network thread verifies before it commits
//! ```
//!
//! libgit2 blocks and cannot be cancelled, so each thread has its own `git2::Repository` for the one bare clone. There
//! are two threads, because a reconcile that reads a template must not wait for a slow remote.

pub mod address;
mod alternates;
mod ancestry;
pub mod auth;
mod authenticator;
mod blobs;
pub mod commit;
mod compact;
mod connection;
mod depth;
mod entry;
mod error;
pub mod github_app;
mod handle;
mod heads;
mod http;
pub mod ignore;
mod mirror;
mod origin;
pub mod patch;
mod poll;
pub mod proposal_branch;
pub mod push;
mod reader;
mod ref_names;
pub mod scratch;
mod secret;
pub mod signatures;
mod ssh;
pub mod templates;
mod tls;
pub mod tree;
mod upkeep;
mod worker;
pub mod worktree;

pub use depth::History;
pub use entry::{Entry, EntryKind};
pub use error::GitError;
pub use handle::{Handle, Options};
pub use http::Http;
pub use mirror::Tip;
pub use reader::{Blob, Described, describe_in};
pub use secret::Secret;
pub use tls::trust;
pub use tree::Listing;
