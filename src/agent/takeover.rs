//! Handing the synced commit over to the home, again and again until it takes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::engine::Engine;
use super::identity::Identity;
use super::{reconcilers, render};
use crate::api::{ObjectKey, Owner, Undeclared};
use crate::engine::objects::{Kept, Objects};
use crate::engine::{Home, Load};
use crate::git::backoff;
use crate::manifest::{Held, ObjectSet, Problem, Severity};
use crate::sync::prune::{self, Pruning};
use crate::sync::{Outputs, Reread, Synced};
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

/// What became of handing a commit over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handed {
    /// The home holds it, or there is none yet.
    Over,
    /// Files that held objects before the start must be read as such: the commit is read again.
    ReadAgain,
}

/// From the sync to the home.
pub struct Takeover {
    objects: Arc<Objects>,
    home: Arc<dyn Home>,
    /// Owner where `opsy.yaml` names none.
    owner: Owner,
    identity: Arc<Identity>,
    health: Arc<Health>,
    synced: watch::Receiver<Option<Arc<Synced>>>,
    /// The commit whose objects the home holds.
    pub loaded: watch::Sender<Option<Arc<Synced>>>,
    pub last: watch::Sender<Outcome>,
    /// Files that held objects, for the reader of manifests; and those that it was given from here.
    held: Held,
    given: Mutex<BTreeSet<String>>,
    reread: Reread,
}

