//! One agent at a time: a Lease that is acquired, renewed and released.
//!
//! A holder stops two thirds of the duration after the *start* of its last successful renewal. Others wait for the
//! whole duration after they *observed* the last change of the record. Each uses its own monotonic clock, so neither a
//! wrong wall clock nor a request that hangs makes two agents work at once.
//!
//! `record` decides about the record in the Lease; `notes` and `memory` are what is annotated on it.

pub mod memory;
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

/// How long the release may take. It only saves the next agent time, so it must not delay the shutdown for longer.
const RELEASE_LIMIT: Duration = Duration::from_secs(5);

/// The Lease, and the identity by which this replica holds it.
#[derive(Clone, Debug)]
pub struct Tenure {
    /// Its name, in the agent's own namespace.
    pub lease: String,
    /// Unique among all contenders.
    pub identity: String,
}

/// How a replica contends for a Lease.
#[derive(Clone)]
pub struct Terms {
    pub tenure: Tenure,
    /// The repository of the agent. A replica does not stand by for the agent of another one.
    pub repository: String,
    /// Why this replica waits for a Lease that will not become free.
    pub blocked: watch::Sender<Option<String>>,
    /// How long the Lease remains held after its last renewal.
    pub duration: Duration,
    /// For the times in the record, which are for people.
    pub now: fn() -> Timestamp,
}

/// A Lease that this replica holds.
pub struct Held {
    /// Ends when the Lease is lost, with the reason. No effect may start after that.
    pub lost: BoxFuture<'static, String>,
    pub release: Release,
    /// The annotations of the Lease when it was acquired.
    pub notes: notes::Annotations,
    /// The pushes that standby replicas record on the Lease.
    pub pushes: watch::Receiver<Pushes>,
}

/// Releases a Lease. If it is dropped instead, the renewals end and the Lease expires.
pub struct Release {
    contender: Contender,
    mine: LeaseSpec,
    renewals: DropGuard,
}

/// Waits until the Lease is acquired, however long it takes.
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
    let lost =
        async { keeper.await.unwrap_or_else(|error| format!("the Lease is no longer renewed: {error}")) };
    let release = Release { contender, mine, renewals: stop.drop_guard() };
    Held { lost: lost.boxed(), release, notes, pushes }
}

/// A unique identity: the host name and a random number.
pub fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}_{:016x}", host.trim(), RandomState::new().hash_one(()))
}

impl Release {
    /// Clears the holder, so that the next agent can acquire the Lease at once.
    pub async fn release(self) {
        drop(self.renewals);
        let outcome = timeout(RELEASE_LIMIT, self.contender.clear(&self.mine)).await;
        if !matches!(outcome, Ok(Ok(()))) {
            tracing::warn!("the Lease could not be released: the next agent waits until it expires");
        }
    }
}

#[derive(Clone)]
struct Contender {
    leases: Api<Lease>,
    namespace: String,
    terms: Terms,
}

/// A record as last observed, and since when it is unchanged by the own clock.
struct ObservedRecord {
    record: LeaseSpec,
    since: Instant,
}

impl Contender {
    /// Tries until the Lease is acquired. Returns the start of the request that acquired it.
    async fn stand_by(&self) -> (Instant, Lease) {
        let mut observed = None;
        let mut logged = String::new();
        loop {
            let mut wait = self.fraction(12, 10);
            let message = match timeout(self.terms.duration, self.try_to_acquire(&mut observed)).await {
                Ok(Ok(Attempt::Acquired(began, lease))) => return (began, *lease),
                Ok(Ok(Attempt::HeldBy { holder, left, misplaced })) => {
                    wait = wait.min(left);
                    // A rollout of one Deployment to another repository removes the holder only once this pod is ready,
                    // so this pod must not report that it is blocked.
                    let is_rollout = record::of_one_deployment(&holder, &self.terms.tenure.identity);
                    let replaced = misplaced.as_ref().filter(|_| is_rollout);
                    let until = replaced.map_or("", |_| " for another repository, until the rollout ends it");
                    self.report_blocked(misplaced.filter(|_| !is_rollout));
                    format!("standing by: {holder} holds the Lease{until}")
                }
                Ok(Ok(Attempt::Conflict)) => continue,
                Ok(Err(refusal)) if refusal.class == Class::Denied => {
                    format!("the Lease cannot be acquired, because the agent's role lacks a rule: {refusal}")
                }
                Ok(Err(refusal)) => format!("the Lease cannot be acquired: {refusal}"),
                Err(_) => "the Lease cannot be acquired: the API server does not respond".to_owned(),
            };
            if message != logged {
                tracing::info!("{message}");
                logged = message;
            }
            sleep_until(Instant::now() + wait).await;
        }
    }

    /// Reports that this replica waits for the agent of another repository, or that it no longer does.
    fn report_blocked(&self, misplaced: Option<String>) {
        self.terms.blocked.send_if_modified(|blocked| {
            let news = *blocked != misplaced;
            if let Some(message) = misplaced.as_ref().filter(|_| news) {
                tracing::error!("{message}");
            }
            *blocked = misplaced;
            news
        });
    }

