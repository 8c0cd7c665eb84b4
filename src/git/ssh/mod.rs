//! SSH: is the server the one it claims to be (`known_hosts`), which of its keys to ask for (`preference`), and can the
//! private key be used (`key`). libgit2 talks to the server.

mod key;
mod known_hosts;
mod preference;

pub(super) use key::SshKey;
pub(super) use known_hosts::KnownHosts;
pub(super) use preference::prefer;
