//! `opsy plan`: what it says of a change, by which calls, and that a run then does the same.

mod checkouts;
mod ci;
mod hostile;
mod published;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::world::{Outcome, World, run};

/// A world whose first image is rolled out, a clone of its repository, and a key that may only read.
struct Planned {
    world: World,
    clone: PathBuf,
    key: String,
}

impl Planned {
    fn new() -> Self {
        Self::of(World::new())
    }

    fn of(world: World) -> Self {
        let outcome = world.once();
        assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
        let clone = world.root().join("clone");
        let remote = world.remote();
        world.git(
            world.root(),
            &["clone", "--quiet", remote.to_str().expect("UTF-8"), clone.to_str().expect("UTF-8")],
        );
        let key = world.key_with("plan.json");
        world.account.clear_journal();
        Self { world, clone, key }
    }

    /// `opsy plan` in a directory.
    fn command(&self, dir: &Path, args: &[&str]) -> Command {
        let mut opsy = self.world.opsy();
        opsy.arg("plan").args(args).current_dir(dir).env("AWS_ACCESS_KEY_ID", &self.key);
        opsy
    }

    fn run(&self, args: &[&str]) -> Outcome {
        run(self.command(&self.clone, args))
    }

    fn plan(&self, args: &[&str]) -> Value {
        read(self.command(&self.clone, args))
    }

    fn edit(&self, path: &str, from: &str, to: &str) {
        let file = self.clone.join(path);
        let text = fs::read_to_string(&file).expect("a file");
        assert!(text.contains(from), "{text}");
        fs::write(file, text.replace(from, to)).expect("written");
    }

    fn git(&self, args: &[&str]) -> String {
        self.world.git(&self.clone, args)
    }

    /// Commits the work tree of the clone to the branch `topic`, and pushes the branch, its ref and its merge into main, as
    /// forges offer them. Returns the commit of the branch.
    fn push_topic(&self) -> String {
        self.git(&["switch", "--quiet", "-C", "topic"]);
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "-m", "topic"]);
        let topic = self.git(&["rev-parse", "HEAD"]).trim().to_owned();
        self.git(&["switch", "--quiet", "--detach", "origin/main"]);
        self.git(&["merge", "--quiet", "--no-ff", "-m", "merge", "topic"]);
        self.git(&[
            "push",
            "--quiet",
            "--force",
            "origin",
            "topic",
            "topic:refs/pull/1/head",
            "HEAD:refs/pull/1/merge",
        ]);
        topic
    }

    /// The checkout of a CI job: a detached HEAD with this many commits, and no branch.
    fn checkout(&self, reference: &str, depth: Option<u32>) -> PathBuf {
        let dir = tempfile::tempdir_in(self.world.root()).expect("a directory").keep();
        let git = |args: &[&str]| self.world.git(&dir, args);
        git(&["init", "--quiet"]);
        // Git ignores the depth of a path.
        git(&["remote", "add", "origin", &format!("file://{}", self.world.remote().display())]);
        let depth = depth.map(|depth| format!("--depth={depth}"));
        let fetch = ["fetch", "--quiet", "--no-tags"].into_iter().chain(depth.as_deref());
        git(&fetch.chain(["origin", reference]).collect::<Vec<_>>());
        git(&["checkout", "--quiet", "--detach", "FETCH_HEAD"]);
        dir
    }
}

/// Runs `opsy plan`, and returns its report.
fn read(mut opsy: Command) -> Value {
    opsy.args(["--output", "json"]);
    let outcome = run(opsy);
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{outcome:?}"))
}

fn actions(items: &Value) -> Vec<String> {
    let items = items.as_array().expect("a list").iter();
    items.map(|item| format!("{} {}", item["action"], item["object"]).replace('"', "")).collect()
}

fn groups(item: &Value) -> Vec<&str> {
    item["groups"].as_array().into_iter().flatten().filter_map(|group| group["name"].as_str()).collect()
}

