//! What is known of Jobs and pods. The watches write it, and whoever makes a Job does at once; reading it
//! asks nobody. Only Jobs that count are answered: see `recorded`.

mod fresh;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

use super::recorded::Recorded;
use super::seen::{RunKey, facts_of, key_of, newer, run_of, trimmed_job, trimmed_pod, uid_of};
use super::watch::Place;
use crate::api::{Class, Key, RunName};
use crate::engine::kubernetes::pod::{self, Sighting};
use crate::engine::{Run, RunFacts};

/// A watch that does not work, since when and why.
#[derive(Clone, Debug)]
struct Trouble {
    since: Timestamp,
    class: Class,
    message: String,
}

#[derive(Debug)]
struct Entry {
    name: RunName,
    facts: RunFacts,
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
    gone: bool,
}

#[derive(Debug, Default)]
struct State {
    places: Vec<Place>,
    runs: BTreeMap<RunKey, Entry>,
    pods: BTreeMap<RunKey, SeenPod>,
    /// Jobs that were deleted: what the watch still brings of them is old.
    forgotten: BTreeSet<RunKey>,
    /// Jobs that this agent created itself: their builder's status need not name them yet.
    made: BTreeSet<RunKey>,
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

    /// A builder's runs.
    pub fn runs_of(&self, builder: &Key, now: Timestamp) -> Vec<(RunKey, Run)> {
        let recorded = (self.records)(builder);
        let state = self.state();
        let counts = |key: &RunKey| state.made.contains(key) || recorded.names(key);
        let of = state.runs.iter().filter(|(key, entry)| entry.facts.builder == *builder && counts(key));
        of.map(|(key, entry)| (key.clone(), state.run(key, entry, now))).collect()
    }

    pub fn all(&self, now: Timestamp) -> Vec<Run> {
        let state = self.state();
        let counted = state.runs.iter().filter(|(key, entry)| self.counts(&state, key, entry));
        counted.map(|(key, entry)| state.run(key, entry, now)).collect()
    }

    /// Jobs that say they are runs of a builder and that nothing records; each is answered once.
    pub fn strangers_of(&self, builder: &Key) -> Vec<RunKey> {
        let recorded = (self.records)(builder);
        let mut state = self.state();
        let counts = |key: &RunKey| state.made.contains(key) || recorded.names(key);
        let of = state.runs.iter().filter(|(key, entry)| entry.facts.builder == *builder && !counts(key));
        let strangers: Vec<RunKey> =
            of.map(|(key, _)| key.clone()).filter(|key| !state.odd.contains(key)).collect();
        state.odd.extend(strangers.iter().cloned());
        strangers
    }

    pub fn run(&self, key: &RunKey, now: Timestamp) -> Option<Run> {
        let state = self.state();
        state.runs.get(key).map(|entry| state.run(key, entry, now))
    }

    /// Where a run is.
    pub fn find(&self, run: &RunName) -> Option<RunKey> {
        let state = self.state();
        let mut named = state.runs.iter().filter(|(_, entry)| entry.name == *run);
        named.find(|(key, entry)| self.counts(&state, key, entry)).map(|(key, _)| key.clone())
    }

    /// Is the Job this agent's, as far as is known of its builder?
    fn counts(&self, state: &State, key: &RunKey, entry: &Entry) -> bool {
        state.made.contains(key) || (self.records)(&entry.facts.builder).names(key)
    }

    pub fn builder(&self, key: &RunKey) -> Option<Key> {
        self.state().runs.get(key).map(|entry| entry.facts.builder.clone())
    }

    pub fn is_confirmed(&self, key: &RunKey) -> bool {
        self.state().runs.get(key).is_some_and(|entry| entry.confirmed)
    }

    /// A Job as the API server has just answered it.
    pub fn put(&self, job: Job) {
        self.state().saw_job(job);
    }

    /// A Job that this agent has just created.
    pub fn put_made(&self, job: Job) {
        let mut state = self.state();
        state.made.insert(key_of(&job.metadata));
        state.saw_job(job);
    }

    /// Is this Job one that this agent created since it started?
    pub fn has_made(&self, key: &RunKey) -> bool {
        self.state().made.contains(key)
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
        state.pods.remove(key);
    }

