//! Which Jobs of the cache are runs, and of what: those that this agent made, and those that the status of their builder
//! records. The records are read without the lock, and once for each builder: everybody who may create Jobs in a
//! namespace decides how many the cache has.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{Cache, Entry, State};
use crate::api::{Key, RunName};
use crate::engine::kubernetes::pod::{self, Sighting};
use crate::engine::kubernetes::runs::recorded::Recorded;
use crate::engine::kubernetes::runs::seen::RunKey;
use crate::engine::{Run, RunFacts};

impl Cache {
    /// A builder's runs.
    pub fn runs_of(&self, builder: &Key, now: Timestamp) -> Vec<(RunKey, Run)> {
        let recorded = (self.records)(builder);
        let mut state = self.state();
        // Whatever a Job says of itself: it may have been edited since.
        let of = state.runs.iter().filter_map(|(key, entry)| {
            let facts = state.facts(key, entry, builder, &recorded)?;
            Some((key.clone(), state.run(key, entry, facts, now)?))
        });
        let found: Vec<(RunKey, Run)> = of.collect();
        state.known.extend(found.iter().map(|(key, _)| (key.clone(), builder.clone())));
        found
    }

    pub fn all(&self, now: Timestamp) -> Vec<Run> {
        let records = self.read(|_, _| true);
        let state = self.state();
        let runs =
            state.believed(&records).filter_map(|(key, entry, facts)| state.run(key, entry, facts, now));
        runs.collect()
    }

    /// Jobs that say they are runs of a builder and that nothing records; each is returned once.
    pub fn strangers_of(&self, builder: &Key) -> Vec<RunKey> {
        let recorded = (self.records)(builder);
        let mut state = self.state();
        let is_claimed =
            |entry: &Entry| entry.claims.as_ref().is_some_and(|claims| claims.builder == *builder);
        let claimed = state.runs.iter().filter(|(key, entry)| is_claimed(entry) && !state.odd.contains(key));
        let strangers = claimed.filter(|(key, entry)| state.facts(key, entry, builder, &recorded).is_none());
        let strangers: Vec<RunKey> = strangers.map(|(key, _)| key.clone()).collect();
        state.odd.extend(strangers.iter().cloned());
        strangers
    }

    pub fn run(&self, key: &RunKey, now: Timestamp) -> Option<Run> {
        let records = self.read(|other, _| other == key);
        let state = self.state();
        let (_, entry, facts) = state.believed(&records).find(|(other, ..)| *other == key)?;
        state.run(key, entry, facts, now)
    }

    /// Where a run is, and whose it is.
    pub fn find(&self, run: &RunName) -> Option<(RunKey, Key)> {
        let records = self.read(|key, _| key.name == run.as_str());
        let state = self.state();
        let mut named = state.believed(&records).filter(|(key, ..)| key.name == run.as_str());
        named.next().map(|(key, _, facts)| (key.clone(), facts.builder))
    }

    /// Jobs a pod is missing of.
    pub fn without_pod(&self, now: Timestamp) -> Vec<RunKey> {
        let records = self.read(|key, state| !state.pods.contains_key(key));
        let state = self.state();
        let lacks = state.believed(&records).filter(|(key, ..)| !state.pods.contains_key(key));
        let live = lacks.filter(|(key, entry, facts)| {
            state.run(key, entry, facts.clone(), now).is_some_and(|run| !run.state.ended())
        });
        live.map(|(key, ..)| key.clone()).collect()
    }

    /// What is recorded by the builders of the Jobs that are asked for.
    fn read(&self, concerns: impl Fn(&RunKey, &State) -> bool) -> BTreeMap<Key, Recorded> {
        let builders: BTreeSet<Key> = {
            let state = self.state();
            let jobs = state.runs.keys().filter(|key| !state.made.contains_key(key) && concerns(key, &state));
            jobs.filter_map(|key| state.builder_of(key)).collect()
        };
        let read = |builder: Key| {
            let recorded = (self.records)(&builder);
            (builder, recorded)
        };
        builders.into_iter().map(read).collect()
    }
}

impl State {
    /// The Jobs that count, as far as these builders record them.
    fn believed<'a>(
        &'a self,
        records: &'a BTreeMap<Key, Recorded>,
    ) -> impl Iterator<Item = (&'a RunKey, &'a Entry, RunFacts)> {
        self.runs.iter().filter_map(move |(key, entry)| {
            let builder = self.builder_of(key)?;
            let nothing = Recorded::default();
            let facts = self.facts(key, entry, &builder, records.get(&builder).unwrap_or(&nothing))?;
            Some((key, entry, facts))
        })
    }

    /// What a Job is a run of, if it counts and is a run of this builder.
    fn facts(&self, key: &RunKey, entry: &Entry, builder: &Key, recorded: &Recorded) -> Option<RunFacts> {
        match self.made.get(key) {
            Some(facts) => Some(facts.clone()).filter(|facts| facts.builder == *builder),
            None => recorded.facts(builder, key, &entry.job.metadata, entry.claims.as_ref()),
        }
    }

    fn run(&self, key: &RunKey, entry: &Entry, facts: RunFacts, now: Timestamp) -> Option<Run> {
        let name = RunName::parse(key.name.as_str()).ok()?;
        let seen = self.pods.get(key);
        let sighting = Sighting {
            job: &entry.job,
            job_gone: entry.job_gone,
            pod: seen.map(|seen| &seen.pod),
            pod_gone: seen.is_some_and(|seen| seen.gone),
            refused: entry.refused.as_deref(),
        };
        Some(pod::run(name, facts, &sighting, now))
    }
}