#[test]
fn a_template_change_is_planned_by_reads_alone_and_a_run_then_does_the_same() {
    let planned = Planned::new();
    let still = planned.plan(&["--detailed-exitcode"]);
    assert_eq!((&still["because"], &still["unchanged"]), (&json!([]), &json!(["pb/node", "ar/demo"])));
    planned.edit("packer/node/node.pkr.hcl", "build {", "# Reviewed.\nbuild {");
    let work_tree = planned.plan(&[]);
    assert_eq!(actions(&work_tree["because"]), ["Build pb/node", "Rollout ar/demo"]);
    assert_eq!(work_tree["because"][0]["why"], "the template changed");
    assert_eq!(planned.git(&["status", "--short"]).trim(), "M packer/node/node.pkr.hcl");

    // The same as a pull request that is behind its base.
    planned.push_topic();
    planned.world.push(&[("README.md", Some("new"))], "main moves on");
    planned.git(&["fetch", "--quiet"]);
    let request = planned.plan(&["--base", "origin/main", "--head", "topic"]);
    assert_eq!((&request["because"], &request["anyway"]), (&work_tree["because"], &json!([])));
    let code = |args: &[&str]| planned.run(args).status.code();
    planned.git(&["switch", "--quiet", "topic"]);
    assert_eq!(code(&["--detailed-exitcode"]), Some(2));
    assert_eq!(code(&["--detailed-exitcode", "--head", "origin/main"]), Some(0));
    assert_eq!(planned.world.account.writes(), Vec::<String>::new());
    assert!(!planned.world.account.calls().is_empty());

    planned.world.account.clear_journal();
    let offline = planned.plan(&["--offline"]);
    assert_eq!(actions(&offline["because"]), ["Build pb/node", "Rollout ar/demo"]);
    assert_eq!(groups(&offline["because"][1]), groups(&work_tree["because"][1]));
    assert_eq!(planned.world.account.calls(), Vec::<String>::new());

    let before = planned.world.active_image();
    planned.git(&["switch", "--quiet", "topic"]);
    planned.git(&["rebase", "--quiet", "origin/main"]);
    planned.git(&["push", "--quiet", "origin", "topic:main"]);
    let outcome = planned.world.once();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    let after = planned.world.active_image();
    assert!(after.is_some() && after != before, "{before:?} {after:?}");
    let named = groups(&work_tree["because"][1]);
    assert!(!named.is_empty());
    for group in ["batch", "system", "web", "legacy"] {
        let runs = planned.world.group(group)["release_version"].as_str().map(str::to_owned);
        assert_eq!(runs == after, named.contains(&group), "{group} runs {runs:?}");
    }
}

/// Neither for the two trees, nor for several objects: three refreshers of one cluster, and a recorded base image.
#[test]
fn a_plan_asks_aws_nothing_twice() {
    let planned = Planned::new();
    planned.world.account.post("base-image", json!({ "version": "20260901" }));
    let refresher = fs::read_to_string(planned.clone.join("refreshers/demo.yaml")).expect("a manifest");
    for name in ["second", "third"] {
        let manifest = refresher.replace("name: demo", &format!("name: {name}"));
        fs::write(planned.clone.join(format!("refreshers/{name}.yaml")), manifest).expect("written");
    }
    let report = planned.plan(&[]);
    assert_eq!(actions(&report["because"]), ["Rollout ar/second", "Rollout ar/third"], "{report:#}");
    assert_eq!(actions(&report["anyway"]), ["Build pb/node", "Rollout ar/demo"]);
    let journal = planned.world.account.journal();
    let mut asked: Vec<String> =
        journal.iter().map(|entry| format!("{} {}", entry["operation"], entry["params"])).collect();
    asked.sort();
    let twice = asked.windows(2).find(|pair| pair[0] == pair[1]);
    assert!(!asked.is_empty() && twice.is_none(), "{twice:?} of {asked:#?}");
}

#[test]
fn waves_deletions_and_broken_manifests_are_planned() {
    let planned = Planned::new();
    let waves = "  rollout:\n    waves:\n      - {name: canary, nodeGroups: [batch], soak: 1h}\n      - {name: prod, nodeGroups: [web], approval: Required}\n";
    planned.edit("refreshers/demo.yaml", "  timeOuts:", &format!("{waves}  timeOuts:"));
    let plan = planned.plan(&[]);
    assert_eq!(actions(&plan["because"]), ["Apply ar/demo"]);
    let item = &plan["because"][0];
    assert_eq!(item["fields"], json!(["spec.rollout"]));
    let details = item["details"].to_string();
    for line in [
        "wave canary: batch; then soaks for 60 min",
        "wave prod: web; requires approval",
        "batch moves from no wave to wave canary",
    ] {
        assert!(details.contains(line), "{details}");
    }
    planned.git(&["checkout", "--quiet", "."]);

    fs::remove_file(planned.clone.join("builders/node.yaml")).expect("removed");
    let plan = planned.plan(&[]);
    assert_eq!(actions(&plan["because"]), ["Prune pb/node"]);
    let why = "its manifest is removed; its images are kept; ar/demo uses them and gets no new images";
    assert_eq!(plan["because"][0]["why"], why);
    planned.git(&["checkout", "--quiet", "."]);

    planned.edit("builders/node.yaml", "  region: us-east-1", "  region: us-east-1\n  bogus: 1");
    let outcome = planned.run(&[]);
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(outcome.stdout.contains("error: builders/node.yaml:7: spec.bogus: unknown field"), "{outcome:?}");
    assert!(outcome.stdout.contains("! pb/node: stays as it is"), "{outcome:?}");
    planned.git(&["checkout", "--quiet", "."]);

    // A manifest that can be read and does not work.
    planned.edit("builders/node.yaml", "dir: packer/node", "dir: packer/nod");
    let outcome = planned.run(&[]);
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(outcome.stdout.starts_with("Opsy plan: 1 object needs attention\n"), "{outcome:?}");
    assert!(outcome.stdout.contains("! pb/node: no image is built"), "{outcome:?}");
    assert_eq!(planned.world.account.writes(), Vec::<String>::new());
}

