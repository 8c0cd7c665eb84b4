//! Both reconcilers, with everything they use, as the loop calls them.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::now;
use crate::api::fence::Fence;
use crate::api::{
    AMIRefresher, AMIRefresherStatus, Key, Kind, ObjectKey, Owner, PackerBuilder, PackerBuilderStatus,
    UndeclaredObjects,
};
use crate::aws::Aws;
use crate::builder::access::TemplateAccess;
use crate::engine::drive::{Drive, Meter, Reconcile, StatusNotifier, drive};
use crate::engine::nodes::Nodes;
use crate::engine::objects::{Objects, Queues};
use crate::engine::{Home, Runs, Wake};
use crate::git::templates::Templates;
use crate::notifications::Notifications;
use crate::probe::Probes;
use crate::sync::Synced;
use crate::{builder, refresher};

/// What both reconcilers are made of.
pub struct Parts {
    pub aws: Aws,
    pub templates: Templates,
    /// Which paths of the agent's own repository each namespace may use as templates.
    pub access: Arc<TemplateAccess>,
    pub runs: Arc<dyn Runs>,
    /// The nodes of the cluster; `None` without one.
    pub nodes: Option<Arc<dyn Nodes>>,
    pub probes: Probes,
    pub home: Arc<dyn Home>,
    pub objects: Arc<Objects>,
    pub synced: watch::Receiver<Option<Arc<Synced>>>,
    /// The owner if `opsy.yaml` names none.
    pub owner: Owner,
    /// Which clusters each namespace may roll out to.
    pub clusters: Arc<Fence>,
    pub meter: Arc<dyn Meter>,
    pub notifications: Arc<Notifications>,
    /// From when it is true, no build is started.
    pub ending: Arc<AtomicBool>,
}

impl Parts {
    /// Starts the loops of both kinds. Each ends when its queue does.
    pub fn drive(&self, queues: Queues) -> Vec<JoinHandle<()>> {
        vec![
            tokio::spawn(drive(self.builders(), queues.builders)),
            tokio::spawn(drive(self.refreshers(), queues.refreshers)),
        ]
    }

    fn builders(&self) -> Arc<Drive<PackerBuilder, PackerBuilderStatus>> {
        let (home, objects) = (self.home.clone(), self.objects.clone());
        let context = Arc::new(builder::Context {
            aws: self.aws.clone(),
            templates: self.templates.clone(),
            access: self.access.clone(),
            runs: self.runs.clone(),
            synced: self.synced.clone(),
            owner: self.owner.clone(),
            now,
            fleet: Arc::default(),
            watches: Arc::default(),
            ending: self.ending.clone(),
            undeclared: self.undeclared(Kind::PackerBuilder),
            withheld: Arc::new(move || objects.withheld()),
            in_sync: Arc::new(move |object| {
                home.is_in_sync(&ObjectKey::of(Kind::PackerBuilder, object), object.metadata.generation)
            }),
        });
        let notifications = self.notifications.clone();
        self.driven(
            Kind::PackerBuilder,
            Arc::new(move |object| {
                let owner = owner_now(&context.synced, &context.owner);
                let context = builder::Context { owner, ..(*context).clone() };
                let notifications = notifications.clone();
                Box::pin(async move {
                    let pass = builder::reconcile(object.clone(), &context).await;
                    let name = ObjectKey::of(Kind::PackerBuilder, &*object);
                    notifications.look_up_commits(&name, &*object, &pass.status).await;
                    pass
                })
            }),
            |object| object.status.as_ref(),
        )
    }

    fn refreshers(&self) -> Arc<Drive<AMIRefresher, AMIRefresherStatus>> {
        let objects = self.objects.clone();
        let builder_images = move |key: &Key| {
            let builder = objects.builders.packed_one(key)?;
            Some(builder.status().and_then(|status| status.images).unwrap_or_default())
        };
        let context = Arc::new(refresher::Context {
            aws: self.aws.clone(),
            builder_images: Arc::new(builder_images),
            undeclared: self.undeclared(Kind::AMIRefresher),
            synced: self.synced.clone(),
            owner: self.owner.clone(),
            clusters: self.clusters.clone(),
            now,
            nodes: self.nodes.clone(),
            probes: self.probes.clone(),
        });
        let notifications = self.notifications.clone();
        self.driven(
            Kind::AMIRefresher,
            Arc::new(move |object| {
                let owner = owner_now(&context.synced, &context.owner);
                let context = refresher::Context { owner, ..(*context).clone() };
                let notifications = notifications.clone();
                Box::pin(async move {
                    let pass = refresher::reconcile(object.clone(), &context).await;
                    let name = ObjectKey::of(Kind::AMIRefresher, &*object);
                    notifications.look_up_commits(&name, &*object, &pass.status).await;
                    pass
                })
            }),
            |object| object.status.as_ref(),
        )
    }

    fn undeclared(&self, kind: Kind) -> UndeclaredObjects {
        let objects = self.objects.clone();
        Arc::new(move |key: &Key| objects.undeclared(&ObjectKey { kind, key: key.clone() }))
    }

    fn driven<K, S>(
        &self,
        kind: Kind,
        reconcile: Reconcile<K, S>,
        status: fn(&K) -> Option<&S>,
    ) -> Arc<Drive<K, S>>
    where
        Notifications: StatusNotifier<K, S>,
    {
        let objects = self.objects.clone();
        Arc::new(Drive {
            kind,
            reconcile,
            status,
            home: self.home.clone(),
            objects: self.objects.clone(),
            wake: Arc::new(move |wake| match wake {
                Wake::Object(object) => objects.wake(object),
                Wake::Refreshers => objects.wake_all(Kind::AMIRefresher),
            }),
            meter: self.meter.clone(),
            notifier: self.notifications.clone(),
            now,
            failures: Mutex::default(),
        })
    }
}

/// The owner as the synced commit declares it: a later commit may name another.
fn owner_now(synced: &watch::Receiver<Option<Arc<Synced>>>, default: &Owner) -> Owner {
    synced.borrow().as_ref().map_or_else(|| default.clone(), |synced| synced.owner(default))
}
