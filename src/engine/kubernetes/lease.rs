//! One agent at a time: a Lease that is held, renewed and given up.
//!
//! Two clocks that never meet keep two agents apart. A holder stops two thirds of the duration after the
//! *start* of its last good renewal; others wait the whole duration after they *saw* the record change.
//! Both count on their own monotonic clock, so neither a wrong wall clock nor a request that hangs
//! makes two of them work at once.

pub mod notes;
mod record;

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::error::Refusal;
use super::{Cluster, MANAGED_BY, MANAGER};
use crate::api::{Class, Pushes};
use record::Verdict;

/// Giving up is a favour to the next agent: it does not hold up our end for longer.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(5);

/// The Lease, and by which name this replica holds it.
#[derive(Clone, Debug)]
pub struct Tenure {
    /// Its name in the agent's own namespace.
    pub lease: String,
    /// No other contender has this name.
    pub identity: String,
}

/// How a Lease is contended for.
#[derive(Clone)]
pub struct Terms {
    pub tenure: Tenure,
    /// The repository that the agent works by: it stands by for no other.
    pub repository: String,
    /// Why this replica waits for what will not come.
    pub blocked: watch::Sender<Option<String>>,
    /// How long it stays held when its holder is gone.
    pub duration: Duration,
    /// For the times in the record, which people read.
    pub now: fn() -> Timestamp,
}

/// A Lease that is ours.
pub struct Held {
    /// Ends when it is not ours any more, saying why: nothing may be done from then on.
    pub lost: BoxFuture<'static, String>,
    pub release: Release,
    /// What was noted on it when it was taken.
    pub notes: notes::Annotations,
    /// What replicas that stand by have noted on it, as it changes.
    pub pushes: watch::Receiver<Pushes>,
}

/// The way out of a Lease. Dropping it ends the renewals and leaves the Lease to expire.
pub struct Release {
    contender: Contender,
    mine: LeaseSpec,
    renewals: DropGuard,
}

/// Waits, as long as it takes, until the Lease is ours.
pub async fn acquire(cluster: &Cluster, terms: Terms) -> Held {
    let leases = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let contender = Contender { leases, namespace: cluster.namespace.clone(), terms };
    let (began, lease) = contender.stand_by().await;
    contender.terms.blocked.send_replace(None);
    let mine = lease.spec.clone().unwrap_or_default();
    let notes = lease.metadata.annotations.clone().unwrap_or_default();
    let stop = CancellationToken::new();
    let (sender, pushes) = watch::channel(notes::pushes(&lease));
    let keeper = tokio::spawn(contender.clone().keep(lease, began, stop.clone(), sender));
    let lost = async { keeper.await.unwrap_or_else(|error| format!("nobody renews the Lease: {error}")) };
    let release = Release { contender, mine, renewals: stop.drop_guard() };
    Held { lost: lost.boxed(), release, notes, pushes }
}

/// A name no other replica has: the host's, and something random.
pub fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:016x}", host.trim(), RandomState::new().hash_one(()))
}

impl Release {
    /// Clears the holder, so that the next agent takes over at once.
    pub async fn give_up(self) {
        drop(self.renewals);
        let outcome = timeout(GIVE_UP_LIMIT, self.contender.clear(&self.mine)).await;
        if !matches!(outcome, Ok(Ok(()))) {
            tracing::warn!("the Lease is not given up: the next agent waits until it expires");
        }
    }
}

#[derive(Clone)]
struct Contender {
    leases: Api<Lease>,
    namespace: String,
    terms: Terms,
}

/// A record as it was last seen, and since when by our own clock.
struct Sighting {
    record: LeaseSpec,
    since: Instant,
}

