//! The cache of Jobs and pods. The watches write it, and so does the agent when it creates a Job. Reading it sends no
//! request. Only Jobs that count as runs are returned: see `recorded`.

mod believed;
mod fresh;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::observed::{RunKey, facts_of, key_of, newer, run_of, trimmed_job, trimmed_pod, uid_of};
use super::place::RunPlace;
use super::recorded::Recorded;
use super::shape::Shape;
use crate::api::lock::lock;
use crate::api::{Class, Key};
use crate::engine::RunFacts;

/// Pods that are retained although their Job is unknown. The Job is observed a moment later, or never.
const UNKNOWN_PODS: usize = 1000;

/// Why a watch does not work, and since when.
#[derive(Clone, Debug)]
struct WatchFailure {
    since: Timestamp,
    class: Class,
    message: String,
}

#[derive(Debug)]
struct CachedJob {
    /// The facts in the Job's annotation when it was first observed. `recorded` decides which facts count.
    claims: Option<RunFacts>,
    /// The shape that its pod must have.
    shape: Shape,
    job: Job,
    job_gone: bool,
    /// Observed since the running list began, which therefore may lack it.
    fresh: bool,
    /// Why no pod can be created for it.
    refused: Option<String>,
    /// Whether it was read from the API server and nothing was observed since.
    confirmed: bool,
}

#[derive(Debug)]
struct CachedPod {
    pod: Pod,
    shape: Shape,
    gone: bool,
}

#[derive(Debug, Default)]
struct CacheState {
    places: Vec<RunPlace>,
    jobs: BTreeMap<RunKey, CachedJob>,
    pods: BTreeMap<RunKey, CachedPod>,
    /// Jobs that the agent deleted, or that it keeps only for their log. Later events of their watch are ignored.
    forgotten: BTreeSet<RunKey>,
    /// Of those, the ones that are kept for their log where the deletion of their builder does not delete them.
    kept: BTreeMap<RunKey, Key>,
    /// Jobs that this agent created, and their facts. The status of their builder may not record them yet.
    made: BTreeMap<RunKey, RunFacts>,
    /// The builder whose status recorded the Job, whatever the Job's annotation contains now.
    known: BTreeMap<RunKey, Key>,
    /// Jobs that look like runs but do not count. Each is reported once.
    strangers: BTreeSet<RunKey>,
    /// Places that are not listed yet.
    missing: BTreeSet<RunPlace>,
    failures: BTreeMap<RunPlace, WatchFailure>,
}

/// Returns what the status of a builder records of its run.
pub type Records = Box<dyn Fn(&Key) -> Recorded + Send + Sync>;

/// Jobs and pods as last observed.
pub struct Cache {
    state: Mutex<CacheState>,
    records: Records,
}

impl Cache {
    /// An empty cache, which is not ready until each of the places is listed.
    pub fn new(places: Vec<RunPlace>, records: Records) -> Self {
        let missing = places.iter().cloned().collect();
        Self { state: Mutex::new(CacheState { places, missing, ..CacheState::default() }), records }
    }

