//! Starts a run: refuses what a build may not have, makes sure that the builder has no other live run, and creates
//! finalizer, ConfigMap and Job.

use std::borrow::Cow;

use super::client::{Owning, RunClient};
use super::observed::{RunKey, key_of};
use super::{ClusterRuns, RunsShared, observed, recorded};
use crate::api::Key;
use crate::engine::kubernetes::job::fences::{self, Used};
use crate::engine::kubernetes::job::{self, git_secret};
use crate::engine::kubernetes::secrets;
use crate::engine::{EngineError, GitSyncRun, PodSpec, RunRequest};

/// What exists of a builder before a start.
enum Existing {
    /// The requested run, by the UID of its Job.
    Requested(String),
    /// Nothing that is live. The Jobs of failed runs are kept for their logs until another run starts.
    Ended { kept_logs: Vec<RunKey> },
}

impl ClusterRuns {
    /// Starts a run and returns the UID of its Job. If the run exists, returns its UID.
    pub(super) async fn start_run(&self, request: &RunRequest) -> Result<String, EngineError> {
        self.check(request)?;
        let (builder, setup) = (&request.facts.builder, &self.shared.setup);
        self.shared.ready(builder)?;
        let client = self.client();
        let place = setup.namespace_of(builder);
        let owner = client.builder(builder, place).await?;
        self.check_labels(request, &client).await?;
        let request = &*self.with_login(request).await?;
        let config = job::config_map(request, setup, owner.reference())
            .and_then(|config| setup.network.with_file(config))
            .map_err(|error| EngineError::invalid(error.to_string()))?;
        let kept_logs = match self.existing(request, &owner, &client).await? {
            Existing::Requested(uid) => return Ok(uid),
            Existing::Ended { kept_logs } => kept_logs,
        };
        self.add_finalizer(builder, &client).await?;
        client.create_config(&config).await?;
        // Before the new Job, because a quota may allow only so many.
        for key in kept_logs {
            client.delete(&key).await?;
        }
        let job = setup.network.in_job(job::job(request, setup, owner.reference()));
        let made = client.create_job(&job).await?;
        // At once, although the watch returns the Job too: only this records that the agent created it.
        self.shared.cache.put_made(made.clone(), request.facts.clone());
        client.hand_config_over(&made).await;
        Ok(observed::uid_of(&made.metadata))
    }

    /// Refuses what can never work with these flags, and what no build may have.
    fn check(&self, request: &RunRequest) -> Result<(), EngineError> {
        let invalid = |message: String| Err(EngineError::invalid(message));
        let RunsShared { setup, cluster, .. } = &*self.shared;
        if setup.images.runner.is_empty() {
            return invalid("no image with opsy-runner is set: set --runner-image".to_owned());
        }
        if !cluster.scope.covers(&request.facts.builder.namespace) {
            return invalid(format!("namespace {} is not watched", request.facts.builder.namespace));
        }
        let refused = fences::refusal(request, setup).or_else(|| fences::annotated(request, setup));
        if let Some(message) = refused {
            return invalid(message);
        }
        let Some(sync) = &request.pod.git_sync else { return Ok(()) };
        if sync.repository.starts_with('/') {
            return invalid(format!(
                "git-sync cannot reach the local path {}: remove spec.gitSync, or give Opsy a repository by URL",
                sync.repository
            ));
        }
        git_secret::lacking(sync).map_or(Ok(()), invalid)
    }

