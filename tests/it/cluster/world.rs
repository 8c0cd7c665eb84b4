//! The part of an agent that handles objects, on a real API server: a home, the loop of the builders, and reconciles
//! that only report that they ran.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::ResourceExt;
use opsy::api::builder::PackerBuilderStatus;
use opsy::api::{Key, Kind, ObjectKey, Owner, PackerBuilder};
use opsy::engine::drive::{Drive, Meter, StatusNotifier, drive};
use opsy::engine::kubernetes::objects::ClusterHome;
use opsy::engine::kubernetes::{Cluster, Scope};
use opsy::engine::objects::Objects;
use opsy::engine::{EngineError, Home, Load, Note, ObjectHealth, Pass, Wakes};
use opsy::manifest::Document;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::lease::tenure;
use super::{Place, Requests, SOON, until};

/// The owner in every test that does not use another one.
pub const OWNER: &str = "us";

/// A meter that discards everything.
struct Unmetered;

impl Meter for Unmetered {
    fn begins(&self, _: &ObjectKey) {}
    fn ends(&self, _: &ObjectKey, _: &'static str) {}
    fn notes(&self, _: &Note) {}
}

/// A notifier that sends no notifications.
struct NoNotifications;

impl StatusNotifier<PackerBuilder, PackerBuilderStatus> for NoNotifications {
    fn record(&self, _: &ObjectKey, _: &PackerBuilder, _: &mut PackerBuilderStatus) {}
    fn confirm(
        &self,
        _: &ObjectKey,
        _: &PackerBuilder,
        _: Option<&PackerBuilderStatus>,
        _: &PackerBuilderStatus,
    ) -> Vec<Note> {
        Vec::new()
    }
    fn forget(&self, _: &ObjectKey) {}
}

pub struct Agent {
    pub home: Arc<ClusterHome>,
    pub objects: Arc<Objects>,
    pub requests: Requests,
    passes: Arc<Mutex<BTreeMap<String, usize>>>,
    _drive: AbortOnDropHandle<()>,
}

impl Agent {
    pub async fn start(place: &Place) -> Self {
        Self::in_scope(place, place.scope()).await
    }

    pub async fn in_scope(place: &Place, scope: Scope) -> Self {
        let (cluster, requests) = place.cluster(scope).await;
        Self::on(cluster, requests).await
    }

    pub async fn on(cluster: Cluster, requests: Requests) -> Self {
        Self::meddled_with(cluster, requests, |_| std::future::ready(()).boxed()).await
    }

    /// An agent that awaits `between` after it has observed an object and before it writes its status. `between` gets the
    /// number of the reconcile.
    pub async fn meddled_with(
        cluster: Cluster,
        requests: Requests,
        between: impl Fn(usize) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        // The agent's log is shown with --nocapture, or if a test fails.
        let _ = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::INFO).try_init();
        let (objects, queues) = Objects::new();
        let home = ClusterHome::start(cluster, objects.clone(), tenure("test"));
        let passes: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
        let loop_of_builders = Arc::new(Drive {
            kind: Kind::PackerBuilder,
            reconcile: {
                let passes = passes.clone();
                Arc::new(move |object: Arc<PackerBuilder>| {
                    let mut passes = passes.lock().expect("no reconcile panics");
                    let count = passes.entry(object.name_any()).or_default();
                    *count += 1;
                    between(*count).map(move |()| pass(&object)).boxed()
                })
            },
            status: |object: &PackerBuilder| object.status.as_ref(),
            home: home.clone(),
            objects: objects.clone(),
            wake: Arc::new(|_| {}),
            now: || Timestamp::UNIX_EPOCH,
            failures: Mutex::default(),
            meter: Arc::new(Unmetered),
            notifier: Arc::new(NoNotifications),
        });
        let _drive = AbortOnDropHandle::new(tokio::spawn(drive(loop_of_builders, queues.builders)));
        Self { home, objects, requests, passes, _drive }
    }

    /// Loads a commit with these documents, as the agent does.
    pub async fn load(&self, documents: &[Document]) -> Result<(), EngineError> {
        self.load_as(OWNER, documents, &[]).await
    }

    pub async fn load_as(
        &self,
        owner: &str,
        documents: &[Document],
        remove: &[&ObjectKey],
    ) -> Result<(), EngineError> {
        self.home.load(commit(owner, documents, remove)).await
    }

    /// Number of reconciles of this builder.
    pub fn passes(&self, name: &str) -> usize {
        self.passes.lock().expect("no reconcile panics").get(name).copied().unwrap_or(0)
    }

    /// Waits until every object was reconciled.
    pub async fn settle(&self) -> BTreeMap<ObjectKey, ObjectHealth> {
        tokio::time::timeout(SOON, self.objects.board.settled()).await.expect("all objects settle")
    }

    /// Waits for a reconcile after the first `before` ones.
    pub async fn passed(&self, name: &str, before: usize) {
        until("a reconcile", SOON, async || (self.passes(name) > before).then_some(())).await;
    }
}

pub fn commit(owner: &str, documents: &[Document], remove: &[&ObjectKey]) -> Load {
    Load {
        documents: documents.iter().cloned().collect(),
        owner: Owner::parse(owner).expect("an owner"),
        remove: remove.iter().map(|object| (*object).clone()).collect(),
        retained: Vec::new(),
        seed: Box::new(|_| None),
        wake: Wakes::All,
    }
}

/// The result of a reconcile that reports the region of the object, and releases a deleted object.
fn pass(object: &PackerBuilder) -> Pass<PackerBuilderStatus> {
    let status = PackerBuilderStatus {
        state: object.spec.region.clone(),
        observed_generation: object.metadata.generation,
        ..object.status.clone().unwrap_or_default()
    };
    let note =
        Note { reason: "Reconciled".into(), message: "reconciled this object".to_owned(), warning: false };
    Pass {
        notes: if object.status.is_none() { vec![note] } else { Vec::new() },
        status,
        look: Duration::from_secs(3600),
        health: ObjectHealth::Settled,
        wake: Vec::new(),
        failed: None,
        release: object.metadata.deletion_timestamp.is_some(),
    }
}

pub fn key(namespace: &str, name: &str) -> ObjectKey {
    let key = Key { namespace: namespace.to_owned(), name: name.to_owned() };
    ObjectKey { kind: Kind::PackerBuilder, key }
}

/// A document, as it is read from Git.
pub fn document(namespace: &str, name: &str, spec: Value) -> Document {
    let json = json!({
        "apiVersion": "ami.opsy.dev/v1alpha1", "kind": "PackerBuilder",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec,
    });
    Document { object: key(namespace, name), json: (&json).into(), file: format!("{name}.yaml"), line: 1 }
}

impl Place {
    pub fn document(&self, name: &str, spec: Value) -> Document {
        document(&self.namespace, name, spec)
    }

    pub fn key(&self, name: &str) -> ObjectKey {
        key(&self.namespace, name)
    }

    /// The region of a builder, as the API server stores it.
    pub async fn region_of(&self, name: &str) -> Option<String> {
        Some(self.builder(name).await?.data["spec"]["region"].as_str()?.to_owned())
    }
}
