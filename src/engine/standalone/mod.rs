//! The embedded default: objects straight from the manifests, status in a state directory, builds as
//! processes of their own. One agent per state directory.
//!
//! ```text
//! STATE/lock                                   held by the agent
//! STATE/objects/<Kind>/<namespace>/<name>.json generation, resourceVersion, status (fsynced)
//! STATE/asked/<Kind>/<namespace>/<name>.json   annotations by command
//! STATE/memory.json                            what the agent itself remembers
//! STATE/runs/<run>/                            one Packer run: facts.json and the runner's files
//! STATE/logs/<run>/                            the log of a run that was collected, for a while
//! STATE/clone/                                 the bare clone
//! ```

pub mod asked;
mod decoded;
pub mod disk;
pub mod environment;
mod files;
pub mod folders;
mod held;
pub mod home;
pub mod lock;
pub mod logs;
mod object;
pub mod private;
pub mod runs;
pub mod secrets;

use std::path::{Path, PathBuf};

/// Folder of the objects' state.
pub fn objects_dir(state: &Path) -> PathBuf {
    state.join("objects")
}

/// What the agent itself remembers.
pub fn memory_file(state: &Path) -> PathBuf {
    state.join("memory.json")
}

/// Whose agent this has been so far.
pub fn owner_file(state: &Path) -> PathBuf {
    state.join("owner")
}

/// Folder of the runs.
pub fn runs_dir(state: &Path) -> PathBuf {
    state.join("runs")
}

/// Folder of the logs of runs that were collected.
pub fn logs_dir(state: &Path) -> PathBuf {
    state.join("logs")
}

/// Folder of the bare clone.
pub fn clone_dir(state: &Path) -> PathBuf {
    state.join("clone")
}
