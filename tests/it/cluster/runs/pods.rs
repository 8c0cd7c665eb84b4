//! Real Packer in real pods against the emulated AWS, and failures of pods.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, EvictParams, LogParams, PostParams};
use opsy::api::Key;
use opsy::engine::{Failure, RunRequest, RunState, Runs, Stop};
use serde_json::{Value, json};

use super::super::commands::said_now;
use super::node::{Relay, plane};
use super::world::{World, request, with_pod};
use crate::bed::{Account, bed, wait_for};
use crate::world::template;

/// A pod starts within seconds, and later on a busy machine.
pub const BUILT: Duration = Duration::from_secs(180);
const PASSWORD: &str = "correct-horse-battery";

/// An environment whose builds reach an AWS account.
pub struct Builds {
    pub world: World,
    account: Account,
    pub builder: Key,
    base: String,
}

impl Builds {
    /// Returns `None` if there is no node.
    pub async fn new() -> Option<Self> {
        let world = World::on(plane().await?).await;
        let (account, seed) = Account::seeded();
        let builder = world.builder("node").await;
        let base = seed["base_images"]["v20260801"].as_str().expect("a base image").to_owned();
        let builds = Self { world, account, builder, base };
        builds.secret("aws", builds.environment()).await;
        Some(builds)
    }

    fn environment(&self) -> Vec<(String, String)> {
        let endpoint = Relay::to(&bed().endpoint).url;
        let mut all: Vec<(String, String)> = self.account.env().into_iter().collect();
        all.retain(|(name, _)| name != "AWS_ENDPOINT_URL");
        all.push(("AWS_ENDPOINT_URL".into(), endpoint.clone()));
        all.push(("PKR_VAR_endpoint".into(), endpoint));
        all.push(("PASSWORD".into(), PASSWORD.into()));
        all
    }

    pub async fn secret(&self, name: &str, keys: Vec<(String, String)>) {
        let keys: serde_json::Map<String, Value> = keys.into_iter().map(|(k, v)| (k, v.into())).collect();
        let secret = json!({"metadata": {"name": name}, "stringData": keys});
        let secrets: Api<Secret> =
            Api::namespaced(self.world.place.admin.clone(), &self.world.place.namespace);
        let secret = serde_json::from_value(secret).expect("a Secret");
        secrets.create(&PostParams::default(), &secret).await.expect("a Secret");
    }