impl Takeover {
    pub fn new(
        engine: &Engine,
        health: &Arc<Health>,
        outputs: &Outputs,
        held: Held,
        identity: Arc<Identity>,
    ) -> Self {
        Self {
            objects: engine.objects.clone(),
            home: engine.home.clone(),
            owner: engine.owner.clone(),
            identity,
            health: health.clone(),
            synced: outputs.synced.clone(),
            loaded: watch::Sender::new(None),
            last: watch::Sender::default(),
            held,
            given: Mutex::default(),
            reread: outputs.reread.clone(),
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

    /// Ends when the home can read objects again that it could not: the commit is to be handed over again, since
    /// Git may have dropped some of them meanwhile.
    pub async fn returned(&self) {
        self.home.returned().await;
    }

    /// Hands the synced commit to the home. Its problems are told once, not at every try.
    pub async fn load(&self, again: bool) -> anyhow::Result<Handed> {
        let Some(synced) = self.synced.borrow().clone() else { return Ok(Handed::Over) };
        self.home.ready().await?;
        let owner = reconcilers::owner_of(&synced, &self.owner);
        if self.identity.is_news(&owner) {
            self.home.note_owner(&owner).await?;
            self.identity.note(owner.clone());
        }
        let known = self.home.known(&owner);
        if self.gives(lost(&known, &synced.set)) {
            self.reread.request();
            return Ok(Handed::ReadAgain);
        }
        let pruning = prune::decide(&known.keys().cloned().collect(), &synced.set);
        let kept = kept(&known, &pruning, &synced.set);
        self.objects.keep(reasons(&kept, &pruning, &synced.set));
        let why = |(object, file): (&ObjectKey, &Option<String>)| {
            (object.clone(), undeclared(object, file.as_deref(), &synced.set))
        };
        self.objects.set_undeclared(kept.iter().map(why).collect());
        self.last.send_modify(|last| last.kept = pruning.refused.clone());
        if !again {
            tell_problems(&synced.set, pruning.refused.as_deref());
        }
        self.objects.withhold(synced.set.settings.notifier_secrets());
        let files = synced.clone();
        // Read only when an object turns up that has no status.
        let seeds = std::sync::LazyLock::new(move || render::seeds(&files.status_files));
        let commit = Load {
            documents: synced.set.documents.clone(),
            owner,
            remove: pruning.remove,
            kept: kept.into_keys().collect(),
            seed: Box::new(move |object| seeds.get(object).cloned()),
        };
        self.home.load(commit).await?;
        self.loaded.send_replace(Some(synced));
        self.health.enter(Stage::Working);
        Ok(Handed::Over)
    }

    /// Gives files that held objects to the reader of manifests. True if it was not given all of them before.
    fn gives(&self, files: BTreeSet<String>) -> bool {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let news: Vec<String> = files.difference(&given).cloned().collect();
        given.extend(news.iter().cloned());
        self.held.learn(news.iter().cloned());
        !news.is_empty()
    }
}

/// Objects that are there, with the file of each, where it is recorded.
type Known = BTreeMap<ObjectKey, Option<String>>;

/// The recorded files of objects that the commit does not declare, but for files that declare others.
fn lost(known: &Known, set: &ObjectSet) -> BTreeSet<String> {
    let written: BTreeSet<_> = set.documents.iter().map(|document| &document.object).collect();
    let read: BTreeSet<_> = set.documents.iter().map(|document| &document.file).collect();
    let lost = known.iter().filter(|(object, _)| !written.contains(object));
    lost.filter_map(|(_, file)| file.clone()).filter(|file| !read.contains(file)).collect()
}

/// Objects that stay although the commit does not declare them.
fn kept(known: &Known, pruning: &Pruning, set: &ObjectSet) -> Known {
    let written: BTreeSet<_> = set.documents.iter().map(|document| &document.object).collect();
    let stays = |object: &ObjectKey| !written.contains(object) && !pruning.remove.contains(object);
    known
        .iter()
        .filter(|(object, _)| stays(object))
        .map(|(object, file)| (object.clone(), file.clone()))
        .collect()
}

/// Why each of them stays: reason and words of `Applied=False`.
fn reasons(kept: &Known, pruning: &Pruning, set: &ObjectSet) -> Kept {
    let general = if set.complete() { "PruneRefused" } else { "ManifestBroken" };
    let reason = |(object, file): (&ObjectKey, &Option<String>)| {
        let refused = pruning.refused.clone()?;
        let broken = broken(object, file.as_deref(), set);
        let why = broken.map_or((general, refused), |(file, problem)| {
            ("ManifestBroken", format!("its manifest in {file} is broken: {problem}"))
        });
        Some((object.clone(), why))
    };
    kept.iter().filter_map(reason).collect()
}

/// Why an object has no document: its file is broken, or, where its file is not known, it may be gone.
fn undeclared(object: &ObjectKey, file: Option<&str>, set: &ObjectSet) -> Undeclared {
    broken(object, file, set)
        .map_or(Undeclared::Gone, |(file, _)| Undeclared::Broken { file: file.to_owned() })
}

/// The broken file of an object, and what is wrong with it or with the folder it is in.
fn broken<'a>(
    object: &ObjectKey,
    file: Option<&'a str>,
    set: &'a ObjectSet,
) -> Option<(&'a str, &'a Problem)> {
    let file = set.twice.get(object).map(String::as_str).or(file)?;
    let holds =
        |broken: &str| file.strip_prefix(broken).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let mut errors = set.problems.iter().filter(|problem| problem.severity == Severity::Error);
    Some((file, errors.find(|problem| holds(&problem.file))?))
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
    use crate::api::{Key, Kind};
    use crate::manifest::{Document, Json};

    fn object() -> ObjectKey {
        let key = Key { namespace: "default".to_owned(), name: "web".to_owned() };
        ObjectKey { kind: Kind::PackerBuilder, key }
    }

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
        let mut set = ObjectSet { problems, ..ObjectSet::default() };
        let files = ["a.yaml", "b/x.yaml", "c.yaml", "bb/x.yaml", "d.yaml"];
        let found = files.map(|file| broken(&object(), Some(file), &set).is_some());
        assert_eq!(found, [true, true, false, false, false]);
        assert_eq!(undeclared(&object(), None, &set), Undeclared::Gone);
        set.twice.insert(object(), "a.yaml".to_owned());
        let file = "a.yaml".to_owned();
        assert_eq!(undeclared(&object(), Some("d.yaml"), &set), Undeclared::Broken { file });
    }

    #[test]
    fn only_files_of_objects_without_a_document_are_read_as_theirs() {
        let other = ObjectKey { kind: Kind::AMIRefresher, ..object() };
        let document = |object: &ObjectKey, file: &str| Document {
            object: object.clone(),
            json: Json::from(&serde_json::Value::Null),
            file: file.to_owned(),
            line: 1,
        };
        let known = |file: Option<&str>| Known::from([(object(), file.map(str::to_owned))]);
        let mut set = ObjectSet { documents: vec![document(&other, "b.yaml")], ..ObjectSet::default() };
        assert_eq!(lost(&known(Some("a.yaml")), &set), ["a.yaml".to_owned()].into());
        assert_eq!(lost(&known(Some("b.yaml")), &set), BTreeSet::new(), "the file is read as ours");
        assert_eq!(lost(&known(None), &set), BTreeSet::new());
        set.documents.push(document(&object(), "moved.yaml"));
        assert_eq!(lost(&known(Some("a.yaml")), &set), BTreeSet::new());
    }
}
