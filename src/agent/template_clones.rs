//! Template repositories for a command: clones that are deleted when it ends, with the Secrets of a standalone agent.

use std::collections::BTreeMap;
use std::future::ready;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt;

use super::{now, sources};
use crate::api::Key;
use crate::api::network::Network;
use crate::engine::standalone::secrets::Secrets;
use crate::git::Http;
use crate::git::auth::Credentials;
use crate::git::github_app::Tokens;
use crate::git::templates::TemplateError;
use crate::git::templates::sources::{SourceOptions, Sources};
use crate::settings::{AddressFlags, EnvSecrets};

/// The fetch interval: longer than any command runs, so that each repository is fetched once.
const ONCE: Duration = Duration::from_secs(24 * 3600);

/// The clones.
pub struct TemplateClones {
    sources: Sources,
    _folder: tempfile::TempDir,
}

impl TemplateClones {
    /// Prepares them. Nothing is fetched yet. Must be called within a runtime.
    ///
    /// # Errors
    /// The flags are invalid, or there is no temporary directory.
    pub fn open(
        addresses: &AddressFlags,
        secrets: Option<PathBuf>,
        network: &Network,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a temporary directory for the clones")?;
        let tokens = Tokens::new(network, now)?;
        let secrets = Secrets {
            folder: secrets,
            environment: EnvSecrets::read().builds,
            every_build: BTreeMap::new(),
            claimed: Arc::default(),
        };
        let login = move |secret: Key| {
            let values = secrets.get(&secret.namespace, &secret.name);
            let values = values.map_err(|error| TemplateError { class: error.class, message: error.message });
            let credentials = values
                .and_then(|values| Ok(Some(Credentials::of_secret(&secret.to_string(), &values, &tokens)?)));
            ready(credentials).boxed()
        };
        let sources = Sources::new(SourceOptions {
            folder: folder.path().to_owned(),
            rules: sources::rules(addresses)?,
            http: Http::new(network),
            interval: ONCE,
            login: Arc::new(login),
            // The keys of the user who runs the command are used.
            hosts: Credentials { ssh_agent: true, ..sources::hosts(addresses) },
            wake: Arc::new(|_| ()),
            signers: None,
            now,
            exists: Arc::new(|_| true),
        });
        Ok(Self { sources, _folder: folder })
    }

    pub fn all(&self) -> &Sources {
        &self.sources
    }
}
