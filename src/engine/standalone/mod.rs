//! The engine of one machine, the embedded default: objects read from the manifests, status in a state directory,
//! builds as processes. There is one agent per state directory.
//!
//! ```text
//! STATE/lock                                   held by the agent
//! STATE/objects/<Kind>/<namespace>/<name>.json generation, resourceVersion, status (fsynced)
//! STATE/asked/<Kind>/<namespace>/<name>.json   annotations set by command
//! STATE/memory.json                            the agent's memory
//! STATE/owner                                  the owner that the agent works as
//! STATE/runs/<run>/                            one Packer run: facts.json and the runner's files
//! STATE/logs/<run>/                            the log of an ended run, for a while
//! STATE/clone/                                 the bare clone
//! STATE/manifests.cache                        what was parsed of manifests; it may be deleted
//! ```
//!
//! `home` (with `entry`, `object`, `stored`, `stored_text`, `requests`, `files`) implements `Home`, `runs` (with `folders`, `logs`,
//! `environment`) implements `Runs`. `secrets`, `lock`, `private` and `disk` (with `whole`) serve both, and `packer` is for `opsy check`.
//! `lock` and `manifest_cache` are used in a cluster, too.

pub mod disk;
mod entry;
pub mod environment;
mod files;
pub mod folders;
pub mod home;
pub mod lock;
pub mod logs;
pub mod manifest_cache;
mod object;
pub mod packer;
pub mod private;
pub mod requests;
mod run_list;
pub mod runs;
pub mod secrets;
mod stored;
mod stored_text;
mod whole;

use std::path::{Path, PathBuf};

/// Directory of the objects' state.
pub fn objects_dir(state: &Path) -> PathBuf {
    state.join("objects")
}

/// File of the agent's memory.
pub fn memory_file(state: &Path) -> PathBuf {
    state.join("memory.json")
}

/// File with the owner that the agent has worked as.
pub fn owner_file(state: &Path) -> PathBuf {
    state.join("owner")
}

/// Directory of the runs.
pub fn runs_dir(state: &Path) -> PathBuf {
    state.join("runs")
}

/// Directory of the logs of ended runs.
pub fn logs_dir(state: &Path) -> PathBuf {
    state.join("logs")
}

/// Directory of the bare clone.
pub fn clone_dir(state: &Path) -> PathBuf {
    state.join("clone")
}
