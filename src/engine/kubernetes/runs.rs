//! Builds as Jobs. What is known of them comes from a watch and lies in the cache; what is about to be
//! started, or looks lost, is asked for anew.
//!
//! ```text
//! Jobs, pods ─watch→ cache ─job, pod → pod::run (pure)→ Run          a change wakes the builder
//! RunRequest ─job (pure)→ finalizer, ConfigMap, Job ─requests→ API server
//! ```

mod cache;
mod recorded;
mod requests;
mod seen;
mod shape;
mod watch;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use opsy_runner::request as wire;
use tokio_util::task::AbortOnDropHandle;

use super::Cluster;
use super::job::fences::{self, Used};
use super::job::{self, Setup, git_secret};
use super::pod::StopNote;
use super::secrets;
use crate::api::{Class, Key, Kind, ObjectKey, RunName};
use crate::engine::objects::Objects;
use crate::engine::{GitSyncRun, PodSpec, Run, RunRequest, RunState, Runs, RunsError, Stop};
use cache::Cache;
use recorded::Recorded;
use requests::{Owning, Requests};
use seen::{RunKey, key_of};
use watch::Place;

/// The runs of a cluster.
pub struct ClusterRuns {
    shared: Arc<Shared>,
    _watches: Vec<AbortOnDropHandle<()>>,
}

/// What the watches and the runs share.
struct Shared {
    cluster: Cluster,
    objects: Arc<Objects>,
    setup: Setup,
    cache: Cache,
    now: fn() -> Timestamp,
}

impl ClusterRuns {
    /// Watches Jobs and pods from now on.
    pub fn start(
        cluster: Cluster,
        objects: Arc<Objects>,
        setup: impl Into<Setup>,
        now: fn() -> Timestamp,
    ) -> Arc<Self> {
        let setup = setup.into();
        let places = watch::places(&cluster.scope, setup.namespace.as_deref());
        let (known, here) = (objects.clone(), setup.clone());
        let records = move |builder: &Key| {
            let status = known.builders.get(builder).and_then(|builder| builder.status);
            status.map(|status| Recorded::of(&status, here.namespace_of(builder))).unwrap_or_default()
        };
        let cache = Cache::new(places, Box::new(records));
        let shared = Arc::new(Shared { cluster, objects, setup, cache, now });
        Arc::new(Self { _watches: watch::start(&shared), shared })
    }

    async fn begin(&self, request: &RunRequest) -> Result<String, RunsError> {
        self.check(request)?;
        let (builder, setup) = (&request.facts.builder, &self.shared.setup);
        self.shared.ready(builder)?;
        let requests = self.requests();
        let place = setup.namespace_of(builder);
        let owner = requests.builder(builder, place).await?;
        self.check_labels(request, &requests).await?;
        let request = &*self.with_login(request).await?;
        let config = job::config_map(request, setup, owner.reference())
            .and_then(|config| setup.network.with_file(config))
            .map_err(|error| RunsError { class: Class::Invalid, message: error.to_string() })?;
        if let Some(id) = self.is_there(request, &owner, &requests).await? {
            return Ok(id);
        }
        self.hold(builder, &requests).await?;
        requests.create_config(&config).await?;
        let job = setup.network.in_job(job::job(request, setup, owner.reference()));
        let made = requests.create_job(&job).await?;
        // First: the watch brings it, too, and only this tells that it is ours.
        self.shared.cache.put_made(made.clone(), request.facts.clone());
        requests.hand_config_over(&made).await;
        Ok(seen::uid_of(&made.metadata))
    }

    /// What would never work as it is set up, and what no build may have.
    fn check(&self, request: &RunRequest) -> Result<(), RunsError> {
        let invalid = |message: String| Err(RunsError { class: Class::Invalid, message });
        let Shared { setup, cluster, .. } = &*self.shared;
        if setup.images.runner.is_empty() {
            return invalid("no image with opsy-runner is set: --runner-image".to_owned());
        }
        if !cluster.scope.covers(&request.facts.builder.namespace) {
            return invalid(format!("namespace {} is not watched", request.facts.builder.namespace));
        }
        let refused = fences::refusal(request, setup).or_else(|| fences::annotated(request, setup));
        if let Some(words) = refused {
            return invalid(words);
        }
        let Some(sync) = &request.pod.git_sync else { return Ok(()) };
        if sync.repository.starts_with('/') {
            return invalid(format!(
                "git-sync cannot reach {}: leave spec.gitSync out, or give Opsy a repository by URL",
                sync.repository
            ));
        }
        git_secret::lacking(sync).map_or(Ok(()), invalid)
    }