#[test]
fn what_cannot_be_read_is_unknown_and_fails_in_every_mode() {
    let planned = Planned::new();
    planned.world.account.fault(json!({ "kind": "deny", "operation": "DescribeImages" }));
    for args in [&[][..], &["--detailed-exitcode"], &["--output", "json"], &["--output", "markdown"]] {
        let outcome = planned.run(args);
        assert_eq!(outcome.status.code(), Some(1), "{args:?}: {outcome:?}");
    }
    let plan = planned.plan(&[]);
    assert_eq!(actions(&plan["unknown"]), ["Unknown ar/demo", "Unknown pb/node"]);
    assert_eq!((&plan["unchanged"], &plan["anyway"]), (&json!([]), &json!([])));
    let text = planned.run(&[]).stdout;
    assert!(text.starts_with("Opsy plan: the effect on 2 objects is unknown\n"), "{text}");
    assert!(text.contains("ec2:DescribeImages"), "the cause: {text}");
}

#[test]
fn what_would_happen_anyway_is_not_because_of_the_change() {
    let planned = Planned::new();
    // A newer base image appears, and the change concerns another object.
    planned.world.account.post("base-image", json!({ "version": "20260901" }));
    planned.edit("refreshers/demo.yaml", "controllerTimer: 10s", "controllerTimer: 20s");
    let plan = planned.plan(&[]);
    assert_eq!(actions(&plan["because"]), ["Apply ar/demo"]);
    assert_eq!(actions(&plan["anyway"]), ["Build pb/node", "Rollout ar/demo"]);
    assert!(plan["anyway"][0]["why"].to_string().contains("is newer than"), "{plan:#}");
    assert_eq!(planned.run(&["--detailed-exitcode"]).status.code(), Some(2));
    let markdown = planned.run(&["--output", "markdown"]).stdout;
    assert!(markdown.starts_with("### Opsy plan: no build, no rollout; 1 object updated\n"), "{markdown}");
    assert!(
        markdown.contains("<details><summary>Would happen anyway: pb/node, ar/demo</summary>"),
        "{markdown}"
    );
    // A change of the template is not hidden by the build that is due.
    planned.edit("packer/node/node.pkr.hcl", "build {", "# Reviewed.\nbuild {");
    let plan = planned.plan(&[]);
    assert_eq!(actions(&plan["because"]), ["Build pb/node", "Rollout ar/demo"]);
    let why = plan["because"][0]["why"].as_str().expect("a reason");
    assert!(
        why.starts_with("the template changed; due without this change as well: the base image "),
        "{why}"
    );
    // Nothing differs, also with commits ahead: what would happen anyway counts.
    planned.git(&["checkout", "--quiet", "."]);
    let code = || planned.run(&["--detailed-exitcode"]).status.code();
    assert_eq!(code(), Some(2));
    planned.git(&["commit", "--quiet", "--allow-empty", "-m", "empty"]);
    assert_eq!(code(), Some(2));
}

