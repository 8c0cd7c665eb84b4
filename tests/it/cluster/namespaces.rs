//! Several watched namespaces, one of which is deleted: only its own objects are affected, and it recovers by itself.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use opsy::engine::kubernetes::Scope;
use opsy::engine::kubernetes::job::RunImages;
use opsy::engine::kubernetes::runs::ClusterRuns;
use opsy::engine::{Home, Runs};
use opsy::manifest::Document;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::runs::request;
use super::world::{Agent, OWNER, document, key};
use super::{Place, SOON, until};

/// A proxy to the API server whose connections can be cut: the server ends watches of deleted namespaces only after
/// minutes.
struct Way {
    address: String,
    connections: Arc<Mutex<Vec<AbortOnDropHandle<()>>>>,
    _accepts: AbortOnDropHandle<()>,
}

impl Way {
    async fn to(place: &Place) -> Self {
        let server = place.plane.address("server").as_str().expect("an address");
        let server: SocketAddr =
            server.strip_prefix("https://").and_then(|at| at.parse().ok()).expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("https://{}", listener.local_addr().expect("an address"));
        let connections: Arc<Mutex<Vec<AbortOnDropHandle<()>>>> = Arc::default();
        let all = connections.clone();
        let accepts = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let connection = tokio::spawn(async move {
                    let mut server = TcpStream::connect(server).await.expect("the API server listens");
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
                all.lock().expect("no test panics here").push(AbortOnDropHandle::new(connection));
            }
        });
        Self { address, connections, _accepts: AbortOnDropHandle::new(accepts) }
    }

    fn cut(&self) {
        self.connections.lock().expect("no test panics here").clear();
    }
}

/// An agent that runs in the first of the three namespaces that it watches.
struct Team {
    place: Place,
    names: [String; 3],
}

impl Team {
    async fn new() -> Self {
        let place = Place::new().await;
        let names = ["", "-b", "-c"].map(|suffix| format!("{}{suffix}", place.namespace));
        for name in &names[1..] {
            place.create_namespace(name).await;
            place.allow(name, |_| true).await;
        }
        let team = Self { place, names };
        for name in &team.names {
            // With several namespaces, builds use only what is labeled for them.
            let label =
                ["--namespace", name, "label", "serviceaccount", "default", "ami.opsy.dev/build=true"];
            until("the default account", SOON, async || {
                let there = ["--namespace", name, "get", "serviceaccounts", "default", "--ignore-not-found"];
                (!team.place.plane.kubectl(&there, "").is_empty()).then_some(())
            })
            .await;
            team.place.plane.kubectl(&label, "");
        }
        team
    }

    async fn start(&self, way: &Way) -> (Agent, Arc<ClusterRuns>) {
        let scope = Scope::Namespaces(self.names.to_vec());
        let (cluster, requests) = self.place.cluster_at(scope, Some(&way.address)).await;
        let agent = Agent::on(cluster.clone(), requests).await;
        let images = RunImages { runner: "localhost/opsy:bed".into(), packer: "localhost/packer:bed".into() };
        let runs = ClusterRuns::start(cluster, agent.objects.clone(), images, jiff::Timestamp::now);
        (agent, runs)
    }

    fn documents(&self, region: &str) -> Vec<Document> {
        self.names.iter().map(|name| document(name, "web", json!({"region": region}))).collect()
    }

    fn get(&self, namespace: &str, kind: &str) -> Value {
        let all = ["--namespace", namespace, "get", kind, "-o", "json", "--ignore-not-found"];
        serde_json::from_str::<Value>(&self.place.plane.kubectl(&all, "")).expect("a list")["items"].take()
    }

    fn region(&self, namespace: &str) -> Value {
        self.get(namespace, "packerbuilders")[0]["spec"]["region"].take()
    }