    pub fn request(&self) -> RunRequest {
        let mut request = request(&self.builder, template());
        request.secret = Some("aws".into());
        let build = request.facts.build.to_string();
        request.env = [
            ("PKR_VAR_ami_id", self.base.as_str()),
            ("PKR_VAR_region", "us-east-1"),
            ("PKR_VAR_opsy_build_tags", &json!({"build-id": build}).to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        request
    }

    /// Waits until the build waits for its image.
    async fn held(&self) {
        let is_running = |state: &RunState| matches!(state, RunState::Running(_));
        self.world.until("a running pod", BUILT, &self.builder, is_running).await;
        let account = self.account.clone();
        let image = move || (account.count("ec2:CreateImage") > 0).then_some(());
        tokio::task::spawn_blocking(move || wait_for("an image in progress", BUILT, image))
            .await
            .expect("it is in progress");
    }

    async fn pod(&self, request: &RunRequest) -> String {
        self.world.pod(&request.name).await.metadata.name.expect("a name")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_makes_an_image_and_no_secret_shows() {
    let Some(builds) = Builds::new().await else { return };
    let mut request = builds.request();
    request.env.insert("PACKER_LOG".into(), "1".into());
    builds.world.start(&request).await.expect("it starts");
    let run = builds.world.ended(BUILT, &builds.builder).await;
    let RunState::Succeeded(artifacts) = &run.state else { panic!("{run:?}") };
    let made = builds.account.image("us-east-1", artifacts[0].image.as_str());
    assert_eq!(made["tags"]["build-id"], request.facts.build.as_str());
    assert!(run.started_at.is_some() && run.ended_at >= run.started_at, "{run:?}");
    let pod = builds.pod(&request).await;
    let log = builds.world.pods().logs(&pod, &LogParams::default()).await.expect("its log");
    assert!(log.contains("amazon-ebs"), "{log}");
    for secret in [PASSWORD, "emulated"] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
    builds.world.runs.forget(&request.name).await.expect("it is forgotten");
    assert_eq!(builds.account.orphans(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_stopped_cleans_up() {
    let Some(builds) = Builds::new().await else { return };
    builds.account.hold_images(1);
    let request = builds.request();
    builds.world.start(&request).await.expect("it starts");
    builds.held().await;
    builds.world.runs.stop(&request.name, Stop::Cancelled).await.expect("it is requested");
    let stopping = builds.world.run(&builds.builder).await;
    assert!(stopping.state == RunState::Stopping || stopping.state.ended(), "{stopping:?}");
    let run = builds.world.ended(BUILT, &builds.builder).await;
    assert_eq!(run.state, RunState::Failed(Failure::Cancelled));
    let machines = builds.account.state()["leftovers"]["instances"].clone();
    assert_eq!(machines, json!([]), "Packer got SIGTERM and the time to clean up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_over_its_limit_is_timed_out_by_the_runner() {
    let Some(builds) = Builds::new().await else { return };
    builds.account.hold_images(1);
    let request = RunRequest { limit: Duration::from_secs(15), ..builds.request() };
    builds.world.start(&request).await.expect("it starts");
    assert_eq!(builds.world.ended(BUILT, &builds.builder).await.state, RunState::Failed(Failure::TimedOut));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_packer_refuses_says_why() {
    let Some(builds) = Builds::new().await else { return };
    let template = "source \"amazon-ebs\" \"node\" {
  instance_typo = 1
}
build {
  sources = [\"source.amazon-ebs.node\"]
}
";
    let mut request = request(&builds.builder, template);
    request.secret = Some("aws".into());
    builds.world.start(&request).await.expect("it starts");
    let run = builds.world.ended(BUILT, &builds.builder).await;
    let RunState::Failed(Failure::Packer { exit, errors }) = &run.state else { panic!("{run:?}") };
    assert_eq!(*exit, Some(1));
    assert!(errors.iter().any(|line| line.contains("instance_typo")), "{errors:?}");
    builds.world.runs.forget(&request.name).await.expect("it is forgotten");
    assert_eq!(builds.world.runs.of(&builds.builder).await.expect("runs"), []);
    let printed = said_now(&builds.world.place, &["logs", "pb/node"]);
    assert!(printed.status.success() && printed.stdout.contains("instance_typo"), "{printed:?}");
    let kept = builds.pod(&request).await;
    assert!(builds.world.pods().get(&kept).await.expect("its pod").metadata.deletion_timestamp.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_without_enough_memory_says_so() {
    let Some(builds) = Builds::new().await else { return };
    let request = with_pod(builds.request(), json!({"resources": {"limits": {"memory": "24Mi"}}}));
    builds.world.start(&request).await.expect("it starts");
    assert_eq!(
        builds.world.ended(BUILT, &builds.builder).await.state,
        RunState::Failed(Failure::OutOfMemory)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_quotas_limits_and_pod_security_builds() {
    let Some(builds) = Builds::new().await else { return };
    let place = &builds.world.place;
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    place.kubectl(&["label", "namespace", &place.namespace, restricted], "");
    // Exactly what one container requests: init containers add nothing.
    let hard = json!({
        "pods": "1", "requests.cpu": "50m", "limits.cpu": "1", "limits.memory": "1Gi",
        "requests.ephemeral-storage": "5Gi", "limits.ephemeral-storage": "5Gi",
    });
    let limits = json!([{"type": "Container", "min": {"cpu": "10m"}, "max": {"cpu": "2", "memory": "2Gi"}}]);
    for (kind, spec) in [("ResourceQuota", json!({"hard": hard})), ("LimitRange", json!({"limits": limits}))]
    {
        let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "builds"}, "spec": spec});
        place.kubectl(&["create", "-f", "-"], &object.to_string());
    }
    let resources = json!({
        "requests": {"cpu": "50m", "memory": "64Mi"},
        "limits": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "5Gi"},
    });
    let request = with_pod(builds.request(), json!({"resources": resources}));
    builds.world.start(&request).await.expect("it starts");
    let run = builds.world.ended(BUILT, &builds.builder).await;
    assert!(matches!(run.state, RunState::Succeeded(_)), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_pulled_is_named() {
    let Some(builds) = Builds::new().await else { return };
    let mut request = builds.request();
    request.pod.image = Some("localhost/nowhere:1".into());
    builds.world.start(&request).await.expect("it starts");
    let named = |state: &RunState| {
        let words = ["localhost/nowhere:1", "spec.builder.pod.imagePullSecrets"];
        matches!(state, RunState::Pending(Some(said)) if words.iter().all(|word| said.contains(word)))
    };
    builds.world.until("the image's name and what to do", BUILT, &builds.builder, named).await;
    builds.world.runs.stop(&request.name, Stop::Late).await.expect("it is requested");
    let run = builds.world.ended(BUILT, &builds.builder).await;
    let RunState::Failed(Failure::NotStarted(words)) = &run.state else { panic!("{run:?}") };
    assert!(words.contains("localhost/nowhere:1"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_named_and_waited_for() {
    let Some(builds) = Builds::new().await else { return };
    let request = RunRequest { secret: Some("late".into()), ..builds.request() };
    builds.world.start(&request).await.expect("it starts");
    let named = |state: &RunState| matches!(state, RunState::Pending(Some(words)) if words.contains("secret \"late\" not found"));
    builds.world.until("the Secret's name", BUILT, &builds.builder, named).await;
    builds.secret("late", builds.environment()).await;
    let run = builds.world.ended(BUILT, &builds.builder).await;
    assert!(matches!(run.state, RunState::Succeeded(_)), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_build_cleans_up_and_says_what_happened() {
    let Some(builds) = Builds::new().await else { return };
    builds.account.hold_images(1);
    let request = builds.request();
    builds.world.start(&request).await.expect("it starts");
    builds.held().await;
    let pod = builds.pod(&request).await;
    builds.world.pods().evict(&pod, &EvictParams::default()).await.expect("it is evicted");
    let run = builds.world.ended(BUILT, &builds.builder).await;
    let RunState::Failed(Failure::Evicted(words)) = &run.state else { panic!("{run:?}") };
    assert!(words.contains("Eviction"), "{words}");
    assert_eq!(builds.account.state()["leftovers"]["instances"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_deleted_before_anybody_read_its_result_is_lost() {
    let Some(mut builds) = Builds::new().await else { return };
    let request = builds.request();
    builds.world.start(&request).await.expect("it starts");
    builds.world.ended(BUILT, &builds.builder).await;
    let pod = builds.pod(&request).await;
    builds.world.pods().delete(&pod, &DeleteParams::default()).await.expect("it is deleted");
    let pods = builds.world.pods();
    super::super::until("the pod to be deleted", BUILT, async || {
        pods.get_opt(&pod).await.expect("a response").is_none().then_some(())
    })
    .await;
    builds.world.restart().await;
    let run = builds.world.ended(BUILT, &builds.builder).await;
    assert!(matches!(run.state, RunState::Lost(_)), "its image is found by tag: {run:?}");
}
