//! Telling people, wired: objects and what lies around them → stories → the desks of their destinations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::{Notify, watch};

use super::engine::Engine;
use super::now;
use crate::announce::{self, Around, Change, Message, Origin, Story, Subject, Tone, repository};
use crate::api::builder::RunRecord;
use crate::api::conditions::{self, Condition, NOTIFIED};
use crate::api::fence::Fence;
use crate::api::network::Network;
use crate::api::notifier::{Notification, Notifier as Spec};
use crate::api::status::Status;
use crate::api::{
    AMIRefresher, AMIRefresherStatus, Class, CommitId, ObjectKey, PackerBuilder, PackerBuilderStatus,
    annotations,
};
use crate::aws::Aws;
use crate::engine::drive::Teller;
use crate::engine::objects::Objects;
use crate::engine::{HomeError, Note};
use crate::git::Handle;
use crate::git::templates::Templates;
use crate::manifest::{Problem, Severity, is_settings};
use crate::notify::destination::Destination;
use crate::notify::fences::{Addressed, Fences};
use crate::notify::http::{Address, Http};
use crate::notify::sink::{SinkError, Trouble};
use crate::notify::{Changed, Marked, Means, Notifier, Open, Pending, Told, Values};
use crate::settings::RunFlags;
use crate::sync::Synced;

/// Commits that are remembered: passes speak of the last few.
const COMMITS: usize = 256;

/// Both kinds' teller.
pub struct Telling {
    pub notifier: Notifier,
    /// What each namespace may reach with the agent's credentials.
    fences: Fences,
    pub objects: Arc<Objects>,
    pub commits: Commits,
    pub synced: watch::Receiver<Option<Arc<Synced>>>,
    /// Whoever hears of what has no object hears of this.
    pub repository: Subject,
    /// What was told of it is to be kept.
    pub bell: Arc<Notify>,
}

/// Who made which commit: read from the clone once.
pub struct Commits {
    git: Handle,
    templates: Templates,
    synced: watch::Receiver<Option<Arc<Synced>>>,
    known: Mutex<BTreeMap<String, Change>>,
}

