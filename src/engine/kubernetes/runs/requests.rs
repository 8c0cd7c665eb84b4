//! What is sent about a run.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ApiResource;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::recorded::Recorded;
use super::seen::{RunKey, facts_of, key_of};
use crate::api::{Class, GROUP, Key, Kind, PackerBuilder, VERSION};
use crate::engine::kubernetes::error::Refusal;
use crate::engine::kubernetes::job::builder_label;
use crate::engine::kubernetes::job::fences::{self, Used};
use crate::engine::kubernetes::pod::StopNote;
use crate::engine::kubernetes::{BUILDER, FINALIZER, MANAGER, RUN, STOP};

/// Somebody else may write the builder between our look and our patch, but not for ever.
const TRIES: usize = 5;
/// A deadline in the past: the Job's controller ends its pod gracefully, and makes no more.
const AT_ONCE: i64 = 1;

/// A builder as its runs' owner, and what it records of them.
pub struct Owning {
    name: String,
    uid: String,
    recorded: Recorded,
}

impl Owning {
    /// Is this the Job that the builder records?
    pub fn names(&self, builder: &Key, job: &Job) -> bool {
        let claims = facts_of(job).map(|(_, facts)| facts);
        self.recorded.facts(builder, &key_of(&job.metadata), &job.metadata, claims.as_ref()).is_some()
    }

    /// Does not hold the builder's deletion up: the finalizer does that.
    pub fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: format!("{GROUP}/{VERSION}"),
            kind: Kind::PackerBuilder.to_string(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: None,
            block_owner_deletion: None,
        }
    }
}

/// The API server, for runs.
pub struct Requests<'a> {
    client: &'a Client,
}

