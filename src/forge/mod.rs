//! Edge: pull requests of a forge (GitHub, GitLab, Gitea or Forgejo): one comment with the plan, a commit status, and pull
//! requests that Opsy opens itself.
//!
//! ```text
//!  variables of the CI ─connect: detect (pure), token─> Client ─ github, gitlab, gitea (pure): request <─> response
//!  Markdown of a plan ─post─> list, read, comment::decide (pure), one write, read again ─> Posted
//!  wish for a change ─propose─> list, pull_request::decide (pure), one write ─> Proposed
//! ```
//!
//! A forge is described without a client: each of `github`, `gitlab` and `gitea` turns a wish into a request, and a
//! response into the types of `contract`. `client` sends all of them, reads pages, waits for rate limits within its
//! patience, and turns refusals into errors that name the missing right.
//!
//! The address of a forge comes from a flag or from the CI, so from the person who runs Opsy. It may be private, because
//! forges of companies are, and must not be link-local or a metadata service (`resolve`), because the token is sent to
//! it. Redirects are not followed, and pages only on the same server.

mod client;
pub mod comment;
mod connect;
mod contract;
mod detect;
mod error;
mod gitea;
mod github;
mod gitlab;
mod http;
mod origin;
mod place;
mod post;
mod propose;
pub mod pull_request;
mod shape;
mod status;
mod text;
mod token;

pub use client::Client;
pub use comment::Marker;
pub use connect::connect;
pub use contract::{Author, Comment, PullRequest};
pub use detect::{Detected, Flags, detect, target_branch};
pub use error::ForgeError;
pub use origin::{is_same_host, place_of};
pub use place::{Address, Place};
pub use post::{Done, Post, Posted, post};
pub use propose::{Proposed, close_former, propose, propose_after};
pub use status::{State, Status};
pub use token::{Source, Token, find as find_token};

#[cfg(test)]
mod tests;
