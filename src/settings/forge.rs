//! Flags of the Git host with the pull requests: those that the agent opens, and the one that a plan is posted on. They are
//! not in `opsy.yaml`: the token is sent to the address, and anyone who can push could change it there.

use std::path::PathBuf;

use clap::Args;

use crate::api::git_host::GitHost;

/// Flags of the Git host with the pull requests.
#[derive(Args, Clone, Debug, Default)]
pub struct ForgeFlags {
    /// Use pull requests on this kind of Git host: github, gitlab, gitea or forgejo; default: that of the CI job
    /// (`opsy plan`), or known from the host of the repository for public services (`opsy run`)
    #[arg(long, env = "OPSY_FORGE", value_name = "HOST")]
    pub forge: Option<GitHost>,
    /// Use the API of the Git host at this address; default: that of the CI job (`opsy plan`), or that on the host of the
    /// repository (`opsy run`)
    #[arg(long, env = "OPSY_FORGE_API", value_name = "URL")]
    pub forge_api: Option<String>,
    /// Use pull requests of this repository; default: that of the CI job (`opsy plan`), or the path of the repository
    /// address (`opsy run`)
    #[arg(long, env = "OPSY_FORGE_REPOSITORY", value_name = "OWNER/NAME")]
    pub forge_repository: Option<String>,
    /// Read the token for pull requests from this file, each time it is used; default: the variable OPSY_FORGE_TOKEN,
    /// else that of the CI job (`opsy plan`), or the credentials of the repository over HTTPS (`opsy run`)
    #[arg(long, env = "OPSY_FORGE_TOKEN_FILE", value_name = "FILE")]
    pub forge_token_file: Option<PathBuf>,
}
