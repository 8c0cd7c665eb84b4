//! What `opsy plan` is asked for, and what follows from it: the branch that the agent reads and the name of the plan.

use std::path::PathBuf;

use crate::api::fence::Rule;
use crate::api::{Facts, Owner};
use crate::git::scratch::{Scratch, ScratchError};
use crate::settings::AddressFlags;

/// What to plan.
pub struct Request {
    /// A directory in a clone of the repository.
    pub folder: PathBuf,
    /// What is compared with; default: the tip of the branch that the agent reads, as of the last fetch.
    pub base: Option<String>,
    /// The commit to plan; default: the work tree.
    pub head: Option<String>,
    /// The repository as the agent reads it; default: the remote `origin`.
    pub repository: Option<String>,
    /// The branch that the agent reads, by its flag.
    pub branch: Option<String>,
    /// The branch that the pull request is to be merged into, if a CI job says it.
    pub target_branch: Option<String>,
    /// The directory with the manifests.
    pub path: String,
    pub agent_id: Option<Owner>,
    /// AWS is not read.
    pub is_offline: bool,
    /// The agent has published nothing yet.
    pub has_no_status: bool,
    pub addresses: AddressFlags,
    pub secrets: Option<PathBuf>,
    /// The clusters that namespaces may roll out to, as far as it is known.
    pub clusters: Vec<Rule>,
}

impl Request {
    pub(super) fn facts(&self) -> Facts {
        if self.is_offline { Facts::Recorded } else { Facts::Live }
    }

    /// The name of what is planned. It distinguishes the agents that read one repository.
    pub fn target(&self) -> String {
        let path = if self.path.is_empty() { "." } else { &self.path };
        let agent = self.agent_id.as_ref().map(|id| format!("agent {id}"));
        let branch = self.branch.as_ref().map(|branch| format!("branch {branch}"));
        match agent.into_iter().chain(branch).collect::<Vec<_>>().as_slice() {
            [] => path.to_owned(),
            which => format!("{path} ({})", which.join(", ")),
        }
    }

    /// The branch that the agent reads. The checkout of a CI job has no default branch.
    pub(super) fn branch(&self, scratch: &Scratch) -> Result<String, ScratchError> {
        let of_base = || scratch.branch_of(self.base.as_deref()?);
        let known = self.branch.clone().or_else(|| self.target_branch.clone()).or_else(of_base);
        known.or_else(|| scratch.default_branch()).ok_or(ScratchError::NoDefaultBranch)
    }
}
