//! Flags for the addresses and credentials of repositories.

use std::path::PathBuf;

use clap::Args;

/// Flags for access to repositories.
#[derive(Args, Clone, Debug, Default)]
pub struct GitFlags {
    /// Log in to the repository as this user
    #[arg(long = "git-username", env = "OPSY_GIT_USERNAME", value_name = "USER")]
    pub username: Option<String>,
    /// Read the password from this file, each time it is used
    #[arg(long = "git-password-file", env = "OPSY_GIT_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Read an access token from this file, each time it is used
    #[arg(long = "git-token-file", env = "OPSY_GIT_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Use the private key in this file for SSH addresses such as user@host:path; the file is read each time it is
    /// used. Without the flag, the SSH agent is used
    #[arg(long = "git-ssh-key-file", env = "OPSY_GIT_SSH_KEY_FILE", value_name = "FILE")]
    pub ssh_key_file: Option<PathBuf>,
    /// Read the passphrase of the private key from this file
    #[arg(
        long = "git-ssh-passphrase-file",
        env = "OPSY_GIT_SSH_PASSPHRASE_FILE",
        value_name = "FILE",
        requires = "ssh_key_file"
    )]
    pub ssh_passphrase_file: Option<PathBuf>,
    /// Request access tokens as this GitHub App: its App ID or client ID
    #[arg(
        long = "github-app-id",
        env = "OPSY_GITHUB_APP_ID",
        value_name = "ID",
        requires_all = ["github_installation_id", "github_app_key_file"]
    )]
    pub github_app_id: Option<String>,
    /// Use this installation of the GitHub App: the number at the end of the URL of its page
    #[arg(
        long = "github-installation-id",
        env = "OPSY_GITHUB_INSTALLATION_ID",
        value_name = "ID",
        requires = "github_app_id"
    )]
    pub github_installation_id: Option<String>,
    /// Read the private key of the GitHub App from this file, each time a token is requested
    #[arg(
        long = "github-app-key-file",
        env = "OPSY_GITHUB_APP_KEY_FILE",
        value_name = "FILE",
        requires = "github_app_id"
    )]
    pub github_app_key_file: Option<PathBuf>,
    /// Use this API of the GitHub server: `https://<host>/api/v3` for GitHub Enterprise Server; default:
    /// `https://api.github.com`
    #[arg(
        long = "github-api-url",
        env = "OPSY_GITHUB_API_URL",
        value_name = "URL",
        requires = "github_app_id"
    )]
    pub github_api_url: Option<String>,
    #[command(flatten)]
    pub addresses: AddressFlags,
}

/// Flags that define which addresses are allowed and which servers are trusted.
#[derive(Args, Clone, Debug, Default)]
pub struct AddressFlags {
    /// Trust only the host keys in this file, in OpenSSH's format; default: ~/.ssh/known_hosts and
    /// /etc/ssh/ssh_known_hosts
    #[arg(long = "git-known-hosts", env = "OPSY_GIT_KNOWN_HOSTS", value_name = "FILE")]
    pub known_hosts: Option<PathBuf>,
    /// Replace the first prefix of a repository address with the second, like Git's insteadOf, for mirrors in closed
    /// networks. Manifests, tags and status keep the original address
    #[arg(
        long = "git-rewrite",
        env = "OPSY_GIT_REWRITE",
        value_delimiter = ',',
        value_name = "PREFIX=PREFIX,…"
    )]
    pub rewrite: Vec<String>,
    /// Allow http:// addresses on other machines. Anyone on the network path can then read the credentials and change
    /// what is built
    #[arg(long, env = "OPSY_INSECURE_HTTP")]
    pub insecure_http: bool,
}

/// The default known_hosts files of OpenSSH.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
pub fn usual_known_hosts() -> Vec<PathBuf> {
    let own = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".ssh/known_hosts"));
    own.into_iter().chain([PathBuf::from("/etc/ssh/ssh_known_hosts")]).collect()
}
