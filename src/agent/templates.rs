//! The template repositories that builders name.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::ready;
use tokio::sync::watch;

use super::engine::Engine;
use super::inputs::Inputs;
use super::{now, sources};
use crate::api::{Key, Kind, ObjectKey};
use crate::git::Http;
use crate::git::address::Address;
use crate::git::auth::Credentials;
use crate::git::github_app::Tokens;
use crate::git::signatures::Signers;
use crate::git::templates::TemplateError;
use crate::git::templates::sources::{Login, SourceOptions, Sources};
use crate::sync::Synced;

/// The template repositories. The first fetch of each is at its first use.
///
/// # Errors
/// The flags for addresses are invalid.
pub fn make(
    inputs: &Inputs,
    (tokens, http): (Tokens, Http),
    engine: &Engine,
    synced: watch::Receiver<Option<Arc<Synced>>>,
) -> anyhow::Result<Sources> {
    let flags = &inputs.flags;
    let (wakeable, existing) = (engine.objects.clone(), engine.objects.clone());
    let builder = |key: &Key| ObjectKey { kind: Kind::PackerBuilder, key: key.clone() };
    // The agent's own key signs its status commits, on its own branches only.
    let signers = inputs.signers.clone().map(|signers| Signers { own: None, ..signers });
    Ok(Sources::new(SourceOptions {
        folder: engine.clone.with_file_name("sources"),
        rules: sources::rules(&flags.access.git.addresses)?,
        http,
        interval: flags.interval,
        login: login(tokens, engine, synced),
        hosts: sources::hosts(&flags.access.git.addresses),
        signers,
        now,
        wake: Arc::new(move |key| wakeable.wake(&builder(key))),
        exists: Arc::new(move |key| existing.has(&builder(key))),
    }))
}

/// Reads the credentials of a template repository from a Secret, unless the agent uses this Secret for itself.
fn login(tokens: Tokens, engine: &Engine, synced: watch::Receiver<Option<Arc<Synced>>>) -> Login {
    let (runs, objects) = (engine.runs.clone(), engine.objects.clone());
    Arc::new(move |_: &Address, secret: Option<Key>| {
        let Some(secret) = secret else { return ready(Ok(None)).boxed() };
        let (runs, tokens) = (runs.clone(), tokens.clone());
        // A synced commit may name Secrets for notifications before it is loaded.
        let named = synced.borrow().as_ref().map(|synced| synced.set.settings.notifier_secrets());
        let withheld = objects.withheld().into_iter().chain(named.unwrap_or_default()).collect();
        async move {
            let name = secret.to_string();
            let values = runs.secret(&secret, &withheld).await;
            let values =
                values.map_err(|error| TemplateError { class: error.class, message: error.message })?;
            Ok(Some(Credentials::of_secret(&name, &values, &tokens)?))
        }
        .boxed()
    })
}