impl<'a> Requests<'a> {
    pub fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// The builder as it is now, whose runs are in `place`; one on its way out starts nothing.
    pub async fn builder(&self, builder: &Key, place: &str) -> Result<Owning, Refusal> {
        let kind = ApiResource::erase::<PackerBuilder>(&());
        let builders: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &builder.namespace, &kind);
        let DynamicObject { metadata, data, .. } = builders.get(&builder.name).await?;
        if metadata.deletion_timestamp.is_some() {
            let message = format!("{builder} is being deleted");
            return Err(Refusal { class: Class::Conflict, message, code: None });
        }
        let recorded = Recorded::read(&data["status"], place);
        Ok(Owning { name: builder.name.clone(), uid: metadata.uid.unwrap_or_default(), recorded })
    }

    /// All Jobs of a builder, and perhaps of one whose label is the same.
    pub async fn jobs_of(&self, builder: &Key, namespace: &str) -> Result<Vec<Job>, Refusal> {
        let params = ListParams::default().labels(&format!("{BUILDER}={}", builder_label(&builder.name)));
        Ok(self.jobs(namespace).list(&params).await?.items)
    }

    /// Labels and annotations of what a build is to use. Of a Secret, nothing else is read.
    pub async fn metadata_of(&self, used: &Used) -> Result<ObjectMeta, Refusal> {
        let Key { namespace, name } = &used.key;
        let metadata = match used.kind {
            fences::Kind::ServiceAccount => {
                let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
                accounts.get_metadata(name).await?.metadata
            }
            fences::Kind::Secret => {
                let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
                secrets.get_metadata(name).await?.metadata
            }
        };
        Ok(metadata)
    }

    /// A run's Job and pod, as they are now.
    pub async fn look_at(&self, key: &RunKey) -> Result<(Vec<Job>, Vec<Pod>), Refusal> {
        let params = ListParams::default().labels(&format!("{RUN}={}", key.name));
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let jobs = self.jobs(&key.namespace);
        let (jobs, pods) = tokio::join!(jobs.list(&params), pods.list(&params));
        Ok((jobs?.items, pods?.items))
    }

    /// Puts the finalizer on. Answers the versions before and after, if that was needed.
    pub async fn hold(&self, builder: &Key) -> Result<Option<(String, String)>, Refusal> {
        self.change(builder, |metadata| {
            let all = metadata.finalizers.as_deref().unwrap_or_default();
            let add = match all {
                _ if all.iter().any(|name| name == FINALIZER) => return None,
                [] => json!({"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]}),
                _ => json!({"op": "add", "path": "/metadata/finalizers/-", "value": FINALIZER}),
            };
            Some(add)
        })
        .await
    }

    /// Takes the finalizer off. A builder that is being deleted keeps it until it is released: there may
    /// be something to clean up.
    pub async fn let_go(&self, builder: &Key) -> Result<Option<(String, String)>, Refusal> {
        let done = self
            .change(builder, |metadata| {
                let at = metadata.finalizers.iter().flatten().position(|name| name == FINALIZER)?;
                let wanted = metadata.deletion_timestamp.is_none();
                wanted.then(|| json!({"op": "remove", "path": format!("/metadata/finalizers/{at}")}))
            })
            .await;
        match done {
            Err(refusal) if refusal.is_not_found() => Ok(None),
            done => done,
        }
    }

    /// Patches a builder's metadata as it is now.
    async fn change(
        &self,
        builder: &Key,
        patch: impl Fn(&ObjectMeta) -> Option<Value>,
    ) -> Result<Option<(String, String)>, Refusal> {
        let builders = self.builders(builder);
        let mut tries = 1;
        loop {
            let metadata = builders.get_metadata(&builder.name).await?.metadata;
            let Some(change) = patch(&metadata) else { return Ok(None) };
            let from = metadata.resource_version.unwrap_or_default();
            let same = json!({"op": "replace", "path": "/metadata/resourceVersion", "value": from});
            let patch = serde_json::from_value(json!([same, change])).expect("both are operations");
            let patch: Patch<()> = Patch::Json(patch);
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            match builders.patch_metadata(&builder.name, &params, &patch).await.map_err(Refusal::from) {
                Err(refusal) if refusal.is_conflict() && tries < TRIES => tries += 1,
                Err(refusal) => return Err(refusal),
                Ok(made) => return Ok(Some((from, made.metadata.resource_version.unwrap_or_default()))),
            }
        }
    }

    /// One of the same name is left from a start that did not get to its Job: it may say something else.
    pub async fn create_config(&self, config: &ConfigMap) -> Result<(), Refusal> {
        let key = key_of(&config.metadata);
        let configs = self.configs(&key.namespace);
        let mut made = configs.create(&post(), config).await.map_err(Refusal::from);
        if made.as_ref().is_err_and(Refusal::is_conflict) {
            gone_is_fine(configs.delete(&key.name, &DeleteParams::default()).await)?;
            made = configs.create(&post(), config).await.map_err(Refusal::from);
        }
        made.map(drop)
    }

    pub async fn create_job(&self, job: &Job) -> Result<Job, Refusal> {
        let RunKey { namespace, name, .. } = key_of(&job.metadata);
        let made = self.jobs(&namespace).create(&post(), job).await.map_err(Refusal::from);
        made.map_err(|refusal| match refusal.is_conflict() {
            true => Refusal {
                message: format!(
                    "a Job that is not of this agent has the name of the build: kubectl delete job {name} --namespace \
                     {namespace}"
                ),
                ..refusal
            },
            false => refusal,
        })
    }

    /// Makes the ConfigMap the Job's, so that it goes with it whoever deletes it. Until then it is the
    /// builder's, and it is deleted with the run in any case: a failure here costs nothing.
    pub async fn hand_config_over(&self, job: &Job) {
        let key = key_of(&job.metadata);
        let owner = OwnerReference {
            api_version: "batch/v1".to_owned(),
            kind: "Job".to_owned(),
            name: key.name.clone(),
            uid: job.metadata.uid.clone().unwrap_or_default(),
            controller: None,
            block_owner_deletion: None,
        };
        let patch = Patch::Merge(json!({"metadata": {"ownerReferences": [owner]}}));
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        if let Err(error) = self.configs(&key.namespace).patch_metadata(&key.name, &params, &patch).await {
            tracing::debug!(run = key.name, error = %Refusal::from(error), "its ConfigMap stays the builder's");
        }
    }

    /// Asks a Job to end, and notes why, in one write. `None`: there is none.
    pub async fn stop(&self, key: &RunKey, note: &StopNote) -> Result<Option<Job>, Refusal> {
        let note = serde_json::to_string(note).expect("a note has only text keys");
        let patch = Patch::Merge(json!({
            "metadata": {"uid": key.uid, "annotations": {STOP: note}},
            "spec": {"activeDeadlineSeconds": AT_ONCE},
        }));
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match self.jobs(&key.namespace).patch(&key.name, &params, &patch).await.map_err(Refusal::from) {
            Ok(job) => Ok(Some(job)),
            Err(refusal) if refusal.is_not_found() || refusal.is_conflict() => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Deletes a run's Job, with its pod, and its ConfigMap.
    pub async fn delete(&self, key: &RunKey) -> Result<(), Refusal> {
        let only_this = Preconditions { uid: Some(key.uid.clone()), resource_version: None };
        let params = DeleteParams::background().preconditions(only_this);
        match self.jobs(&key.namespace).delete(&key.name, &params).await.map_err(Refusal::from) {
            // Another Job has the name by now: its ConfigMap is not this run's.
            Err(refusal) if refusal.is_conflict() => return Ok(()),
            Err(refusal) if !refusal.is_not_found() => return Err(refusal),
            _ => {}
        }
        gone_is_fine(self.configs(&key.namespace).delete(&key.name, &DeleteParams::default()).await)
    }

    /// Why no pod can be made of a Job: the last event that says so.
    pub async fn refusal_of(&self, key: &RunKey) -> Result<Option<String>, Refusal> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &key.namespace);
        let params = ListParams::default().fields(&format!("regarding.uid={},reason=FailedCreate", key.uid));
        let events = events.list(&params).await?.items;
        let last = events.into_iter().max_by_key(|event| event.metadata.creation_timestamp.clone());
        Ok(last.and_then(|event| event.note))
    }

    fn builders(&self, builder: &Key) -> Api<PackerBuilder> {
        Api::namespaced(self.client.clone(), &builder.namespace)
    }

    fn jobs(&self, namespace: &str) -> Api<Job> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn configs(&self, namespace: &str) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

fn gone_is_fine<T>(done: Result<T, kube::Error>) -> Result<(), Refusal> {
    match done.map_err(Refusal::from) {
        Err(refusal) if !refusal.is_not_found() => Err(refusal),
        _ => Ok(()),
    }
}
