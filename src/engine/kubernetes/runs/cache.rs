//! What is known of Jobs and pods. The watches write it, and whoever makes a Job does at once; reading it
//! asks nobody. Only Jobs that count are answered: see `recorded`.

mod believed;
mod fresh;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::recorded::Recorded;
use super::seen::{RunKey, facts_of, key_of, newer, run_of, trimmed_job, trimmed_pod, uid_of};
use super::shape::Shape;
use super::watch::Place;
use crate::api::{Class, Key};
use crate::engine::RunFacts;

/// Most pods that are kept without their Job: it is seen a moment later, or never.
const UNKNOWN_PODS: usize = 1000;

/// A watch that does not work, since when and why.
#[derive(Clone, Debug)]
struct Trouble {
    since: Timestamp,
    class: Class,
    message: String,
}

#[derive(Debug)]
struct Entry {
    /// What the Job said of itself when it was first seen. `recorded` decides what counts.
    claims: Option<RunFacts>,
    /// What its pod must be like.
    shape: Shape,
    job: Job,
    job_gone: bool,
    /// Seen since the running list began: that list need not have it.
    fresh: bool,
    refused: Option<String>,
    /// It was asked for anew, and nothing has been seen since.
    confirmed: bool,
}

#[derive(Debug)]
struct SeenPod {
    pod: Pod,
    shape: Shape,
    gone: bool,
}

#[derive(Debug, Default)]
struct State {
    places: Vec<Place>,
    runs: BTreeMap<RunKey, Entry>,
    pods: BTreeMap<RunKey, SeenPod>,
    /// Jobs that were deleted: what the watch still brings of them is old.
    forgotten: BTreeSet<RunKey>,
    /// Jobs that this agent created itself, and of what: their builder's status need not name them yet.
    made: BTreeMap<RunKey, RunFacts>,
    /// Builders whose status named these Jobs, whatever the Jobs say since.
    known: BTreeMap<RunKey, Key>,
    /// Jobs that look like ours and are not, told of once.
    odd: BTreeSet<RunKey>,
    missing: BTreeSet<Place>,
    troubles: BTreeMap<Place, Trouble>,
}

/// What is recorded of a builder's run.
pub type Records = Box<dyn Fn(&Key) -> Recorded + Send + Sync>;

/// See the module.
pub struct Cache {
    state: Mutex<State>,
    records: Records,
}

impl Cache {
    /// Empty, and not ready until each of the places was listed.
    pub fn new(places: Vec<Place>, records: Records) -> Self {
        let missing = places.iter().cloned().collect();
        Self { state: Mutex::new(State { places, missing, ..State::default() }), records }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the runs")
    }

    pub fn is_confirmed(&self, key: &RunKey) -> bool {
        self.state().runs.get(key).is_some_and(|entry| entry.confirmed)
    }

    /// A Job as the API server has just answered it.
    pub fn put(&self, job: Job) {
        self.state().saw_job(job);
    }

    /// A Job that this agent has just created for a run of these facts.
    pub fn put_made(&self, job: Job, facts: RunFacts) {
        let mut state = self.state();
        state.made.insert(key_of(&job.metadata), facts);
        state.saw_job(job);
    }

    /// Is this Job one that this agent created since it started?
    pub fn has_made(&self, key: &RunKey) -> bool {
        self.state().made.contains_key(key)
    }

    /// What was asked for anew about one run: what is not there now, is gone.
    pub fn confirm(&self, key: &RunKey, jobs: Vec<Job>, pods: Vec<Pod>) {
        let mut state = self.state();
        let no_job = !jobs.iter().any(|job| uid_of(&job.metadata) == key.uid);
        let found: BTreeSet<String> = pods.iter().map(|pod| uid_of(&pod.metadata)).collect();
        jobs.into_iter().for_each(|job| drop(state.saw_job(job)));
        pods.into_iter().for_each(|pod| drop(state.saw_pod(pod)));
        if let Some(seen) = state.pods.get_mut(key) {
            seen.gone |= !found.contains(&uid_of(&seen.pod.metadata));
        }
        if let Some(entry) = state.runs.get_mut(key) {
            entry.job_gone |= no_job;
            entry.confirmed = true;
        }
    }

