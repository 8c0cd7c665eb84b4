//! The sync and the loader: from the repository to the engine.

use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt;

use super::engine::Engine;
use super::inputs::Inputs;
use super::saving_reader::SavingReader;
use super::{accept, now, spec_problems};
use crate::api::Key;
use crate::engine::objects::Objects;
use crate::git::Handle;
use crate::git::templates::Templates;
use crate::loader::{self, Identity, Loader};
use crate::manifest::Reader;
use crate::repository;
use crate::sync::{Difference, Outputs, Sync};
use crate::telemetry::health::Health;

/// Makes both. The sync continues from the saved last commit, which its first tip must descend from.
///
/// # Errors
/// The saved status of the repository cannot be read.
pub async fn make(
    inputs: &Inputs,
    engine: &Engine,
    git: Handle,
    health: &Arc<Health>,
) -> anyhow::Result<(Sync, Outputs, Loader)> {
    let identity = Identity::new(
        inputs.flags.access.agent_id.clone(),
        engine.owner.clone(),
        engine.recorded_owner.clone(),
    );
    let identity = Arc::new(identity);
    let confirmed = identity.clone();
    let reader = Reader::new(spec_problems).with_guard(move |settings| confirmed.refusal(settings));
    let known_files = reader.known_files();
    let reader = SavingReader::new(reader, engine.manifest_cache.clone());
    let (mut sync, outputs) = Sync::new(git, Box::new(reader), now);
    let saved = repository::load_status(&*engine.home).await;
    let saved = saved.context("the saved status of the repository cannot be read")?;
    engine.objects.withhold(saved.notifier_secrets);
    sync.continue_from(saved.last, accept::requests(engine.home.clone()));
    if engine.clone_is_newest {
        sync.allow_start_from_clone();
    }
    let loader = Loader::new(loader::Parts {
        objects: engine.objects.clone(),
        home: engine.home.clone(),
        owner: engine.owner.clone(),
        identity,
        health: health.clone(),
        synced: outputs.synced.clone(),
        known_files,
        reread: outputs.reread.clone(),
        affected: affected(outputs.templates.clone(), engine.objects.clone()),
    });
    Ok((sync, outputs, loader))
}

/// Compares the templates of builders in the agent's own repository.
fn affected(templates: Templates, objects: Arc<Objects>) -> loader::Affected {
    Arc::new(move |Difference { from, paths }, now| {
        let (templates, objects) = (templates.clone(), objects.clone());
        async move {
            let exists = |key: &Key| objects.builders.has(key);
            let existing = (objects.builders.count(), exists);
            let affected = templates.affected((&from, &now), paths.as_deref(), existing).await;
            affected.inspect_err(|error| tracing::warn!(%error, "all builders are reconciled")).ok()
        }
        .boxed()
    })
}