    /// Checks the Secret of git-sync, and adds the user name that it lacks. If the agent may not read the Secret, or it
    /// does not exist yet, the start continues: the pod then reports what is wrong with it.
    async fn with_login<'a>(&self, request: &'a RunRequest) -> Result<Cow<'a, RunRequest>, EngineError> {
        let RunsShared { setup, cluster, .. } = &*self.shared;
        let sync = request.pod.git_sync.as_ref();
        let Some((sync, secret)) = sync.and_then(|sync| Some((sync, sync.secret.as_deref()?))) else {
            return Ok(Cow::Borrowed(request));
        };
        let place = setup.namespace_of(&request.facts.builder);
        let Ok(keys) = secrets::get(&cluster.client, place, secret).await else {
            return Ok(Cow::Borrowed(request));
        };
        if let Some(message) = git_secret::unfit(sync, &format!("{place}/{secret}"), &keys) {
            return Err(EngineError::invalid(message));
        }
        let sync = GitSyncRun { user: git_secret::user(sync, &keys), ..sync.clone() };
        let pod = PodSpec { git_sync: Some(sync), ..request.pod.clone() };
        Ok(Cow::Owned(RunRequest { pod, ..request.clone() }))
    }

    /// If several namespaces share the agent or the builds' namespace, builds may use only what is labeled for them.
    async fn check_labels(&self, request: &RunRequest, client: &RunClient<'_>) -> Result<(), EngineError> {
        let RunsShared { setup, cluster, .. } = &*self.shared;
        if !fences::needs_labels(&cluster.scope, setup, &request.facts.builder) {
            return Ok(());
        }
        for used in fences::used(request, setup) {
            self.check_label(&used, client).await?;
        }
        Ok(())
    }

    pub(super) async fn check_label(&self, used: &Used, client: &RunClient<'_>) -> Result<(), EngineError> {
        let metadata = client.metadata_of(used).await.map_err(|refusal| EngineError {
            class: refusal.class,
            message: format!("the labels of {used}, which allow builds to use it, cannot be read: {refusal}"),
        })?;
        let refused = fences::unlabeled(used, &metadata);
        refused.map_or(Ok(()), |message| Err(EngineError::invalid(message)))
    }

    /// Reads the builder's Jobs from the API server, because another replica may have started one just now. Another live
    /// run is an error.
    async fn existing(
        &self,
        request: &RunRequest,
        owner: &Owning,
        client: &RunClient<'_>,
    ) -> Result<Existing, EngineError> {
        let builder = &request.facts.builder;
        let place = self.shared.setup.namespace_of(builder);
        let (mut known, mut kept_logs) = (Vec::new(), Vec::new());
        for found in client.jobs_of(builder, place).await? {
            let key = key_of(&found.metadata);
            if self.shared.cache.is_forgotten(&key) {
                // A Job with the same label can be that of another builder.
                if observed::facts_of(&found).is_some_and(|(_, facts)| facts.builder == *builder) {
                    kept_logs.push(key);
                }
                continue;
            }
            // Neither this agent created it since its start, nor does the status record it: the Job does not count.
            if !self.shared.cache.has_made(&key) && !owner.names(builder, &found) {
                if recorded::is_left_over(&found, request, place) {
                    let stranger = recorded::explain_stranger(&key, builder);
                    tracing::warn!("{stranger}; it is deleted with its pod");
                    client.delete(&key).await?;
                }
                continue;
            }
            // An earlier start may have ended between the Job and this.
            if key.name == request.name.as_str() {
                client.hand_config_over(&found).await;
            }
            if found.metadata.deletion_timestamp.is_none() {
                known.push(key);
            }
            self.shared.cache.put(found);
        }
        let runs = self.shared.cache.runs_of(builder, (self.shared.now)());
        // The status that this agent has read does not record the Job yet.
        if known.iter().any(|key| runs.iter().all(|(counted, _)| counted != key)) {
            let message = format!("another replica has just recorded a run of {builder}");
            return Err(EngineError::conflict(message));
        }
        if let Some((key, _)) = runs.iter().find(|(_, run)| run.name == request.name) {
            return Ok(Existing::Requested(key.uid.clone()));
        }
        match runs.iter().find(|(_, run)| !run.state.ended()) {
            Some((_, run)) => Err(EngineError::conflict(format!("{} is already running", run.name))),
            None => Ok(Existing::Ended { kept_logs }),
        }
    }

    /// Adds the finalizer, which retains the builder while one of its runs is live.
    async fn add_finalizer(&self, builder: &Key, client: &RunClient<'_>) -> Result<(), EngineError> {
        let written = client.add_finalizer(builder).await?;
        self.shared.record_own_write(builder, written);
        Ok(())
    }
}