    /// A run that was deleted.
    pub fn forget(&self, key: &RunKey) {
        let mut state = self.state();
        if state.runs.remove(key).is_some_and(|entry| !entry.job_gone) {
            state.forgotten.insert(key.clone());
        }
        state.made.remove(key);
        state.known.remove(key);
        state.pods.remove(key);
    }

    /// Why no pod can be made, in the API server's words. Answers whom to wake.
    pub fn refused(&self, key: &RunKey, words: Option<String>) -> Option<Key> {
        let mut state = self.state();
        let entry = state.runs.get_mut(key).filter(|entry| entry.refused != words)?;
        entry.refused = words;
        state.builder_of(key)
    }

    /// A list begins.
    pub fn begin_list(&self, place: &Place) {
        for (key, entry) in &mut self.state().runs {
            if place.covers(&key.namespace) {
                entry.fresh = false;
            }
        }
    }

    /// A list of Jobs is complete: these uids are in it. Answers whom to wake.
    pub fn end_jobs(&self, place: &Place, listed: &BTreeSet<String>) -> Vec<Key> {
        let mut state = self.state();
        let mut gone = Vec::new();
        for (key, entry) in &mut state.runs {
            if place.covers(&key.namespace) && !listed.contains(&key.uid) && !entry.fresh && !entry.job_gone {
                entry.job_gone = true;
                gone.push(key.clone());
            }
        }
        // Of Jobs that are not listed, the watch brings nothing any more: their end was missed.
        let may_come = |key: &RunKey| !place.covers(&key.namespace) || listed.contains(&key.uid);
        let State { runs, forgotten, made, known, odd, .. } = &mut *state;
        forgotten.retain(may_come);
        odd.retain(may_come);
        made.retain(|key, _| runs.contains_key(key));
        known.retain(|key, _| runs.contains_key(key));
        state.works(place);
        gone.iter().filter_map(|key| state.builder_of(key)).collect()
    }

    /// A list of pods is complete: these uids are in it. Answers whom to wake.
    pub fn end_pods(&self, place: &Place, listed: &BTreeSet<String>) -> Vec<Key> {
        let mut state = self.state();
        let is_listed = |seen: &SeenPod| listed.contains(&uid_of(&seen.pod.metadata));
        let gone: Vec<RunKey> = state
            .pods
            .iter()
            .filter(|(key, seen)| place.covers(&key.namespace) && !is_listed(seen) && !seen.gone)
            .map(|(key, _)| key.clone())
            .collect();
        state.works(place);
        gone.iter().filter_map(|key| state.pod_gone(key)).collect()
    }

    /// A watch brought something. Answers whom to wake.
    pub fn saw_job(&self, job: Job) -> Option<Key> {
        self.state().saw_job(job)
    }

    pub fn saw_pod(&self, pod: Pod) -> Option<Key> {
        self.state().saw_pod(pod)
    }

    pub fn job_deleted(&self, job: &Job) -> Option<Key> {
        let mut state = self.state();
        let key = key_of(&job.metadata);
        state.odd.remove(&key);
        if state.forgotten.remove(&key) {
            return None;
        }
        state.runs.get_mut(&key)?.job_gone = true;
        state.builder_of(&key)
    }

    /// The pod's last words come with its end.
    pub fn pod_deleted(&self, pod: Pod) -> Option<Key> {
        let mut state = self.state();
        let key = run_of(&pod.metadata)?;
        let current = state.pods.get(&key).is_none_or(|seen| seen.pod.metadata.uid == pod.metadata.uid);
        if !current {
            return None;
        }
        state.saw_pod(pod);
        state.pod_gone(&key)
    }