    /// Asserts that objects in the other namespaces are applied, reconciled and built, and that those in the deleted one are
    /// reported and not pruned.
    async fn goes_on(&self, agent: &Agent, runs: &ClusterRuns, region: &str, build: bool) {
        let [a, b, c] = &self.names;
        let before = agent.passes("web");
        agent.load(&self.documents(region)).await.expect("one namespace does not block the others");
        for name in [a, c] {
            until("the new region", SOON, async || (self.region(name) == region).then_some(())).await;
        }
        agent.passed("web", before + 1).await;
        let (reason, words) = agent.home.out_of_sync(&key(b, "web")).expect("it is reported");
        assert_eq!(reason, "NamespaceUnreadable", "{words}");
        assert!(
            words.contains(&format!("namespace {b} cannot be read")) && words.contains("--namespaces"),
            "{words}"
        );
        assert_eq!(agent.home.unreadable().into_keys().collect::<Vec<_>>(), std::slice::from_ref(b));
        assert_eq!(agent.home.failing(), 1);
        let owner = opsy::api::Owner::parse(OWNER).expect("an owner");
        let known: Vec<_> = agent.home.owned(&owner).into_keys().map(|object| object.key.namespace).collect();
        assert!(known.contains(a) && known.contains(c), "{known:?}");
        until("the number of runs", SOON, async || runs.live().await.ok()).await;
        if build {
            let builder = key(c, "web").key;
            let request = request(&builder, "");
            let name = request.name.clone();
            let uid = until("a build", SOON, async || runs.start(request.clone()).await.ok()).await;
            // As a reconcile does: the next agent trusts no other Job.
            let status =
                json!({"status": {"jobID": uid, "jobName": name.to_string(), "jobStatus": "Pending"}});
            let patch =
                ["patch", "pb", "web", "--namespace", c, "--subresource=status", "--type=merge", "--patch"];
            self.place.plane.kubectl(&[&patch[..], &[&status.to_string()]].concat(), "");
            assert_eq!(self.get(c, "jobs").as_array().map(Vec::len), Some(1));
        }
        assert_eq!(runs.live().await.expect("a number"), 1);
        let unread = runs.of(&key(b, "web").key).await.expect_err("its runs are unknown");
        assert!(unread.message.contains(b), "{unread}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_goes_away_stops_no_other_and_comes_back_by_itself() {
    let team = Team::new().await;
    let [_, b, _] = &team.names;
    let way = Way::to(&team.place).await;
    let (agent, runs) = team.start(&way).await;
    agent.load(&team.documents("us-east-1")).await.expect("loaded");
    agent.settle().await;
    until("the number of runs", SOON, async || runs.live().await.ok()).await;

    let namespaces: Api<Namespace> = Api::all(team.place.admin.clone());
    namespaces.delete(b, &Default::default()).await.expect("it is deleted");
    until("the namespace to be deleted", SOON * 2, async || {
        namespaces.get_opt(b).await.expect("a response").is_none().then_some(())
    })
    .await;
    way.cut();
    until("the refusals", SOON * 2, async || {
        // The watch of each kind is refused at its own time.
        let why = agent.home.out_of_sync(&key(b, "web"));
        let is_unread = why.is_some_and(|(reason, _)| reason == "NamespaceUnreadable");
        (is_unread && runs.of(&key(b, "web").key).await.is_err()).then_some(())
    })
    .await;
    agent.requests.all();
    team.goes_on(&agent, &runs, "eu-west-1", true).await;
    let there = format!("/namespaces/{b}/");
    let writes = agent.requests.writes();
    assert!(!writes.iter().any(|line| line.contains(&there)), "nothing is sent there: {writes:#?}");
    drop((agent, runs));

    // Another replica, which has never observed the namespace.
    let (agent, runs) = team.start(&way).await;
    team.goes_on(&agent, &runs, "eu-west-2", false).await;
    team.place.create_namespace(b).await;
    team.place.allow(b, |_| true).await;
    // The backoff has grown to half a minute at most.
    tokio::time::timeout(SOON * 3, agent.home.readable_again())
        .await
        .expect("the return of the namespace is signaled");
    until("its object", SOON, async || (team.region(b) == "eu-west-2").then_some(())).await;
    until("no failures", SOON, async || (agent.home.failing() == 0).then_some(())).await;
    assert!(agent.home.unreadable().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_a_namespace_that_may_only_be_written_says_so_and_is_not_worked_on() {
    let team = Team::new().await;
    let [a, b, _] = &team.names;
    let way = Way::to(&team.place).await;
    let (agent, _runs) = team.start(&way).await;
    agent.load(&team.documents("us-east-1")).await.expect("loaded");
    agent.settle().await;
    let list = ("packerbuilders".to_owned(), "list".to_owned());
    let watch = ("packerbuilders".to_owned(), "watch".to_owned());
    team.place.allow(b, |rule| *rule != list && *rule != watch).await;
    way.cut();
    let condition = |namespace: &str| {
        let conditions = team.get(namespace, "packerbuilders")[0]["status"]["conditions"].take();
        let found =
            conditions.as_array().into_iter().flatten().find(|found| found["type"] == "Applied").cloned();
        found.map(|found| (found["status"].clone(), found["reason"].clone()))
    };
    let unreadable = Some((json!("False"), json!("NamespaceUnreadable")));
    until("the condition", SOON * 2, async || (condition(b) == unreadable).then_some(())).await;
    assert_eq!(condition(a), None);
    // What is known about the object is stale: it may have changed meanwhile.
    agent.load(&team.documents("eu-west-1")).await.expect("loaded");
    until("the new region", SOON, async || (team.region(a) == "eu-west-1").then_some(())).await;
    assert_eq!(team.region(b), "us-east-1");
    team.place.allow(b, |_| true).await;
    until("the new region", SOON * 3, async || (team.region(b) == "eu-west-1").then_some(())).await;
    until("no condition", SOON, async || condition(b).is_none().then_some(())).await;
}
