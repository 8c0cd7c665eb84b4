//! Builds as Jobs. What is known of Jobs and pods comes from a watch and is in the cache. Before a start, and when a
//! run looks lost, the API server is asked again.
//!
//! ```text
//! Jobs, pods ─watch→ cache ─job, pod → pod::run (pure)→ Run                     a change wakes the builder
//! RunRequest ─start: checks, job (pure)→ finalizer, ConfigMap, Job ─client→ API server
//! ```
//!
//! `recorded` decides which Jobs count as runs, `shape` which pods belong to a Job, `place` what is watched.

mod cache;
mod client;
mod kept;
mod observed;
mod place;
mod recorded;
mod shape;
mod start;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use opsy_runner::request as wire;
use tokio_util::task::AbortOnDropHandle;

use super::Cluster;
use super::error::Refusal;
use super::job::Setup;
use super::job::fences;
use super::pod::StopNote;
use super::secrets;
use crate::api::{Class, Key, Kind, ObjectKey, RunName};
use crate::engine::objects::Objects;
use crate::engine::{EngineError, Failure, Run, RunRequest, RunState, Runs, Stop};
use cache::Cache;
use client::RunClient;
use observed::RunKey;
use place::RunPlace;
use recorded::Recorded;

/// The runs of a cluster.
pub struct ClusterRuns {
    shared: Arc<RunsShared>,
    _watches: Vec<AbortOnDropHandle<()>>,
}

/// What the watches and `ClusterRuns` share.
struct RunsShared {
    cluster: Cluster,
    objects: Arc<Objects>,
    setup: Setup,
    cache: Cache,
    now: fn() -> Timestamp,
}

impl ClusterRuns {
    /// Starts to watch Jobs and pods.
    pub fn start(
        cluster: Cluster,
        objects: Arc<Objects>,
        setup: impl Into<Setup>,
        now: fn() -> Timestamp,
    ) -> Arc<Self> {
        let setup = setup.into();
        let places = place::places(&cluster.scope, setup.namespace.as_deref());
        let (known, here) = (objects.clone(), setup.clone());
        let records = move |builder: &Key| {
            let status = known.builders.get(builder).and_then(|builder| builder.status);
            status.map(|status| Recorded::of(&status, here.namespace_of(builder))).unwrap_or_default()
        };
        let cache = Cache::new(places, Box::new(records));
        let shared = Arc::new(RunsShared { cluster, objects, setup, cache, now });
        Arc::new(Self { _watches: watch::start(&shared), shared })
    }

    /// The Secret for a builder's template repository, if its builds may use it.
    async fn read_secret(
        &self,
        secret: &Key,
        withheld: &BTreeSet<Key>,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        let RunsShared { setup, cluster, .. } = &*self.shared;
        let used = fences::git_secret(secret, setup);
        if let Some(message) = fences::own(&used, setup, withheld) {
            return Err(EngineError::invalid(message));
        }
        if fences::needs_labels(&cluster.scope, setup, secret) {
            self.check_label(&used, &self.client()).await?;
        }
        secrets::get(&cluster.client, &used.key.namespace, &used.key.name).await
    }