    pub fn works(&self, place: &Place) {
        self.state().troubles.remove(place);
    }

    pub fn fails(&self, place: &Place, class: Class, message: String, now: Timestamp) {
        let mut state = self.state();
        let since = state.troubles.get(place).map_or(now, |before| before.since);
        state.troubles.insert(place.clone(), Trouble { since, class, message });
    }
}

impl State {
    fn works(&mut self, place: &Place) {
        self.missing.remove(place);
        self.troubles.remove(place);
    }

    /// Whose run a Job is, as far as is known: whom to wake for it.
    fn builder_of(&self, key: &RunKey) -> Option<Key> {
        let known = self.made.get(key).map(|facts| &facts.builder).or_else(|| self.known.get(key));
        let claimed = || self.runs.get(key)?.claims.as_ref().map(|claims| &claims.builder);
        known.or_else(claimed).cloned()
    }

    fn saw_job(&mut self, job: Job) -> Option<Key> {
        let key = key_of(&job.metadata);
        if self.forgotten.contains(&key) {
            return None;
        }
        let before = self.runs.remove(&key);
        if before.as_ref().is_some_and(|entry| newer(&entry.job.metadata, &job.metadata)) {
            self.runs.extend(before.map(|entry| (key, entry)));
            return None;
        }
        let (known, refused) = before.map(|entry| (entry.claims, entry.refused)).unwrap_or_default();
        // What is written into a Job afterwards is not its agent's.
        let claims = known.or_else(|| facts_of(&job).map(|(_, facts)| facts));
        if claims.is_none() && !self.made.contains_key(&key) && self.odd.insert(key.clone()) {
            let job = format!("{}/{}", key.namespace, key.name);
            tracing::warn!(job, "has the label of a build, but no facts of one that can be read");
        }
        let shape = Shape::of_job(&job);
        if self.pods.get(&key).is_some_and(|seen| !shape.fits(&seen.shape)) {
            self.pods.remove(&key);
        }
        let job = trimmed_job(job);
        let entry = Entry { claims, shape, job, job_gone: false, fresh: true, refused, confirmed: false };
        self.runs.insert(key.clone(), entry);
        self.builder_of(&key)
    }

    /// A Job of one try makes one pod. If others say they are its, too, the first one is: they were made by somebody who
    /// knew the Job. A pod that does not run what the Job says is none.
    fn saw_pod(&mut self, pod: Pod) -> Option<Key> {
        let key = run_of(&pod.metadata)?;
        let shape = Shape::of_pod(&pod);
        match self.runs.get(&key) {
            Some(entry) if !entry.shape.fits(&shape) => return None,
            // The two watches do not wait for each other: its Job may be about to be seen.
            None if self.pods.len() >= self.runs.len() + UNKNOWN_PODS => return None,
            _ => {}
        }
        if let Some(SeenPod { pod: known, .. }) = self.pods.get(&key) {
            let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|at| at.0);
            let is_same = known.metadata.uid == pod.metadata.uid;
            // What a pod said last stays said, whatever a lagging list shows of it.
            let is_old = is_same && newer(&known.metadata, &pod.metadata);
            if is_old || (!is_same && created(known) <= created(&pod)) {
                return None;
            }
        }
        self.pods.insert(key.clone(), SeenPod { pod: trimmed_pod(pod), shape, gone: false });
        self.runs.get_mut(&key)?.confirmed = false;
        self.builder_of(&key)
    }

    /// The pod is there no more. Kept while its Job is known: it may have said the result.
    fn pod_gone(&mut self, key: &RunKey) -> Option<Key> {
        let Some(entry) = self.runs.get_mut(key) else {
            self.pods.remove(key);
            return None;
        };
        entry.confirmed = false;
        if let Some(seen) = self.pods.get_mut(key) {
            seen.gone = true;
        }
        self.builder_of(key)
    }
}

#[cfg(test)]
mod tests;
