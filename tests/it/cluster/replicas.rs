//! Two replicas of the real program: one is active, the other one is a ready standby and takes over.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{ControlPlane, Place, SOON};
use crate::world::{Agent, World};

/// The duration of the Lease in these tests.
const LEASE: &str = "3s";

/// The environment of replicas: a repository, a namespace, and a kubeconfig with the ServiceAccount of the chart.
pub struct Replicas {
    pub world: World,
    pub place: Place,
    pub kubeconfig: PathBuf,
}

pub struct Replica {
    pub agent: Agent,
    pub log: PathBuf,
    address: String,
}

impl Replicas {
    /// A repository whose object is suspended: these tests are about which replica is active, not about its work.
    async fn new() -> Self {
        Self::idle(Place::new().await).await
    }

    async fn idle(place: Place) -> Self {
        let builder = "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: node\n\
                       spec:\n  region: us-east-1\n  suspend: true\n  builder: {dir: packer}\n";
        Self::at(place, "", &[("node.yaml", builder)]).await
    }

    /// Replicas of a repository with these files, and these settings in addition to owner and namespace.
    pub async fn of(settings: &str, files: &[(&str, &str)]) -> Self {
        Self::at(Place::new().await, settings, files).await
    }

    /// As `of`, in this place.
    pub async fn at(place: Place, settings: &str, files: &[(&str, &str)]) -> Self {
        let world = tokio::task::spawn_blocking(World::empty).await.expect("a world");
        Self::in_world(world, place, settings, files).await
    }

    /// As `of`, with the repository on a server, so that no agent notices a push by itself.
    pub async fn served(settings: &str, files: &[(&str, &str)]) -> Self {
        let world = tokio::task::spawn_blocking(|| World::served(None)).await.expect("a world");
        Self::in_world(world, Place::new().await, settings, files).await
    }

    async fn in_world(world: World, place: Place, settings: &str, files: &[(&str, &str)]) -> Self {
        let namespace = place.namespace.as_str();
        let settings = format!("agentID: {namespace}\nnamespace: {namespace}\n{settings}");
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, Some(*text))).collect();
        world.push(&[files, vec![("opsy.yaml", Some(settings.as_str()))]].concat(), "policy: first");
        place.bind_cluster_rules().await;
        let kubeconfig = place.kubeconfig(world.root()).await;
        Self { world, place, kubeconfig }
    }

    fn start(&self, name: &str) -> Replica {
        self.start_with(name, &[])
    }

    pub fn start_with(&self, name: &str, environment: &[(&str, &str)]) -> Replica {
        let log = self.world.root().join(format!("{name}.log"));
        let mut opsy: Command = self.world.opsy();
        opsy.env("OPSY_KUBECONFIG", &self.kubeconfig)
            .env("OPSY_STATE", self.world.root().join(name))
            .env("OPSY_IDENTITY", name)
            .env("OPSY_LISTEN", "127.0.0.1:0")
            .env("OPSY_LEASE_DURATION", LEASE)
            .envs(environment.iter().copied());
        let agent = self.world.start_logged(opsy, &log);
        let address = self.world.logged(&log, "address");
        Replica { agent, log, address }
    }

    fn holder(&self) -> String {
        self.place.kubectl(&["get", "lease", "opsy", "-o", "jsonpath={.spec.holderIdentity}"], "")
    }

    /// Waits until a replica is active: it is the leader and has loaded a commit.
    pub fn works(&self, replica: &Replica) {
        crate::bed::wait_for("the replica to be active", SOON, || {
            let (code, words) = replica.ready();
            // A replica that has ended never becomes active.
            assert!(code != 0, "{words}: {:#?}", read(&replica.log));
            (code == 200 && words == "ok\n").then_some(())
        });
    }
}

impl Replica {
    fn ready(&self) -> (u16, String) {
        self.answer("readyz")
    }

    pub fn metrics(&self) -> String {
        self.answer("metrics").1
    }

    fn answer(&self, path: &str) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        match agent.get(format!("http://{}/{path}", self.address)).call() {
            Ok(mut answer) => (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text")),
            Err(error) => (0, error.to_string()),
        }
    }
}

fn ended(replica: &Replica) -> bool {
    replica.ready().0 == 0
}

