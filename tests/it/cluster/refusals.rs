//! Refusals: rules, definitions, namespaces and fields that are missing or wrong. The status names each of them, and
//! the agent recovers by itself when what was missing exists.

use opsy::api::schema;
use opsy::engine::kubernetes::Scope;
use opsy::engine::{EngineError, Home};
use serde_json::{Value, json};

use super::world::{Agent, document};
use super::{ControlPlane, Place, SOON, label, lax, until};

fn spec() -> Value {
    json!({"region": "us-east-1"})
}

/// Why an object is not applied: reason and message.
async fn out_of_sync(agent: &Agent, place: &Place, name: &str) -> (&'static str, String) {
    until("a refusal", SOON, async || agent.home.out_of_sync(&place.key(name))).await
}

/// The condition `Applied` of an object, as people see it.
async fn applied_condition(place: &Place, name: &str) -> Option<Value> {
    let object = place.builder(name).await?;
    let conditions = object.data["status"]["conditions"].as_array()?.clone();
    conditions.into_iter().find(|condition| condition["type"] == "Applied")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_rule_is_named_and_enough_once_it_is_there() {
    let place = Place::new().await;
    place.allow(&place.namespace, |(_, verb)| verb != "list").await;
    let agent = Agent::start(&place).await;
    let documents = [place.document("web", spec())];
    let EngineError { message, .. } = agent.load(&documents).await.expect_err("nothing can be listed");
    assert!(message.contains("cannot list resource \"packerbuilders\""), "{message}");
    place.allow(&place.namespace, |_| true).await;
    until("the load", SOON, async || agent.load(&documents).await.ok()).await;
    agent.settle().await;

    place.allow(&place.namespace, |(resource, verb)| resource != "packerbuilders" || verb != "patch").await;
    let changed = [place.document("web", json!({"region": "eu-west-1"}))];
    until("the refusal", SOON, async || {
        agent.load(&changed).await.expect("the commit is loaded");
        agent.home.out_of_sync(&place.key("web"))
    })
    .await;
    let (reason, words) = out_of_sync(&agent, &place, "web").await;
    assert_eq!(reason, "Denied");
    assert!(
        words.contains("cannot patch resource \"packerbuilders\" in API group \"ami.opsy.dev\""),
        "{words}"
    );
    let condition = until("the condition", SOON, async || applied_condition(&place, "web").await).await;
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("Denied")));
    place.allow(&place.namespace, |_| true).await;
    until("the change", SOON, async || {
        agent.load(&changed).await.expect("the commit is loaded");
        agent.home.out_of_sync(&place.key("web")).is_none().then_some(())
    })
    .await;
    until("the end of the condition", SOON, async || {
        applied_condition(&place, "web").await.is_none().then_some(())
    })
    .await;
    assert_eq!(place.builder("web").await.expect("it is there").data["spec"]["region"], "eu-west-1");

    place.allow(&place.namespace, |(resource, _)| resource != "packerbuilders/status").await;
    let update = opsy::engine::StatusUpdate {
        object: place.key("web"),
        observed_version: Some("1".into()),
        status: json!({}),
    };
    until("the refusal", SOON, async || {
        let refused = agent.home.write_status(update.clone()).await.expect_err("refused");
        refused.message.contains("cannot patch resource \"packerbuilders/status\"").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_that_are_missing_or_not_watched_are_told() {
    let place = Place::new().await;
    let absent = format!("{}-later", place.namespace);
    let agent = Agent::start(&place).await;
    let far = document("kube-public", "web", spec());
    agent.load(&[place.document("web", spec()), far.clone()]).await.expect("loaded");
    agent.settle().await;
    let (reason, words) = agent.home.out_of_sync(&far.object).expect("it is reported");
    assert_eq!(reason, "NamespaceNotWatched");
    assert!(words.contains("--namespaces"), "{words}");
    assert!(agent.requests.all().iter().all(|line| !line.contains("kube-public")), "nothing was sent there");

    place.kubectl(
        &[
            "create",
            "clusterrolebinding",
            &absent,
            "--clusterrole=cluster-admin",
            &format!("--serviceaccount={}:opsy", place.namespace),
        ],
        "",
    );
    let agent =
        Agent::in_scope(&place, Scope::Namespaces(vec![place.namespace.clone(), absent.clone()])).await;
    let later = document(&absent, "web", spec());
    agent.load(std::slice::from_ref(&later)).await.expect("loaded");
    let (reason, words) = agent.home.out_of_sync(&later.object).expect("it is reported");
    assert_eq!(reason, "NamespaceMissing");
    assert!(words.contains(&format!("kubectl create namespace {absent}")), "{words}");
    place.create_namespace(&absent).await;
    // The agent gets no signal, and retries by itself.
    until("the object", SOON * 3, async || agent.objects.builders.get(&later.object.key)).await;
    assert_eq!(agent.home.out_of_sync(&later.object), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_of_all_namespaces_needs_one_watch_a_kind() {
    let place = Place::new().await;
    place.kubectl(
        &[
            "create",
            "clusterrolebinding",
            &place.namespace,
            "--clusterrole=cluster-admin",
            &format!("--serviceaccount={}:opsy", place.namespace),
        ],
        "",
    );
    let agent = Agent::in_scope(&place, Scope::All).await;
    agent.load(&[place.document("web", spec())]).await.expect("loaded");
    agent.passed("web", 0).await;
    let lists = agent.requests.all();
    let watches = lists.iter().filter(|line| line.contains("watch=true")).count();
    assert_eq!(watches, 2, "{lists:#?}");
}

/// A definition whose `spec` lacks this field.
fn older(definition: &Value, field: &str) -> Value {
    let mut definition = definition.clone();
    let spec = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    spec.as_object_mut().expect("fields").remove(field).expect("the field is there");
    definition
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_may_come_late_be_old_or_go_away() {
    let (plane, _ends) = ControlPlane::own().await;
    let place = Place::on(plane).await;
    let agent = Agent::start(&place).await;
    let documents = [place.document("web", json!({"region": "us-east-1", "suspend": true}))];
    let EngineError { message, .. } = agent.load(&documents).await.expect_err("there are no definitions");
    assert!(
        message.contains("the custom resource definitions are not installed: run `opsy crds"),
        "{message}"
    );

    let [(_, builders), (_, refreshers)] = schema::crds();
    plane.install(&older(builders, "suspend")).await;
    plane.install(refreshers).await;
    until("the load", SOON, async || agent.load(&documents).await.ok()).await;
    let (reason, words) = out_of_sync(&agent, &place, "web").await;
    assert_eq!(reason, "Invalid");
    assert!(words.contains(".spec.suspend: field not declared in schema"), "{words}");
    assert!(words.contains("older than this agent: run `opsy crds"), "{words}");

    plane.install(builders).await;
    until("the object", SOON, async || {
        agent.load(&documents).await.expect("the commit is loaded");
        place.builder("web").await
    })
    .await;
    agent.passed("web", 0).await;

    // Deleting a definition deletes every object of it; once it is back, the objects are created again.
    plane.uninstall("packerbuilders.ami.opsy.dev").await;
    until("the object to be deleted", SOON, async || {
        (agent.objects.builders.all().count() == 0).then_some(())
    })
    .await;
    plane.install(builders).await;
    until("the object again", SOON * 3, async || label(&place.builder("web").await?, "ami.opsy.dev/owner"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_the_operator_with_an_undecodable_status_are_listed_and_reconciled() {
    let (plane, _ends) = ControlPlane::own().await;
    let place = Place::on(plane).await;
    let [(_, builders), (_, refreshers)] = schema::crds();
    plane.install(&lax(builders)).await;
    plane.install(refreshers).await;
    let stored = |name: &str, spec: Value| {
        json!({
            "apiVersion": "ami.opsy.dev/v1alpha1", "kind": "PackerBuilder",
            "metadata": {"name": name, "finalizers": ["ami.opsy.dev/finalizer"]}, "spec": spec,
        })
    };
    place.kubectl(
        &["create", "-f", "-"],
        &stored("old", json!({"region": "us-east-1", "gitSync": null})).to_string(),
    );
    place.kubectl(&["create", "-f", "-"], &stored("odd", json!({"region": 7})).to_string());
    place.kubectl(&["create", "-f", "-"], &stored("worse", json!({"region": "us-east-1"})).to_string());
    let status = json!({"status": {
        "state": "JobRunning", "failedJobCount": "three", "active": {}, "lastRun": null,
        "conditions": [{"type": "JobCreated", "status": "True"}],
    }});
    place.kubectl(
        &["patch", "pb", "old", "--subresource=status", "--type=merge", "-p", &status.to_string()],
        "",
    );
    plane.install(builders).await;

    let agent = Agent::start(&place).await;
    agent
        .load(&[place.document("worse", json!({"region": "eu-west-1"}))])
        .await
        .expect("everything is listed");
    let worse = place.builder("worse").await.expect("it is there");
    assert_eq!(worse.data["spec"]["region"], "eu-west-1", "an undecodable status does not prevent the apply");
    agent.passed("old", 0).await;
    agent.passed("odd", 0).await;
    let condition = until("the condition", SOON, async || applied_condition(&place, "odd").await).await;
    assert_eq!(condition["reason"], "SpecUnreadable");
    assert!(condition["message"].as_str().expect("a message").contains("expected a string"), "{condition}");
    until("our status", SOON, async || {
        (place.builder("old").await?.data["status"]["state"] == "us-east-1").then_some(())
    })
    .await;
    // The manifest repairs the object, including its status, and deleting an object removes the operator's finalizer.
    agent.load(&[place.document("odd", spec())]).await.expect("loaded");
    assert_eq!(place.builder("odd").await.expect("it is there").data["spec"]["region"], "us-east-1");
    until("the end of the condition", SOON, async || {
        applied_condition(&place, "odd").await.is_none().then_some(())
    })
    .await;
    place.kubectl(&["delete", "pb", "old", "--wait=false"], "");
    until("the object to be deleted", SOON, async || place.builder("old").await.is_none().then_some(()))
        .await;
}
