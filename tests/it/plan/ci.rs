//! The templates in `deploy/ci`, executed as the CI systems execute them, on the emulated forges.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use opsy::api::git_host::GitHost;
use serde_json::{Value, json};

use super::Planned;
use super::checkouts::branches;
use crate::forge::{Bed, Pull, TOKEN};
use crate::world::{Outcome, run};

const JOB_TOKEN: &str = "job-token-of-gitlab";

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
fn script(planned: &Planned, dir: &Path, text: &str, variables: &BTreeMap<String, String>) -> Outcome {
    let opsy = Path::new(env!("CARGO_BIN_EXE_opsy")).parent().expect("a directory");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut bash = Command::new("bash");
    bash.arg("-ec").arg(text).current_dir(dir).env_clear();
    bash.envs(planned.world.account.env()).env("AWS_ACCESS_KEY_ID", &planned.key);
    bash.env("PATH", format!("{}:{path}", opsy.display())).env("HOME", planned.world.root());
    bash.envs(variables);
    run(bash)
}

/// The script of the action, and its variables for this head and for inputs that are not set.
fn action(head: &str) -> (String, BTreeMap<String, String>) {
    let action = template("github/action.yml");
    let step = &action["runs"]["steps"][0];
    let mut variables = BTreeMap::new();
    for (name, value) in step["env"].as_object().expect("variables") {
        if value == "${{ github.event.pull_request.head.sha }}" {
            variables.insert(name.clone(), head.to_owned());
            continue;
        }
        let input = value.as_str().and_then(|text| text.strip_prefix("${{ inputs.")?.strip_suffix(" }}"));
        let default = action["inputs"][input.expect("an input")]["default"].as_str().expect("a default");
        let value = if default == "${{ github.token }}" { TOKEN } else { default };
        variables.insert(name.clone(), value.to_owned());
    }
    (step["run"].as_str().expect("a script").to_owned(), variables)
}

/// The job of a pull request: what its CI system checks out, and the variables that it sets.
struct Job {
    dir: PathBuf,
    text: String,
    variables: BTreeMap<String, String>,
}

impl Job {
    /// GitHub checks out the merge commit and its parents, Gitea the head of the pull request, which has no merge commit
    /// there, and GitLab the branch with its history.
    fn new(planned: &Planned, pull: &Pull<'_>) -> Self {
        let (reference, depth) = match pull.kind {
            GitHost::GitHub => ("refs/pull/1/merge", Some(2)),
            GitHost::GitLab => ("topic", None),
            GitHost::Gitea => ("refs/pull/1/head", Some(2)),
        };
        let dir = planned.checkout(reference, depth);
        let mut variables = variables(planned, pull, &dir);
        let text = if pull.kind == GitHost::GitLab {
            let job = template("gitlab.yml");
            let lines = job["opsy"]["script"].as_array().expect("a script").iter();
            lines.map(|line| line.as_str().expect("a line")).collect::<Vec<_>>().join("\n")
        } else {
            let (text, inputs) = action(&pull.head);
            variables.extend(inputs);
            text
        };
        Self { dir, text, variables }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    fn run(&self, planned: &Planned) -> Outcome {
        script(planned, &self.dir, &self.text, &self.variables)
    }
}

fn variables(planned: &Planned, pull: &Pull<'_>, dir: &Path) -> BTreeMap<String, String> {
    let event = dir.join(".git/event.json");
    let request =
        json!({ "number": pull.number, "head": { "sha": pull.head }, "base": { "sha": "0".repeat(40) } });
    fs::write(&event, json!({ "pull_request": request }).to_string()).expect("written");
    let path = |name: &str| dir.join(".git").join(name).display().to_string();
    let pairs = match pull.kind {
        GitHost::GitLab => vec![
            ("GITLAB_CI", "true".to_owned()),
            ("CI_API_V4_URL", pull.api()),
            ("CI_PROJECT_PATH", pull.repository.clone()),
            ("CI_PROJECT_ID", "1".to_owned()),
            ("CI_SERVER_URL", "https://gitlab.example.com".to_owned()),
            ("CI_JOB_TOKEN", JOB_TOKEN.to_owned()),
            ("CI_MERGE_REQUEST_PROJECT_ID", "1".to_owned()),
            (
                "CI_MERGE_REQUEST_PROJECT_URL",
                format!("file://{}", planned.world.remote().with_extension("").display()),
            ),
            ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "1".to_owned()),
            ("CI_MERGE_REQUEST_IID", pull.number.to_string()),
            ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main".to_owned()),
            ("CI_COMMIT_SHA", planned.world.git(dir, &["rev-parse", "HEAD"]).trim().to_owned()),
            ("AWS_TOKEN", "a token that is not used beside access keys".to_owned()),
            ("GITLAB_TOKEN", TOKEN.to_owned()),
            ("TMPDIR", path("tmp")),
        ],
        kind => vec![
            ("GITHUB_ACTIONS", "true".to_owned()),
            ("GITEA_ACTIONS", (kind == GitHost::Gitea).to_string()),
            ("GITHUB_API_URL", pull.api()),
            ("GITHUB_BASE_REF", "main".to_owned()),
            ("GITHUB_REPOSITORY", pull.repository.clone()),
            ("GITHUB_EVENT_PATH", event.display().to_string()),
            ("GITHUB_STEP_SUMMARY", path("summary.md")),
            ("GITHUB_OUTPUT", path("output")),
        ],
    };
    fs::create_dir(dir.join(".git/tmp")).expect("a directory");
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The pull requests of the three forges, with this commit at their heads.
fn at<'a>(bed: &'a Bed, head: &str) -> Vec<Pull<'a>> {
    let mut pulls = bed.pulls();
    for pull in &mut pulls {
        pull.on_it("push", json!({ "sha": head }));
        head.clone_into(&mut pull.head);
    }
    pulls
}

