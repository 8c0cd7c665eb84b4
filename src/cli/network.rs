//! The network of a command: the values of its flags, and which authorities libgit2 trusts.

use crate::api::network::Network;
use crate::git;
use crate::settings::NetworkFlags;

/// Reads the flags. Git trusts the same authorities as all other clients.
///
/// # Errors
/// A flag is not valid, or a file cannot be read.
///
/// # Safety
/// No other thread may be running.
pub unsafe fn read(flags: &NetworkFlags) -> anyhow::Result<Network> {
    let network = flags.read().map_err(anyhow::Error::msg)?;
    // SAFETY: the caller ensures it.
    unsafe { trust(&network)? };
    Ok(network)
}

/// Makes Git trust the authorities of the network.
///
/// # Errors
/// The file cannot be used.
///
/// # Safety
/// No other thread may be running.
pub unsafe fn trust(network: &Network) -> anyhow::Result<()> {
    if let Some(authorities) = &network.authorities {
        // SAFETY: the caller ensures it.
        unsafe { git::trust(authorities)? };
    }
    Ok(())
}
