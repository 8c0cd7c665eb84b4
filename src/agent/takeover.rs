//! Handing the synced commit over to the home, again and again until it takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::engine::Engine;
use super::{reconcilers, render};
use crate::api::{ObjectKey, Owner};
use crate::engine::objects::Objects;
use crate::engine::{Home, Load};
use crate::git::backoff;
use crate::manifest::{ObjectSet, Severity};
use crate::sync::{Outputs, Synced, prune};
use crate::telemetry::health::{Health, Stage};

/// First and longest wait before a commit that the home did not take is handed over again: a full disk
/// or an API server that is away may take minutes, and a try costs little.
const LOAD_AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// How it went the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Why nothing was pruned, where something should have been.
    pub kept: Option<String>,
    /// Why the commit was not taken over at all.
    pub failed: Option<String>,
}

/// From the sync to the home.
pub struct Takeover {
    objects: Arc<Objects>,
    home: Arc<dyn Home>,
    /// Owner where `opsy.yaml` names none.
    owner: Owner,
    health: Arc<Health>,
    synced: watch::Receiver<Option<Arc<Synced>>>,
    /// The commit whose objects the home holds.
    pub loaded: watch::Sender<Option<Arc<Synced>>>,
    pub last: watch::Sender<Outcome>,
    /// The file of every object, as far as it could be read since the start.
    files: Mutex<BTreeMap<ObjectKey, String>>,
}

impl Takeover {
    pub fn new(engine: &Engine, health: &Arc<Health>, outputs: &Outputs) -> Self {
        Self {
            objects: engine.objects.clone(),
            home: engine.home.clone(),
            owner: engine.owner.clone(),
            health: health.clone(),
            synced: outputs.synced.clone(),
            loaded: watch::Sender::new(None),
            last: watch::Sender::default(),
            files: Mutex::default(),
        }
    }

    /// Hands the synced commit to the home; answers how often in a row that has failed now.
    pub async fn try_again(&self, failures: u32) -> u32 {
        let failed = self.load(failures > 0).await.err();
        self.last.send_modify(|last| last.failed = failed.as_ref().map(ToString::to_string));
        let Some(error) = failed else { return 0 };
        tracing::error!(%error, "the commit cannot be taken over: trying again");
        failures + 1
    }

    /// Hands the synced commit to the home. Its problems are told once, not at every try.
    pub async fn load(&self, again: bool) -> anyhow::Result<()> {
        let Some(synced) = self.synced.borrow().clone() else { return Ok(()) };
        self.home.ready().await?;
        let owner = reconcilers::owner_of(&synced, &self.owner);
        let known: BTreeSet<ObjectKey> = self.home.known(&owner).into_iter().collect();
        let pruning = prune::decide(&known, &synced.set);
        let written: BTreeSet<_> = synced.set.documents.iter().map(|document| &document.object).collect();
        let is_kept = |object: &&ObjectKey| !written.contains(object) && !pruning.remove.contains(object);
        let kept: Vec<ObjectKey> = known.iter().filter(is_kept).cloned().collect();
        let reason = if synced.set.complete() { "PruneRefused" } else { "ManifestBroken" };
        let why = pruning.refused.iter().map(|why| (reason, why.clone()));
        self.objects.keep(kept.iter().cloned().zip(why.cycle()).collect());
        self.objects.set_undeclared(self.undeclared(&kept, &synced.set));
        self.last.send_modify(|last| last.kept = pruning.refused.clone());
        if !again {
            tell_problems(&synced.set, pruning.refused.as_deref());
        }
        let files = synced.clone();
        // Read only when an object turns up that has no status.
        let seeds = std::sync::LazyLock::new(move || render::seeds(&files.status_files));
        let commit = Load {
            documents: synced.set.documents.clone(),
            owner,
            remove: pruning.remove,
            kept,
            seed: Box::new(move |object| seeds.get(object).cloned()),
        };
        self.home.load(commit).await?;
        self.loaded.send_replace(Some(synced));
        self.health.enter(Stage::Working);
        Ok(())
    }

    /// Those of the objects that stay whose manifest is gone. Of one whose file is only broken, the last good
    /// version is in force; where its file is not known, it may be gone.
    fn undeclared(&self, kept: &[ObjectKey], set: &ObjectSet) -> BTreeSet<ObjectKey> {
        let mut files = self.files.lock().expect("no code panics while it holds the files");
        files.extend(set.documents.iter().map(|document| (document.object.clone(), document.file.clone())));
        let declared = |object: &ObjectKey| files.get(object).is_some_and(|file| is_broken(file, set));
        kept.iter().filter(|object| !declared(object)).cloned().collect()
    }
}

/// Is the file of an object among those that cannot be read, or in a folder that cannot?
fn is_broken(file: &str, set: &ObjectSet) -> bool {
    let errors = set.problems.iter().filter(|problem| problem.severity == Severity::Error);
    let holds =
        |broken: &str| file.strip_prefix(broken).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    errors.into_iter().any(|problem| holds(&problem.file))
}

/// Until a failed take-over is tried again; for ever where none failed.
pub async fn pause_after(failures: u32) {
    let (first, most) = LOAD_AGAIN;
    match failures {
        0 => futures::future::pending().await,
        _ => backoff::pause(backoff::after(failures, first, most, backoff::random())).await,
    }
}

/// What a person must mend in the repository. Errors: they are shown on a terminal too.
fn tell_problems(set: &ObjectSet, kept: Option<&str>) {
    for problem in &set.problems {
        match problem.severity {
            Severity::Error => tracing::error!("{problem}"),
            Severity::Note => tracing::warn!("{problem}"),
            Severity::Foreign => tracing::debug!("{problem}"),
        }
    }
    if let Some(why) = kept {
        tracing::error!("nothing is pruned: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Problem;

    #[test]
    fn a_file_is_broken_by_its_own_error_or_its_folders() {
        let problem = |file: &str, severity| Problem {
            file: file.to_owned(),
            line: None,
            message: "cannot be read".to_owned(),
            severity,
        };
        let problems = vec![
            problem("a.yaml", Severity::Error),
            problem("b", Severity::Error),
            problem("c.yaml", Severity::Note),
        ];
        let set = ObjectSet { problems, ..ObjectSet::default() };
        let broken =
            ["a.yaml", "b/x.yaml", "c.yaml", "bb/x.yaml", "d.yaml"].map(|file| is_broken(file, &set));
        assert_eq!(broken, [true, true, false, false, false]);
    }
}
