//! The templates in `deploy/ci`, executed as the CI systems execute them, on the emulated forges.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use opsy::forge::Kind;
use serde_json::{Value, json};

use super::Planned;
use crate::forge::{Bed, Pull, TOKEN};
use crate::world::{Outcome, run};

/// A file of `deploy/ci`.
fn template(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/ci").join(name);
    let python = std::env::var("OPSY_BED_PYTHON").unwrap_or_else(|_| "python3".into());
    let mut command = Command::new(python);
    command.args(["-c", "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))"]);
    command.arg(path);
    let outcome = run(command);
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|_| panic!("{name}: {outcome:?}"))
}

/// Runs a script of a template in a directory, with `opsy` in PATH and these variables.
fn script(planned: &Planned, text: &str, variables: &BTreeMap<String, String>) -> Outcome {
    let opsy = Path::new(env!("CARGO_BIN_EXE_opsy")).parent().expect("a directory");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut bash = Command::new("bash");
    bash.arg("-ec").arg(text).current_dir(&planned.clone).env_clear();
    bash.envs(planned.world.account.env()).env("AWS_ACCESS_KEY_ID", &planned.key);
    bash.env("PATH", format!("{}:{path}", opsy.display())).env("HOME", planned.world.root());
    bash.envs(variables);
    run(bash)
}

/// The script of the action, and its variables for inputs that are not set.
fn action() -> (String, BTreeMap<String, String>) {
    let action = template("github/action.yml");
    let step = &action["runs"]["steps"][0];
    let mut variables = BTreeMap::new();
    for (name, value) in step["env"].as_object().expect("variables") {
        let input = value.as_str().and_then(|text| text.strip_prefix("${{ inputs.")?.strip_suffix(" }}"));
        let default = action["inputs"][input.expect("an input")]["default"].as_str().expect("a default");
        let value = if default == "${{ github.token }}" { TOKEN } else { default };
        variables.insert(name.clone(), value.to_owned());
    }
    (step["run"].as_str().expect("a script").to_owned(), variables)
}

/// The variables of the CI of a pull request, whose merge commit is checked out.
fn variables(planned: &Planned, pull: &Pull<'_>) -> BTreeMap<String, String> {
    let root = planned.world.root();
    let side = |sha: &str| json!({ "sha": sha, "repo": { "full_name": pull.repository } });
    let request = json!({ "number": pull.number, "head": side(&pull.head), "base": side(&"0".repeat(40)) });
    let event = root.join("event.json");
    fs::write(&event, json!({ "pull_request": request }).to_string()).expect("written");
    let path = |name: &str| root.join(name).display().to_string();
    let base = planned.git(&["rev-parse", "HEAD^1"]).trim().to_owned();
    let pairs = match pull.kind {
        Kind::GitLab => vec![
            ("GITLAB_CI", "true".to_owned()),
            ("CI_API_V4_URL", pull.api()),
            ("CI_PROJECT_PATH", pull.repository.clone()),
            ("CI_PROJECT_ID", "1".to_owned()),
            ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "1".to_owned()),
            ("CI_MERGE_REQUEST_IID", pull.number.to_string()),
            ("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", pull.head.clone()),
            ("CI_MERGE_REQUEST_DIFF_BASE_SHA", base),
            ("CI_COMMIT_SHA", planned.git(&["rev-parse", "HEAD"]).trim().to_owned()),
            ("CI_BUILDS_DIR", root.display().to_string()),
            ("AWS_TOKEN", "a token that is not used beside access keys".to_owned()),
            ("GITLAB_TOKEN", TOKEN.to_owned()),
        ],
        kind => vec![
            ("GITHUB_ACTIONS", "true".to_owned()),
            ("GITEA_ACTIONS", (kind == Kind::Gitea).to_string()),
            ("GITHUB_API_URL", pull.api()),
            ("GITHUB_REPOSITORY", pull.repository.clone()),
            ("GITHUB_EVENT_PATH", event.display().to_string()),
            ("GITHUB_STEP_SUMMARY", path("summary.md")),
            ("GITHUB_OUTPUT", path("output")),
        ],
    };
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn execute(planned: &Planned, pull: &Pull<'_>) -> Outcome {
    let mut all = variables(planned, pull);
    let text = if pull.kind == Kind::GitLab {
        let job = template("gitlab.yml");
        let lines = job["opsy"]["script"].as_array().expect("a script").iter();
        lines.map(|line| line.as_str().expect("a line")).collect::<Vec<_>>().join("\n")
    } else {
        let (text, inputs) = action();
        all.extend(inputs);
        text
    };
    script(planned, &text, &all)
}

