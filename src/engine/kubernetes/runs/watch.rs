//! Watches Jobs and pods of builds, by label, for ever: every event goes into the cache and wakes its
//! builder.

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

use super::Shared;
use super::requests::Requests;
use super::seen::uid_of;
use crate::api::{Key, Kind, ObjectKey};
use crate::engine::kubernetes::watch::{Failures, refusal, wait};
use crate::engine::kubernetes::{RUN, Scope};

/// How often it is asked why a Job has no pod, while one has none.
const ASK: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Jobs,
    Pods,
}

/// What is watched in one namespace, or in all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    what: What,
    namespace: Option<String>,
}

impl Place {
    /// Its namespace; none where all are watched.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    pub fn covers(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|name| name == namespace)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{:?} of builds in namespace {namespace}", self.what),
            None => write!(f, "{:?} of builds", self.what),
        }
    }
}

/// All places where builds are: a namespace of their own, else those that the agent works in.
pub fn places(scope: &Scope, builds: Option<&str>) -> Vec<Place> {
    let own = builds.map(|name| Scope::Namespaces(vec![name.to_owned()]));
    let namespaces: Vec<Option<String>> = match own.as_ref().unwrap_or(scope) {
        Scope::All => vec![None],
        Scope::Namespaces(names) => {
            names.iter().collect::<BTreeSet<_>>().into_iter().cloned().map(Some).collect()
        }
    };
    let of = |what: What| namespaces.iter().cloned().map(move |namespace| Place { what, namespace });
    [What::Jobs, What::Pods].into_iter().flat_map(of).collect()
}

/// Starts all watches; they end with their handles.
pub fn start(shared: &Arc<Shared>) -> Vec<AbortOnDropHandle<()>> {
    let watches = shared.places().into_iter().map(|place| {
        let shared = shared.clone();
        AbortOnDropHandle::new(match place.what {
            What::Jobs => tokio::spawn(async move { watch::<Job>(&shared, &place).await }),
            What::Pods => tokio::spawn(async move { watch::<Pod>(&shared, &place).await }),
        })
    });
    let asking = shared.clone();
    let ask = AbortOnDropHandle::new(tokio::spawn(async move { ask_for_reasons(&asking).await }));
    watches.chain([ask]).collect()
}

/// A kind that is watched.
trait Watched:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + fmt::Debug
    + DeserializeOwned
    + Send
    + 'static
{
    fn seen(self, shared: &Shared) -> Option<Key>;
    fn deleted(self, shared: &Shared) -> Option<Key>;
    fn listed(shared: &Shared, place: &Place, uids: &BTreeSet<String>) -> Vec<Key>;
}

impl Watched for Job {
    fn seen(self, shared: &Shared) -> Option<Key> {
        shared.cache.saw_job(self)
    }

    fn deleted(self, shared: &Shared) -> Option<Key> {
        shared.cache.job_deleted(&self)
    }

    fn listed(shared: &Shared, place: &Place, uids: &BTreeSet<String>) -> Vec<Key> {
        shared.cache.end_jobs(place, uids)
    }
}

impl Watched for Pod {
    fn seen(self, shared: &Shared) -> Option<Key> {
        shared.cache.saw_pod(self)
    }

    fn deleted(self, shared: &Shared) -> Option<Key> {
        shared.cache.pod_deleted(self)
    }

    fn listed(shared: &Shared, place: &Place, uids: &BTreeSet<String>) -> Vec<Key> {
        shared.cache.end_pods(place, uids)
    }
}

async fn watch<K: Watched>(shared: &Shared, place: &Place) {
    let client = shared.cluster.client.clone();
    let api: Api<K> = match &place.namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let mut failures = Failures::default();
    loop {
        let mut events = watcher(api.clone(), watcher::Config::default().labels(RUN)).boxed();
        let mut listed = BTreeSet::new();
        let error = loop {
            match events.next().await {
                Some(Ok(event)) => {
                    if matches!(event, Event::Apply(_) | Event::Delete(_)) {
                        shared.works(place, &mut failures);
                    }
                    shared.take::<K>(event, place, &mut listed);
                }
                Some(Err(error)) => break error,
                // A watch has no end.
                None => return,
            }
        };
        // A watch that works again says so only by its next event, and builds are few: a new list does.
        shared.fail(error, place, &mut failures).await;
    }
}

/// While a Job has no pod, the events about it say why.
async fn ask_for_reasons(shared: &Shared) {
    loop {
        wait(ASK).await;
        for key in shared.cache.without_pod((shared.now)()) {
            let requests = Requests::new(&shared.cluster.client);
            match requests.refusal_of(&key).await {
                Ok(words) => shared.wake(shared.cache.refused(&key, words)),
                Err(error) => {
                    tracing::debug!(run = key.name, error = %error.message, "cannot ask why it has no pod");
                }
            }
        }
    }
}

impl Shared {
    fn take<K: Watched>(&self, event: Event<K>, place: &Place, listed: &mut BTreeSet<String>) {
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

    fn works(&self, place: &Place, failures: &mut Failures) {
        if failures.end().is_some() {
            self.cache.works(place);
            tracing::info!(place = %place, "are watched again");
        }
    }

    async fn fail(&self, error: watcher::Error, place: &Place, failures: &mut Failures) {
        let refusal = refusal(error);
        // The server forgot where we were: that is its right, and a new list follows.
        if refusal.code == Some(410) {
            return;
        }
        let (pause, news) = failures.next(&refusal.message, false, tokio::time::Instant::now());
        if news {
            tracing::warn!(place = %place, error = %refusal.message, "cannot be watched; trying again");
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