#[test]
fn settings_that_move_ownership_or_allow_more_are_named_first() {
    let planned = Planned::new();
    let other = "agentID: other\nprune: {allowMass: true}\nlimits: {concurrentBuilds: 2}\n";
    planned.edit("opsy.yaml", "agentID: test\n", other);
    let plan = planned.plan(&[]);
    let settings = plan["settings"].as_array().expect("a list").iter();
    let settings: Vec<Value> =
        settings.map(|setting| json!([setting["name"], setting["isWarning"]])).collect();
    let expected = [
        json!(["agentID", true]),
        json!(["prune.allowMass", true]),
        json!(["limits.concurrentBuilds", false]),
    ];
    assert_eq!(settings, expected);
    assert_eq!(actions(&plan["because"])[0], "NeedsAttention pb/node");
    let why = plan["because"][0]["why"].to_string();
    assert!(why.contains("belongs to another owner"), "{why}");
    let text = planned.run(&[]).stdout;
    assert!(
        text.starts_with("Opsy plan: agentID and prune.allowMass changed, 1 object needs attention\n"),
        "{text}"
    );
    let effect = "  ! agentID: test → other\n      objects and images of test no longer belong to this agent";
    assert!(text.contains(effect), "{text}");
    let markdown = planned.run(&["--output", "markdown"]).stdout;
    assert!(markdown.contains("> - agentID: test → other: objects and images of test"), "{markdown}");
    planned.edit("opsy.yaml", other, "agentID: test\n");
    assert_eq!(planned.plan(&[])["settings"], json!([]));
}

#[test]
fn what_cannot_be_planned_is_said_with_what_to_do() {
    let world = World::new();
    let plan = |dir: &str, args: &[&str]| {
        let mut opsy = world.opsy();
        opsy.arg("plan").args(args).current_dir(world.root().join(dir));
        run(opsy)
    };
    let outcome = plan(".", &["--offline"]);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(outcome.stderr.contains("is not in a Git work tree: run the command in a clone"), "{outcome:?}");
    let remote = world.remote();
    world.git(world.root(), &["clone", "--quiet", remote.to_str().expect("UTF-8"), "clone"]);
    let outcome = plan("clone", &["--offline", "--base", "nowhere"]);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(outcome.stderr.contains("nowhere is not a commit of this repository"), "{outcome:?}");
    // Which node groups there are has not been published yet.
    let outcome = plan("clone", &["--offline"]);
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    let text = "pb/node: builds its first image in us-east-1";
    assert!(outcome.stdout.contains(text), "{outcome:?}");
    let text = "? ar/demo: could not be planned\n      its node groups are not in the published status yet";
    assert!(outcome.stdout.contains(text), "{outcome:?}");
}

#[test]
fn shells_complete_the_names_of_objects() {
    let planned = Planned::new();
    let complete = |words: &[&str]| {
        let mut opsy = planned.world.opsy();
        opsy.env("OPSY_COMPLETE", "fish").env("COMPLETE", "1").args(["--", "opsy"]).args(words);
        let outcome = run(opsy);
        let names = outcome.stdout.lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(complete(&["reconcile", "p"]), ["pb/node"]);
    let all = complete(&["history", ""]);
    assert!(all.contains(&"pb/node".to_owned()) && all.contains(&"ar/demo".to_owned()), "{all:?}");
    let builders = complete(&["logs", ""]);
    assert!(builders.contains(&"pb/node".to_owned()), "{builders:?}");
    assert!(!builders.contains(&"ar/demo".to_owned()), "{builders:?}");
    assert_eq!(complete(&["history", "packerbuilder/"]), ["packerbuilder/node"]);
    let state = planned.world.root().join("elsewhere");
    let elsewhere = complete(&["history", "--state", state.to_str().expect("UTF-8"), "pb/"]);
    assert_eq!(elsewhere, Vec::<String>::new());
    // Bash splits words at `=` and `:`.
    let in_bash = |words: &[&str]| {
        let mut opsy = planned.world.opsy();
        opsy.env("OPSY_COMPLETE", "bash").env("_CLAP_IFS", "\n");
        opsy.env("_CLAP_COMPLETE_INDEX", words.len().to_string()).args(["--", "opsy"]).args(words);
        run(opsy).stdout
    };
    let here = planned.world.state();
    let here = here.to_str().expect("UTF-8");
    assert_eq!(in_bash(&["logs", "--namespace", "=", "default", "--state", "=", here, "pb/n"]), "pb/node");
    assert_eq!(in_bash(&["logs", "--kubeconfig", "/none", "--context", "arn", ":", "aws", "pb/n"]), "");
    assert_eq!(in_bash(&["history", "--output", "=", "js"]), "json");
    // Another program may use the variable of clap.
    let mut opsy = planned.world.opsy();
    opsy.env("COMPLETE", "1").arg("crds");
    let outcome = run(opsy);
    assert!(outcome.status.success() && outcome.stdout.contains("CustomResourceDefinition"), "{outcome:?}");
    assert_eq!(complete(&["rec"]), ["reconcile"]);
}
