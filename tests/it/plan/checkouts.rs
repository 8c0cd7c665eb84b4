//! Plans in the checkout of a CI job: a detached HEAD, few commits, no default branch and no other branch; and in other
//! checkouts that lack something.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::{Planned, actions, read};
use crate::world::{Outcome, World, run};

/// A world whose builder names the branch of the agent, and whose status is on a branch of its own.
pub fn branches() -> Planned {
    let world = World::new();
    world.edit(
        "builders/node.yaml",
        "    dir: packer/node",
        "    branch: main\n    dir: packer/node",
        "branch",
    );
    world.edit("opsy.yaml", "publish:\n", "publish:\n  branch: opsy-status\n", "status");
    Planned::of(world)
}

/// Plans the merge commit that is checked out in a directory.
fn merge(planned: &Planned, dir: &Path, args: &[&str], target: Option<&str>) -> Outcome {
    let mut opsy = planned.command(dir, &["--base", "HEAD^1", "--head", "HEAD", "--output", "json"]);
    opsy.args(args).envs(target.map(|target| ("GITHUB_BASE_REF", target)));
    run(opsy)
}

#[test]
fn a_checkout_of_two_commits_is_planned_as_a_clone_is() {
    let planned = branches();
    planned.edit("packer/node/node.pkr.hcl", "build {", "# Reviewed.\nbuild {");
    planned.push_topic();
    planned.git(&["fetch", "--quiet"]);
    let expected = planned.plan(&["--head", "topic"]);
    assert_eq!(actions(&expected["because"]), ["Build pb/node", "Rollout ar/demo"]);

    let dir = planned.checkout("refs/pull/1/merge", Some(2));
    let outcome = merge(&planned, &dir, &[], Some("main"));
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    let fetch = "git fetch origin +refs/heads/opsy-status:refs/remotes/origin/opsy-status";
    assert!(outcome.stderr.contains(fetch), "{outcome:?}");
    let without = merge(&planned, &dir, &["--no-status"], Some("main"));
    assert_eq!(without.status.code(), Some(0), "{without:?}");
    planned.world.git(&dir, &fetch.split(' ').skip(1).collect::<Vec<_>>());

    let unknown = merge(&planned, &dir, &[], None);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    assert!(unknown.stderr.contains("set --base to the commit to compare with and --branch"), "{unknown:?}");
    for (args, target) in [(&[][..], Some("main")), (&["--branch", "main"][..], None)] {
        let outcome = merge(&planned, &dir, args, target);
        let plan: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("a report");
        assert_eq!(plan["because"], expected["because"], "{args:?} {plan:#}");
        assert_eq!((&plan["anyway"], &plan["problems"]), (&json!([]), &json!([])), "{args:?}");
    }
    let mut opsy = planned.command(&dir, &["--head", "HEAD"]);
    opsy.env("GITHUB_BASE_REF", "main");
    let outcome = run(opsy);
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("this clone does not contain origin/main"), "{outcome:?}");
}

#[test]
fn a_branch_of_a_template_that_the_clone_lacks_is_named() {
    let planned = Planned::new();
    planned.edit("builders/node.yaml", "    dir: packer/node", "    branch: release\n    dir: packer/node");
    let plan = planned.plan(&[]);
    let remedy = "git fetch origin +refs/heads/release:refs/remotes/origin/release";
    assert!(plan.to_string().contains(remedy), "{plan:#}");
}

#[test]
fn the_status_is_not_required_where_none_is_published() {
    let planned = branches();
    let published = "publish:\n  branch: opsy-status\n";
    planned.world.edit("opsy.yaml", published, &format!("{published}  enabled: false\n"), "no status");
    let dir = planned.checkout("main", Some(1));
    let outcome = run(planned.command(&dir, &["--base", "HEAD", "--branch", "main"]));
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
}

#[test]
fn the_branch_of_the_agent_has_its_status() {
    let world = World::new();
    world.edit("opsy.yaml", "publish:\n", "publish:\n  branch: main\n", "the same branch");
    let planned = Planned::of(world);
    let dir = planned.checkout("main", Some(1));
    let plan = read(planned.command(&dir, &["--offline", "--base", "HEAD", "--branch", "main"]));
    assert_eq!(plan["unchanged"], json!(["pb/node", "ar/demo"]), "{plan:#}");
}

#[test]
fn what_a_change_creates_is_planned() {
    let planned = Planned::new();
    fs::create_dir(planned.clone.join("new")).expect("a directory");
    let manifest = fs::read_to_string(planned.clone.join("builders/node.yaml")).expect("a manifest");
    fs::write(planned.clone.join("new/other.yaml"), manifest.replace("name: node", "name: other"))
        .expect("written");
    let plan = planned.plan(&["--path", "new"]);
    assert_eq!(actions(&plan["because"]), ["Build pb/other"]);
    assert_eq!((&plan["target"], &plan["settings"]), (&json!("new"), &json!([])));

    let dir = planned.world.root().join("unborn");
    planned.world.git(planned.world.root(), &["init", "--quiet", "unborn"]);
    let planned_there = || read(planned.command(&dir, &["--offline"]));
    assert_eq!(planned_there()["because"], json!([]));
    planned.world.git(
        &planned.clone,
        &["archive", "--format=tar", "--output=../files.tar", "HEAD", "builders", "packer"],
    );
    run_in(&dir, "tar --extract --file=../files.tar");
    assert_eq!(actions(&planned_there()["because"]), ["Build pb/node"]);
}

fn run_in(dir: &Path, words: &str) {
    let mut words = words.split(' ');
    let mut command = std::process::Command::new(words.next().expect("a program"));
    command.args(words).current_dir(dir);
    assert!(command.status().expect("it starts").success());
}

#[test]
fn a_sparse_checkout_is_refused_because_it_looks_like_deletions() {
    let planned = Planned::new();
    for further in [&[][..], &["--sparse-index"][..]] {
        planned.git(&[&["sparse-checkout", "set"], further, &["packer"]].concat());
        assert!(!planned.clone.join("builders").exists());
        let outcome = planned.run(&[]);
        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains("git sparse-checkout disable"), "{outcome:?}");
        let plan = planned.plan(&["--head", "HEAD"]);
        assert_eq!(plan["unchanged"], json!(["pb/node", "ar/demo"]), "a commit is whole");
    }
    planned.git(&["sparse-checkout", "disable"]);
    assert_eq!(planned.run(&[]).status.code(), Some(0));
}

#[test]
fn a_commit_that_the_agent_does_not_load_is_a_problem_of_the_change() {
    let planned = Planned::new();
    planned.edit("opsy.yaml", "agentID: test", "agentID: [test]");
    let outcome = planned.run(&[]);
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(outcome.stdout.starts_with("Opsy plan: 1 error\n"), "{outcome:?}");
    assert!(outcome.stdout.contains("error: opsy.yaml:1: agentID: must be a string"), "{outcome:?}");
}
