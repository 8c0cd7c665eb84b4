//! The Git edge: a bare clone kept between syncs, reads from tree objects, commits from a fresh tip.
//!
//! ```text
//! Handle ──jobs──> network thread: mirror (compare refs, fetch) · commit (tree, commit) · push
//!    └────jobs──> reading thread: listing and blobs of a commit ─> templates (pure choice of files)
//!                                  └──> signatures of commits, which the network thread verifies before it commits
//! ```
//!
//! libgit2 blocks and cannot be cancelled, so each thread owns its own `git2::Repository` on the one
//! bare clone. Two of them, because a pass that reads a template must not wait for a slow remote.

pub mod address;
mod ancestry;
pub mod auth;
pub mod backoff;
pub mod commit;
mod error;
pub mod github_app;
mod handle;
mod heads;
pub mod ignore;
mod mirror;
mod origin;
pub mod push;
mod reader;
pub mod signatures;
pub mod sources;
mod ssh;
pub mod templates;
mod tls;
pub mod tree;
pub mod worktree;

pub use error::GitError;
pub use handle::{Handle, Options};
pub use mirror::Tip;
pub use reader::{Blob, Described};
pub use tls::trust;
pub use tree::{Entry, EntryKind, Listing};
