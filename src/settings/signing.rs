//! Flags for commit signatures: whose commits are applied, and which key signs the agent's own commits.

use std::path::PathBuf;

use clap::Args;

/// Flags for commit signatures. They are not in `opsy.yaml`, because anyone who can push could change them there.
#[derive(Args, Clone, Debug, Default)]
pub struct SigningFlags {
    /// Apply only commits that a trusted signer signed. Each path is a file, or a directory of files, with Git's
    /// allowed signers (SSH public keys) or armored OpenPGP public keys; files are read each time they are used.
    /// Default: apply every commit
    #[arg(long, env = "OPSY_VERIFY", value_delimiter = ',', value_name = "FILE,…")]
    pub verify: Vec<PathBuf>,
    /// Sign Opsy's commits with the OpenSSH private key in this file. If the file has a public key, the SSH agent
    /// that holds its private key signs. The file is read each time it is used. With --verify, its public key is
    /// trusted
    #[arg(long, env = "OPSY_SIGNING_KEY", value_name = "FILE")]
    pub signing_key: Option<PathBuf>,
    /// Read the passphrase of the signing key from this file, each time it is used
    #[arg(long, env = "OPSY_SIGNING_KEY_PASSPHRASE_FILE", value_name = "FILE", requires = "signing_key")]
    pub signing_key_passphrase_file: Option<PathBuf>,
    /// Use the SSH agent at this socket to sign, if --signing-key is a public key
    #[arg(long, env = "SSH_AUTH_SOCK", value_name = "FILE", hide_env_values = true)]
    pub signing_agent_socket: Option<PathBuf>,
}
