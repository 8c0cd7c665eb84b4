//! The whole agent and its users: changes to live objects are honored, and the status says what blocks a build. There
//! is no node, so a build is a Job whose pod stays pending.

use opsy::api::schema;
use serde_json::{Value, json};

use super::commands::said_now;
use super::replicas::{Replica, Replicas, blocking};
use super::{ControlPlane, Place, lax};
use crate::world::template;

const TEMPLATE: &str = "packer/node.pkr.hcl";

fn builder(name: &str, more: &str) -> String {
    format!(
        "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: {name}\nspec:\n  \
         region: us-east-1\n  builder: {{dir: packer}}\n{more}"
    )
}

/// Text that does not compress.
fn noise(bytes: usize) -> String {
    let mut state = 1u64;
    let letters = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        char::from(b'0' + u8::try_from(state >> 58).expect("six bits"))
    });
    letters.take(bytes).collect()
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

    fn status(&self, kind: &str, name: &str) -> Value {
        let object = self.place.kubectl(&["get", kind, name, "-o", "json"], "");
        serde_json::from_str::<Value>(&object).expect("JSON")["status"].take()
    }

    /// Waits until the message of Ready has all of these words.
    fn tells(&self, name: &str, words: &[&str]) {
        self.world.wait(&format!("{words:?} in the status of {name}"), || {
            let status = self.status("pb", name);
            let conditions = status["conditions"].as_array()?;
            let message = conditions.iter().find(|found| found["type"] == "Ready")?["message"].as_str()?;
            words.iter().all(|word| message.contains(word)).then_some(())
        });
    }

    /// Waits until the last build has ended with this result and error.
    fn ends(&self, name: &str, result: &str, error: &str) {
        self.world.wait(&format!("{name} to end: {result}, {error}"), || {
            let status = self.status("pb", name);
            let last = status["history"].get(0)?;
            (last["result"] == result && last["errors"].to_string().contains(error)).then_some(())
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

    /// Runs `opsy` as a person, and asserts that it succeeds.
    fn person(&self, args: &[&str]) -> String {
        let outcome = said_now(&self.place, args);
        assert!(outcome.status.success(), "{outcome:?}");
        outcome.stdout
    }

    fn names(&self) -> usize {
        self.place.kubectl(&["get", "pb", "-o", "name"], "").lines().count()
    }

    fn started(&self) -> Replica {
        self.started_as("agent")
    }

    /// Starts an agent with a state directory and a log of this name.
    fn started_as(&self, name: &str) -> Replica {
        // It is the only replica, so that a long Lease delays nothing and a busy machine does not lose it.
        let settings = [("OPSY_RUNNER_IMAGE", "localhost/opsy:bed"), ("OPSY_LEASE_DURATION", "60s")];
        let replica = self.start_with(name, &settings);
        self.works(&replica);
        replica
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_object_is_suspended_resumed_cancelled_and_reconciled() {
    let node = builder("node", "");
    let replicas = Replicas::of("", &[("node.yaml", &node), (TEMPLATE, template())]).await;
    blocking(move || {
        let _agent = replicas.started();
        replicas.job();
        replicas
            .world
            .wait("the status", || (replicas.status("pb", "node")["jobStatus"] == "Pending").then_some(()));
        assert!(replicas.person(&["cancel", "pb/node"]).contains("cancellation of build"));
        replicas.world.wait("the end of the Job", || replicas.jobs().is_empty().then_some(()));
        replicas.ends("node", "Cancelled", "");
        replicas.says("node", "Ready", ["False", "Cancelled"]);

        replicas.person(&["suspend", "pb/node"]);
        replicas.says("node", "Suspended", ["True", "Annotation"]);
        replicas.says("node", "Ready", ["False", "Cancelled"]);
        let shown = replicas.place.kubectl(&["get", "pb", "node"], "");
        assert!(shown.lines().next().is_some_and(|names| names.trim_end().ends_with("SUSPENDED")), "{shown}");
        // With other inputs, it would be built immediately.
        let changed = format!("{}\n# Another.\n", template());
        let labelled = node.replace("  name: node\n", "  name: node\n  labels: {team: a}\n");
        let files = [(TEMPLATE, Some(changed.as_str())), ("node.yaml", Some(labelled.as_str()))];
        let commit = replicas.world.push(&files, "packer: change");
        replicas.world.wait("the commit", || {
            let log = std::fs::read_to_string(replicas.world.root().join("agent.log")).unwrap_or_default();
            log.lines().any(|line| line.contains("\"fetched\"") && line.contains(commit.trim())).then_some(())
        });
        let not_ready = said_now(&replicas.place, &["reconcile", "pb/node"]);
        assert_eq!(not_ready.status.code(), Some(1), "it has no image yet: {not_ready:?}");
        assert!(not_ready.stdout.contains("Suspended"), "{not_ready:?}");
        assert_eq!(replicas.jobs(), Vec::<Value>::new());
        // The object was applied again, and kept the annotation of the person.
        let team =
            replicas.place.kubectl(&["get", "pb", "node", "-o", "jsonpath={.metadata.labels.team}"], "");
        assert_eq!(team, "a");
        replicas.person(&["resume", "pb/node"]);
        replicas.job();
        assert_eq!(replicas.world.account.count("ec2:RunInstances"), 0);

        let annotated =
            labelled.replace("  labels:", "  annotations: {ami.opsy.dev/suspend: \"true\"}\n  labels:");
        replicas.world.push(&[("node.yaml", Some(annotated.as_str()))], "policy: suspend it");
        replicas.world.wait("the annotation of Git", || {
            let path = r"jsonpath={.metadata.annotations.ami\.opsy\.dev/suspend}";
            (replicas.place.kubectl(&["get", "pb", "node", "-o", path], "") == "true").then_some(())
        });
        let refused = said_now(&replicas.place, &["resume", "pb/node"]);
        let words = "its manifest suspends it; remove the annotation ami.opsy.dev/suspend from node.yaml";
        assert!(refused.status.code() == Some(1) && refused.stderr.contains(words), "{refused:?}");

        let declined = annotated.replace("\"true\"", "\"false\"");
        replicas.world.push(&[("node.yaml", Some(declined.as_str()))], "policy: never suspend it");
        replicas.world.wait("the other annotation of Git", || {
            let path = r"jsonpath={.metadata.annotations.ami\.opsy\.dev/suspend}";
            (replicas.place.kubectl(&["get", "pb", "node", "-o", path], "") == "false").then_some(())
        });
        let refused = said_now(&replicas.place, &["suspend", "pb/node"]);
        let words = "its manifest (node.yaml) sets the annotation ami.opsy.dev/suspend, which no command can change: \
                     write \"true\" there and push the commit";
        assert!(refused.status.code() == Some(1) && refused.stderr.contains(words), "{refused:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_turned_into_a_template_while_no_agent_worked_is_not_pruned() {
    let (node, other) = (builder("node", "  suspend: true\n"), builder("other", "  suspend: true\n"));
    let replicas = Replicas::of("", &[("a/node.yaml", &node), ("other.yaml", &other)]).await;
    blocking(move || {
        let agent = replicas.started();
        replicas.says("node", "Ready", ["False", "Suspended"]);
        assert!(agent.agent.stop().success());
        let templated = node.replace("name: node", "name: {{ .name }}");
        replicas.world.push(&[("a/node.yaml", Some(&templated))], "policy: a template");
        let _next = replicas.started_as("next");
        replicas.says("node", "Applied", ["False", "ManifestBroken"]);
        let message = replicas.place.kubectl(
            &["get", "pb", "node", "-o", r#"jsonpath={.status.conditions[?(@.type=="Applied")].message}"#],
            "",
        );
        assert!(message.contains("its manifest in a/node.yaml is broken"), "{message}");
        assert_eq!(replicas.names(), 2);
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
        replicas.world.wait("three objects to be pruned", || (replicas.names() == 1).then_some(()));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_does_not_fit_is_told_with_its_size_and_makes_nothing() {
    let (noise, node) = (noise(1_500_000), builder("node", ""));
    let files = [("node.yaml", node.as_str()), (TEMPLATE, template()), ("packer/noise", noise.as_str())];
    let replicas = Replicas::of("", &files).await;
    blocking(move || {
        let _agent = replicas.started();
        replicas.tells("node", &["bytes when packed", "spec.gitSync.image"]);
        let stalled = replicas.status("pb", "node")["conditions"].to_string();
        assert!(stalled.contains("Stalled"), "{stalled}");
        assert_eq!(replicas.jobs(), Vec::<Value>::new());
        let maps = replicas.place.kubectl(&["get", "configmaps", "-o", "name"], "");
        assert!(maps.lines().all(|name| name == "configmap/kube-root-ca.crt"), "{maps}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_a_build_misses_is_named_in_its_status() {
    let node = builder("node", "");
    let replicas = Replicas::of("", &[("node.yaml", &node), (TEMPLATE, template())]).await;
    let missing = ("jobs".to_owned(), "create".to_owned());
    replicas.place.allow(&replicas.place.namespace, |rule| *rule != missing).await;
    blocking(move || {
        let _agent = replicas.started();
        replicas.tells("node", &["create", "jobs"]);
        assert_eq!(replicas.jobs(), Vec::<Value>::new());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_given_nothing_of_the_agents_own() {
    let with = |name: &str, field: &str| {
        builder(name, "").replace("{dir: packer}", &format!("{{dir: packer, {field}}}"))
    };
    let account = with("account", "jobServiceAccountName: opsy");
    let (git, chat) = (with("git", "secret: git-credentials"), with("chat", "secret: opsy-chat"));
    let files = [
        ("account.yaml", account.as_str()),
        ("git.yaml", git.as_str()),
        ("chat.yaml", chat.as_str()),
        (TEMPLATE, template()),
    ];
    let replicas = Replicas::of("notifier: {slack: {secret: opsy-chat}}\n", &files).await;
    blocking(move || {
        let settings = [
            ("OPSY_RUNNER_IMAGE", "localhost/opsy:bed"),
            ("OPSY_LEASE_DURATION", "60s"),
            ("OPSY_OWN_SECRETS", "git-credentials"),
        ];
        let replica = replicas.start_with("agent", &settings);
        replicas.works(&replica);
        for (name, words) in [
            ("account", "opsy (spec.builder.jobServiceAccountName)"),
            ("git", "git-credentials (spec.builder.secret)"),
            ("chat", "opsy-chat (spec.builder.secret)"),
        ] {
            replicas.says(name, "Stalled", ["True", "BuildRefused"]);
            replicas.tells(name, &[words, "the agent itself"]);
        }
        assert_eq!(replicas.jobs(), Vec::<Value>::new());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_a_build_from_starting_is_told_while_it_waits_and_when_it_is_over() {
    let node = builder("node", "  timeOuts: {pending: 5s}\n");
    let full = builder("full", "  timeOuts: {pending: 5s}\n");
    let unplaced = Replicas::of("", &[("node.yaml", &node), (TEMPLATE, template())]).await;
    let refused = Replicas::of("", &[("full.yaml", &full), (TEMPLATE, template())]).await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "builds"}, "spec": {"hard": {"pods": "0"}},
    });
    refused.place.kubectl(&["apply", "-f", "-"], &quota.to_string());
    blocking(move || {
        refused.world.wait("the quota to be in force", || {
            let used =
                refused.place.kubectl(&["get", "quota", "builds", "-o", "jsonpath={.status.used}"], "");
            (!used.is_empty()).then_some(())
        });
        let _agents = [unplaced.started(), refused.started()];
        unplaced.tells("node", &["it cannot be scheduled"]);
        refused.tells("full", &["exceeded quota"]);
        unplaced.ends("node", "Failed", "it cannot be scheduled");
        refused.ends("full", "Failed", "exceeded quota");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_stored_is_reconciled_and_released() {
    let (plane, _ends) = ControlPlane::own().await;
    for (_, definition) in schema::crds() {
        plane.install(&lax(definition)).await;
    }
    let replicas = Replicas::at(Place::on(plane).await, "", &[]).await;
    let status = json!({"status": {
        "state": "JobRunning", "failedJobCount": "three", "active": {}, "lastRun": null,
        "conditions": [{"type": "JobCreated", "status": "True"}],
    }});
    let stored = [
        ("PackerBuilder", "pb", json!({"region": "us-east-1", "gitSync": null, "suspend": true})),
        (
            "AMIRefresher",
            "ar",
            json!({"region": "us-east-1", "clusterName": "demo", "refreshConfig": {"enable": false}}),
        ),
    ];
    for (kind, short, spec) in &stored {
        let object = json!({
            "apiVersion": "ami.opsy.dev/v1alpha1", "kind": kind, "spec": spec,
            "metadata": {"name": "old", "finalizers": ["ami.opsy.dev/finalizer"]},
        });
        let place = &replicas.place;
        place.kubectl(&["create", "-f", "-"], &object.to_string());
        let patch =
            ["patch", short, "old", "--subresource=status", "--type=merge", "-p", &status.to_string()];
        place.kubectl(&patch, "");
    }
    plane.install_definitions().await;
    blocking(move || {
        let _agent = replicas.started();
        for (kind, short, _) in &stored {
            replicas.world.wait(&format!("conditions of the {kind}"), || {
                let conditions = replicas.status(short, "old")["conditions"].take();
                let ready = conditions.as_array()?.iter().find(|found| found["type"] == "Ready")?.clone();
                (ready["observedGeneration"] == 1).then_some(())
            });
            replicas.place.kubectl(&["delete", short, "old", "--timeout=60s"], "");
        }
    })
    .await;
}
