//! `opsy check` in a cluster: with the chart's rules, and without one of them; definitions of another version; and that
//! the API server gets nothing but reads and access reviews.

use std::process::Command;

use clap::Parser;
use opsy::agent::check::cluster::check_access;
use opsy::agent::check::report::Outcome;
use opsy::api::schema;
use opsy::manifest::ObjectSet;
use opsy::settings::AccessFlags;
use serde_json::json;

use super::replicas::{Replicas, blocking};
use super::{ControlPlane, Place};
use crate::check::{Checked, changes};

const BUILDER: &str = "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: node\nspec:\n  \
                       region: us-east-1\n  builder: {dir: packer}\n  notifier: {slack: {channelIDs: [C1], secret: team}}\n";

/// Flags, as `opsy run` parses them.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    access: AccessFlags,
}

impl Replicas {
    fn check(&self) -> Command {
        let mut opsy = self.world.opsy();
        opsy.env("OPSY_KUBECONFIG", &self.kubeconfig).env("OPSY_RUNNER_IMAGE", "localhost/opsy:bed");
        opsy
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_the_chart_are_enough_and_a_missing_one_is_named() {
    let replicas = Replicas::of("", &[("node.yaml", BUILDER)]).await;
    let namespace = replicas.place.namespace.clone();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "team"}, "stringData": {"url": "x"}});
    let (role, slack) = (format!("packerbuilders.ami.opsy.dev in namespace {namespace}"), "slack/C1");
    let checks = {
        let namespace = namespace.clone();
        move || {
            let missing = Checked::by(replicas.check()).only_fails("Notifications", slack);
            assert!(
                missing.contains(&format!("kubectl create secret generic team --namespace {namespace}")),
                "{missing}"
            );
            replicas.place.kubectl(&["apply", "-f", "-"], &secret.to_string());
            let incomplete = Checked::by(replicas.check());
            let why = incomplete.only_fails("Notifications", slack);
            assert!(why.contains("has no key token"), "{why}");
            for (group, outcome, name) in [
                ("Cluster", "Passed", "access"),
                ("Cluster", "Passed", "definition PackerBuilder"),
                ("Packer", "Skipped", "runner image"),
            ] {
                assert!(incomplete.with(group, outcome).contains(&name), "{:?}", incomplete.outcome);
            }
            assert!(incomplete.with("Cluster", "Failed").is_empty(), "{:?}", incomplete.outcome);
            // The rules to read nodes are not bound here, and the chart may leave them out.
            assert_eq!(incomplete.line("nodes in the whole cluster")[0], "Skipped");
            assert_eq!(changes(&replicas.world), Vec::<String>::new());
            // kubectl's variable is enough.
            let mut opsy = replicas.check();
            opsy.env_remove("OPSY_KUBECONFIG")
                .env("KUBECONFIG", &replicas.kubeconfig)
                .env("OPSY_ENGINE", "kubernetes");
            assert!(Checked::by(opsy).line("access")[1].ends_with(&namespace));
            replicas
        }
    };
    let replicas = tokio::task::spawn_blocking(checks).await.expect("the checks end");
    let is_kept = |(resource, verb): &(String, String)| !(resource == "packerbuilders" && verb == "patch");
    replicas.place.allow(&namespace, is_kept).await;
    blocking(move || {
        let why = Checked::by(replicas.check()).only_fails("Cluster", &role);
        assert!(
            why.starts_with("not allowed: patch →") && why.contains("deploy/chart/files/role.yaml"),
            "{why}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_access_reviews_are_written() {
    let place = Place::new().await;
    let flags = Flags::parse_from(["opsy", "--repo", "https://git.test/fleet", "--agent-id", "test"]).access;
    let (cluster, requests) = place.cluster(place.scope()).await;
    let checks = check_access(&flags, &cluster, &ObjectSet::default()).await;
    assert!(
        checks.iter().all(|check| matches!(check.outcome, Outcome::Passed | Outcome::Skipped)),
        "{checks:#?}"
    );
    let writes = requests.writes();
    assert!(writes.len() > 10, "{writes:?}");
    let reviews = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert!(writes.iter().all(|write| write.starts_with(reviews)), "{writes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_of_another_version_and_missing_ones_are_named() {
    let (plane, _ends) = ControlPlane::own().await;
    let [(_, builders), (_, refreshers)] = schema::crds();
    let mut old = builders.clone();
    let schema = &mut old["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    schema["properties"].as_object_mut().expect("fields").remove("suspend");
    plane.install(&old).await;
    let place = Place::on(plane).await;
    let flags = Flags::parse_from(["opsy", "--repo", "https://git.test/fleet", "--agent-id", "test"]).access;
    let (cluster, _) = place.cluster(place.scope()).await;
    let found = async |kind: &str, expected: &'static str| {
        let limit = super::SOON;
        super::until(expected, limit, async || {
            let checks = check_access(&flags, &cluster, &ObjectSet::default()).await;
            let check = checks.into_iter().find(|check| check.name == format!("definition {kind}"))?;
            check.message.contains(expected).then_some(check)
        })
        .await
    };
    let differs = found("PackerBuilder", "spec.suspend is not in the cluster").await;
    assert_eq!(differs.outcome, Outcome::Failed);
    assert!(differs.remedy.is_some_and(|remedy| remedy.contains("opsy crds | kubectl apply")));
    assert_eq!(found("AMIRefresher", "is not installed").await.outcome, Outcome::Failed);
    plane.install(builders).await;
    plane.install(refreshers).await;
    for kind in ["PackerBuilder", "AMIRefresher"] {
        assert_eq!(found(kind, "has the schema of this version").await.outcome, Outcome::Passed);
    }
}
