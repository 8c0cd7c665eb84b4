//! The requests about runs: builders, Jobs, ConfigMaps, pods.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::ApiResource;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::observed::{RunKey, facts_of, key_of};
use super::recorded::Recorded;
use crate::api::{Class, GROUP, Key, Kind, PackerBuilder, VERSION};
use crate::engine::kubernetes::error::Refusal;
use crate::engine::kubernetes::job::fences::{Used, UsedKind};
use crate::engine::kubernetes::job::{TTL, builder_label};
use crate::engine::kubernetes::pod::StopNote;
use crate::engine::kubernetes::{BUILDER, FINALIZER, MANAGER, RUN, STOP};

/// Attempts of one patch. Another writer may change the builder between read and patch, but not each time.
const TRIES: usize = 5;
/// A deadline in seconds that is always over: the Job's controller ends the pod gracefully and creates no other.
const AT_ONCE: i64 = 1;

/// A builder as the owner of its runs, and what its status records of them.
pub struct Owning {
    name: String,
    uid: String,
    recorded: Recorded,
}

impl Owning {
    /// Whether the builder's status records this Job.
    pub fn names(&self, builder: &Key, job: &Job) -> bool {
        let claims = facts_of(job).map(|(_, facts)| facts);
        self.recorded.facts(builder, &key_of(&job.metadata), &job.metadata, claims.as_ref()).is_some()
    }

    /// The owner reference of Job and ConfigMap. It does not block the deletion of the builder: the finalizer does.
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
pub struct RunClient<'a> {
    client: &'a Client,
}

impl<'a> RunClient<'a> {
    pub fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// The current builder, whose runs are in the namespace `place`. One that is being deleted starts nothing.
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

    /// All Jobs of a builder, and those of another builder with the same label value.
    pub async fn jobs_of(&self, builder: &Key, namespace: &str) -> Result<Vec<Job>, Refusal> {
        let params = ListParams::default().labels(&format!("{BUILDER}={}", builder_label(&builder.name)));
        Ok(self.jobs(namespace).list(&params).await?.items)
    }

    /// Metadata of what a build is to use. The data of a Secret is not read.
    pub async fn metadata_of(&self, used: &Used) -> Result<ObjectMeta, Refusal> {
        let Key { namespace, name } = &used.key;
        let metadata = match used.kind {
            UsedKind::ServiceAccount => {
                let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
                accounts.get_metadata(name).await?.metadata
            }
            UsedKind::Secret => {
                let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
                secrets.get_metadata(name).await?.metadata
            }
        };
        Ok(metadata)
    }

    /// The current Job and pod of a run.
    pub async fn observe(&self, key: &RunKey) -> Result<(Vec<Job>, Vec<Pod>), Refusal> {
        let params = ListParams::default().labels(&format!("{RUN}={}", key.name));
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let jobs = self.jobs(&key.namespace);
        let (jobs, pods) = tokio::join!(jobs.list(&params), pods.list(&params));
        Ok((jobs?.items, pods?.items))
    }

    /// Adds the finalizer. Returns the resourceVersions before and after, if it was missing.
    pub async fn add_finalizer(&self, builder: &Key) -> Result<Option<(String, String)>, Refusal> {
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

    /// Removes the finalizer. A builder that is being deleted retains it until it is released, because there may be
    /// orphans to garbage-collect. Returns the resourceVersions before and after, if it was removed.
    pub async fn remove_finalizer(&self, builder: &Key) -> Result<Option<(String, String)>, Refusal> {
        let done = self
            .change(builder, |metadata| {
                let at = metadata.finalizers.iter().flatten().position(|name| name == FINALIZER)?;
                let is_removed = metadata.deletion_timestamp.is_none();
                is_removed.then(|| json!({"op": "remove", "path": format!("/metadata/finalizers/{at}")}))
            })
            .await;
        match done {
            Err(refusal) if refusal.is_not_found() => Ok(None),
            done => done,
        }
    }

    /// Patches a builder's current metadata. Returns the resourceVersions before and after, if `patch` returns a
    /// change.
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

    /// Creates the ConfigMap of a run. One of the same name is left from a start that ended before its Job was created,
    /// and is replaced, because it may be for another request.
    pub async fn create_config(&self, config: &ConfigMap) -> Result<(), Refusal> {
        let key = key_of(&config.metadata);
        let configs = self.configs(&key.namespace);
        let mut made = configs.create(&post(), config).await.map_err(Refusal::from);
        if made.as_ref().is_err_and(Refusal::is_conflict) {
            ignore_not_found(configs.delete(&key.name, &DeleteParams::default()).await)?;
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
                    "a Job that does not belong to this agent has the name of the build: kubectl delete job {name} \
                     --namespace {namespace}"
                ),
                ..refusal
            },
            false => refusal,
        })
    }

    /// Makes the Job the owner of the ConfigMap, so that both are deleted together. Until then the builder owns it. A
    /// failure has no consequences, because deleting the run deletes the ConfigMap too.
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
            tracing::debug!(run = key.name, error = %Refusal::from(error), "the builder still owns the ConfigMap");
        }
    }

    /// Ends a Job and records why, in one write. `None` if there is no such Job.
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
        let deleted = self.jobs(&key.namespace).delete(&key.name, &params).await;
        self.delete_config(key, deleted.map(drop)).await
    }

    /// Whether the builder does not exist.
    pub async fn is_gone(&self, builder: &Key) -> Result<bool, Refusal> {
        match self.builders(builder).get_metadata(&builder.name).await.map_err(Refusal::from) {
            Err(refusal) if refusal.is_not_found() => Ok(true),
            found => found.map(|_| false),
        }
    }

    /// Deletes only the ConfigMap of an ended run. Its Job stays for the log of its pod, for `TTL` at most.
    pub async fn keep_log(&self, key: &RunKey) -> Result<(), Refusal> {
        let patch =
            Patch::Merge(json!({"metadata": {"uid": key.uid}, "spec": {"ttlSecondsAfterFinished": TTL}}));
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let kept = self.jobs(&key.namespace).patch(&key.name, &params, &patch).await;
        self.delete_config(key, kept.map(drop)).await
    }

    /// Deletes the ConfigMap of a run after a request about its Job.
    async fn delete_config(&self, key: &RunKey, done: Result<(), kube::Error>) -> Result<(), Refusal> {
        match done.map_err(Refusal::from) {
            // Another Job has the name by now, and the ConfigMap belongs to that one.
            Err(refusal) if refusal.is_conflict() => return Ok(()),
            Err(refusal) if !refusal.is_not_found() => return Err(refusal),
            _ => {}
        }
        ignore_not_found(self.configs(&key.namespace).delete(&key.name, &DeleteParams::default()).await)
    }

    /// Why no pod can be created for a Job, according to the last Event about it.
    pub async fn reason_without_pod(&self, key: &RunKey) -> Result<Option<String>, Refusal> {
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

fn ignore_not_found<T>(done: Result<T, kube::Error>) -> Result<(), Refusal> {
    match done.map_err(Refusal::from) {
        Err(refusal) if !refusal.is_not_found() => Err(refusal),
        _ => Ok(()),
    }
}
