//! Flags about signatures of commits: whose commits are applied, and what the agent's own are signed with.

use std::path::PathBuf;

use clap::Args;

/// Signatures of commits. They are flags, because everyone who can push could change what the repository says.
#[derive(Args, Clone, Debug, Default)]
pub struct SigningFlags {
    /// Apply only commits that these signers signed: files, or directories of files, with Git's allowed signers (SSH
    /// public keys) or armored OpenPGP public keys, read again for each use. Default: apply every commit
    #[arg(long, env = "OPSY_VERIFY", value_delimiter = ',', value_name = "FILE,…")]
    pub verify: Vec<PathBuf>,
    /// Sign the commits of the agent with the OpenSSH private key in this file, or, if it has a public key, by the SSH
    /// agent that has its private key. The file is read each time it is used. With --verify, its public key is trusted
    #[arg(long, env = "OPSY_SIGNING_KEY", value_name = "FILE")]
    pub signing_key: Option<PathBuf>,
    /// Read the passphrase of the signing key from this file, each time it is used
    #[arg(long, env = "OPSY_SIGNING_KEY_PASSPHRASE_FILE", value_name = "FILE", requires = "signing_key")]
    pub signing_key_passphrase_file: Option<PathBuf>,
    /// Socket of the SSH agent that signs, if --signing-key is a public key
    #[arg(long, env = "SSH_AUTH_SOCK", value_name = "FILE", hide_env_values = true)]
    pub signing_agent_socket: Option<PathBuf>,
}