    fn state(&self) -> MutexGuard<'_, CacheState> {
        lock(&self.state)
    }

    pub fn is_confirmed(&self, key: &RunKey) -> bool {
        self.state().jobs.get(key).is_some_and(|cached| cached.confirmed)
    }

    /// Adds a Job that the API server has just returned.
    pub fn put(&self, job: Job) {
        self.state().saw_job(job);
    }

    /// Adds a Job that this agent has just created for a run with these facts.
    pub fn put_made(&self, job: Job, facts: RunFacts) {
        let mut state = self.state();
        state.made.insert(key_of(&job.metadata), facts);
        state.saw_job(job);
    }

    /// Whether this agent created the Job since it started.
    pub fn has_made(&self, key: &RunKey) -> bool {
        self.state().made.contains_key(key)
    }

    /// Adds the current Job and pod of one run, read from the API server. What was not returned is gone.
    pub fn confirm(&self, key: &RunKey, jobs: Vec<Job>, pods: Vec<Pod>) {
        let mut state = self.state();
        let no_job = !jobs.iter().any(|job| uid_of(&job.metadata) == key.uid);
        let found: BTreeSet<String> = pods.iter().map(|pod| uid_of(&pod.metadata)).collect();
        jobs.into_iter().for_each(|job| drop(state.saw_job(job)));
        pods.into_iter().for_each(|pod| drop(state.saw_pod(pod)));
        if let Some(cached) = state.pods.get_mut(key) {
            cached.gone |= !found.contains(&uid_of(&cached.pod.metadata));
        }
        if let Some(cached) = state.jobs.get_mut(key) {
            cached.job_gone |= no_job;
            cached.confirmed = true;
        }
    }

    /// Whether the agent deleted the Job, or keeps it only for its log.
    pub fn is_forgotten(&self, key: &RunKey) -> bool {
        self.state().forgotten.contains(key)
    }

    /// Whether the containers of a run's pod have ended and the pod is not deleted. Until then, Packer may run in it.
    pub fn has_ended_pod(&self, key: &RunKey) -> bool {
        let has_ended = |CachedPod { pod, gone, .. }: &CachedPod| {
            let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref());
            let is_over = |container: &ContainerStatus| {
                container.state.as_ref().is_some_and(|state| state.terminated.is_some())
            };
            let is_deleted = *gone || pod.metadata.deletion_timestamp.is_some();
            !is_deleted && containers.is_some_and(|all| !all.is_empty() && all.iter().all(is_over))
        };
        self.state().pods.get(key).is_some_and(has_ended)
    }

    /// Removes a run that the agent deleted, or keeps only for its log.
    pub fn forget(&self, key: &RunKey) {
        let mut state = self.state();
        if state.jobs.remove(key).is_some_and(|cached| !cached.job_gone) {
            state.forgotten.insert(key.clone());
        }
        state.made.remove(key);
        state.known.remove(key);
        state.pods.remove(key);
    }

    /// Records that a run of a builder, which is removed, is kept for its log. In the namespace of the builder, the API server
    /// deletes it together with the builder.
    pub fn keep(&self, key: &RunKey, builder: &Key) {
        let mut state = self.state();
        if key.namespace != builder.namespace && state.forgotten.contains(key) {
            state.kept.insert(key.clone(), builder.clone());
        }
    }

    /// The runs that are kept for their log, with their builder.
    pub fn kept(&self) -> BTreeMap<RunKey, Key> {
        self.state().kept.clone()
    }

    /// The deletion of the builder does not matter any more for a run that is kept.
    pub fn release(&self, key: &RunKey) {
        self.state().kept.remove(key);
    }

    /// Records why no pod can be created, as the API server states it. Returns the builder to wake.
    pub fn refused(&self, key: &RunKey, reason: Option<String>) -> Option<Key> {
        let mut state = self.state();
        let cached = state.jobs.get_mut(key).filter(|cached| cached.refused != reason)?;
        cached.refused = reason;
        state.builder_of(key)
    }

    /// A list begins.
    pub fn begin_list(&self, place: &RunPlace) {
        for (key, cached) in &mut self.state().jobs {
            if place.covers(&key.namespace) {
                cached.fresh = false;
            }
        }
    }

    /// A list of Jobs is complete and contains these UIDs. Returns the builders to wake.
    pub fn end_jobs(&self, place: &RunPlace, listed: &BTreeSet<String>) -> Vec<Key> {
        let mut state = self.state();
        let mut gone = Vec::new();
        for (key, cached) in &mut state.jobs {
            let is_missing = place.covers(&key.namespace) && !listed.contains(&key.uid) && !cached.fresh;
            if is_missing && !cached.job_gone {
                cached.job_gone = true;
                gone.push(key.clone());
            }
        }
        // The deletion of Jobs that are not listed was missed, so no event of them will follow.
        let may_follow = |key: &RunKey| !place.covers(&key.namespace) || listed.contains(&key.uid);
        let CacheState { jobs, forgotten, kept, made, known, strangers, .. } = &mut *state;
        forgotten.retain(may_follow);
        kept.retain(|key, _| forgotten.contains(key));
        strangers.retain(may_follow);
        made.retain(|key, _| jobs.contains_key(key));
        known.retain(|key, _| jobs.contains_key(key));
        state.works(place);
        gone.iter().filter_map(|key| state.builder_of(key)).collect()
    }

    /// A list of pods is complete and contains these UIDs. Returns the builders to wake.
    pub fn end_pods(&self, place: &RunPlace, listed: &BTreeSet<String>) -> Vec<Key> {
        let mut state = self.state();
        let is_listed = |cached: &CachedPod| listed.contains(&uid_of(&cached.pod.metadata));
        let gone: Vec<RunKey> = state
            .pods
            .iter()
            .filter(|(key, cached)| place.covers(&key.namespace) && !is_listed(cached) && !cached.gone)
            .map(|(key, _)| key.clone())
            .collect();
        state.works(place);
        gone.iter().filter_map(|key| state.pod_gone(key)).collect()
    }

    /// A watch returned a Job. Returns the builder to wake.
    pub fn saw_job(&self, job: Job) -> Option<Key> {
        self.state().saw_job(job)
    }

    /// A watch returned a pod. Returns the builder to wake.
    pub fn saw_pod(&self, pod: Pod) -> Option<Key> {
        self.state().saw_pod(pod)
    }

    /// A Job was deleted. Returns the builder to wake.
    pub fn job_deleted(&self, job: &Job) -> Option<Key> {
        let mut state = self.state();
        let key = key_of(&job.metadata);
        state.strangers.remove(&key);
        state.kept.remove(&key);
        if state.forgotten.remove(&key) {
            return None;
        }
        state.jobs.get_mut(&key)?.job_gone = true;
        state.builder_of(&key)
    }

    /// A pod was deleted. The event contains its last status, which may have the result. Returns the builder to wake.
    pub fn pod_deleted(&self, pod: Pod) -> Option<Key> {
        let mut state = self.state();
        let key = run_of(&pod.metadata)?;
        let current = state.pods.get(&key).is_none_or(|cached| cached.pod.metadata.uid == pod.metadata.uid);
        if !current {
            return None;
        }
        state.saw_pod(pod);
        state.pod_gone(&key)
    }

    /// The watch of a place works again.
    pub fn works(&self, place: &RunPlace) {
        self.state().failures.remove(place);
    }

    /// The watch of a place failed.
    pub fn fails(&self, place: &RunPlace, class: Class, message: String, now: Timestamp) {
        let mut state = self.state();
        let since = state.failures.get(place).map_or(now, |before| before.since);
        state.failures.insert(place.clone(), WatchFailure { since, class, message });
    }
}