#[test]
fn each_template_posts_one_comment_and_a_status_and_does_not_repeat_itself() {
    let planned = branches();
    planned.edit("packer/node/node.pkr.hcl", "build {", "# Reviewed.\nbuild {");
    let topic = planned.push_topic();
    // The merge of GitHub exists already, and that of GitLab is made by the job.
    planned.world.push(&[("README.md", Some("new"))], "main moves on");
    let bed = Bed::start();
    for pull in at(&bed, &topic) {
        let mut job = Job::new(&planned, &pull);
        // A runner can keep its clone.
        let closed = "refs/remotes/origin/opsy/default/closed";
        planned.world.git(&job.dir, &["update-ref", closed, "HEAD"]);
        let outcome = job.run(&planned);
        assert_eq!(outcome.status.code(), Some(1), "{}: the status is missing: {outcome:?}", pull.name());
        assert!(!outcome.stderr.contains("cannot be fetched"), "{}: {outcome:?}", pull.name());
        assert_eq!(planned.world.git(&job.dir, &["for-each-ref", closed]), "", "{}", pull.name());
        assert!(outcome.stderr.contains("does not contain that branch"), "{}: {outcome:?}", pull.name());
        let status = &pull.state()["statuses"][0];
        assert!(status["state"].to_string().contains("fail"), "{}: {status}", pull.name());
        job.set(
            if pull.kind == GitHost::GitLab { "OPSY_STATUS_BRANCH" } else { "PLAN_STATUS_BRANCH" },
            "opsy-status",
        );
        let outcome = job.run(&planned);
        assert_eq!(outcome.status.code(), Some(0), "{}: {outcome:?}", pull.name());
        let comments = pull.own_comments();
        assert_eq!(comments.len(), 1, "{}", pull.name());
        assert!(comments[0].starts_with("<!-- opsy:plan "), "{}", comments[0]);
        assert!(comments[0].contains("### Opsy plan: 1 build, 3 node groups roll"), "{}", comments[0]);
        let statuses = &pull.state()["statuses"];
        let status = statuses.as_array().and_then(|all| all.last()).expect("a status");
        assert_eq!((&status["context"], &status["sha"]), (&json!("opsy/plan"), &json!(topic)), "{status}");
        assert_eq!(status["state"], "success", "{}: {status}", pull.name());
        bed.requests();
        let again = job.run(&planned);
        assert_eq!(again.status.code(), Some(0), "{}: {again:?}", pull.name());
        assert!(again.stderr.contains("is up to date"), "{again:?}");
        assert_eq!(pull.own_comments(), comments, "{}", pull.name());
        assert_eq!(
            fs::read_dir(job.dir.join(".git/tmp")).expect("a directory").count(),
            0,
            "no token is left"
        );
        if pull.kind != GitHost::GitLab {
            let read = |name: &str| fs::read_to_string(&job.variables[name]).expect("a file");
            assert!(read("GITHUB_STEP_SUMMARY").starts_with("### Opsy plan: 1 build"));
            assert_eq!(read("GITHUB_OUTPUT").lines().last(), Some("changes=true"));
        }
    }
    assert_eq!(planned.world.account.writes(), Vec::<String>::new());
}

#[test]
fn a_broken_manifest_is_commented_before_the_job_fails() {
    let planned = Planned::new();
    planned.edit("builders/node.yaml", "  region: us-east-1", "  region: us-east-1\n  bogus: 1");
    let bed = Bed::start();
    for pull in at(&bed, &planned.push_topic()) {
        let outcome = Job::new(&planned, &pull).run(&planned);
        assert_eq!(outcome.status.code(), Some(1), "{}: {outcome:?}", pull.name());
        let comments = pull.own_comments();
        assert!(comments.len() == 1 && comments[0].contains("spec.bogus: unknown field"), "{comments:?}");
        let status = &pull.state()["statuses"][0];
        assert!(status["state"].to_string().contains("fail"), "{}: {status}", pull.name());
    }
    let workflow = template("github/workflow.yml");
    // YAML 1.1 reads the key `on` as true.
    let types = workflow["true"]["pull_request"]["types"].as_array().expect("a list");
    assert!(types.contains(&json!("edited")), "the base branch can change");
    for job in ["plan", "fork"] {
        let steps = workflow["jobs"][job]["steps"].as_array().expect("steps");
        let place =
            |key: &str, value: &str| steps.iter().position(|step| step[key] == value).expect("a step");
        let validate = place("run", "opsy validate .");
        assert!(place("uses", "./.github/actions/opsy-plan") < validate, "{job}");
        assert_eq!(steps[validate]["if"], "${{ !cancelled() }}", "{job}");
    }
}

