//! The objects half of an agent on a real API server: a home, both loops, and passes that only say that
//! they looked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::ResourceExt;
use opsy::api::builder::PackerBuilderStatus;
use opsy::api::{Key, Kind, ObjectKey, Owner, PackerBuilder};
use opsy::engine::drive::{Drive, Meter, Teller, drive};
use opsy::engine::kubernetes::home::ClusterHome;
use opsy::engine::kubernetes::{Cluster, Scope};
use opsy::engine::objects::Objects;
use opsy::engine::{Home, HomeError, Load, Note, Pass, Standing};
use opsy::manifest::Document;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::lease::tenure;
use super::{Place, Requests, SOON, until};

/// Every test's own owner, unless it plays another.
pub const OWNER: &str = "us";

/// Nobody reads how many passes there were.
struct Unmetered;

impl Meter for Unmetered {
    fn begins(&self, _: &ObjectKey) {}
    fn ends(&self, _: &ObjectKey, _: &'static str) {}
    fn notes(&self, _: &Note) {}
}

/// Tells nobody.
struct Untold;

impl Teller<PackerBuilder, PackerBuilderStatus> for Untold {
    fn mark(&self, _: &ObjectKey, _: &PackerBuilder, _: &mut PackerBuilderStatus) {}
    fn written(
        &self,
        _: &ObjectKey,
        _: &PackerBuilder,
        _: Option<&PackerBuilderStatus>,
        _: &PackerBuilderStatus,
    ) -> Vec<Note> {
        Vec::new()
    }
    fn gone(&self, _: &ObjectKey) {}
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

    /// One between whose look at an object and its status something happens, first time or every time.
    pub async fn meddled_with(
        cluster: Cluster,
        requests: Requests,
        between: impl Fn(usize) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        // With --nocapture, or when a test fails, it is seen what the agent said.
        let _ = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::INFO).try_init();
        let (objects, queues) = Objects::new();
        let home = ClusterHome::start(cluster, objects.clone(), tenure("test"));
        let passes: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
        let loop_of_builders = Arc::new(Drive {
            kind: Kind::PackerBuilder,
            reconcile: {
                let passes = passes.clone();
                Arc::new(move |object: Arc<PackerBuilder>| {
                    let mut passes = passes.lock().expect("no pass panics");
                    let count = passes.entry(object.name_any()).or_default();
                    *count += 1;
                    between(*count).map(move |()| pass(&object)).boxed()
                })
            },
            status: |object: &PackerBuilder| object.status.as_ref(),
            home: home.clone(),
            objects: objects.clone(),
            wake: Arc::new(|_| {}),
            published: Box::new(|| None),
            now: || Timestamp::UNIX_EPOCH,
            failures: Mutex::default(),
            meter: Arc::new(Unmetered),
            teller: Arc::new(Untold),
        });
        let _drive = AbortOnDropHandle::new(tokio::spawn(drive(loop_of_builders, queues.builders)));
        Self { home, objects, requests, passes, _drive }
    }

    /// Takes a commit of these documents over, as the agent does.
    pub async fn load(&self, documents: &[Document]) -> Result<(), HomeError> {
        self.load_as(OWNER, documents, &[]).await
    }

    pub async fn load_as(
        &self,
        owner: &str,
        documents: &[Document],
        remove: &[&ObjectKey],
    ) -> Result<(), HomeError> {
        self.home.load(commit(owner, documents, remove)).await
    }

    /// How often this builder was looked at.
    pub fn passes(&self, name: &str) -> usize {
        self.passes.lock().expect("no pass panics").get(name).copied().unwrap_or(0)
    }

    /// Waits until every object had its pass.
    pub async fn settle(&self) -> BTreeMap<ObjectKey, Standing> {
        tokio::time::timeout(SOON, self.objects.board.settled()).await.expect("all objects settle")
    }

    /// Waits for a pass that began after `before` passes.
    pub async fn passed(&self, name: &str, before: usize) {
        until("a pass", SOON, async || (self.passes(name) > before).then_some(())).await;
    }
}

pub fn commit(owner: &str, documents: &[Document], remove: &[&ObjectKey]) -> Load {
    Load {
        documents: documents.to_vec(),
        owner: Owner::parse(owner).expect("an owner"),
        remove: remove.iter().map(|object| (*object).clone()).collect(),
        kept: Vec::new(),
        seed: Box::new(|_| None),
    }
}

/// Says what was looked at; a deleted object may go.
fn pass(object: &PackerBuilder) -> Pass<PackerBuilderStatus> {
    let status = PackerBuilderStatus {
        state: object.spec.region.clone(),
        observed_generation: object.metadata.generation,
        ..object.status.clone().unwrap_or_default()
    };
    let note = Note { reason: "Looked".into(), message: "at this object".to_owned(), warning: false };
    Pass {
        notes: if object.status.is_none() { vec![note] } else { Vec::new() },
        status,
        look: Duration::from_secs(3600),
        standing: Standing::Settled,
        wake: Vec::new(),
        failed: None,
        release: object.metadata.deletion_timestamp.is_some(),
    }
}

pub fn key(namespace: &str, name: &str) -> ObjectKey {
    let key = Key { namespace: namespace.to_owned(), name: name.to_owned() };
    ObjectKey { kind: Kind::PackerBuilder, key }
}

/// A manifest, as it is read from Git.
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
}