    /// The builder's runs. One that looks lost is observed again before it is reported as lost.
    async fn runs_of(&self, builder: &Key) -> Result<Vec<Run>, EngineError> {
        self.shared.ready(builder)?;
        for stranger in self.shared.cache.strangers_of(builder) {
            tracing::warn!("{}", recorded::explain_stranger(&stranger, builder));
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

    async fn confirm(&self, key: &RunKey) -> Result<(), EngineError> {
        let (jobs, pods) = self.client().observe(key).await?;
        self.shared.cache.confirm(key, jobs, pods);
        Ok(())
    }

    async fn stop_run(&self, run: &RunName, why: Stop) -> Result<(), EngineError> {
        let now = (self.shared.now)();
        let Some((key, _)) = self.shared.cache.find(run) else { return Ok(()) };
        let Some(live) = self.shared.cache.run(&key, now).filter(|run| !run.state.ended()) else {
            return Ok(());
        };
        let (pending, waited_for) = match live.state {
            RunState::Pending(waited_for) => (true, waited_for),
            _ => (false, None),
        };
        let stopped = self.client().stop(&key, &StopNote { why, pending, waited_for }).await?;
        if let Some(job) = stopped {
            self.shared.cache.put(job);
        }
        Ok(())
    }

    async fn delete_run(&self, run: &RunName) -> Result<(), EngineError> {
        let Some((key, builder)) = self.shared.cache.find(run) else { return Ok(()) };
        let client = self.client();
        let is_kept = self.shared.has_failure_log(&key) && keep_log(&client, &key).await?;
        if !is_kept {
            client.delete(&key).await?;
        }
        let runs = self.shared.cache.runs_of(&builder, (self.shared.now)());
        if runs.iter().all(|(other, _)| *other == key) {
            let written = client.remove_finalizer(&builder).await?;
            self.shared.record_own_write(&builder, written);
        }
        // Last, so that the run can be deleted again if one of the requests fails. A Job that is kept for its log no
        // longer counts as a run. After a restart it counts again, and this step repeats.
        self.shared.cache.forget(&key);
        if is_kept {
            self.shared.cache.keep(&key, &builder);
        }
        Ok(())
    }

    fn client(&self) -> RunClient<'_> {
        RunClient::new(&self.shared.cluster.client)
    }
}

/// Keeps the log of a failed run, and returns whether that was possible. Where a policy refuses it, the next build matters
/// more.
async fn keep_log(client: &RunClient<'_>, key: &RunKey) -> Result<bool, Refusal> {
    match client.keep_log(key).await {
        Ok(()) => Ok(true),
        Err(refusal) if matches!(refusal.class, Class::Denied | Class::Invalid) => {
            tracing::warn!(job = %key.name, "the log of the failed build is not kept: {refusal}");
            Ok(false)
        }
        Err(refusal) => Err(refusal),
    }
}

impl RunsShared {
    /// Whether everything is known of a builder's runs.
    fn ready(&self, builder: &Key) -> Result<(), EngineError> {
        self.cache.ready(self.setup.namespace_of(builder), (self.now)())
    }

    /// Whether the pod of an ended run has the log of a failure, which is kept until the next run starts or the builder is
    /// deleted.
    fn has_failure_log(&self, key: &RunKey) -> bool {
        let has_failed = |run: Run| match run.state {
            RunState::Failed(failure) => !matches!(failure, Failure::Cancelled | Failure::NotStarted(_)),
            state => matches!(state, RunState::Lost(_)),
        };
        self.cache.has_ended_pod(key) && self.cache.run(key, (self.now)()).is_some_and(has_failed)
    }

    /// The builders of all live runs. Those of another owner are not among the objects, and do not count.
    fn live(&self) -> Vec<Key> {
        let runs = self.cache.all((self.now)()).into_iter().filter(|run| !run.state.ended());
        runs.map(|run| run.facts.builder).filter(|builder| self.objects.builders.has(builder)).collect()
    }

    fn places(&self) -> Vec<RunPlace> {
        place::places(&self.cluster.scope, self.setup.namespace.as_deref())
    }

    /// The builder's reconcile changed the finalizer itself, and must not become stale by that.
    fn record_own_write(&self, builder: &Key, versions: Option<(String, String)>) {
        if let Some((from, to)) = versions {
            let object = ObjectKey { kind: Kind::PackerBuilder, key: builder.clone() };
            self.objects.record_own_write(&object, from, to);
        }
    }
}

impl Runs for ClusterRuns {
    fn start(&self, request: RunRequest) -> BoxFuture<'_, Result<String, EngineError>> {
        async move { self.start_run(&request).await }.boxed()
    }

    fn of<'a>(&'a self, builder: &'a Key) -> BoxFuture<'a, Result<Vec<Run>, EngineError>> {
        self.runs_of(builder).boxed()
    }

    fn live(&self) -> BoxFuture<'_, Result<usize, EngineError>> {
        let live = self.shared.cache.countable((self.shared.now)()).map(|()| self.shared.live().len());
        std::future::ready(live).boxed()
    }

    fn is_live_elsewhere(&self, namespace: &str) -> bool {
        self.shared.live().iter().any(|builder| builder.namespace != namespace)
    }

    fn stop<'a>(&'a self, run: &'a RunName, why: Stop) -> BoxFuture<'a, Result<(), EngineError>> {
        self.stop_run(run, why).boxed()
    }

    fn forget<'a>(&'a self, run: &'a RunName) -> BoxFuture<'a, Result<(), EngineError>> {
        self.delete_run(run).boxed()
    }

    fn secret<'a>(
        &'a self,
        secret: &'a Key,
        withheld: &'a BTreeSet<Key>,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, EngineError>> {
        self.read_secret(secret, withheld).boxed()
    }

    fn progress(&self) -> Vec<(Key, wire::Progress)> {
        Vec::new()
    }

    fn wants_files(&self, request: &RunRequest) -> bool {
        request.pod.git_sync.is_none()
    }
}
