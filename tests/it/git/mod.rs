//! The Git edge and its two loops against a real smart-http server, and what others do to the same
//! repository meanwhile.

pub mod bed;
mod fetch;
mod github_app;
mod holds;
mod publish;
mod push;
mod redirects;
mod signatures;
mod sources;
pub mod ssh;
mod sync;
mod templates;
mod validate;
