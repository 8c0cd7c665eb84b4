//! The runs of an agent on a real API server with the chart's own Role, and their builders.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, ResourceQuota};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use opsy::api::builder::{InputsRecord, PodSettings};
use opsy::api::files::TemplateFile;
use opsy::api::{BuildId, CommitId, Key, Owner, PackerBuilder, Region, RunName};
use opsy::engine::kubernetes::Scope;
use opsy::engine::kubernetes::job::{RunImages, Setup};
use opsy::engine::kubernetes::runs::ClusterRuns;
use opsy::engine::objects::{Objects, Queues};
use opsy::engine::{EngineError, PodSpec, Run, RunFacts, RunRequest, RunState, Runs};
use opsy_runner::request::{Command, Step};
use serde_json::{Value, json};

use super::super::{ControlPlane, Place, SOON, until};

pub struct World {
    pub place: Place,
    /// How builds run, for this agent and its successors.
    pub setup: Setup,
    pub runs: Arc<ClusterRuns>,
    pub objects: Arc<Objects>,
    /// The queues of woken keys.
    pub queues: Queues,
}

impl World {
    /// On the control plane that all tests share: no pod ever runs there.
    pub async fn new() -> Self {
        Self::on(ControlPlane::shared().await).await
    }

    pub async fn on(plane: &'static ControlPlane) -> Self {
        let _ = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::INFO).try_init();
        let place = Place::on(plane).await;
        let (objects, queues) = Objects::new();
        let setup = setup();
        let runs = watch(&place, place.scope(), &setup, &objects).await;
        let world = Self { place, setup, runs, objects, queues };
        world.listed().await;
        world
    }

    /// Replaces the agent by one with this scope and setup.
    pub async fn set_up(&mut self, scope: Scope, setup: Setup) {
        self.runs = watch(&self.place, scope, &setup, &self.objects).await;
        self.setup = setup;
        self.listed().await;
    }

    /// Restarts the agent: it knows only what the API server stores.
    pub async fn restart(&mut self) {
        self.runs = watch(&self.place, self.place.scope(), &self.setup, &self.objects).await;
        self.listed().await;
    }

    /// A second agent beside the first.
    pub async fn second(&self) -> Arc<ClusterRuns> {
        let runs = watch(&self.place, self.place.scope(), &self.setup, &self.objects).await;
        until("the second agent's lists", SOON, async || runs.live().await.ok()).await;
        runs
    }

    async fn listed(&self) {
        until("the first lists", SOON, async || self.runs.live().await.ok()).await;
    }

    /// Creates a builder, which the agent knows.
    pub async fn builder(&self, name: &str) -> Key {
        let builder = json!({
            "apiVersion": "ami.opsy.dev/v1alpha1", "kind": "PackerBuilder",
            "metadata": {"name": name}, "spec": {"region": "us-east-1"},
        });
        let builder: PackerBuilder = serde_json::from_value(builder).expect("a builder");
        let made = self.builders().create(&PostParams::default(), &builder).await.expect("a builder");
        self.objects.builders.load(vec![made], &[]);
        Key { namespace: self.place.namespace.clone(), name: name.to_owned() }
    }

    pub fn builders(&self) -> Api<PackerBuilder> {
        Api::namespaced(self.place.admin.clone(), &self.place.namespace)
    }

    pub fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.place.admin.clone(), self.builds_in())
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.place.admin.clone(), self.builds_in())
    }

    pub fn configs(&self) -> Api<ConfigMap> {
        Api::namespaced(self.place.admin.clone(), self.builds_in())
    }

    /// Sets the quota `builds` of the namespace, and waits until it is in force.
    pub async fn set_quota(&self, hard: Value) {
        let quota = json!({"metadata": {"name": "builds"}, "spec": {"hard": hard}});
        let quota = serde_json::from_value(quota).expect("a quota");
        let quotas = self.quotas();
        quotas.create(&PostParams::default(), &quota).await.expect("a quota");
        until("the quota to be in force", SOON, async || quotas.get("builds").await.ok()?.status?.used).await;
    }

    pub async fn delete_quota(&self) {
        self.quotas().delete("builds", &DeleteParams::default()).await.expect("it is deleted");
    }

    fn quotas(&self) -> Api<ResourceQuota> {
        Api::namespaced(self.place.admin.clone(), &self.place.namespace)
    }

    fn builds_in(&self) -> &str {
        self.setup.namespace.as_deref().unwrap_or(&self.place.namespace)
    }

    /// Lets the user `tenant` create Jobs and pods here, and nothing else.
    pub fn admit_tenant(&self) {
        let role = ["create", "role", "tenant", "--verb=create", "--resource=jobs,pods"];
        self.place.kubectl(&role, "");
        self.place.kubectl(&["create", "rolebinding", "tenant", "--role=tenant", "--user=tenant"], "");
    }

    /// Creates an object as that user.
    pub fn as_tenant(&self, object: &Value) {
        self.place.kubectl(&["--as=tenant", "create", "-f", "-"], &object.to_string());
    }

    pub async fn finalizers(&self, builder: &Key) -> Vec<String> {
        let found = self.builders().get(&builder.name).await.expect("the builder");
        found.metadata.finalizers.unwrap_or_default()
    }

    /// How many Jobs and ConfigMaps of builds there are.
    pub async fn made(&self) -> (usize, usize) {
        let labelled = ListParams::default().labels("ami.opsy.dev/run");
        let jobs = self.jobs().list(&labelled).await.expect("Jobs").items.len();
        (jobs, self.configs().list(&labelled).await.expect("ConfigMaps").items.len())
    }

    /// The pod of a run, once there is one.
    pub async fn pod(&self, run: &RunName) -> Pod {
        let of = ListParams::default().labels(&format!("ami.opsy.dev/run={run}"));
        let pods = self.pods();
        until("a pod", SOON, async || pods.list(&of).await.expect("pods").items.pop()).await
    }

    /// Starts a run, and records it in the status of its builder as a reconcile does.
    pub async fn start(&self, request: &RunRequest) -> Result<(), EngineError> {
        let id = self.start_unrecorded(request).await?;
        let status = json!({"status": {
            "jobID": id, "jobName": request.name.as_str(), "jobStatus": "Pending",
            "jobFacts": request.facts.record(),
        }});
        let (name, params) = (&request.facts.builder.name, PatchParams::default());
        let made =
            self.builders().patch_status(name, &params, &Patch::Merge(&status)).await.expect("a status");
        self.objects.builders.put(&made);
        Ok(())
    }

    /// Starts a run without recording it, as an agent that is killed in between.
    pub async fn start_unrecorded(&self, request: &RunRequest) -> Result<String, EngineError> {
        self.runs.start(request.clone()).await
    }

    /// The builder's only run.
    pub async fn run(&self, builder: &Key) -> Run {
        let mut runs = self.runs.of(builder).await.expect("its runs");
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.remove(0)
    }

    /// Waits until the builder's run is in a wanted state.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        builder: &Key,
        mut wanted: impl FnMut(&RunState) -> bool,
    ) -> Run {
        let mut last = None;
        let found = tokio::time::timeout(
            limit,
            until(what, limit * 2, async || {
                let run = self.run(builder).await;
                last = Some(run.state.clone());
                wanted(&run.state).then_some(run)
            }),
        );
        match found.await {
            Ok(run) => run,
            Err(_) => {
                panic!(
                    "{what}: the state is {last:?}\n{}",
                    self.place.kubectl(&["describe", "jobs,pods"], "")
                )
            }
        }
    }

    /// Waits until the builder's run has ended.
    pub async fn ended(&self, limit: Duration, builder: &Key) -> Run {
        self.until("the end of the run", limit, builder, RunState::ended).await
    }
}

