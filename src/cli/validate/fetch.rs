//! `opsy validate --fetch`: fetches the template repositories that builders name, as the agent does.

use std::path::PathBuf;

use tokio::runtime::Runtime;

use crate::agent::template_clones::TemplateClones;
use crate::api::{Key, PackerBuilder};
use crate::builder::advice;
use crate::cli::network;
use crate::git::Listing;
use crate::git::templates::choice::OpsyFiles;
use crate::git::templates::{TemplateError, TemplateQuery};
use crate::settings::{AddressFlags, NetworkFlags};

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

/// Template repositories, and the runtime that fetches them.
pub struct Fetch {
    runtime: Runtime,
    sources: TemplateClones,
}

impl Fetch {
    /// Prepares the clones. Must be called before anything starts a thread.
    pub fn start(flags: &Flags) -> anyhow::Result<Self> {
        // SAFETY: the command has started no thread yet.
        let network = unsafe { network::read(&flags.network)? };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sources = {
            let _in_runtime = runtime.enter();
            TemplateClones::open(&flags.addresses, flags.secrets.clone(), &network)?
        };
        Ok(Self { runtime, sources })
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
        let resolved = self.runtime.block_on(self.sources.all().resolve(query, builder));
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
        let (listing, clone) = self.runtime.block_on(self.sources.all().list(query, builder))?;
        let text = |id: &str| {
            let read = clone.read(vec![(id.to_owned(), id.to_owned())]);
            let blob = self.runtime.block_on(read).ok()?.into_iter().next()?;
            Some(String::from_utf8_lossy(&blob.content).into_owned())
        };
        let (listing, opsy_files): (&Listing, OpsyFiles) = (&listing, OpsyFiles::default());
        Ok(ask(&advice::Repository { listing, opsy_files: &opsy_files, is_source: true, text: &text }))
    }
}