impl Commits {
    fn new(git: Handle, templates: Templates, synced: watch::Receiver<Option<Arc<Synced>>>) -> Self {
        Self { git, templates, synced, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, Change>> {
        self.known.lock().expect("no code panics while it holds the commits")
    }

    /// Where Opsy's own commits write, and people do not.
    fn status_folder(&self) -> String {
        let synced = self.synced.borrow();
        let path = synced.as_ref().map_or("", |synced| synced.set.settings.status_path());
        self.git.status_folder(path)
    }

    /// Looks a commit up. Of one that the clone does not have words say the id alone.
    pub async fn learn(&self, id: &str) {
        if self.known().contains_key(id) {
            return;
        }
        let Ok(commit) = CommitId::parse(id) else { return };
        let described = self.templates.describe(&commit, &self.status_folder()).await;
        let Some((described, repository)) = described else { return };
        let url = announce::commit_url(&repository, described.id.as_str());
        let (id_of, author) = (described.id.to_string(), described.author);
        let change = Change { id: id_of, author, subject: described.subject, url };
        let mut known = self.known();
        if known.len() >= COMMITS {
            known.clear();
        }
        known.insert(id.to_owned(), change);
    }
}

/// What is the same for both kinds.
pub trait Tellable<S> {
    fn spec(&self) -> (Option<&Spec>, Option<&str>);
    fn metadata(&self) -> &ObjectMeta;
    fn stories(&self, name: &ObjectKey, status: &S, around: Around<'_>) -> Vec<Story>;
}

impl Tellable<PackerBuilderStatus> for PackerBuilder {
    fn spec(&self) -> (Option<&Spec>, Option<&str>) {
        (self.spec.notifier.as_ref(), self.spec.region.as_deref())
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn stories(&self, name: &ObjectKey, status: &PackerBuilderStatus, around: Around<'_>) -> Vec<Story> {
        announce::builder::stories(name, &self.spec, status, around)
    }
}

impl Tellable<AMIRefresherStatus> for AMIRefresher {
    fn spec(&self) -> (Option<&Spec>, Option<&str>) {
        (self.spec.notifier.as_ref(), Some(&self.spec.region))
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn stories(&self, name: &ObjectKey, status: &AMIRefresherStatus, around: Around<'_>) -> Vec<Story> {
        announce::refresher::stories(name, &self.spec, status, around)
    }
}

/// What everything that is told goes by.
pub fn start(
    engine: &Engine,
    (git, templates): (Handle, Templates),
    (flags, network): (&RunFlags, &Network),
    aws: &Aws,
    synced: watch::Receiver<Option<Arc<Synced>>>,
) -> anyhow::Result<Arc<Telling>> {
    let slack = Address::parse(&flags.slack_api)
        .map_err(|why| anyhow::anyhow!("--slack-api {}: {why}", flags.slack_api))?;
    // A machine without certificates can do all but this.
    let http =
        Http::new(network).map_err(|error| format!("the machine's certificates cannot be read: {error}"));
    let means = Means { http, slack, aws: aws.config(), now };
    let home = engine.home.clone();
    let open: Open = Arc::new(move |to: Destination| {
        let (home, means) = (home.clone(), means.clone());
        async move {
            let values = match to.secret() {
                Some((namespace, name)) => home.secret(namespace, name).await.map_err(unreadable)?,
                None => Values::new(),
            };
            means.open(&to, &values)
        }
        .boxed()
    });
    let objects = engine.objects.clone();
    let bell = Arc::<Notify>::default();
    let ring = bell.clone();
    let changed: Changed = Arc::new(move |about: &Subject| match about {
        Subject::Object(object) => objects.wake(object),
        Subject::Repository(_) => ring.notify_one(),
    });
    let (notifier, objects) = (Notifier::new(open, changed), engine.objects.clone());
    let repository = Subject::Repository(git.options().address.short_name());
    let commits = Commits::new(git, templates, synced.clone());
    let fences = fences(engine, flags);
    let telling = Arc::new(Telling { notifier, fences, objects, commits, synced, repository, bell });
    tokio::spawn(forget_gone(Arc::downgrade(&telling), engine.objects.board.members()));
    Ok(telling)
}

fn fences(engine: &Engine, flags: &RunFlags) -> Fences {
    let own = engine.namespace.clone();
    let trust = &flags.trust;
    Fences {
        topics: Fence::new("--notify-topics", own.clone(), trust.notify_topics.clone()),
        recipients: Fence::new("--notify-recipients", own.clone(), trust.notify_recipients.clone()),
        own: own.unwrap_or_else(|| "default".to_owned()),
    }
}

/// What is gone is told of no more.
async fn forget_gone(telling: Weak<Telling>, mut members: watch::Receiver<u64>) {
    while members.changed().await.is_ok() {
        let Some(telling) = telling.upgrade() else { return };
        let objects = telling.objects.board.standings().into_keys().map(Subject::Object);
        telling.notifier.keep_only(&objects.chain([telling.repository.clone()]).collect());
    }
}

/// A secret that cannot be read: whether a person must act is the engine's to say.
fn unreadable(error: HomeError) -> SinkError {
    let kind = match error.class {
        Class::Transient { after } => Trouble::Transient { after },
        Class::Conflict => Trouble::Transient { after: None },
        Class::Denied | Class::NotFound | Class::Invalid => Trouble::Closed,
    };
    SinkError { kind, reason: "SecretUnreadable", message: error.message }
}

impl Telling {
    /// Looks up the commits that are spoken of, so that words do not change when they are known.
    pub async fn learn<K: Tellable<S>, S>(&self, name: &ObjectKey, object: &K, status: &S) {
        if self.told_of(name, object).is_none_or(|addressed| addressed.to.is_empty()) {
            return;
        }
        let unknown = Mutex::new(BTreeSet::new());
        let note = |id: &str| {
            let known = self.commits.known().get(id).cloned();
            if known.is_none() {
                unknown.lock().expect("nobody panics while noting").insert(id.to_owned());
            }
            known
        };
        // Conditions of others are not in the status yet: they may speak of the commit Opsy works by.
        if let Some(commit) = self.commit() {
            note(&commit);
        }
        self.around_with(&note, |around| object.stories(name, status, around));
        for id in unknown.into_inner().unwrap_or_default() {
            self.commits.learn(&id).await;
        }
    }

    /// Whom `opsy.yaml` names: they hear of what has no object, and of objects that name nobody. Nothing is
    /// known while it is wrong and never was right.
    pub fn everybody(&self) -> Option<Addressed> {
        let synced = self.synced.borrow();
        let set = &synced.as_ref()?.set;
        let (settings, is_wrong) = (&set.settings, |problem: &Problem| {
            is_settings(&problem.file) && problem.severity == Severity::Error
        });
        let unknown = settings.notifier.is_none() && set.problems.iter().any(is_wrong);
        (!unknown).then(|| {
            let to = Destination::of(settings.notifier.as_ref(), settings.namespace(), None);
            self.fences.keep(None, to)
        })
    }

    /// Who hears of an object.
    fn told_of<K: Tellable<S>, S>(&self, name: &ObjectKey, object: &K) -> Option<Addressed> {
        let (spec, region) = object.spec();
        match spec {
            Some(spec) => {
                let to = Destination::of(Some(spec), &name.key.namespace, region);
                Some(self.fences.keep(Some(&name.key.namespace), to))
            }
            None => self.everybody(),
        }
    }

    /// Words, made with what lies around.
    pub fn around<T>(&self, words: impl FnOnce(Around<'_>) -> T) -> T {
        self.around_with(&|id| self.commits.known().get(id).cloned(), words)
    }

    fn around_with<T>(
        &self,
        change: &dyn Fn(&str) -> Option<Change>,
        words: impl FnOnce(Around<'_>) -> T,
    ) -> T {
        let origin = |image: &str| origin(&self.objects, image);
        let commit = self.commit();
        words(Around { now: now(), commit: commit.as_deref(), change, origin: &origin })
    }

    /// The commit Opsy works by.
    fn commit(&self) -> Option<String> {
        self.synced.borrow().as_ref().map(|synced| synced.commit.to_string())
    }

    fn stories<K: Tellable<S>, S>(&self, name: &ObjectKey, object: &K, status: &S) -> Vec<Story> {
        let mut stories = self.around(|around| object.stories(name, status, around));
        announce::with_runbook(&mut stories, annotations::value(object.metadata(), annotations::RUNBOOK));
        stories
    }
}

/// The builder that made an image, as its history has it. A target may be several images.
fn origin(objects: &Objects, image: &str) -> Option<Origin> {
    let ids = image.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').filter(|id| !id.is_empty());
    ids.flat_map(|id| objects.builders.holding(id).map(move |builder| (id, builder))).find_map(made_by)
}

fn made_by((image, builder): (&str, PackerBuilder)) -> Option<Origin> {
    let history = builder.status?.history.unwrap_or_default();
    let made = |run: &RunRecord| run.images.iter().flatten().any(|made| made == image);
    let run = history.into_iter().find(made)?;
    Some(Origin { builder: builder.metadata.name.unwrap_or_default(), commit: run.commit })
}

impl<K, S> Teller<K, S> for Telling
where
    K: Tellable<S> + Send + Sync,
    S: Status + Clone + PartialEq + Send + Sync,
{
    fn mark(&self, name: &ObjectKey, object: &K, status: &mut S) {
        let Some(Addressed { to, refused }) = self.told_of(name, object) else { return };
        let about = Subject::from(name);
        let remembered = status.notifications().clone().unwrap_or_default();
        let mut marked = if to.is_empty() {
            self.notifier.forget(&about);
            Marked::default()
        } else {
            let mut stories = self.stories(name, object, status);
            let everybody = self.everybody().unwrap_or_default().to;
            if to.iter().all(|destination| everybody.contains(destination)) {
                // What was begun is told to its end.
                let is_begun = |thread: &str| remembered.iter().any(|told| told.thread == thread);
                stories
                    .retain(|story| !repository::is_told_of_the_repository(story) || is_begun(&story.thread));
            }
            let conditions = status.conditions().clone().unwrap_or_default();
            let pending = Pending { stories, conditions, now: now() };
            self.notifier.mark(&Told { about: &about, to: &to, remembered: &remembered, pending })
        };
        marked.trouble = marked.trouble.or(refused);
        note(status, marked, object.metadata().generation, now());
    }

    fn written(&self, name: &ObjectKey, object: &K, before: Option<&S>, after: &S) -> Vec<Note> {
        self.notifier.written(&name.into());
        if before == Some(after) {
            return Vec::new();
        }
        let old = before.map(|before| self.stories(name, object, before)).unwrap_or_default();
        let new = self.stories(name, object, after);
        announce::news(&old, &new).into_iter().map(|message| as_note(name, message)).collect()
    }

    fn gone(&self, name: &ObjectKey) {
        self.notifier.forget(&name.into());
    }
}

/// Puts into a status what is remembered, and what does not pass.
pub fn note<S: Status>(status: &mut S, marked: Marked, generation: Option<i64>, now: Timestamp) {
    let list: Vec<Notification> = marked.notifications;
    *status.notifications() = (!list.is_empty()).then_some(list);
    let conditions: &mut Vec<Condition> = status.conditions().get_or_insert_default();
    match marked.trouble {
        Some((reason, words)) => {
            conditions::set(conditions, NOTIFIED, "False", reason, &words, generation, now)
        }
        None => conditions.retain(|condition| condition.r#type != NOTIFIED),
    }
}

/// A message as Events and logs have it: they name the object themselves.
fn as_note(name: &ObjectKey, message: &Message) -> Note {
    let line = message.line();
    let named = format!("{}: ", announce::short_name(name));
    Note {
        reason: message.reason.clone(),
        message: line.strip_prefix(&named).unwrap_or(&line).to_owned(),
        warning: matches!(message.tone, Tone::Bad | Tone::Person),
    }
}