    /// Checks the Secret of git-sync, and adds the user name that it lacks. Where the agent may not read the Secret, or
    /// there is none yet, the pod reports what is wrong with it.
    async fn with_login<'a>(&self, request: &'a RunRequest) -> Result<Cow<'a, RunRequest>, RunsError> {
        let Shared { setup, cluster, .. } = &*self.shared;
        let sync = request.pod.git_sync.as_ref();
        let Some((sync, secret)) = sync.and_then(|sync| Some((sync, sync.secret.as_deref()?))) else {
            return Ok(Cow::Borrowed(request));
        };
        let place = setup.namespace_of(&request.facts.builder);
        let Ok(keys) = secrets::get(&cluster.client, place, secret).await else {
            return Ok(Cow::Borrowed(request));
        };
        if let Some(message) = git_secret::unfit(sync, &format!("{place}/{secret}"), &keys) {
            return Err(RunsError { class: Class::Invalid, message });
        }
        let sync = GitSyncRun { user: git_secret::user(sync, &keys), ..sync.clone() };
        let pod = PodSpec { git_sync: Some(sync), ..request.pod.clone() };
        Ok(Cow::Owned(RunRequest { pod, ..request.clone() }))
    }

    /// Where several namespaces share the agent or the builds' namespace, builds use only what is labelled for them.
    async fn check_labels(&self, request: &RunRequest, requests: &Requests<'_>) -> Result<(), RunsError> {
        let Shared { setup, cluster, .. } = &*self.shared;
        if !fences::needs_labels(&cluster.scope, setup, &request.facts.builder) {
            return Ok(());
        }
        for used in fences::used(request, setup) {
            self.check_label(&used, requests).await?;
        }
        Ok(())
    }

    async fn check_label(&self, used: &Used, requests: &Requests<'_>) -> Result<(), RunsError> {
        let metadata = requests.metadata_of(used).await.map_err(|refusal| RunsError {
            class: refusal.class,
            message: format!("whether a build may use {used} cannot be read: {refusal}"),
        })?;
        let refused = fences::unlabelled(used, &metadata);
        refused.map_or(Ok(()), |message| Err(RunsError { class: Class::Invalid, message }))
    }

    /// The Secret for a builder's template repository, as its builds may use it.
    async fn read_secret(
        &self,
        secret: &Key,
        withheld: &BTreeSet<Key>,
    ) -> Result<BTreeMap<String, String>, RunsError> {
        let Shared { setup, cluster, .. } = &*self.shared;
        let used = fences::git_secret(secret, setup);
        let invalid = |message| RunsError { class: Class::Invalid, message };
        if let Some(words) = fences::own(&used, setup, withheld) {
            return Err(invalid(words));
        }
        if fences::needs_labels(&cluster.scope, setup, secret) {
            self.check_label(&used, &self.requests()).await?;
        }
        let read = secrets::get(&cluster.client, &used.key.namespace, &used.key.name).await;
        read.map_err(|error| RunsError { class: error.class, message: error.message })
    }

    /// Asks anew which runs the builder has: another replica may have started one just now. Its own run
    /// is there already, and its id is answered; another that lives is in the way.
    async fn is_there(
        &self,
        request: &RunRequest,
        owner: &Owning,
        requests: &Requests<'_>,
    ) -> Result<Option<String>, RunsError> {
        let builder = &request.facts.builder;
        let place = self.shared.setup.namespace_of(builder);
        let mut known = Vec::new();
        for found in requests.jobs_of(builder, place).await? {
            let key = key_of(&found.metadata);
            if !self.shared.cache.has_made(&key) && !owner.names(builder, &found) {
                if recorded::is_left_over(&found, request, place) {
                    tracing::warn!("{}; it is deleted with its pod", recorded::words(&key, builder));
                    requests.delete(&key).await?;
                }
                continue;
            }
            if key.name == request.name.as_str() {
                requests.hand_config_over(&found).await;
            }
            if found.metadata.deletion_timestamp.is_none() {
                known.push(key);
            }
            self.shared.cache.put(found);
        }
        let runs = self.shared.cache.runs_of(builder, (self.shared.now)());
        if known.iter().any(|key| runs.iter().all(|(counted, _)| counted != key)) {
            let message = format!("another replica has just recorded a run of {builder}");
            return Err(RunsError { class: Class::Conflict, message });
        }
        if let Some((key, _)) = runs.iter().find(|(_, run)| run.name == request.name) {
            return Ok(Some(key.uid.clone()));
        }
        match runs.iter().find(|(_, run)| !run.state.ended()) {
            Some((_, run)) => {
                Err(RunsError { class: Class::Conflict, message: format!("{} is running already", run.name) })
            }
            None => Ok(None),
        }
    }

    /// Puts the finalizer on the builder: it goes only when nothing of it runs.
    async fn hold(&self, builder: &Key, requests: &Requests<'_>) -> Result<(), RunsError> {
        let moved = requests.hold(builder).await?;
        self.shared.moved(builder, moved);
        Ok(())
    }

    /// The builder's runs; one that looks lost is looked at anew before that is said.
    async fn runs_of(&self, builder: &Key) -> Result<Vec<Run>, RunsError> {
        self.shared.ready(builder)?;
        for stranger in self.shared.cache.strangers_of(builder) {
            tracing::warn!("{}", recorded::words(&stranger, builder));
        }
        let mut runs = Vec::new();
        for (key, run) in self.shared.cache.runs_of(builder, (self.shared.now)()) {
            if matches!(run.state, RunState::Lost(_)) && !self.shared.cache.is_confirmed(&key) {
                self.confirm(&key).await?;
                runs.extend(self.shared.cache.run(&key, (self.shared.now)()));
            } else {
                runs.push(run);
            }
        }
        Ok(runs)
    }

    async fn confirm(&self, key: &RunKey) -> Result<(), RunsError> {
        let (jobs, pods) = self.requests().look_at(key).await?;
        self.shared.cache.confirm(key, jobs, pods);
        Ok(())
    }

    async fn end(&self, run: &RunName, why: Stop) -> Result<(), RunsError> {
        let now = (self.shared.now)();
        let Some((key, _)) = self.shared.cache.find(run) else { return Ok(()) };
        let Some(seen) = self.shared.cache.run(&key, now).filter(|run| !run.state.ended()) else {
            return Ok(());
        };
        let (pending, waited_for) = match seen.state {
            RunState::Pending(waited_for) => (true, waited_for),
            _ => (false, None),
        };
        let stopped = self.requests().stop(&key, &StopNote { why, pending, waited_for }).await?;
        if let Some(job) = stopped {
            self.shared.cache.put(job);
        }
        Ok(())
    }

    async fn drop_run(&self, run: &RunName) -> Result<(), RunsError> {
        let Some((key, builder)) = self.shared.cache.find(run) else { return Ok(()) };
        let requests = self.requests();
        requests.delete(&key).await?;
        let runs = self.shared.cache.runs_of(&builder, (self.shared.now)());
        if runs.iter().all(|(other, _)| *other == key) {
            let moved = requests.let_go(&builder).await?;
            self.shared.moved(&builder, moved);
        }
        // Last: until all of it is done, the run is there to be forgotten again.
        self.shared.cache.forget(&key);
        Ok(())
    }

    fn requests(&self) -> Requests<'_> {
        Requests::new(&self.shared.cluster.client)
    }
}

