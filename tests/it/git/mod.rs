//! The Git edge and its two loops against a real smart HTTP server, while others change the same repository.

pub mod bed;
mod edits;
mod fetch;
mod github_app;
mod history;
mod holds;
mod local;
mod poll;
mod publish;
mod published;
mod push;
mod redirects;
mod signatures;
mod sources;
pub mod ssh;
mod sync;
mod templates;
mod upkeep;
mod validate;
