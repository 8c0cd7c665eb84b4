//! Flags of the push webhook.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Flags for the receiver of push webhooks.
#[derive(Args, Clone, Debug, Default)]
pub struct WebhookFlags {
    /// Receive push webhooks of GitHub, GitLab, Gitea, Forgejo, Gogs, Bitbucket and others at `/hook` on this address,
    /// such as `[::]:8081`; default: do not receive any. Requires a secret
    #[arg(long, env = "OPSY_WEBHOOK_LISTEN", value_name = "ADDRESS")]
    pub webhook_listen: Option<SocketAddr>,
    /// Read the secret of the webhook from this file, for each delivery. During a rotation the file can have two lines,
    /// the old and the new secret. Without the flag, the variable `OPSY_WEBHOOK_SECRET` holds the secret
    #[arg(long, env = "OPSY_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    pub webhook_secret_file: Option<PathBuf>,
}