impl Shared {
    /// Is everything known of the runs of a builder?
    fn ready(&self, builder: &Key) -> Result<(), RunsError> {
        self.cache.ready(self.setup.namespace_of(builder), (self.now)())
    }

    /// The builders of all live runs. Those of another owner are not among the objects, and do not count here.
    fn live(&self) -> Vec<Key> {
        let runs = self.cache.all((self.now)()).into_iter().filter(|run| !run.state.ended());
        runs.map(|run| run.facts.builder).filter(|builder| self.objects.builders.has(builder)).collect()
    }

    fn places(&self) -> Vec<Place> {
        watch::places(&self.cluster.scope, self.setup.namespace.as_deref())
    }

    /// The builder's pass wrote this itself, and need not begin anew for it.
    fn moved(&self, builder: &Key, versions: Option<(String, String)>) {
        if let Some((from, to)) = versions {
            let object = ObjectKey { kind: Kind::PackerBuilder, key: builder.clone() };
            self.objects.moved(&object, from, to);
        }
    }
}

impl Runs for ClusterRuns {
    fn start(&self, request: RunRequest) -> BoxFuture<'_, Result<String, RunsError>> {
        async move { self.begin(&request).await }.boxed()
    }

    fn of<'a>(&'a self, builder: &'a Key) -> BoxFuture<'a, Result<Vec<Run>, RunsError>> {
        self.runs_of(builder).boxed()
    }

    fn live(&self) -> BoxFuture<'_, Result<usize, RunsError>> {
        let live = self.shared.cache.countable((self.shared.now)()).map(|()| self.shared.live().len());
        std::future::ready(live).boxed()
    }

    fn is_live_elsewhere(&self, namespace: &str) -> bool {
        self.shared.live().iter().any(|builder| builder.namespace != namespace)
    }

    fn stop<'a>(&'a self, run: &'a RunName, why: Stop) -> BoxFuture<'a, Result<(), RunsError>> {
        self.end(run, why).boxed()
    }

    fn forget<'a>(&'a self, run: &'a RunName) -> BoxFuture<'a, Result<(), RunsError>> {
        self.drop_run(run).boxed()
    }

    fn secret<'a>(
        &'a self,
        secret: &'a Key,
        withheld: &'a BTreeSet<Key>,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, RunsError>> {
        self.read_secret(secret, withheld).boxed()
    }

    fn progress(&self) -> Vec<(Key, wire::Progress)> {
        Vec::new()
    }

    fn wants_files(&self, request: &RunRequest) -> bool {
        request.pod.git_sync.is_none()
    }
}
