//! Which status a plan uses: the newest that the clone has, and none that is older than the active image.

use std::fs;

use serde_json::json;

use super::{Planned, actions};

/// A base whose status names the former image, as it is while a pull request of the agent is open, or if a CI job runs
/// again later; and a change of the refresher. Returns the commit of the base.
fn older_status(planned: &Planned) -> String {
    let template = fs::read_to_string(planned.clone.join("packer/node/node.pkr.hcl")).expect("a template");
    let changed = template.replace("build {", "# Reviewed.\nbuild {");
    planned.world.push(&[("packer/node/node.pkr.hcl", Some(&changed))], "a template");
    planned.git(&["fetch", "--quiet"]);
    let base = planned.git(&["rev-parse", "origin/main"]).trim().to_owned();
    let outcome = planned.world.once();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    planned.git(&["fetch", "--quiet"]);
    base
}

/// Commits a change of the refresher on the current commit, and returns it.
fn change(planned: &Planned) -> String {
    planned.edit("refreshers/demo.yaml", "controllerTimer: 10s", "controllerTimer: 20s");
    planned.git(&["commit", "--quiet", "--all", "-m", "change"]);
    planned.git(&["rev-parse", "HEAD"]).trim().to_owned()
}

#[test]
fn with_a_status_that_is_older_than_the_active_image_the_effect_is_unknown() {
    let planned = Planned::new();
    let base = older_status(&planned);
    planned.git(&["switch", "--quiet", "--detach", &base]);
    let head = change(&planned);
    let plan = planned.plan(&["--base", &base, "--head", &head]);
    assert_eq!(actions(&plan["unknown"]), ["Unknown ar/demo", "Unknown pb/node"], "{plan:#}");
    let image = planned.world.active_image().expect("an image");
    let why = plan["unknown"].to_string();
    assert!(why.contains(&format!("the published status does not name {image}")), "{why}");
    assert!(why.contains("the published status of pb/node is older than its active image"), "{why}");
}

#[test]
fn the_branch_of_the_pull_request_of_the_agent_has_the_newest_status() {
    let planned = Planned::new();
    let base = older_status(&planned);
    planned.git(&["switch", "--quiet", "--detach", &base]);
    planned.edit("opsy.yaml", "publish:\n", "publish:\n  mode: PullRequest\n");
    planned.git(&["commit", "--quiet", "--all", "-m", "publish by pull request"]);
    let base = planned.git(&["rev-parse", "HEAD"]).trim().to_owned();
    let head = change(&planned);
    let plan = || planned.plan(&["--base", &base, "--head", &head, "--branch", "main"]);
    assert_eq!(actions(&plan()["unknown"]).len(), 2);
    planned.git(&["update-ref", "refs/remotes/origin/opsy/test/main", "origin/main"]);
    let plan = plan();
    assert_eq!((&plan["unknown"], &plan["anyway"]), (&json!([]), &json!([])), "{plan:#}");
    assert_eq!(actions(&plan["because"]), ["Apply ar/demo"]);

    // The agent's owner may be known to its cluster alone.
    planned.edit("opsy.yaml", "agentID: test\n", "");
    planned.git(&["commit", "--quiet", "--all", "-m", "an owner of the cluster"]);
    let base = planned.git(&["rev-parse", "HEAD"]).trim().to_owned();
    let of_any = planned.plan(&["--base", &base, "--head", &base, "--branch", "main"]);
    assert_eq!((&of_any["unknown"], &of_any["anyway"]), (&json!([]), &json!([])), "{of_any:#}");
}

/// A fetch without `--prune` keeps the branch of a pull request that was merged.
#[test]
fn the_branch_of_a_merged_pull_request_does_not_hide_the_newer_status_of_the_base() {
    let planned = Planned::new();
    planned.git(&["update-ref", "refs/remotes/origin/opsy/test/main", "origin/main"]);
    older_status(&planned);
    planned.git(&["switch", "--quiet", "--detach", "origin/main"]);
    planned.edit("opsy.yaml", "publish:\n", "publish:\n  mode: PullRequest\n");
    planned.git(&["commit", "--quiet", "--all", "-m", "publish by pull request"]);
    let plan = planned.plan(&["--base", "HEAD", "--head", "HEAD", "--branch", "main"]);
    assert_eq!(
        (&plan["unknown"], &plan["unchanged"]),
        (&json!([]), &json!(["pb/node", "ar/demo"])),
        "{plan:#}"
    );
}
