//! Both reconcilers with what they are handed, as the loop drives them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::now;
use super::render::{self, name_of};
use super::telling::Telling;
use crate::api::fence::Fence;
use crate::api::{
    AMIRefresher, AMIRefresherStatus, Key, Kind, ObjectKey, Owner, PackerBuilder, PackerBuilderStatus,
};
use crate::aws::Aws;
use crate::builder::access::TemplateAccess;
use crate::engine::drive::{Drive, Meter, Reconcile, Teller, drive};
use crate::engine::objects::{Objects, Queues};
use crate::engine::{Home, Runs, Wake};
use crate::git::templates::Templates;
use crate::publish::Publishing;
use crate::sync::Synced;
use crate::{builder, refresher};

/// What both reconcilers are made of.
pub struct Parts {
    pub aws: Aws,
    pub templates: Templates,
    pub access: Arc<TemplateAccess>,
    pub runs: Arc<dyn Runs>,
    pub home: Arc<dyn Home>,
    pub objects: Arc<Objects>,
    pub synced: watch::Receiver<Option<Arc<Synced>>>,
    pub owner: Owner,
    /// Which clusters each namespace may roll out to.
    pub clusters: Arc<Fence>,
    pub publishing: watch::Receiver<Publishing>,
    pub meter: Arc<dyn Meter>,
    pub telling: Arc<Telling>,
    /// No build is started any more.
    pub ending: Arc<AtomicBool>,
}

impl Parts {
    /// Drives both kinds until their queues end.
    pub fn drive(&self, queues: Queues) -> Vec<JoinHandle<()>> {
        vec![
            tokio::spawn(drive(self.builders(), queues.builders)),
            tokio::spawn(drive(self.refreshers(), queues.refreshers)),
        ]
    }

    fn builders(&self) -> Arc<Drive<PackerBuilder, PackerBuilderStatus>> {
        let objects = self.objects.clone();
        let undeclared =
            move |key: &Key| objects.undeclared(&ObjectKey { kind: Kind::PackerBuilder, key: key.clone() });
        let (home, used) = (self.home.clone(), self.objects.clone());
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
            undeclared: Arc::new(undeclared),
            withheld: Arc::new(move || used.withheld()),
            in_sync: Arc::new(move |object| {
                home.is_in_sync(&name_of(Kind::PackerBuilder, object), object.metadata.generation)
            }),
        });
        let telling = self.telling.clone();
        self.driven(
            Kind::PackerBuilder,
            Arc::new(move |object| {
                let context = builder::Context {
                    owner: owner_now(&context.synced, &context.owner),
                    ..(*context).clone()
                };
                let telling = telling.clone();
                Box::pin(async move {
                    let pass = builder::reconcile(object.clone(), &context).await;
                    telling.learn(&name_of(Kind::PackerBuilder, &*object), &*object, &pass.status).await;
                    pass
                })
            }),
            |object| object.status.as_ref(),
        )
    }

    fn refreshers(&self) -> Arc<Drive<AMIRefresher, AMIRefresherStatus>> {
        let objects = self.objects.clone();
        let builder_images = move |key: &Key| {
            let builder = objects.builders.get(key)?;
            Some(builder.status.and_then(|status| status.images).unwrap_or_default())
        };
        let objects = self.objects.clone();
        let undeclared =
            move |key: &Key| objects.undeclared(&ObjectKey { kind: Kind::AMIRefresher, key: key.clone() });
        let context = Arc::new(refresher::Context {
            aws: self.aws.clone(),
            builder_images: Arc::new(builder_images),
            undeclared: Arc::new(undeclared),
            synced: self.synced.clone(),
            owner: self.owner.clone(),
            clusters: self.clusters.clone(),
            now,
        });
        let telling = self.telling.clone();
        self.driven(
            Kind::AMIRefresher,
            Arc::new(move |object| {
                let context = refresher::Context {
                    owner: owner_now(&context.synced, &context.owner),
                    ..(*context).clone()
                };
                let telling = telling.clone();
                Box::pin(async move {
                    let pass = refresher::reconcile(object.clone(), &context).await;
                    telling.learn(&name_of(Kind::AMIRefresher, &*object), &*object, &pass.status).await;
                    pass
                })
            }),
            |object| object.status.as_ref(),
        )
    }

    fn driven<K, S>(
        &self,
        kind: Kind,
        reconcile: Reconcile<K, S>,
        status: fn(&K) -> Option<&S>,
    ) -> Arc<Drive<K, S>>
    where
        Telling: Teller<K, S>,
    {
        let objects = self.objects.clone();
        let publishing = self.publishing.clone();
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
            published: Box::new(move || render::published(&publishing.borrow())),
            meter: self.meter.clone(),
            teller: self.telling.clone(),
            now,
            failures: std::sync::Mutex::default(),
        })
    }
}

/// The owner as the synced `opsy.yaml` has it.
fn owner_now(synced: &watch::Receiver<Option<Arc<Synced>>>, otherwise: &Owner) -> Owner {
    synced.borrow().as_ref().map_or_else(|| otherwise.clone(), |synced| owner_of(synced, otherwise))
}

/// The owner as a commit's `opsy.yaml` has it.
pub fn owner_of(synced: &Synced, otherwise: &Owner) -> Owner {
    let written = synced.set.settings.agent_id.clone();
    written.and_then(|id| Owner::parse(id).ok()).unwrap_or_else(|| otherwise.clone())
}
