//! SSH: checks the host key of a server (`known_hosts`), selects the algorithm of the host key (`preference`), and
//! checks the private key (`key`). libgit2 makes the connection.

mod key;
mod known_hosts;
mod preference;

pub(super) use key::SshKey;
pub(super) use known_hosts::KnownHosts;
pub(super) use preference::prefer;
