//! Builds as Jobs. What is known of them comes from a watch and lies in the cache; what is about to be
//! started, or looks lost, is asked for anew.
//!
//! ```text
//! Jobs, pods ─watch→ cache ─job, pod → pod::run (pure)→ Run          a change wakes the builder
//! RunRequest ─job (pure)→ finalizer, ConfigMap, Job ─requests→ API server
//! ```

mod cache;
mod requests;
mod watch;

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use opsy_runner::request as wire;
use tokio_util::task::AbortOnDropHandle;

use super::Cluster;
use super::job::network::PodNetwork;
use super::job::{self, RunImages};
use super::pod::StopNote;
use crate::api::{Class, Key, Kind, ObjectKey, RunName};
use crate::engine::objects::Objects;
use crate::engine::{Run, RunRequest, RunState, Runs, RunsError, Stop};
use cache::{Cache, RunKey};
use requests::Requests;

/// The runs of a cluster.
pub struct ClusterRuns {
    shared: Arc<Shared>,
    images: RunImages,
    network: PodNetwork,
    _watches: Vec<AbortOnDropHandle<()>>,
}

/// What the watches and the runs share.
struct Shared {
    cluster: Cluster,
    objects: Arc<Objects>,
    cache: Cache,
    now: fn() -> Timestamp,
}

impl ClusterRuns {
    /// Watches Jobs and pods from now on.
    pub fn start(
        cluster: Cluster,
        objects: Arc<Objects>,
        images: RunImages,
        now: fn() -> Timestamp,
    ) -> Arc<Self> {
        Self::start_in(PodNetwork::default(), cluster, objects, images, now)
    }

    /// The same, with builds in this network.
    pub fn start_in(
        network: PodNetwork,
        cluster: Cluster,
        objects: Arc<Objects>,
        images: RunImages,
        now: fn() -> Timestamp,
    ) -> Arc<Self> {
        let cache = Cache::new(watch::places(&cluster.scope));
        let shared = Arc::new(Shared { cluster, objects, cache, now });
        Arc::new(Self { _watches: watch::start(&shared), shared, images, network })
    }

    async fn begin(&self, request: &RunRequest) -> Result<(), RunsError> {
        self.check(request)?;
        let builder = &request.facts.builder;
        self.shared.ready(&builder.namespace)?;
        let requests = self.requests();
        let owner = requests.builder(builder).await?;
        let config =
            job::config_map(request, owner.reference()).and_then(|config| self.network.with_file(config));
        let config =
            config.map_err(|error| RunsError { class: Class::Invalid, message: error.to_string() })?;
        if self.is_there(request, &requests).await? {
            return Ok(());
        }
        self.hold(builder, &requests).await?;
        requests.create_config(&config).await?;
        let job = self.network.in_job(job::job(request, &self.images, owner.reference()));
        let made = requests.create_job(&job).await?;
        requests.hand_config_over(&made).await;
        self.shared.cache.put_own(made);
        Ok(())
    }

    /// What would never work as it is set up.
    fn check(&self, request: &RunRequest) -> Result<(), RunsError> {
        let invalid = |message: String| Err(RunsError { class: Class::Invalid, message });
        if self.images.runner.is_empty() {
            return invalid("no image with opsy-runner is set: --runner-image".to_owned());
        }
        if !self.shared.cluster.scope.covers(&request.facts.builder.namespace) {
            return invalid(format!("namespace {} is not watched", request.facts.builder.namespace));
        }
        match &request.pod.git_sync {
            Some(sync) if !sync.repository.contains("://") => invalid(format!(
                "git-sync cannot reach {}: leave spec.gitSync out, or give Opsy a repository by URL",
                sync.repository
            )),
            _ => Ok(()),
        }
    }

    /// Asks anew which runs the builder has: another replica may have started one just now. Its own run
    /// is there already; another that lives is in the way.
    async fn is_there(&self, request: &RunRequest, requests: &Requests<'_>) -> Result<bool, RunsError> {
        let builder = &request.facts.builder;
        for found in requests.jobs_of(builder).await? {
            if found.metadata.name.as_deref() == Some(request.name.as_str()) {
                requests.hand_config_over(&found).await;
            }
            self.shared.cache.put_own(found);
        }
        let runs = self.shared.cache.runs_of(builder, (self.shared.now)());
        if runs.iter().any(|(_, run)| run.name == request.name) {
            return Ok(true);
        }
        match runs.iter().find(|(_, run)| !run.state.ended()) {
            Some((_, run)) => {
                Err(RunsError { class: Class::Conflict, message: format!("{} is running already", run.name) })
            }
            None => Ok(false),
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
        self.shared.ready(&builder.namespace)?;
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
        let Some((key, uid)) = self.shared.cache.find(run) else { return Ok(()) };
        let Some(seen) = self.shared.cache.run(&key, now).filter(|run| !run.state.ended()) else {
            return Ok(());
        };
        let (pending, waited_for) = match seen.state {
            RunState::Pending(waited_for) => (true, waited_for),
            _ => (false, None),
        };
        let stopped = self.requests().stop(&key, &uid, &StopNote { why, pending, waited_for }).await?;
        if let Some(job) = stopped {
            self.shared.cache.put_own(job);
        }
        Ok(())
    }

    async fn drop_run(&self, run: &RunName) -> Result<(), RunsError> {
        let Some((key, uid)) = self.shared.cache.find(run) else { return Ok(()) };
        let Some(builder) = self.shared.cache.builder(&key) else { return Ok(()) };
        let requests = self.requests();
        requests.delete(&key, &uid).await?;
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
    fn ready(&self, namespace: &str) -> Result<(), RunsError> {
        self.cache.ready(Some(namespace), (self.now)())
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
    fn start(&self, request: RunRequest) -> BoxFuture<'_, Result<(), RunsError>> {
        async move { self.begin(&request).await }.boxed()
    }

    fn of<'a>(&'a self, builder: &'a Key) -> BoxFuture<'a, Result<Vec<Run>, RunsError>> {
        self.runs_of(builder).boxed()
    }

    fn live(&self) -> BoxFuture<'_, Result<usize, RunsError>> {
        let now = (self.shared.now)();
        let live = self.shared.cache.ready(None, now).map(|()| {
            let runs = self.shared.cache.all(now);
            // Builders of another owner are not among the objects: their runs do not count here.
            let ours = |run: &Run| self.shared.objects.builders.has(&run.facts.builder);
            runs.iter().filter(|run| !run.state.ended() && ours(run)).count()
        });
        std::future::ready(live).boxed()
    }

    fn stop<'a>(&'a self, run: &'a RunName, why: Stop) -> BoxFuture<'a, Result<(), RunsError>> {
        self.end(run, why).boxed()
    }

    fn forget<'a>(&'a self, run: &'a RunName) -> BoxFuture<'a, Result<(), RunsError>> {
        self.drop_run(run).boxed()
    }

    fn progress(&self) -> Vec<(Key, wire::Progress)> {
        Vec::new()
    }

    fn wants_files(&self, request: &RunRequest) -> bool {
        request.pod.git_sync.is_none()
    }
}
