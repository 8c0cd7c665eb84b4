//! Flags for the forge on which the agent opens pull requests. They are not in `opsy.yaml`: the token is sent to the
//! address, and anyone who can push could change it there.

use std::path::PathBuf;

use clap::Args;

/// Flags for pull requests of the agent (`publish.mode: PullRequest` in `opsy.yaml`).
#[derive(Args, Clone, Debug, Default)]
pub struct ForgeFlags {
    /// Open pull requests on this kind of Git host: github, gitlab, gitea or forgejo; default: known from the host of
    /// the repository for public services
    #[arg(long, env = "OPSY_FORGE", value_name = "HOST")]
    pub forge: Option<String>,
    /// Use the API of the Git host at this address; default: that on the host of the repository
    #[arg(long, env = "OPSY_FORGE_API", value_name = "URL")]
    pub forge_api: Option<String>,
    /// Open pull requests in this repository; default: the path of the repository address
    #[arg(long, env = "OPSY_FORGE_REPOSITORY", value_name = "OWNER/NAME")]
    pub forge_repository: Option<String>,
    /// Read the token for pull requests from this file, each time it is used; default: the variable OPSY_FORGE_TOKEN,
    /// else the credentials of the repository over HTTPS
    #[arg(long, env = "OPSY_FORGE_TOKEN_FILE", value_name = "FILE")]
    pub forge_token_file: Option<PathBuf>,
}
