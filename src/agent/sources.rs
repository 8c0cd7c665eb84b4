//! Access to repositories, as the flags define it: addresses, credentials, host keys.

use std::path::PathBuf;

use crate::api::git_host::GITHUB_API;
use crate::git::address::AddressRules;
use crate::git::auth::{Credentials, LoginSource};
use crate::git::github_app::{App, Tokens};
use crate::git::{GitError, Secret};
use crate::settings::{self, AddressFlags, EnvSecrets, GitFlags};

/// Which addresses are allowed, and how they are rewritten.
pub fn rules(flags: &AddressFlags) -> anyhow::Result<AddressRules> {
    AddressRules::new(flags.insecure_http, &flags.rewrite)
        .map_err(|why| anyhow::anyhow!("--git-rewrite: {why}"))
}

/// Credentials of the agent's own repository. A GitHub App wins over a token, and a token over a password.
///
/// # Errors
/// The flags of the GitHub App are invalid.
pub fn credentials(git: &GitFlags, secrets: &EnvSecrets, tokens: &Tokens) -> Result<Credentials, GitError> {
    let file = |path: &Option<PathBuf>| path.clone().map(Secret::File);
    let token = file(&git.token_file).or_else(|| secrets.git_token.clone().map(Secret::Value));
    let password = file(&git.password_file).or_else(|| secrets.git_password.clone().map(Secret::Value));
    let login = match (github_app(git), token, password) {
        (Some(app), ..) => {
            app.check()?;
            Some(LoginSource::App(app, tokens.clone()))
        }
        (None, Some(password), _) => Some(LoginSource::Password { username: None, password }),
        (None, None, password) => password.map(|password| {
            let username = git.username.clone().map(Secret::Value);
            LoginSource::Password { username, password }
        }),
    };
    let key = file(&git.ssh_key_file).map(|key| (key, file(&git.ssh_passphrase_file)));
    Ok(Credentials { login, key, ssh_agent: true, ..hosts(&git.addresses) })
}

/// The GitHub App, if all of its flags are set.
fn github_app(git: &GitFlags) -> Option<App> {
    Some(App {
        id: git.github_app_id.clone()?,
        installation: git.github_installation_id.clone()?,
        key: Secret::File(git.github_app_key_file.clone()?),
        api: git.github_api_url.clone().unwrap_or_else(|| GITHUB_API.to_owned()),
        read_only: false,
    })
}

/// Credentials with nothing but the trusted host keys.
pub fn hosts(flags: &AddressFlags) -> Credentials {
    let named = flags.known_hosts.clone().map(|file| vec![file]);
    let usual_hosts = named.is_none();
    let files = named.unwrap_or_else(settings::usual_known_hosts);
    Credentials {
        known_hosts: files.into_iter().map(Secret::File).collect(),
        usual_hosts,
        ..Credentials::default()
    }
}