    /// Jobs a pod is missing of.
    pub fn without_pod(&self, now: Timestamp) -> Vec<RunKey> {
        let state = self.state();
        let lacks = state.runs.iter().filter(|(key, entry)| {
            !state.pods.contains_key(key)
                && !state.run(key, entry, now).state.ended()
                && self.counts(&state, key, entry)
        });
        lacks.map(|(key, _)| key.clone()).collect()
    }

    /// Why no pod can be made, in the API server's words. Answers whom to wake.
    pub fn refused(&self, key: &RunKey, words: Option<String>) -> Option<Key> {
        let mut state = self.state();
        let entry = state.runs.get_mut(key).filter(|entry| entry.refused != words)?;
        entry.refused = words;
        Some(entry.facts.builder.clone())
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
                gone.push(entry.facts.builder.clone());
            }
        }
        // Of Jobs that are not listed, the watch brings nothing any more: their end was missed.
        let may_come = |key: &RunKey| !place.covers(&key.namespace) || listed.contains(&key.uid);
        let State { runs, forgotten, made, odd, .. } = &mut *state;
        forgotten.retain(may_come);
        odd.retain(may_come);
        made.retain(|key| runs.contains_key(key));
        state.works(place);
        gone
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
        let entry = state.runs.get_mut(&key)?;
        entry.job_gone = true;
        Some(entry.facts.builder.clone())
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

    fn run(&self, key: &RunKey, entry: &Entry, now: Timestamp) -> Run {
        let seen = self.pods.get(key);
        let sighting = Sighting {
            job: &entry.job,
            job_gone: entry.job_gone,
            pod: seen.map(|seen| &seen.pod),
            pod_gone: seen.is_some_and(|seen| seen.gone),
            refused: entry.refused.as_deref(),
        };
        pod::run(entry.name.clone(), entry.facts.clone(), &sighting, now)
    }

    fn saw_job(&mut self, job: Job) -> Option<Key> {
        let key = key_of(&job.metadata);
        if self.forgotten.contains(&key) {
            return None;
        }
        let Some((name, facts)) = facts_of(&job) else {
            if self.odd.insert(key.clone()) {
                let job = format!("{}/{}", key.namespace, key.name);
                tracing::warn!(job, "has the label of a build, and no facts of one: it is left alone");
            }
            return None;
        };
        let builder = facts.builder.clone();
        let before = self.runs.get(&key);
        if before.is_some_and(|entry| newer(&entry.job.metadata, &job.metadata)) {
            return None;
        }
        let refused = before.and_then(|entry| entry.refused.clone());
        let job = trimmed_job(job);
        let entry = Entry { name, facts, job, job_gone: false, fresh: true, refused, confirmed: false };
        self.runs.insert(key, entry);
        Some(builder)
    }

    /// A Job of one try makes one pod. If others say they are its, too, the first one is: they were made by somebody who
    /// knew the Job.
    fn saw_pod(&mut self, pod: Pod) -> Option<Key> {
        let key = run_of(&pod.metadata)?;
        if let Some(SeenPod { pod: known, .. }) = self.pods.get(&key) {
            let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|at| at.0);
            let is_same = known.metadata.uid == pod.metadata.uid;
            // What a pod said last stays said, whatever a lagging list shows of it.
            let is_old = is_same && newer(&known.metadata, &pod.metadata);
            if is_old || (!is_same && created(known) <= created(&pod)) {
                return None;
            }
        }
        self.pods.insert(key.clone(), SeenPod { pod: trimmed_pod(pod), gone: false });
        let entry = self.runs.get_mut(&key)?;
        entry.confirmed = false;
        Some(entry.facts.builder.clone())
    }

    /// The pod is there no more. Kept while its Job is known: it may have said the result.
    fn pod_gone(&mut self, key: &RunKey) -> Option<Key> {
        let Some(entry) = self.runs.get_mut(key) else {
            self.pods.remove(key);
            return None;
        };
        entry.confirmed = false;
        let builder = entry.facts.builder.clone();
        if let Some(seen) = self.pods.get_mut(key) {
            seen.gone = true;
        }
        Some(builder)
    }
}

#[cfg(test)]
mod tests;