fn read(log: &PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Runs blocking work of a test on a thread of its own.
pub async fn blocking(work: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(work).await.expect("the test passes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stand_by_is_ready_and_takes_over_from_a_replica_that_stops_or_dies() {
    let replicas = Replicas::new().await;
    blocking(move || {
        let first = replicas.start("first");
        replicas.works(&first);
        assert_eq!(replicas.holder(), "first");
        let second = replicas.start("second");
        replicas.world.wait("the standby", || (second.ready().1 == "ok: standing by\n").then_some(()));

        // A rollout of the Deployment: on SIGTERM, the replica releases the Lease immediately.
        assert_eq!(first.agent.stop().code(), Some(0));
        let stopped = Instant::now();
        replicas.works(&second);
        assert_eq!(replicas.holder(), "second");
        assert!(stopped.elapsed() < SOON);

        // A lost node: the Lease is not released.
        let third = replicas.start("third");
        replicas.world.wait("the standby", || (third.ready().1 == "ok: standing by\n").then_some(()));
        second.agent.kill();
        replicas.works(&third);
        assert_eq!(replicas.holder(), "third");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_the_lease_ends_and_a_stand_by_that_is_stopped_leaves_it_alone() {
    let replicas = Replicas::new().await;
    blocking(move || {
        let first = replicas.start("first");
        replicas.works(&first);
        let second = replicas.start("second");
        replicas.world.wait("the standby", || (second.ready().1 == "ok: standing by\n").then_some(()));
        assert_eq!(second.agent.stop().code(), Some(0), "{:#?}", read(&second.log));
        assert_eq!(replicas.holder(), "first");

        let thief = r#"{"spec":{"holderIdentity":"thief"}}"#;
        replicas.place.kubectl(&["patch", "lease", "opsy", "--type", "merge", "-p", thief], "");
        replicas.world.wait("the replica to end", || ended(&first).then_some(()));
        assert_eq!(first.agent.ended().code(), Some(1));
        let log = fs::read_to_string(&first.log).expect("a log");
        assert!(log.contains("thief holds the Lease now"), "{log}");
        assert_eq!(replicas.holder(), "thief");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_from_the_api_server_ends_and_works_when_started_again() {
    let (plane, _ends) = ControlPlane::own().await;
    plane.install_definitions().await;
    let replicas = Replicas::idle(Place::on(plane).await).await;
    blocking(move || {
        let first = replicas.start("first");
        replicas.works(&first);
        plane.act("apiserver/pause");
        let paused = Instant::now();
        replicas.world.wait("the replica to end", || ended(&first).then_some(()));
        // No other replica can have started: the Lease is still valid.
        let took = paused.elapsed();
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert_eq!(first.agent.ended().code(), Some(1));
        let log = fs::read_to_string(&first.log).expect("a log");
        assert!(log.contains("could not be renewed"), "{log}");

        // A Deployment starts another replica in the meantime.
        let second = replicas.start("second");
        plane.act("apiserver/resume");
        replicas.works(&second);
        assert_eq!(replicas.holder(), "second");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_of_another_repository_is_not_ready_and_names_it() {
    let replicas = Replicas::new().await;
    let Place { namespace, plane, admin } = &replicas.place;
    let same = Place { namespace: namespace.clone(), plane, admin: admin.clone() };
    let others = Replicas::idle(same).await;
    blocking(move || {
        let first = replicas.start("first");
        replicas.works(&first);
        let noted = |lease: &str, name: &str| {
            let path = format!("jsonpath={{.metadata.annotations.ami\\.opsy\\.dev/{name}}}");
            replicas.place.kubectl(&["get", "lease", lease, "-o", &path], "")
        };
        assert_eq!(noted("opsy", "owner"), replicas.place.namespace);
        let repository = noted("opsy", "repository");
        assert!(!repository.is_empty());

        let stranger = others.start("stranger");
        let (code, words) = others.world.wait("the refusal", || Some(stranger.ready()).filter(|(code, _)| *code == 503));
        for part in [repository.as_str(), "--lease-name", "another repository"] {
            assert!(words.contains(part), "{code} {words}");
        }
        let log = fs::read_to_string(&stranger.log).expect("a log");
        assert!(log.lines().any(|line| line.contains("ERROR") && line.contains("--lease-name")), "{log}");

        // With its own Lease it is active, and keeps its state there.
        let names = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "lease"},
            "rules": [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["opsy-b"],
                "verbs": ["get", "update"]}],
        });
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "lease"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lease"},
            "subjects": [{"kind": "ServiceAccount", "name": "opsy"}],
        });
        for object in [names, binding] {
            replicas.place.kubectl(&["apply", "-f", "-"], &object.to_string());
        }
        let own = others.start_with("own", &[("OPSY_LEASE_NAME", "opsy-b")]);
        others.works(&own);
        assert_ne!(noted("opsy-b", "repository"), repository);
        assert_eq!(replicas.holder(), "first");
        assert!(own.agent.stop().success());

        // A replica that replaces the other one only waits until that one has stopped.
        assert_eq!(first.agent.stop().code(), Some(0));
        others.works(&stranger);
        assert_ne!(noted("opsy", "repository"), repository);
    })
    .await;
}