async fn watch(place: &Place, scope: Scope, setup: &Setup, objects: &Arc<Objects>) -> Arc<ClusterRuns> {
    let (cluster, _) = place.cluster(scope).await;
    ClusterRuns::start(cluster, objects.clone(), setup.clone(), Timestamp::now)
}

/// The images of the bed, and the defaults of all other flags.
pub fn setup() -> Setup {
    let images = RunImages { runner: "localhost/opsy:bed".into(), packer: "localhost/packer:bed".into() };
    images.into()
}

/// A run of a builder whose template is one file.
pub fn request(builder: &Key, template: &str) -> RunRequest {
    numbered(builder, template, 1)
}

pub fn numbered(builder: &Key, template: &str, number: u32) -> RunRequest {
    let build = BuildId::of(&[&builder.to_string(), &number.to_string()]);
    let step = |command| Step { command, args: vec!["packer/".to_owned()], dir: None };
    RunRequest {
        name: RunName::parse(format!("{}-{build}", builder.name)).expect("a name"),
        owner: Owner::parse("us").expect("an owner"),
        facts: RunFacts {
            owner: None,
            builder: builder.clone(),
            build,
            region: Region::parse("us-east-1").expect("a region"),
            inputs: InputsRecord::default(),
            why: "Missing".into(),
            commit: CommitId::parse("a".repeat(40)).expect("a commit"),
            created_at: Timestamp::now(),
        },
        steps: vec![step(Command::Validate), step(Command::Build)],
        env: BTreeMap::new(),
        secret: None,
        files: Arc::new(vec![TemplateFile {
            path: "packer/node.pkr.hcl".into(),
            executable: false,
            content: template.into(),
        }]),
        limit: Duration::from_secs(3600),
        pending_limit: Duration::from_secs(600),
        pod: PodSpec::default(),
    }
}

/// The same request with these settings of its pod.
pub fn with_pod(request: RunRequest, settings: Value) -> RunRequest {
    let settings: PodSettings = serde_json::from_value(settings).expect("settings");
    RunRequest { pod: PodSpec { settings, ..request.pod.clone() }, ..request }
}