impl Contender {
    /// Tries until it is ours. Answers the start of the request that made it so.
    async fn stand_by(&self) -> (Instant, Lease) {
        let mut seen = None;
        let mut said = String::new();
        loop {
            let mut wait = self.fraction(12, 10);
            let words = match timeout(self.terms.duration, self.try_to_take(&mut seen)).await {
                Ok(Ok(Attempt::Taken(began, lease))) => return (began, *lease),
                Ok(Ok(Attempt::HeldBy { holder, left, misplaced })) => {
                    wait = wait.min(left);
                    // A rollout of the same Deployment to another repository: it removes the holder only once this one is
                    // ready.
                    let is_rollout = record::of_one_deployment(&holder, &self.terms.tenure.identity);
                    let told = misplaced.as_ref().filter(|_| is_rollout);
                    let until = told.map_or("", |_| ", for another repository, until the rollout ends it");
                    self.report(misplaced.filter(|_| !is_rollout));
                    format!("standing by: {holder} holds the Lease{until}")
                }
                Ok(Ok(Attempt::Raced)) => continue,
                Ok(Err(refusal)) if refusal.class == Class::Denied => {
                    format!("the Lease cannot be had, the role lacks a rule: {refusal}")
                }
                Ok(Err(refusal)) => format!("the Lease cannot be had: {refusal}"),
                Err(_) => "the Lease cannot be had: the API server does not answer".to_owned(),
            };
            if words != said {
                tracing::info!("{words}");
                said = words;
            }
            sleep_until(Instant::now() + wait).await;
        }
    }

    /// Says that this replica is in the wrong place, or that it is not.
    fn report(&self, misplaced: Option<String>) {
        self.terms.blocked.send_if_modified(|blocked| {
            let news = *blocked != misplaced;
            if let Some(words) = misplaced.as_ref().filter(|_| news) {
                tracing::error!("{words}");
            }
            *blocked = misplaced;
            news
        });
    }

    async fn try_to_take(&self, seen: &mut Option<Sighting>) -> Result<Attempt, Refusal> {
        let mut found = self.leases.get_opt(self.name()).await?;
        let record = found.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        // A Lease somebody deleted is still held by whom we saw: its holder makes it anew.
        let record = record.or_else(|| seen.as_ref().map(|seen| seen.record.clone()));
        if let Some(record) = &record {
            let now = Instant::now();
            if seen.as_ref().is_none_or(|seen| seen.record != *record) {
                *seen = Some(Sighting { record: record.clone(), since: now });
            }
            let unchanged = seen.as_ref().map_or(Duration::ZERO, |seen| now - seen.since);
            if let Verdict::Wait(left) = record::judge(record, unchanged, self.terms.duration) {
                let holder = record::holder(record).unwrap_or_default().to_owned();
                let annotations = found.and_then(|lease| lease.metadata.annotations).unwrap_or_default();
                let Terms { tenure, repository, .. } = &self.terms;
                let misplaced = notes::misplaced(&tenure.lease, &self.namespace, &annotations, repository);
                return Ok(Attempt::HeldBy { holder, left, misplaced });
            }
        }
        let now = (self.terms.now)();
        let spec = record::taken(record.as_ref(), &self.terms.tenure.identity, self.terms.duration, now);
        let noted = found.as_mut().and_then(|lease| lease.metadata.annotations.take());
        let noted = notes::taken(noted, &self.terms.repository);
        let began = Instant::now();
        match self.put(found, spec, noted).await {
            Ok(lease) => Ok(Attempt::Taken(began, Box::new(lease))),
            Err(refusal) if refusal.is_conflict() => Ok(Attempt::Raced),
            Err(refusal) => Err(refusal),
        }
    }

    /// Renews until it is lost or told to stop; answers how it was lost.
    async fn keep(
        self,
        mut lease: Lease,
        mut began: Instant,
        stop: CancellationToken,
        pushes: watch::Sender<Pushes>,
    ) -> String {
        let mut last_words = "no attempt".to_owned();
        loop {
            let deadline = began + self.terms.duration * 2 / 3;
            let renewal = async {
                sleep_until(Instant::now() + self.fraction(6, 5)).await;
                let start = Instant::now();
                // A request that hangs makes room for another before the deadline.
                (start, timeout(self.terms.duration / 3, self.renew(&lease)).await)
            };
            let outcome = tokio::select! {
                () = stop.cancelled() => return std::future::pending().await,
                outcome = timeout_at(deadline, renewal) => outcome,
            };
            match outcome {
                Ok((start, Ok(Ok(Renewal::Done(renewed))))) => {
                    (began, lease) = (start, *renewed);
                    let noted = notes::pushes(&lease);
                    pushes.send_if_modified(|pushes| {
                        let is_new = *pushes != noted;
                        *pushes = noted;
                        is_new
                    });
                }
                Ok((_, Ok(Ok(Renewal::Lost(holder))))) => return format!("{holder} holds the Lease now"),
                Ok((_, Ok(Err(refusal)))) => last_words = refusal.to_string(),
                Ok((_, Err(_))) => last_words = "the API server does not answer".to_owned(),
                Err(_) => {
                    let limit = (self.terms.duration * 2 / 3).as_secs_f32();
                    return format!("the Lease could not be renewed for {limit:.1} s: {last_words}");
                }
            }
        }
    }

