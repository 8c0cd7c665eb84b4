//! Flags and environment, read and checked before anything is started.

use super::{signing, sources};
use crate::api::network::Network;
use crate::git::address::Address;
use crate::git::signatures::{Signers, SigningKey};
use crate::settings::{self, EnvSecrets, RunFlags};

/// What a person starts the agent with.
pub struct Inputs {
    pub flags: RunFlags,
    pub network: Network,
    pub secrets: EnvSecrets,
    pub aws_profile: Option<String>,
    pub repository: Address,
    pub signers: Option<Signers>,
    pub signing_key: Option<SigningKey>,
}

impl Inputs {
    /// Reads the environment and checks what can be checked without a connection.
    ///
    /// # Errors
    /// Which flag or variable is invalid, and why.
    pub fn read(flags: RunFlags, network: Network) -> anyhow::Result<Self> {
        let mut secrets = EnvSecrets::read();
        if let Some((name, value)) = network.build_variable() {
            // A variable that a person has set for builds wins.
            secrets.every_build.entry(name.to_owned()).or_insert(value);
        }
        let aws_profile = settings::aws_profile().map_err(anyhow::Error::msg)?;
        let repository = sources::rules(&flags.access.git.addresses)?.parse(&flags.access.repo)?;
        let (signers, signing_key) = signing::read(&flags.access.signing)?;
        Ok(Self { flags, network, secrets, aws_profile, repository, signers, signing_key })
    }
}