#[test]
fn a_fork_is_planned_without_aws_alone() {
    let planned = Planned::new();
    let topic = planned.push_topic();
    let bed = Bed::start();
    let forked = |kind| bed.pull(kind, &json!({ "branch": "change", "fork": "somebody/images" }));
    let mut pull = forked(GitHost::GitHub);
    pull.head = topic;
    let mut job = Job::new(&planned, &pull);
    let outcome = job.run(&planned);
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("use --offline, and give the job no AWS credentials"), "{outcome:?}");
    job.set("PLAN_OFFLINE", "true");
    job.set("PLAN_POST", "false");
    let outcome = job.run(&planned);
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");

    // The pipeline of a fork has its own remote, and no variable of the project.
    let gitlab = forked(GitHost::GitLab);
    let mut job = Job::new(&planned, &gitlab);
    job.set("CI_PROJECT_ID", "2");
    job.set("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "2");
    planned.world.git(&job.dir, &["remote", "set-url", "origin", "file:///nonexistent"]);
    let outcome = job.run(&planned);
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    assert!(outcome.stdout.contains("Opsy plan: no changes"), "{outcome:?}");
    assert!(!format!("{outcome:?}").contains(JOB_TOKEN), "{outcome:?}");
    // Only the server itself gets the token of the job.
    let first = template("gitlab.yml")["opsy"]["script"][0].as_str().expect("a script").to_owned();
    let ask = |host: &str| {
        let git =
            format!("printf 'protocol=https\nhost={host}\n\n' | GIT_TERMINAL_PROMPT=0 git credential fill");
        script(&planned, &job.dir, &format!("{first}\n{git}"), &job.variables).stdout
    };
    let asked = ask("gitlab.example.com");
    assert!(asked.contains(&format!("username=gitlab-ci-token\npassword={JOB_TOKEN}\n")), "{asked}");
    assert!(!ask("git.example.org").contains(JOB_TOKEN));
    // Its pipeline can also run in the project itself, whose remote is the right one.
    let mut job = Job::new(&planned, &gitlab);
    job.set("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "2");
    job.set("CI_MERGE_REQUEST_PROJECT_URL", "file:///nonexistent");
    let outcome = job.run(&planned);
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    assert_eq!(planned.world.account.calls(), Vec::<String>::new());
    assert_eq!((pull.comments(), gitlab.comments()), (Vec::new(), Vec::new()));
}

/// The first parent of any other commit is not what the pull request is compared with.
#[test]
fn on_github_only_the_merge_of_the_pushed_commit_is_planned() {
    let planned = Planned::new();
    let topic = planned.push_topic();
    let bed = Bed::start();
    let pull = at(&bed, &topic).remove(0);
    let refused = |job: &Job| {
        let outcome = job.run(&planned);
        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains("HEAD is not the merge of"), "{outcome:?}");
    };
    let mut job = Job::new(&planned, &pull);
    job.set("PLAN_PUSHED", &"0".repeat(40));
    refused(&job);
    let mut job = Job::new(&planned, &pull);
    planned.world.git(&job.dir, &["fetch", "--quiet", "origin", "topic"]);
    planned.world.git(&job.dir, &["checkout", "--quiet", "FETCH_HEAD"]);
    refused(&job);
    job.set("PLAN_BASE", "HEAD^1");
    refused(&job);
    assert_eq!(pull.comments(), Vec::new());
    // A run of a push has no pull request: its commit is compared with the one before.
    let mut job = Job::new(&planned, &pull);
    for base in ["", "HEAD^1"] {
        job.set("PLAN_PUSHED", "");
        job.set("PLAN_BASE", base);
        job.set("PLAN_POST", "false");
        let outcome = job.run(&planned);
        assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    }
}

#[test]
fn the_hook_runs_for_every_file_that_is_validated() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".pre-commit-hooks.yaml");
    let text = fs::read_to_string(path).expect("a file");
    let files = text.lines().find_map(|line| line.trim().strip_prefix("files: ")).expect("a pattern");
    let validated =
        "a.yaml\nx/a.yml\nn.pkr.hcl\ninfra/main.tf\nprod.tfvars\na.json\ns.sh\nx/.opsyignore\n.opsyignore\n";
    let list = tempfile::NamedTempFile::new().expect("a file");
    fs::write(list.path(), format!("{validated}README.md\nx.opsyignore\n")).expect("written");
    let mut grep = Command::new("grep");
    grep.args(["-E", files]).arg(list.path());
    assert_eq!(run(grep).stdout, validated);
}