    async fn renew(&self, lease: &Lease) -> Result<Renewal, Refusal> {
        let mine = lease.spec.clone().unwrap_or_default();
        let spec = record::renewed(&mine, (self.terms.now)());
        match self.write(lease.clone(), spec.clone()).await {
            Ok(lease) => return Ok(Renewal::Done(Box::new(lease))),
            Err(refusal) if refusal.is_conflict() || refusal.is_not_found() => {}
            Err(refusal) => return Err(refusal),
        }
        // Somebody wrote it: a person its labels, ourselves in a request whose answer was lost, or another
        // holder. Or somebody deleted it.
        let found = self.leases.get_opt(self.name()).await?;
        let record = found.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        match record {
            Some(record) if !record::same_tenure(&record, &mine) => {
                let holder = record::holder(&record).unwrap_or("nobody").to_owned();
                Ok(Renewal::Lost(holder))
            }
            Some(record) => {
                let spec = record::renewed(&record, (self.terms.now)());
                self.write(found.unwrap_or_default(), spec).await.map(Box::new).map(Renewal::Done)
            }
            None => self.make(lease, spec).await.map(Box::new).map(Renewal::Done),
        }
    }

    async fn clear(&self, mine: &LeaseSpec) -> Result<(), Refusal> {
        loop {
            let Some(lease) = self.leases.get_opt(self.name()).await? else { return Ok(()) };
            let record = lease.spec.clone().unwrap_or_default();
            if !record::same_tenure(&record, mine) {
                return Ok(());
            }
            // A renewal whose answer nobody waits for may come in between.
            match self.write(lease, record::given_up(&record, (self.terms.now)())).await {
                Err(refusal) if refusal.is_conflict() => {}
                outcome => return outcome.map(drop),
            }
        }
    }

    fn name(&self) -> &str {
        &self.terms.tenure.lease
    }

    /// Takes what was found, if it is still that, or makes the Lease.
    async fn put(
        &self,
        found: Option<Lease>,
        spec: LeaseSpec,
        noted: notes::Annotations,
    ) -> Result<Lease, Refusal> {
        let mut lease = found.clone().unwrap_or_default();
        lease.metadata.annotations = Some(noted);
        if found.is_some() { self.write(lease, spec).await } else { self.make(&lease, spec).await }
    }

    /// Writes a record over what was found, if it is still that.
    async fn write(&self, mut lease: Lease, spec: LeaseSpec) -> Result<Lease, Refusal> {
        let how = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        lease.spec = Some(spec);
        lease.metadata.managed_fields = None;
        Ok(self.leases.replace(self.name(), &how, &lease).await?)
    }

    /// Makes the Lease, with the annotations it had: the agent's memory is one of them.
    async fn make(&self, lost: &Lease, spec: LeaseSpec) -> Result<Lease, Refusal> {
        let how = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let mut lease = Lease { spec: Some(spec), ..Lease::default() };
        lease.metadata.name = Some(self.name().to_owned());
        let (label, value) = MANAGED_BY;
        lease.metadata.labels = Some([(label.to_owned(), value.to_owned())].into());
        lease.metadata.annotations = lost.metadata.annotations.clone();
        Ok(self.leases.create(&how, &lease).await?)
    }

    /// Between a `long`th and a `short`th of the duration: contenders do not march in step.
    fn fraction(&self, long: u32, short: u32) -> Duration {
        let (least, most) = (self.terms.duration / long, self.terms.duration / short);
        let random = u32::try_from(RandomState::new().hash_one(()) % 1001).unwrap_or(0);
        least + (most - least) * random / 1000
    }
}

/// What came of standing by once.
enum Attempt {
    Taken(Instant, Box<Lease>),
    HeldBy {
        holder: String,
        /// For how long at most.
        left: Duration,
        /// Why it is not to be waited for, unless the same Deployment replaces it.
        misplaced: Option<String>,
    },
    /// Somebody else was quicker.
    Raced,
}

/// What came of one renewal.
enum Renewal {
    Done(Box<Lease>),
    /// Who has it now.
    Lost(String),
}

#[cfg(test)]
mod tests;