impl CacheState {
    /// A place is listed.
    fn works(&mut self, place: &RunPlace) {
        self.missing.remove(place);
        self.failures.remove(place);
    }

    /// The builder that a change of the Job wakes. The annotation of the Job is good enough for that, if nothing
    /// better is known.
    fn builder_of(&self, key: &RunKey) -> Option<Key> {
        let known = self.made.get(key).map(|facts| &facts.builder).or_else(|| self.known.get(key));
        let claimed = || self.jobs.get(key)?.claims.as_ref().map(|claims| &claims.builder);
        known.or_else(claimed).cloned()
    }

    fn saw_job(&mut self, job: Job) -> Option<Key> {
        let key = key_of(&job.metadata);
        if self.forgotten.contains(&key) {
            return None;
        }
        let before = self.jobs.get(&key);
        // An old event changes nothing.
        if before.is_some_and(|cached| newer(&cached.job.metadata, &job.metadata)) {
            return None;
        }
        let (known, refused) =
            before.map(|cached| (cached.claims.clone(), cached.refused.clone())).unwrap_or_default();
        // The agent never changes the annotation: what differs from the first observation, others wrote.
        let claims = known.or_else(|| facts_of(&job).map(|(_, facts)| facts));
        if claims.is_none() && !self.made.contains_key(&key) && self.strangers.insert(key.clone()) {
            let job = format!("{}/{}", key.namespace, key.name);
            tracing::warn!(job, "the Job has the label of a build, but no readable facts of one");
        }
        let shape = Shape::of_job(&job);
        // A pod that was observed before its Job could not be compared then.
        if self.pods.get(&key).is_some_and(|cached| !shape.fits(&cached.shape)) {
            self.pods.remove(&key);
        }
        let job = trimmed_job(job);
        let cached =
            CachedJob { claims, shape, job, job_gone: false, fresh: true, refused, confirmed: false };
        self.jobs.insert(key.clone(), cached);
        self.builder_of(&key)
    }

    /// A Job without retries creates one pod. If other pods name it as their controller too, the oldest one counts: the
    /// others were created by somebody who knew the Job. A pod that does not match the Job's template never counts.
    fn saw_pod(&mut self, pod: Pod) -> Option<Key> {
        let key = run_of(&pod.metadata)?;
        let shape = Shape::of_pod(&pod);
        match self.jobs.get(&key) {
            _ if self.forgotten.contains(&key) => return None,
            Some(cached) if !cached.shape.fits(&shape) => return None,
            // The two watches are independent: the Job may be observed a moment later.
            None if self.pods.len() >= self.jobs.len() + UNKNOWN_PODS => return None,
            _ => {}
        }
        if let Some(CachedPod { pod: known, .. }) = self.pods.get(&key) {
            let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|at| at.0);
            let is_same = known.metadata.uid == pod.metadata.uid;
            // A list that lags behind must not replace the last status, which may have the result.
            let is_old = is_same && newer(&known.metadata, &pod.metadata);
            if is_old || (!is_same && created(known) <= created(&pod)) {
                return None;
            }
        }
        self.pods.insert(key.clone(), CachedPod { pod: trimmed_pod(pod), shape, gone: false });
        self.jobs.get_mut(&key)?.confirmed = false;
        self.builder_of(&key)
    }

    /// A pod is deleted. It is retained while its Job is known, because its status may have the result.
    fn pod_gone(&mut self, key: &RunKey) -> Option<Key> {
        let Some(cached) = self.jobs.get_mut(key) else {
            self.pods.remove(key);
            return None;
        };
        cached.confirmed = false;
        if let Some(cached) = self.pods.get_mut(key) {
            cached.gone = true;
        }
        self.builder_of(key)
    }
}

#[cfg(test)]
mod tests;