#[test]
fn each_template_posts_one_comment_and_a_status_and_does_not_repeat_itself() {
    let planned = Planned::new();
    planned.git(&["switch", "--quiet", "-c", "topic"]);
    planned.edit("packer/node/node.pkr.hcl", "build {", "# Reviewed.\nbuild {");
    planned.git(&["commit", "--quiet", "-am", "topic"]);
    let topic = planned.git(&["rev-parse", "HEAD"]).trim().to_owned();
    planned.git(&["switch", "--quiet", "--detach", "origin/main"]);
    planned.git(&["merge", "--quiet", "--no-ff", "-m", "merge", "topic"]);
    let bed = Bed::start();
    for mut pull in bed.pulls() {
        pull.on_it("push", json!({ "sha": topic }));
        pull.head.clone_from(&topic);
        let outcome = execute(&planned, &pull);
        assert_eq!(outcome.status.code(), Some(0), "{}: {outcome:?}", pull.name());
        let comments = pull.own_comments();
        assert_eq!(comments.len(), 1, "{}", pull.name());
        assert!(comments[0].starts_with("<!-- opsy:plan "), "{}", comments[0]);
        assert!(comments[0].contains("### Opsy plan: 1 build, 3 node groups roll"), "{}", comments[0]);
        let status = &pull.state()["statuses"][0];
        assert_eq!((&status["context"], &status["sha"]), (&json!("opsy/plan"), &json!(topic)), "{status}");
        bed.requests();
        let again = execute(&planned, &pull);
        assert_eq!(again.status.code(), Some(0), "{}: {again:?}", pull.name());
        assert!(again.stderr.contains("because it says the same"), "{again:?}");
        assert_eq!(pull.own_comments(), comments, "{}", pull.name());
    }
    let root = planned.world.root();
    let summary = fs::read_to_string(root.join("summary.md")).expect("a summary");
    assert!(summary.starts_with("### Opsy plan: 1 build"), "{summary}");
    assert_eq!(
        fs::read_to_string(root.join("output")).expect("outputs").lines().next(),
        Some("changes=true")
    );
    assert_eq!(planned.world.account.writes(), Vec::<String>::new());
}

#[test]
fn a_fork_is_planned_without_aws_alone() {
    let planned = Planned::new();
    planned.git(&["commit", "--quiet", "--allow-empty", "-m", "fork"]);
    let bed = Bed::start();
    let pull = bed.pull(Kind::GitHub, &json!({ "branch": "change", "fork": "somebody/images" }));
    let mut all = variables(&planned, &pull);
    let side = |name: &str| json!({ "sha": pull.head, "repo": { "full_name": name } });
    let request =
        json!({ "number": pull.number, "head": side("somebody/images"), "base": side(&pull.repository) });
    fs::write(&all["GITHUB_EVENT_PATH"], json!({ "pull_request": request }).to_string()).expect("written");
    let (text, inputs) = action();
    all.extend(inputs);
    let outcome = script(&planned, &text, &all);
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("comes from a fork: plan it with --offline"), "{outcome:?}");
    all.insert("PLAN_OFFLINE".to_owned(), "true".to_owned());
    all.insert("PLAN_POST".to_owned(), "false".to_owned());
    let outcome = script(&planned, &text, &all);
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    assert_eq!(planned.world.account.calls(), Vec::<String>::new());
    assert_eq!(pull.comments(), Vec::new());
}
