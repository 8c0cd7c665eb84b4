//! What people do to live objects, and the whole agent that honours it: there is no node, so a build is a Job
//! whose pod waits.

use serde_json::{Value, json};

use super::commands::said_now;
use super::replicas::{Replica, Replicas, blocking};
use crate::world::fixtures;

const TEMPLATE: &str = "packer/node.pkr.hcl";

fn builder(name: &str, more: &str) -> String {
    format!(
        "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: {name}\nspec:\n  \
         region: us-east-1\n  builder: {{dir: packer}}\n{more}"
    )
}

impl Replicas {
    /// Waits for status and reason of a condition of a builder.
    fn says(&self, name: &str, kind: &str, wanted: [&str; 2]) {
        let path = format!(
            r#"jsonpath={{range .status.conditions[?(@.type=="{kind}")]}}{{.status}} {{.reason}}{{end}}"#
        );
        self.world.wait(&format!("{name} {kind} {wanted:?}"), || {
            let said = self.place.kubectl(&["get", "pb", name, "-o", &path], "");
            (said == wanted.join(" ")).then_some(())
        });
    }

    fn jobs(&self) -> Vec<Value> {
        let all = self.place.kubectl(&["get", "jobs", "-o", "json"], "");
        let all: Value = serde_json::from_str(&all).expect("JSON");
        all["items"].as_array().expect("a list").clone()
    }

    fn job(&self) {
        self.world.wait("a Job", || (self.jobs().len() == 1).then_some(()));
    }

    /// `opsy` as a person calls it.
    fn person(&self, args: &[&str]) -> String {
        let outcome = said_now(&self.place, args);
        assert!(outcome.status.success(), "{outcome:?}");
        outcome.stdout
    }

    fn names(&self) -> usize {
        self.place.kubectl(&["get", "pb", "-o", "name"], "").lines().count()
    }

    fn started(&self) -> Replica {
        let replica = self.start_with("agent", &[("OPSY_RUNNER_IMAGE", "localhost/opsy:bed")]);
        self.works(&replica);
        replica
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_object_is_suspended_resumed_cancelled_and_looked_at() {
    let template =
        std::fs::read_to_string(fixtures().join("repo/packer/node/node.pkr.hcl")).expect("a template");
    let node = builder("node", "");
    let replicas = Replicas::of("", &[("node.yaml", &node), (TEMPLATE, &template)]).await;
    blocking(move || {
        let _agent = replicas.started();
        replicas.job();
        assert!(replicas.person(&["cancel", "pb/node"]).contains("is to stop"));
        replicas.world.wait("the end of the Job", || replicas.jobs().is_empty().then_some(()));
        let result = r#"jsonpath={.status.history[0].result}"#;
        replicas.world.wait("the result", || {
            let said = replicas.place.kubectl(&["get", "pb", "node", "-o", result], "");
            (said == "Cancelled").then_some(())
        });

        replicas.person(&["suspend", "pb/node"]);
        replicas.says("node", "Ready", ["False", "Suspended"]);
        // Other inputs: it would be built anew at once.
        let changed = format!("{template}\n# Another.\n");
        let commit = replicas.world.push(&[(TEMPLATE, Some(&changed))], "packer: change");
        replicas.world.wait("the commit", || {
            let log = std::fs::read_to_string(replicas.world.root().join("agent.log")).unwrap_or_default();
            log.lines().any(|line| line.contains("\"fetched\"") && line.contains(commit.trim())).then_some(())
        });
        assert!(replicas.person(&["reconcile", "pb/node"]).contains("Suspended"));
        assert_eq!(replicas.jobs(), Vec::<Value>::new());
        // What a person annotates is theirs: the agent's applies leave it.
        replicas.person(&["resume", "pb/node"]);
        replicas.job();
        assert_eq!(replicas.world.account.count("ec2:RunInstances"), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prune_guard_keeps_what_git_lost_at_once_until_it_is_allowed() {
    let all: Vec<_> =
        (1..=4).map(|n| (format!("{n}.yaml"), builder(&format!("b{n}"), "  suspend: true\n"))).collect();
    let files: Vec<_> = all.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let replicas = Replicas::of("", &files).await;
    blocking(move || {
        let _agent = replicas.started();
        replicas.says("b4", "Ready", ["False", "Suspended"]);
        let settings = replicas.world.show("opsy.yaml").expect("settings");
        replicas.world.push(&[("2.yaml", None), ("3.yaml", None), ("4.yaml", None)], "policy: lose three");
        for name in ["b2", "b3", "b4"] {
            replicas.says(name, "Applied", ["False", "PruneRefused"]);
        }
        assert_eq!(replicas.names(), 4);
        let allowed = format!("{settings}prune: {{allowMass: true}}\n");
        replicas.world.push(&[("opsy.yaml", Some(&allowed))], "policy: mean it");
        replicas.world.wait("the end of three", || (replicas.names() == 1).then_some(()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_another_owner_is_left_alone_and_told_of() {
    let replicas = Replicas::of("", &[]).await;
    blocking(move || {
        let theirs = json!({
            "apiVersion": "ami.opsy.dev/v1alpha1", "kind": "PackerBuilder",
            "metadata": {"name": "node", "labels": {"ami.opsy.dev/owner": "them"}}, "spec": {"region": "mars-1"},
        });
        replicas.place.kubectl(&["apply", "-f", "-"], &theirs.to_string());
        replicas.world.push(&[("node.yaml", Some(&builder("node", "")))], "policy: ours");
        let agent = replicas.started();
        replicas.world.wait("the metric", || {
            let metrics = agent.metrics();
            let failing = metrics.lines().find_map(|line| line.strip_prefix("opsy_apply_failing "));
            (failing?.parse() == Ok(1.0)).then_some(())
        });
        let region = replicas.place.kubectl(&["get", "pb", "node", "-o", "jsonpath={.spec.region} {.status}"], "");
        assert_eq!(region, "mars-1 ");
    })
    .await;
}