    async fn try_to_acquire(&self, observed: &mut Option<ObservedRecord>) -> Result<Attempt, Refusal> {
        let mut found = self.leases.get_opt(self.name()).await?;
        let record = found.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        // A deleted Lease is still held by its last holder, which creates it again.
        let record = record.or_else(|| observed.as_ref().map(|last| last.record.clone()));
        if let Some(record) = &record {
            let now = Instant::now();
            if observed.as_ref().is_none_or(|last| last.record != *record) {
                *observed = Some(ObservedRecord { record: record.clone(), since: now });
            }
            let unchanged = observed.as_ref().map_or(Duration::ZERO, |last| now - last.since);
            if let Verdict::Wait(left) = record::judge(record, unchanged, self.terms.duration) {
                let holder = record::holder(record).unwrap_or_default().to_owned();
                let annotations = found.and_then(|lease| lease.metadata.annotations).unwrap_or_default();
                let Terms { tenure, repository, .. } = &self.terms;
                let misplaced = notes::misplaced(&tenure.lease, &self.namespace, &annotations, repository);
                return Ok(Attempt::HeldBy { holder, left, misplaced });
            }
        }
        let now = (self.terms.now)();
        let spec = record::acquired(record.as_ref(), &self.terms.tenure.identity, self.terms.duration, now);
        let annotations = found.as_mut().and_then(|lease| lease.metadata.annotations.take());
        let annotations = notes::acquired(annotations, &self.terms.repository);
        let began = Instant::now();
        match self.put(found, spec, annotations).await {
            Ok(lease) => Ok(Attempt::Acquired(began, Box::new(lease))),
            Err(refusal) if refusal.is_conflict() => Ok(Attempt::Conflict),
            Err(refusal) => Err(refusal),
        }
    }

    /// Renews the Lease until it is lost or `stop` is canceled. Returns how it was lost.
    async fn keep(
        self,
        mut lease: Lease,
        mut began: Instant,
        stop: CancellationToken,
        pushes: watch::Sender<Pushes>,
    ) -> String {
        let mut last_error = "no attempt".to_owned();
        loop {
            let deadline = began + self.terms.duration * 2 / 3;
            let renewal = async {
                sleep_until(Instant::now() + self.fraction(6, 5)).await;
                let start = Instant::now();
                // If a request hangs, there is time for another one before the deadline.
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
                Ok((_, Ok(Err(refusal)))) => last_error = refusal.to_string(),
                Ok((_, Err(_))) => last_error = "the API server does not respond".to_owned(),
                Err(_) => {
                    let limit = (self.terms.duration * 2 / 3).as_secs_f32();
                    return format!("the Lease could not be renewed for {limit:.1} s: {last_error}");
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
        // The Lease was changed: by a person (its labels), by this replica (in a request whose response was lost), or
        // by another holder. Or it was deleted.
        let found = self.leases.get_opt(self.name()).await?;
        let record = found.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        match record {
            Some(record) if !record::same_tenure(&record, &mine) => {
                let holder = record::holder(&record).unwrap_or("no replica").to_owned();
                Ok(Renewal::Lost(holder))
            }
            Some(record) => {
                let spec = record::renewed(&record, (self.terms.now)());
                self.write(found.unwrap_or_default(), spec).await.map(Box::new).map(Renewal::Done)
            }
            None => self.create(lease, spec).await.map(Box::new).map(Renewal::Done),
        }
    }

    async fn clear(&self, mine: &LeaseSpec) -> Result<(), Refusal> {
        loop {
            let Some(lease) = self.leases.get_opt(self.name()).await? else { return Ok(()) };
            let record = lease.spec.clone().unwrap_or_default();
            if !record::same_tenure(&record, mine) {
                return Ok(());
            }
            // The last renewal may still be in progress.
            match self.write(lease, record::released(&record, (self.terms.now)())).await {
                Err(refusal) if refusal.is_conflict() => {}
                outcome => return outcome.map(drop),
            }
        }
    }

    fn name(&self) -> &str {
        &self.terms.tenure.lease
    }

    /// Writes the record, if the Lease is unchanged since it was found, or creates the Lease.
    async fn put(
        &self,
        found: Option<Lease>,
        spec: LeaseSpec,
        annotations: notes::Annotations,
    ) -> Result<Lease, Refusal> {
        let mut lease = found.clone().unwrap_or_default();
        lease.metadata.annotations = Some(annotations);
        if found.is_some() { self.write(lease, spec).await } else { self.create(&lease, spec).await }
    }

    /// Replaces the record, if the Lease is unchanged since it was found.
    async fn write(&self, mut lease: Lease, spec: LeaseSpec) -> Result<Lease, Refusal> {
        let how = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        lease.spec = Some(spec);
        lease.metadata.managed_fields = None;
        Ok(self.leases.replace(self.name(), &how, &lease).await?)
    }

    /// Creates the Lease, with the annotations of the deleted one: they contain the agent's memory.
    async fn create(&self, deleted: &Lease, spec: LeaseSpec) -> Result<Lease, Refusal> {
        let how = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let mut lease = Lease { spec: Some(spec), ..Lease::default() };
        lease.metadata.name = Some(self.name().to_owned());
        let (label, value) = MANAGED_BY;
        lease.metadata.labels = Some([(label.to_owned(), value.to_owned())].into());
        lease.metadata.annotations = deleted.metadata.annotations.clone();
        Ok(self.leases.create(&how, &lease).await?)
    }

    /// A random time between one `least`th and one `most`th of the duration, so that contenders do not send their
    /// requests at the same time.
    fn fraction(&self, least: u32, most: u32) -> Duration {
        let (least, most) = (self.terms.duration / least, self.terms.duration / most);
        let random = u32::try_from(RandomState::new().hash_one(()) % 1001).unwrap_or(0);
        least + (most - least) * random / 1000
    }
}

/// The result of one attempt to acquire the Lease.
enum Attempt {
    Acquired(Instant, Box<Lease>),
    HeldBy {
        holder: String,
        /// The longest time until it expires, unless it is renewed.
        left: Duration,
        /// Why waiting is useless, unless a rollout of the same Deployment replaces the holder.
        misplaced: Option<String>,
    },
    /// Another contender was faster.
    Conflict,
}

/// The result of one renewal.
enum Renewal {
    Done(Box<Lease>),
    /// Contains the new holder.
    Lost(String),
}

#[cfg(test)]
mod tests;
