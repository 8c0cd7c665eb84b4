//! What is known of Jobs and pods. The watches write it, and whoever makes a Job does at once; reading it
//! asks nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::watch::Place;
use crate::api::{Class, Key, RunName};
use crate::engine::kubernetes::pod::{self, Sighting};
use crate::engine::kubernetes::{FACTS, RUN};
use crate::engine::{Run, RunFacts, RunsError};

/// A watch that fails for longer leaves a picture that is too old to act on.
const STALE: Duration = Duration::from_secs(60);

/// Namespace and name of a run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunKey {
    pub namespace: String,
    pub name: String,
}

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
    runs: BTreeMap<RunKey, Entry>,
    pods: BTreeMap<RunKey, SeenPod>,
    /// Uids of Jobs that were deleted: what the watch still brings of them is old.
    forgotten: BTreeMap<String, RunKey>,
    /// Jobs with our label and without facts, told of once.
    odd: BTreeSet<RunKey>,
    missing: BTreeSet<Place>,
    troubles: BTreeMap<Place, Trouble>,
}

/// See the module.
#[derive(Debug)]
pub struct Cache(Mutex<State>);

impl Cache {
    /// Empty, and not ready until each of the places was listed.
    pub fn new(places: Vec<Place>) -> Self {
        Self(Mutex::new(State { missing: places.into_iter().collect(), ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no code panics while it holds the runs")
    }

    /// Is the picture whole, and fresh enough to act on? Of a namespace, or of all.
    pub fn ready(&self, namespace: Option<&str>, now: Timestamp) -> Result<(), RunsError> {
        let state = self.state();
        let concerns = |place: &Place| namespace.is_none_or(|name| place.covers(name));
        let stale = |trouble: &Trouble| {
            trouble.class != Class::TRANSIENT || now.duration_since(trouble.since).unsigned_abs() > STALE
        };
        let mut troubles = state.troubles.iter();
        let trouble = troubles
            .find(|(place, trouble)| concerns(place) && (state.missing.contains(place) || stale(trouble)));
        if let Some((place, trouble)) = trouble {
            let message = format!("{place} cannot be watched: {}", trouble.message);
            return Err(RunsError { class: trouble.class, message });
        }
        match state.missing.iter().find(|place| concerns(place)) {
            Some(place) => {
                let message = format!("{place} were not listed yet");
                Err(RunsError { class: Class::TRANSIENT, message })
            }
            None => Ok(()),
        }
    }

    /// A builder's runs.
    pub fn runs_of(&self, builder: &Key, now: Timestamp) -> Vec<(RunKey, Run)> {
        let state = self.state();
        let of = state.runs.iter().filter(|(_, entry)| entry.facts.builder == *builder);
        of.map(|(key, entry)| (key.clone(), state.run(key, entry, now))).collect()
    }

    pub fn all(&self, now: Timestamp) -> Vec<Run> {
        let state = self.state();
        state.runs.iter().map(|(key, entry)| state.run(key, entry, now)).collect()
    }

    pub fn run(&self, key: &RunKey, now: Timestamp) -> Option<Run> {
        let state = self.state();
        state.runs.get(key).map(|entry| state.run(key, entry, now))
    }

    /// Where a run is, and its Job's uid.
    pub fn find(&self, run: &RunName) -> Option<(RunKey, String)> {
        let state = self.state();
        let (key, entry) = state.runs.iter().find(|(_, entry)| entry.name == *run)?;
        Some((key.clone(), entry.job.metadata.uid.clone().unwrap_or_default()))
    }

    pub fn builder(&self, key: &RunKey) -> Option<Key> {
        self.state().runs.get(key).map(|entry| entry.facts.builder.clone())
    }

    pub fn is_confirmed(&self, key: &RunKey) -> bool {
        self.state().runs.get(key).is_some_and(|entry| entry.confirmed)
    }

    /// A Job as the API server has just answered it.
    pub fn put_own(&self, job: Job) {
        self.state().saw_job(job);
    }

    /// What was asked for anew about one run: what is not there now, is gone.
    pub fn confirm(&self, key: &RunKey, jobs: Vec<Job>, pods: Vec<Pod>) {
        let mut state = self.state();
        let (no_job, no_pod) = (jobs.is_empty(), pods.is_empty());
        jobs.into_iter().for_each(|job| drop(state.saw_job(job)));
        pods.into_iter().for_each(|pod| drop(state.saw_pod(pod)));
        if let Some(seen) = state.pods.get_mut(key) {
            seen.gone |= no_pod;
        }
        if let Some(entry) = state.runs.get_mut(key) {
            entry.job_gone |= no_job;
            entry.confirmed = true;
        }
    }

    /// A run that was deleted.
    pub fn forget(&self, key: &RunKey) {
        let mut state = self.state();
        if let Some(entry) = state.runs.remove(key) {
            let uid = entry.job.metadata.uid.filter(|_| !entry.job_gone);
            state.forgotten.extend(uid.map(|uid| (uid, key.clone())));
        }
        state.pods.remove(key);
    }

    /// Jobs a pod is missing of.
    pub fn without_pod(&self, now: Timestamp) -> Vec<(RunKey, String)> {
        let state = self.state();
        let lacks = state.runs.iter().filter(|(key, entry)| {
            state.pod_of(key, entry).is_none() && !state.run(key, entry, now).state.ended()
        });
        lacks.map(|(key, entry)| (key.clone(), entry.job.metadata.uid.clone().unwrap_or_default())).collect()
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

    /// A list of Jobs is complete. Answers whom to wake.
    pub fn end_jobs(&self, place: &Place, listed: &BTreeSet<RunKey>) -> Vec<Key> {
        let mut state = self.state();
        let mut gone = Vec::new();
        for (key, entry) in &mut state.runs {
            if place.covers(&key.namespace) && !listed.contains(key) && !entry.fresh && !entry.job_gone {
                entry.job_gone = true;
                gone.push(entry.facts.builder.clone());
            }
        }
        // Of Jobs that are not listed, the watch brings nothing any more: their end was missed.
        let may_come = |key: &RunKey| !place.covers(&key.namespace) || listed.contains(key);
        state.forgotten.retain(|_, key| may_come(key));
        state.odd.retain(may_come);
        state.works(place);
        gone
    }

    /// A list of pods is complete. Answers whom to wake.
    pub fn end_pods(&self, place: &Place, listed: &BTreeSet<RunKey>) -> Vec<Key> {
        let mut state = self.state();
        let gone: Vec<RunKey> = state
            .pods
            .iter()
            .filter(|(key, seen)| place.covers(&key.namespace) && !listed.contains(key) && !seen.gone)
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
        let uid = job.metadata.uid.as_ref()?;
        if state.forgotten.remove(uid).is_some() {
            return None;
        }
        let key = key_of(&job.metadata);
        state.odd.remove(&key);
        let entry = state.runs.get_mut(&key).filter(|entry| entry.job.metadata.uid.as_ref() == Some(uid))?;
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
        let seen = self.pod_of(key, entry);
        let sighting = Sighting {
            job: &entry.job,
            job_gone: entry.job_gone,
            pod: seen.map(|seen| &seen.pod),
            pod_gone: seen.is_some_and(|seen| seen.gone),
            refused: entry.refused.as_deref(),
        };
        pod::run(entry.name.clone(), entry.facts.clone(), &sighting, now)
    }

    /// The pod of this Job, and not of an earlier one of the same name.
    fn pod_of(&self, key: &RunKey, entry: &Entry) -> Option<&SeenPod> {
        let uid = entry.job.metadata.uid.as_ref();
        let of_job =
            |pod: &Pod| pod.metadata.owner_references.iter().flatten().any(|owner| Some(&owner.uid) == uid);
        self.pods.get(key).filter(|seen| of_job(&seen.pod))
    }

    fn saw_job(&mut self, job: Job) -> Option<Key> {
        let uid = job.metadata.uid.clone().unwrap_or_default();
        if self.forgotten.contains_key(&uid) {
            return None;
        }
        let key = key_of(&job.metadata);
        let Some((name, facts)) = facts_of(&job) else {
            if self.odd.insert(key.clone()) {
                let job = format!("{}/{}", key.namespace, key.name);
                tracing::warn!(job, "has the label of a build, and no facts of one: it is left alone");
            }
            return None;
        };
        let builder = facts.builder.clone();
        let before = self.runs.get(&key).filter(|entry| entry.job.metadata.uid == job.metadata.uid);
        if before.is_some_and(|entry| newer(&entry.job.metadata, &job.metadata)) {
            return None;
        }
        let refused = before.and_then(|entry| entry.refused.clone());
        let job = trimmed_job(job);
        let entry = Entry { name, facts, job, job_gone: false, fresh: true, refused, confirmed: false };
        self.runs.insert(key, entry);
        Some(builder)
    }

    fn saw_pod(&mut self, pod: Pod) -> Option<Key> {
        let key = run_of(&pod.metadata)?;
        let before = self.pods.get(&key);
        let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|at| at.0);
        let other = before.is_some_and(|seen| seen.pod.metadata.uid != pod.metadata.uid);
        if other && before.is_some_and(|seen| created(&seen.pod) > created(&pod)) {
            return None;
        }
        // What a pod said last stays said, whatever a lagging list shows of it.
        if !other && before.is_some_and(|seen| newer(&seen.pod.metadata, &pod.metadata)) {
            return None;
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

/// Is what is known already newer? Versions of one object are numbers that grow.
fn newer(known: &ObjectMeta, seen: &ObjectMeta) -> bool {
    let version =
        |metadata: &ObjectMeta| metadata.resource_version.as_ref().and_then(|v| v.parse::<u64>().ok());
    version(known) > version(seen)
}

/// Name and facts of a Job that we made; a person could write the same label.
fn facts_of(job: &Job) -> Option<(RunName, RunFacts)> {
    let metadata = &job.metadata;
    let facts: RunFacts = serde_json::from_str(metadata.annotations.as_ref()?.get(FACTS)?).ok()?;
    let name = metadata.name.clone()?;
    let ours = metadata.labels.as_ref()?.get(RUN) == Some(&name)
        && metadata.namespace.as_ref() == Some(&facts.builder.namespace);
    ours.then(|| RunName::parse(name).ok())?.map(|name| (name, facts))
}

pub fn key_of(metadata: &ObjectMeta) -> RunKey {
    RunKey {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

/// The run a pod says it belongs to.
pub fn run_of(metadata: &ObjectMeta) -> Option<RunKey> {
    let name = metadata.labels.as_ref()?.get(RUN)?.clone();
    Some(RunKey { namespace: metadata.namespace.clone()?, name })
}

fn trimmed_job(mut job: Job) -> Job {
    job.metadata.managed_fields = None;
    job.spec = Some(JobSpec::default());
    job
}

fn trimmed_pod(mut pod: Pod) -> Pod {
    pod.metadata.managed_fields = None;
    let node_name = pod.spec.and_then(|spec| spec.node_name);
    pod.spec = Some(PodSpec { node_name, ..PodSpec::default() });
    pod
}

#[cfg(test)]
mod tests;
