//! Access to repositories, put together: addresses, credentials, and the template repositories that builders name.

use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::watch;

use super::engine::Engine;
use crate::api::network::Network;
use crate::api::{Key, Kind, ObjectKey};
use crate::git::GitError;
use crate::git::address::AddressRules;
use crate::git::auth::{Credentials, LoginSource, Secret};
use crate::git::github_app::{App, DEFAULT_API, Tokens};
use crate::git::signatures::Signers;
use crate::git::sources::{SourceOptions, Sources};
use crate::git::templates::TemplateError;
use crate::settings::{self, AddressFlags, EnvSecrets, RunFlags};
use crate::sync::Synced;

/// What addresses may be.
pub fn rules(flags: &AddressFlags) -> anyhow::Result<AddressRules> {
    AddressRules::new(flags.insecure_http, &flags.rewrite)
        .map_err(|why| anyhow::anyhow!("--git-rewrite: {why}"))
}

/// Credentials of the agent's own repository.
///
/// # Errors
/// The flags of the GitHub App are invalid.
pub fn credentials(flags: &RunFlags, secrets: &EnvSecrets, tokens: &Tokens) -> Result<Credentials, GitError> {
    let git = &flags.git;
    let file = |path: &Option<std::path::PathBuf>| path.clone().map(Secret::File);
    let token = file(&git.token_file).or_else(|| secrets.git_token.clone().map(Secret::Value));
    let password = file(&git.password_file).or_else(|| secrets.git_password.clone().map(Secret::Value));
    let login = match (github_app(flags), token, password) {
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

fn github_app(flags: &RunFlags) -> Option<App> {
    let git = &flags.git;
    Some(App {
        id: git.github_app_id.clone()?,
        installation: git.github_installation_id.clone()?,
        key: Secret::File(git.github_app_key_file.clone()?),
        api: git.github_api_url.clone().unwrap_or_else(|| DEFAULT_API.to_owned()),
        read_only: false,
    })
}

/// The trusted host keys alone.
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

/// The template repositories.
pub fn start(
    flags: &RunFlags,
    (network, tokens): (&Network, Tokens),
    signers: Option<Signers>,
    engine: &Engine,
    synced: watch::Receiver<Option<Arc<Synced>>>,
) -> anyhow::Result<Sources> {
    let runs = engine.runs.clone();
    let [objects, known, used] = std::array::from_fn(|_| engine.objects.clone());
    let login = move |secret: Key| {
        let (runs, tokens) = (runs.clone(), tokens.clone());
        let named = synced.borrow().as_ref().map(|synced| synced.set.settings.notifier_secrets());
        let withheld = used.withheld().into_iter().chain(named.unwrap_or_default()).collect();
        async move {
            let name = secret.to_string();
            let values = runs.secret(&secret, &withheld).await;
            let values =
                values.map_err(|error| TemplateError { class: error.class, message: error.message })?;
            Ok(Some(Credentials::of_secret(&name, &values, &tokens)?))
        }
        .boxed()
    };
    let builder = |key: &Key| ObjectKey { kind: Kind::PackerBuilder, key: key.clone() };
    Ok(Sources::new(SourceOptions {
        folder: engine.clone.with_file_name("sources"),
        rules: rules(&flags.git.addresses)?,
        proxies: network.proxies.clone(),
        interval: flags.interval,
        login: Arc::new(login),
        hosts: hosts(&flags.git.addresses),
        signers,
        now: super::now,
        wake: Arc::new(move |key| objects.wake(&builder(key))),
        exists: Arc::new(move |key| known.has(&builder(key))),
    }))
}
