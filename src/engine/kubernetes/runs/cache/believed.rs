//! Which Jobs of the cache count as runs, and their facts: those that this agent created, and those that the status of
//! their builder records.
//!
//! The records are read without the lock and once per builder, because anyone who may create Jobs in a namespace
//! determines how many the cache contains.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Cache, CacheState, CachedJob};
use crate::api::{Key, RunName};
use crate::engine::kubernetes::pod::{self, Sighting};
use crate::engine::kubernetes::runs::observed::RunKey;
use crate::engine::kubernetes::runs::recorded::Recorded;
use crate::engine::{Run, RunFacts};

impl Cache {
    /// A builder's runs.
    pub fn runs_of(&self, builder: &Key, now: Timestamp) -> Vec<(RunKey, Run)> {
        let recorded = (self.records)(builder);
        let mut state = self.state();
        // All Jobs, not only those whose annotation names the builder: it may have been edited.
        let of = state.jobs.iter().filter_map(|(key, cached)| {
            let facts = state.facts(key, cached, builder, &recorded)?;
            Some((key.clone(), state.run(key, cached, facts, now)?))
        });
        let found: Vec<(RunKey, Run)> = of.collect();
        state.known.extend(found.iter().map(|(key, _)| (key.clone(), builder.clone())));
        found
    }

    /// All runs.
    pub fn all(&self, now: Timestamp) -> Vec<Run> {
        let records = self.read(|_, _| true);
        let state = self.state();
        let runs =
            state.believed(&records).filter_map(|(key, cached, facts)| state.run(key, cached, facts, now));
        runs.collect()
    }

    /// Jobs whose annotation names the builder but that its status does not record. Each is returned once.
    pub fn strangers_of(&self, builder: &Key) -> Vec<RunKey> {
        let recorded = (self.records)(builder);
        let mut state = self.state();
        let is_claimed =
            |cached: &CachedJob| cached.claims.as_ref().is_some_and(|claims| claims.builder == *builder);
        let claimed = state.jobs.iter();
        let claimed = claimed.filter(|(key, cached)| is_claimed(cached) && !state.strangers.contains(key));
        let strangers =
            claimed.filter(|(key, cached)| state.facts(key, cached, builder, &recorded).is_none());
        let strangers: Vec<RunKey> = strangers.map(|(key, _)| key.clone()).collect();
        state.strangers.extend(strangers.iter().cloned());
        strangers
    }

    pub fn run(&self, key: &RunKey, now: Timestamp) -> Option<Run> {
        let records = self.read(|other, _| other == key);
        let state = self.state();
        let (_, cached, facts) = state.believed(&records).find(|(other, ..)| *other == key)?;
        state.run(key, cached, facts, now)
    }

    /// The Job of a run, and its builder.
    pub fn find(&self, run: &RunName) -> Option<(RunKey, Key)> {
        let records = self.read(|key, _| key.name == run.as_str());
        let state = self.state();
        let mut named = state.believed(&records).filter(|(key, ..)| key.name == run.as_str());
        named.next().map(|(key, _, facts)| (key.clone(), facts.builder))
    }

    /// Live runs without a pod.
    pub fn without_pod(&self, now: Timestamp) -> Vec<RunKey> {
        let records = self.read(|key, state| !state.pods.contains_key(key));
        let state = self.state();
        let lacks = state.believed(&records).filter(|(key, ..)| !state.pods.contains_key(key));
        let live = lacks.filter(|(key, cached, facts)| {
            state.run(key, cached, facts.clone(), now).is_some_and(|run| !run.state.ended())
        });
        live.map(|(key, ..)| key.clone()).collect()
    }

    /// The records of the builders of the Jobs that match.
    fn read(&self, concerns: impl Fn(&RunKey, &CacheState) -> bool) -> BTreeMap<Key, Recorded> {
        let builders: BTreeSet<Key> = {
            let state = self.state();
            let jobs = state.jobs.keys().filter(|key| !state.made.contains_key(key) && concerns(key, &state));
            jobs.filter_map(|key| state.builder_of(key)).collect()
        };
        let read = |builder: Key| {
            let recorded = (self.records)(&builder);
            (builder, recorded)
        };
        builders.into_iter().map(read).collect()
    }
}

impl CacheState {
    /// The Jobs that count according to these records, with their facts.
    fn believed<'a>(
        &'a self,
        records: &'a BTreeMap<Key, Recorded>,
    ) -> impl Iterator<Item = (&'a RunKey, &'a CachedJob, RunFacts)> {
        self.jobs.iter().filter_map(move |(key, cached)| {
            let builder = self.builder_of(key)?;
            let nothing = Recorded::default();
            let facts = self.facts(key, cached, &builder, records.get(&builder).unwrap_or(&nothing))?;
            Some((key, cached, facts))
        })
    }

    /// The facts of a Job, if it counts as a run of this builder.
    fn facts(
        &self,
        key: &RunKey,
        cached: &CachedJob,
        builder: &Key,
        recorded: &Recorded,
    ) -> Option<RunFacts> {
        match self.made.get(key) {
            Some(facts) => Some(facts.clone()).filter(|facts| facts.builder == *builder),
            None => recorded.facts(builder, key, &cached.job.metadata, cached.claims.as_ref()),
        }
    }

    fn run(&self, key: &RunKey, cached: &CachedJob, facts: RunFacts, now: Timestamp) -> Option<Run> {
        let name = RunName::parse(key.name.as_str()).ok()?;
        let pod = self.pods.get(key);
        let observed = Sighting {
            job: &cached.job,
            job_gone: cached.job_gone,
            pod: pod.map(|cached| &cached.pod),
            pod_gone: pod.is_some_and(|cached| cached.gone),
            refused: cached.refused.as_deref(),
        };
        Some(pod::run(name, facts, &observed, now))
    }
}
