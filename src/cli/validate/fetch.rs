//! `opsy validate --fetch`: fetches the template repositories that builders name, as the agent does.

use std::collections::BTreeMap;
use std::future::ready;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use tokio::runtime::Runtime;

use crate::agent::{now, sources};
use crate::api::{Key, PackerBuilder};
use crate::builder::advice;
use crate::engine::standalone::secrets::Secrets;
use crate::git;
use crate::git::auth::Credentials;
use crate::git::github_app::Tokens;
use crate::git::templates::choice::OpsyFiles;
use crate::git::templates::sources::{SourceOptions, Sources};
use crate::git::templates::{TemplateError, TemplateQuery};
use crate::git::{Http, Listing};
use crate::settings::{AddressFlags, EnvSecrets, NetworkFlags};

/// The fetch interval: longer than any command runs, so that each repository is fetched once.
const ONCE: Duration = Duration::from_secs(24 * 3600);

/// Flags for access to template repositories.
#[derive(clap::Args)]
pub struct Flags {
    #[command(flatten)]
    addresses: AddressFlags,
    #[command(flatten)]
    network: NetworkFlags,
    /// Read the Secrets of builders from `DIR/<namespace>/<secret>/<KEY>`
    #[arg(long, env = "OPSY_SECRETS", value_name = "DIR")]
    secrets: Option<PathBuf>,
}

/// Template repositories, in clones that are deleted when the command ends.
pub struct Fetch {
    runtime: Runtime,
    sources: Sources,
    _clones: tempfile::TempDir,
}

impl Fetch {
    /// Prepares the clones. Must be called before anything starts a thread.
    pub fn start(flags: &Flags) -> anyhow::Result<Self> {
        let network = flags.network.read().map_err(anyhow::Error::msg)?;
        if let Some(authorities) = &network.authorities {
            // SAFETY: the command has started no thread yet.
            unsafe { git::trust(authorities)? };
        }
        let clones = tempfile::tempdir().context("cannot create a temporary directory for the clones")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (tokens, http) = {
            let _in_runtime = runtime.enter();
            (Tokens::new(&network, now)?, Http::new(&network))
        };
        let secrets = Secrets {
            folder: flags.secrets.clone(),
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
            folder: clones.path().to_owned(),
            rules: sources::rules(&flags.addresses)?,
            http,
            interval: ONCE,
            login: Arc::new(login),
            // The keys of the user who runs the command are used.
            hosts: Credentials { ssh_agent: true, ..sources::hosts(&flags.addresses) },
            wake: Arc::new(|_| ()),
            signers: None,
            now,
            exists: Arc::new(|_| true),
        });
        Ok(Self { runtime, sources, _clones: clones })
    }

    /// Returns why a build would not get its files, as pairs of field and message.
    pub fn problems(
        &self,
        object: &PackerBuilder,
        query: &TemplateQuery,
        builder: &Key,
    ) -> Vec<(String, String)> {
        let found =
            match self.with_repository(query, builder, |repository| advice::problems(object, repository)) {
                Ok(found) => found,
                Err(error) => return vec![("spec.builder.repoURL".to_owned(), error.message)],
            };
        if !found.is_empty() {
            return found;
        }
        let resolved = self.runtime.block_on(self.sources.resolve(query, builder));
        resolved.err().map(|error| ("spec.builder".to_owned(), error.message)).into_iter().collect()
    }

    /// Returns notes about a valid builder, as pairs of field and message.
    pub fn notes(
        &self,
        object: &PackerBuilder,
        query: &TemplateQuery,
        builder: &Key,
    ) -> Vec<(String, String)> {
        self.with_repository(query, builder, |repository| advice::notes(object, repository))
            .unwrap_or_default()
    }

    fn with_repository<T>(
        &self,
        query: &TemplateQuery,
        builder: &Key,
        ask: impl Fn(&advice::Repository<'_>) -> T,
    ) -> Result<T, TemplateError> {
        let (listing, clone) = self.runtime.block_on(self.sources.list(query, builder))?;
        let text = |id: &str| {
            let read = clone.read(vec![(id.to_owned(), id.to_owned())]);
            let blob = self.runtime.block_on(read).ok()?.into_iter().next()?;
            Some(String::from_utf8_lossy(&blob.content).into_owned())
        };
        let (listing, opsy_files): (&Listing, OpsyFiles) = (&listing, OpsyFiles::default());
        Ok(ask(&advice::Repository { listing, opsy_files: &opsy_files, is_source: true, text: &text }))
    }
}
