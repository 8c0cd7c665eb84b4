//! Watches the Jobs and pods of builds, by label, forever. Every event goes into the cache and wakes its builder.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio_util::task::AbortOnDropHandle;

use super::RunsShared;
use super::client::RunClient;
use super::kept;
use super::observed::uid_of;
use super::place::{self, RunPlace};
use crate::api::{Key, Kind, ObjectKey};
use crate::engine::kubernetes::RUN;
use crate::engine::kubernetes::error::Refusal;
use crate::engine::kubernetes::watching::{WatchBackoff, wait};
use crate::task;

/// How often the reason is read why a Job has no pod, as long as one has none.
const REASONS: Duration = Duration::from_secs(5);

/// How often to check whether the builder of a log that is kept is deleted. Nothing waits for it, and as long as it exists, it
/// costs no request.
const LOGS: Duration = Duration::from_secs(5);

/// Starts all watches. They end when their handles are dropped.
pub fn start(shared: &Arc<RunsShared>) -> Vec<AbortOnDropHandle<()>> {
    let watches = shared.places().into_iter().map(|place| {
        let shared = shared.clone();
        match place.resource {
            place::Resource::Jobs => {
                task::spawn("watching Jobs", async move { watch::<Job>(&shared, &place).await })
            }
            place::Resource::Pods => {
                task::spawn("watching pods", async move { watch::<Pod>(&shared, &place).await })
            }
        }
    });
    let reading = shared.clone();
    let reasons = task::spawn("reading why Jobs have no pod", async move { read_reasons(&reading).await });
    let kept = shared.clone();
    let logs = task::spawn("deleting the logs of deleted builders", async move {
        loop {
            wait(LOGS).await;
            let client = RunClient::new(&kept.cluster.client);
            kept::delete_of_gone(&client, &kept.cache, |builder| kept.objects.builders.has(builder)).await;
        }
    });
    watches.chain([reasons, logs]).collect()
}

/// A kind that is watched. Each method returns the builders to wake.
trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + fmt::Debug
    + DeserializeOwned
    + Send
    + 'static
{
    fn seen(self, shared: &RunsShared) -> Option<Key>;
    fn deleted(self, shared: &RunsShared) -> Option<Key>;
    fn listed(shared: &RunsShared, place: &RunPlace, uids: &BTreeSet<String>) -> Vec<Key>;
}

impl Watched for Job {
    fn seen(self, shared: &RunsShared) -> Option<Key> {
        shared.cache.saw_job(self)
    }

    fn deleted(self, shared: &RunsShared) -> Option<Key> {
        shared.cache.job_deleted(&self)
    }

    fn listed(shared: &RunsShared, place: &RunPlace, uids: &BTreeSet<String>) -> Vec<Key> {
        shared.cache.end_jobs(place, uids)
    }
}

impl Watched for Pod {
    fn seen(self, shared: &RunsShared) -> Option<Key> {
        shared.cache.saw_pod(self)
    }

    fn deleted(self, shared: &RunsShared) -> Option<Key> {
        shared.cache.pod_deleted(self)
    }

    fn listed(shared: &RunsShared, place: &RunPlace, uids: &BTreeSet<String>) -> Vec<Key> {
        shared.cache.end_pods(place, uids)
    }
}

async fn watch<K: Watched>(shared: &RunsShared, place: &RunPlace) {
    let client = shared.cluster.client.clone();
    let api: Api<K> = match place.namespace() {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let mut backoff = WatchBackoff::default();
    loop {
        let mut events = watcher(api.clone(), watcher::Config::default().labels(RUN)).boxed();
        let mut listed = BTreeSet::new();
        let error = loop {
            match events.next().await {
                Some(Ok(event)) => {
                    if matches!(event, Event::Apply(_) | Event::Delete(_)) {
                        shared.works(place, &mut backoff);
                    }
                    shared.take::<K>(event, place, &mut listed);
                }
                Some(Err(error)) => break error,
                // A watch has no end.
                None => return,
            }
        };
        // A watch that works again shows it only by its next event, and builds are rare. A new list shows it at once.
        shared.fail(error, place, &mut backoff).await;
    }
}

/// Reads, for every Job without a pod, the Event that states why it has none.
async fn read_reasons(shared: &RunsShared) {
    loop {
        wait(REASONS).await;
        for key in shared.cache.without_pod((shared.now)()) {
            let client = RunClient::new(&shared.cluster.client);
            match client.reason_without_pod(&key).await {
                Ok(reason) => shared.wake(shared.cache.refused(&key, reason)),
                Err(error) => {
                    tracing::debug!(run = key.name, error = %error.message, "the Events of the Job cannot be read");
                }
            }
        }
    }
}

impl RunsShared {
    fn take<K: Watched>(&self, event: Event<K>, place: &RunPlace, listed: &mut BTreeSet<String>) {
        match event {
            Event::Init => {
                listed.clear();
                self.cache.begin_list(place);
            }
            Event::InitApply(object) => {
                listed.insert(uid_of(object.meta()));
                self.wake(object.seen(self));
            }
            Event::InitDone => self.wake(K::listed(self, place, listed)),
            Event::Apply(object) => self.wake(object.seen(self)),
            Event::Delete(object) => self.wake(object.deleted(self)),
        }
    }

    fn works(&self, place: &RunPlace, backoff: &mut WatchBackoff) {
        if backoff.reset().is_some() {
            self.cache.works(place);
            tracing::info!(place = %place, "are watched again");
        }
    }

    async fn fail(&self, error: watcher::Error, place: &RunPlace, backoff: &mut WatchBackoff) {
        let refusal = Refusal::from(error);
        // The server no longer has the version that the watch continues from. That is normal, and a new list follows.
        if refusal.code == Some(410) {
            return;
        }
        let (pause, news) = backoff.next(&refusal.message, false, tokio::time::Instant::now());
        if news {
            tracing::warn!(place = %place, error = %refusal.message, "cannot be watched; retrying");
        }
        self.cache.fails(place, refusal.class, refusal.message, (self.now)());
        wait(pause).await;
    }

    fn wake(&self, builders: impl IntoIterator<Item = Key>) {
        for key in builders {
            self.objects.wake(&ObjectKey { kind: Kind::PackerBuilder, key });
        }
    }
}
