//! Custom resources of the loaded commit: apply, comparison, self-heal, prune and status.

use futures::FutureExt;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use opsy::api::Class;
use opsy::api::annotations::{FILE, SUSPEND};
use opsy::engine::{EventRecorder, Home, Load, Note, StatusUpdate, Wakes};
use opsy::manifest::Document;
use opsy::sync::prune;
use serde_json::{Value, json};

use super::world::{Agent, OWNER, commit};
use super::{Place, SOON, label, until};

const APPLY: &str = "fieldManager=opsy";

fn region(region: &str) -> Value {
    json!({"region": region, "timeOuts": {"expiresIn": "30d"}, "builder": {"commands": [{"subCommand": "build", "args": null}]}})
}

impl Place {
    /// A spec as it is stored.
    fn without_nulls(&self, mut spec: Value) -> Value {
        spec["builder"]["commands"][0].as_object_mut().expect("a command").remove("args");
        spec
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_applied_once_and_only_what_changes_is_sent_after_that() {
    let place = Place::new().await;
    let mut documents: Vec<_> =
        (0..20).map(|n| place.document(&format!("b{n}"), region("us-east-1"))).collect();
    let agent = Agent::start(&place).await;
    agent.load(&documents).await.expect("the commit is loaded");
    agent.settle().await;
    let sent = agent.requests.writes();
    let count = |word: &str| sent.iter().filter(|line| line.contains(word)).count();
    assert_eq!((count("force=true"), count("/status?")), (20, 20), "{sent:#?}");
    assert!((0..20).all(|n| agent.passes(&format!("b{n}")) == 1), "one reconcile each");
    let stored = place.builder("b7").await.expect("it is there");
    assert_eq!(stored.data["status"]["state"], "us-east-1");
    assert_eq!(label(&stored, "ami.opsy.dev/owner").as_deref(), Some(OWNER));
    assert_eq!(label(&stored, "app.kubernetes.io/managed-by").as_deref(), Some("opsy"));

    agent.load(&documents).await.expect("the same commit");
    agent.settle().await;
    assert_eq!(sent_but_events(&agent), [""; 0], "an unchanged commit");

    documents[7] = place.document("b7", region("eu-west-1"));
    agent.load(&documents).await.expect("a commit that changes one");
    assert_eq!(place.region_of("b7").await.as_deref(), Some("eu-west-1"));
    agent.settle().await;
    let sent = sent_but_events(&agent);
    assert_eq!(sent.len(), 2, "one apply, one status: {sent:#?}");
    assert!(sent[0].contains("/b7?") && sent[0].contains(APPLY), "{sent:#?}");

    drop(agent);
    let agent = Agent::start(&place).await;
    agent.load(&documents).await.expect("the commit, after a restart");
    agent.settle().await;
    assert_eq!(sent_but_events(&agent), [""; 0], "a restart");
    assert_eq!(agent.passes("b7"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_reconciles_the_objects_that_it_concerns_and_no_others() {
    let place = Place::new().await;
    let mut documents: Vec<_> =
        ["a", "b", "c"].map(|name| place.document(name, region("us-east-1"))).to_vec();
    let agent = Agent::start(&place).await;
    agent.load(&documents).await.expect("the commit is loaded");
    agent.settle().await;
    let passes = || ["a", "b", "c"].map(|name| agent.passes(name));
    assert_eq!(passes(), [1, 1, 1]);
    let concerning = |documents: &[Document], names: &[&str]| {
        let objects = documents.iter().map(|document| document.object.clone());
        let named = objects.filter(|object| names.contains(&object.key.name.as_str())).collect();
        Load { wake: Wakes::Only(named), ..commit(OWNER, documents, &[]) }
    };

    agent.home.load(concerning(&documents, &[])).await.expect("a commit that concerns none");
    agent.settle().await;
    assert_eq!(passes(), [1, 1, 1]);
    agent.home.load(concerning(&documents, &["b"])).await.expect("a commit that changes a template");
    agent.settle().await;
    assert_eq!(passes(), [1, 2, 1]);
    documents[2] = place.document("c", region("eu-west-1"));
    agent.home.load(concerning(&documents, &[])).await.expect("a commit that changes a document");
    agent.settle().await;
    assert_eq!(passes(), [1, 2, 2]);
}

/// Requests since the last call, without gets, lists, watches and Events.
fn sent_but_events(agent: &Agent) -> Vec<String> {
    agent.requests.writes().into_iter().filter(|line| !line.contains("/events")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_change_by_hand_is_put_back_at_once() {
    let place = Place::new().await;
    let agent = Agent::start(&place).await;
    agent.load(&[place.document("web", region("us-east-1"))]).await.expect("loaded");
    agent.settle().await;
    place.kubectl(&["patch", "pb", "web", "--type=merge", "-p", r#"{"spec":{"region":"mars-1"}}"#], "");
    until("the old region", SOON, async || {
        (place.region_of("web").await.as_deref() == Some("us-east-1")).then_some(())
    })
    .await;
    let args = r#"[{"op":"add","path":"/spec/builder/commands/0/args","value":["-force"]}]"#;
    place.kubectl(&["patch", "pb", "web", "--type=json", "-p", args], "");
    until("the old commands", SOON, async || {
        let web = place.builder("web").await?;
        web.data["spec"]["builder"]["commands"][0]["args"].is_null().then_some(())
    })
    .await;
    place.kubectl(&["label", "pb", "web", "ami.opsy.dev/owner-"], "");
    until("the owner's label", SOON, async || label(&place.builder("web").await?, "ami.opsy.dev/owner"))
        .await;
    let before = agent.passes("web");
    place.kubectl(&["delete", "pb", "web"], "");
    until("the object", SOON, async || place.builder("web").await).await;
    agent.passed("web", before).await;
    // Fields under spec that are not in the document are removed, whoever wrote them, and the writer is named.
    let more = json!({"spec": {
        "suspend": true, "clusterName": "theirs", "timeOuts": {"build": "10y"},
        "builder": {"image": "evil/packer", "secret": "credentials", "pod": {"env": [{"name": "A", "value": "b"}]}},
    }});
    agent.requests.all();
    place.kubectl(&["patch", "pb", "web", "--type=merge", "-p", &more.to_string()], "");
    until("the spec of Git", SOON, async || {
        let web = place.builder("web").await?;
        let spec = |field: &str| &web.data["spec"][field];
        let is_gits =
            spec("suspend").is_null() && spec("clusterName").is_null() && spec("builder")["pod"].is_null();
        (is_gits && web.data["spec"] == place.without_nulls(region("us-east-1"))).then_some(())
    })
    .await;
    // The same applies if managedFields do not show the writer.
    let bare = json!({"metadata": {"managedFields": [{}]}, "spec": {"suspend": true}});
    place.kubectl(&["patch", "pb", "web", "--type=merge", "-p", &bare.to_string()], "");
    until("the spec of Git", SOON, async || {
        place.builder("web").await?.data["spec"]["suspend"].is_null().then_some(())
    })
    .await;
    until("the event", SOON, async || {
        place.kubectl(&["get", "events.events.k8s.io"], "").contains("kubectl-patch changed it").then_some(())
    })
    .await;
    // Labels and annotations that are not in the document are kept.
    place.kubectl(&["label", "pb", "web", "team=a"], "");
    let before = agent.passes("web");
    place.kubectl(&["annotate", "pb", "web", "ami.opsy.dev/suspend=true"], "");
    agent.passed("web", before).await;
    let web = place.builder("web").await.expect("it is there");
    let annotations: Vec<_> = web.annotations().keys().map(String::as_str).collect();
    assert_eq!((label(&web, "team").as_deref(), annotations), (Some("a"), vec![FILE, SUSPEND]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kubectl_first_applied_is_taken_over() {
    let place = Place::new().await;
    let manifest = json!({
        "apiVersion": "ami.opsy.dev/v1alpha1", "kind": "PackerBuilder",
        "metadata": {"name": "web", "labels": {"team": "a"}},
        "spec": {"region": "us-east-1", "clusterName": "demo", "builder": {"dir": "packer"}},
    });
    place.kubectl(&["apply", "-f", "-"], &manifest.to_string());
    let generation = place.builder("web").await.and_then(|web| web.metadata.generation);
    let agent = Agent::start(&place).await;
    let whole = json!({"region": "us-east-1", "clusterName": "demo", "builder": {"dir": "packer"}});
    agent.load(&[place.document("web", whole)]).await.expect("loaded");
    let web = place.builder("web").await.expect("it is there");
    assert_eq!(web.metadata.generation, generation, "taking over field ownership changes nothing");
    assert_eq!(label(&web, "team"), None, "the manifest has no such label");
    assert!(!web.annotations().contains_key("kubectl.kubernetes.io/last-applied-configuration"));
    agent.load(&[place.document("web", json!({"region": "us-east-1"}))]).await.expect("loaded");
    let web = place.builder("web").await.expect("it is there");
    assert_eq!(web.data["spec"], json!({"region": "us-east-1"}), "fields that Git no longer has are removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_others_are_left_alone_and_unlabeled_ones_are_reconciled() {
    let place = Place::new().await;
    let theirs = json!({
        "apiVersion": "ami.opsy.dev/v1alpha1", "kind": "PackerBuilder",
        "metadata": {"name": "theirs", "labels": {"ami.opsy.dev/owner": "them"}},
        "spec": {"region": "mars-1"},
    });
    place.kubectl(&["create", "-f", "-"], &theirs.to_string());
    let mut bare = theirs.clone();
    bare["metadata"] = json!({"name": "bare"});
    place.kubectl(&["create", "-f", "-"], &bare.to_string());
    let agent = Agent::start(&place).await;
    let ours = [place.document("theirs", region("us-east-1"))];
    agent.home.ready().await.expect("everything is listed");
    let bare = place.key("bare");
    agent.load_as(OWNER, &ours, &[&bare]).await.expect("loaded");
    agent.passed("bare", 0).await;
    assert_eq!(place.region_of("theirs").await.as_deref(), Some("mars-1"));
    assert_eq!((agent.passes("theirs"), agent.home.failing()), (0, 1));
    assert!(place.builder("bare").await.is_some(), "an object without an owner is not pruned");
    assert!(agent.objects.builders.get(&place.key("theirs").key).is_none());
    let owner = opsy::api::Owner::parse(OWNER).expect("an owner");
    assert!(agent.home.owned(&owner).is_empty());
    // For the owner that its label names, it is applied.
    agent.load_as("them", &ours, &[]).await.expect("loaded");
    agent.passed("theirs", 0).await;
    assert_eq!(place.region_of("theirs").await.as_deref(), Some("us-east-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_git_no_longer_has_is_pruned_behind_the_guard() {
    let place = Place::new().await;
    let documents: Vec<_> =
        ["a", "b", "c", "d", "e"].map(|name| place.document(name, region("us-east-1"))).into();
    let agent = Agent::start(&place).await;
    agent.load(&documents).await.expect("loaded");
    agent.settle().await;
    let owner = opsy::api::Owner::parse(OWNER).expect("an owner");
    let decide = |left: usize| {
        let known = agent.home.owned(&owner).into_keys().collect();
        let set = opsy::manifest::ObjectSet {
            documents: documents[..left].iter().cloned().collect(),
            ..Default::default()
        };
        prune::decide(&known, &set)
    };
    let refused = decide(1);
    assert!(refused.remove.is_empty() && refused.refused.expect("why").contains("more than half"));
    let one = decide(4);
    assert_eq!(one.remove, [place.key("e")]);
    // The finalizers of Opsy and the operator stay until a reconcile releases the object; others are kept.
    let finalizers = json!({"metadata": {"finalizers": ["ami.opsy.dev/run", "ami.opsy.dev/finalizer", "example.com/hold"]}});
    place
        .builders()
        .patch("e", &PatchParams::default(), &Patch::Merge(finalizers))
        .await
        .expect("finalizers");
    agent.load_as(OWNER, &documents[..4], &[&place.key("e")]).await.expect("loaded");
    until("the finalizers of Opsy and the operator to be removed", SOON, async || {
        (place.builder("e").await?.finalizers() == ["example.com/hold"]).then_some(())
    })
    .await;
    agent.settle().await;
    let none: [&str; 0] = [];
    place
        .builders()
        .patch("e", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"finalizers": none}})))
        .await
        .expect("no finalizers");
    until("the object to be deleted", SOON, async || place.builder("e").await.is_none().then_some(())).await;
    until("the object to leave the store", SOON, async || {
        agent.objects.builders.get(&place.key("e").key).is_none().then_some(())
    })
    .await;
    assert_eq!(agent.settle().await.len(), 4);
    // An object that is not being deleted keeps its finalizers.
    let finalizers = json!({"metadata": {"finalizers": ["ami.opsy.dev/run"]}});
    place
        .builders()
        .patch("a", &PatchParams::default(), &Patch::Merge(finalizers))
        .await
        .expect("a finalizer");
    agent.home.release(&place.key("a")).await.expect("nothing to do");
    assert_eq!(place.builder("a").await.expect("it is there").finalizers(), ["ami.opsy.dev/run"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_written_for_the_version_that_was_observed() {
    let place = Place::new().await;
    let agent = Agent::start(&place).await;
    agent.load(&[place.document("web", region("us-east-1"))]).await.expect("loaded");
    agent.settle().await;
    let key = place.key("web");
    let observed = || agent.objects.builders.get(&key.key).and_then(|web| web.resource_version());
    let update = |observed_version: Option<String>, state: &str| StatusUpdate {
        object: key.clone(),
        observed_version,
        status: json!({"state": state}),
    };
    let first = observed();
    for state in ["a", "b", "c"] {
        // The response is in the store immediately: no reconcile uses the previous status.
        agent.home.write_status(update(observed(), state)).await.expect("written");
        let shown = agent.objects.builders.get(&key.key).and_then(|web| web.status.clone()?.state);
        assert_eq!(shown.as_deref(), Some(state));
    }
    let stale = agent.home.write_status(update(first, "stale")).await.expect_err("refused");
    assert_eq!(stale.class, Class::Conflict);
    let web = place.builder("web").await.expect("it is there");
    assert_eq!(
        (web.data["status"]["state"].as_str(), web.data["spec"]["region"].as_str()),
        (Some("c"), Some("us-east-1"))
    );
    // The write of another client is observed, and then overwritten.
    let theirs = json!({"status": {"state": "theirs"}});
    place
        .builders()
        .patch_status("web", &PatchParams::default(), &Patch::Merge(theirs))
        .await
        .expect("written");
    until("their status", SOON, async || {
        let web = agent.objects.builders.get(&key.key)?;
        (web.status.as_ref()?.state.as_deref() == Some("theirs")).then_some(())
    })
    .await;
    agent.home.write_status(update(observed(), "ours")).await.expect("written");
    // Writing the status of a deleted object is not an error.
    let gone =
        StatusUpdate { object: place.key("gone"), observed_version: Some("1".into()), status: json!({}) };
    agent.home.write_status(gone).await.expect("nothing to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_whose_object_changes_meanwhile_runs_again() {
    let place = Place::new().await;
    let (cluster, requests) = place.cluster(place.scope()).await;
    let builders = place.builders();
    let agent = Agent::meddled_with(cluster, requests, move |count| {
        let builders = builders.clone();
        let theirs = async move {
            if count == 1 {
                let theirs = Patch::Merge(json!({"status": {"state": "theirs", "jobName": "theirs"}}));
                builders.patch_status("web", &PatchParams::default(), &theirs).await.expect("written");
            }
        };
        theirs.boxed()
    })
    .await;
    agent.load(&[place.document("web", region("us-east-1"))]).await.expect("loaded");
    until("our status", SOON, async || {
        (place.builder("web").await?.data["status"]["state"] == "us-east-1").then_some(())
    })
    .await;
    assert!(agent.passes("web") >= 2, "the first was refused");
    // The second reconcile started from what they wrote.
    assert_eq!(place.builder("web").await.expect("it is there").data["status"]["jobName"], "theirs");
}

/// Earlier versions set the condition `Published` on every object.
#[tokio::test(flavor = "multi_thread")]
async fn a_condition_of_an_earlier_version_is_removed_without_a_write_unless_it_is_false() {
    let place = Place::new().await;
    let agent = Agent::start(&place).await;
    agent.load(&[place.document("web", region("us-east-1"))]).await.expect("loaded");
    agent.settle().await;
    let conditions = async || {
        let web = place.builder("web").await.expect("it is there");
        web.data["status"]["conditions"].as_array().cloned().unwrap_or_default()
    };
    let leave = async |status: &str| {
        let left =
            json!({"status": {"conditions": [{"type": "Published", "status": status, "reason": "x"}]}});
        let patch = Patch::Merge(left);
        let done = place.builders().patch_status("web", &PatchParams::default(), &patch).await;
        done.expect("the condition is there");
        until("the condition in the store", SOON, async || {
            let web = agent.objects.builders.get(&place.key("web").key)?;
            (web.status?.conditions?.first()?.status == status).then_some(())
        })
        .await;
        agent.requests.writes();
        // When the second reconcile begins, the first one has written what it had to.
        for _ in 0..2 {
            let before = agent.passes("web");
            agent.objects.wake(&place.key("web"));
            agent.passed("web", before).await;
        }
    };
    leave("True").await;
    assert_eq!((conditions().await.len(), agent.requests.writes()), (1, Vec::new()), "no reason to write");
    leave("False").await;
    assert_eq!(conditions().await, Vec::<Value>::new(), "it would be wrong forever");
    leave("Unknown").await;
    agent.load(&[place.document("web", region("eu-west-1"))]).await.expect("loaded");
    agent.settle().await;
    assert_eq!(conditions().await, Vec::<Value>::new(), "the status was written for another reason");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_object_gets_its_published_status_before_its_first_pass() {
    let place = Place::new().await;
    let agent = Agent::start(&place).await;
    let documents = [place.document("web", region("us-east-1")), place.document("new", region("us-east-1"))];
    let load = |seeded: opsy::api::ObjectKey| {
        let mut load = commit(OWNER, &documents, &[]);
        load.seed =
            Box::new(move |object| (*object == seeded).then(|| json!({"buildID": "0123456789abcdef"})));
        load
    };
    agent.home.load(load(place.key("web"))).await.expect("loaded");
    agent.settle().await;
    let build =
        async |name: &str| place.builder(name).await.expect("it is there").data["status"]["buildID"].clone();
    assert_eq!(build("web").await, "0123456789abcdef");
    assert_eq!((build("new").await, agent.passes("web")), (Value::Null, 1));
    // An object that has a status keeps it.
    agent.home.load(load(place.key("new"))).await.expect("loaded");
    agent.settle().await;
    assert_eq!(build("new").await, Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_become_events_that_are_counted_when_repeated() {
    let place = Place::new().await;
    let agent = Agent::start(&place).await;
    agent.load(&[place.document("web", region("us-east-1"))]).await.expect("loaded");
    agent.settle().await;
    let failed =
        |message: &str| Note { reason: "BuildFailed".into(), message: message.to_owned(), warning: true };
    for message in ["first", "first", "second"] {
        agent.home.publish_event(&place.key("web"), &failed(message));
    }
    let events: Api<Event> = Api::namespaced(place.admin.clone(), &place.namespace);
    until("the events", SOON, async || {
        let all = events.list(&Default::default()).await.expect("a list").items;
        let told = |message: &str| all.iter().find(|event| event.note.as_deref() == Some(message));
        let (looked, first) = (told("reconciled this object")?, told("first")?);
        let repeated = first.series.as_ref().map(|series| series.count) == Some(2);
        let plain = looked.type_.as_deref() == Some("Normal") && first.type_.as_deref() == Some("Warning");
        (repeated && plain && told("second").is_some()).then_some(())
    })
    .await;
    assert!(place.kubectl(&["describe", "pb", "web"], "").contains("BuildFailed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_another_agent_creates_meanwhile_is_left_to_it() {
    let place = Place::new().await;
    let (one, two) = (Agent::start(&place).await, Agent::start(&place).await);
    one.load_as("one", &[place.document("web", region("us-east-1"))], &[]).await.expect("loaded");
    one.settle().await;
    two.load_as("two", &[place.document("web", region("eu-west-1"))], &[]).await.expect("loaded");
    let (web, _) = (place.builder("web").await.expect("it is there"), two.requests.all());
    assert_eq!((label(&web, "ami.opsy.dev/owner").as_deref(), two.home.failing()), (Some("one"), 1));
    // Once it is deleted, the other owner may create it.
    one.load_as("one", &[], &[&place.key("web")]).await.expect("loaded");
    until("the other owner", SOON, async || {
        (label(&place.builder("web").await?, "ami.opsy.dev/owner")? == "two").then_some(())
    })
    .await;
    two.passed("web", 0).await;
    assert_eq!(one.objects.builders.all().count(), 0);
    let made = place.builders().create(&PostParams::default(), &serde_json::from_value(json!({
        "apiVersion": "ami.opsy.dev/v1alpha1", "kind": "PackerBuilder",
        "metadata": {"name": "later", "labels": {"ami.opsy.dev/owner": "one"}}, "spec": {"region": "x"},
    })).expect("an object")).await;
    assert!(made.is_ok(), "{made:?}");
    one.passed("later", 0).await;
    assert_eq!(two.passes("later"), 0);
}
