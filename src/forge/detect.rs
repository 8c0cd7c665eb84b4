//! Finds the forge, the repository and the pull request from flags and from the variables of a CI system. Pure.
//!
//! - GitHub Actions: docs.github.com/en/actions, "Variables reference". In runs of a pull request, `GITHUB_SHA` is a merge
//!   commit; the commit of the branch is only in the event (the file `GITHUB_EVENT_PATH`).
//! - GitLab CI: docs.gitlab.com/ci/variables/predefined_variables. A merge request of a fork runs in the fork, so that
//!   `CI_PROJECT_PATH` is not its project. `CI_COMMIT_SHA` is a merge commit in pipelines for merged results.
//! - Gitea and Forgejo Actions set the variables of GitHub too, and `GITEA_ACTIONS` or `FORGEJO_ACTIONS`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::place::{Address, Place};
use crate::api::git_host::GitHost;

/// The branch that a pull request is to be merged into.
const TARGETS: [&str; 4] =
    ["GITHUB_BASE_REF", "GITEA_BASE_REF", "FORGEJO_BASE_REF", "CI_MERGE_REQUEST_TARGET_BRANCH_NAME"];

/// What flags say. They take precedence over the CI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub kind: Option<GitHost>,
    pub api: Option<String>,
    pub repository: Option<String>,
    pub number: Option<u64>,
    pub insecure_http: bool,
}

/// What is known about where Opsy runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    pub place: Place,
    /// The API is the one that the CI names, or that of the public service: tokens of the CI are for it.
    pub is_own_api: bool,
    /// The number of the pull request.
    pub number: Option<u64>,
    /// The commit at the head of the pull request when the CI started.
    pub head: Option<String>,
    /// The page of the run or job, for links.
    pub job: Option<String>,
}

/// What a CI system says.
#[derive(Default)]
struct Ci {
    kind: Option<GitHost>,
    api: Option<String>,
    repository: Option<String>,
    number: Option<u64>,
    head: Option<String>,
    job: Option<String>,
}

/// Variables by name. An empty one counts as not set.
struct Variables<'a>(&'a BTreeMap<String, String>);

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|value| !value.is_empty()).cloned()
    }

    fn first(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.get(name))
    }

    fn is_true(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| value == "true")
    }
}

/// Finds the forge, the repository and the pull request. `event` is the content of `GITHUB_EVENT_PATH`, if that exists.
///
/// # Errors
/// Returns what is missing or wrong, and how to set it.
pub fn detect(
    flags: &Flags,
    variables: &BTreeMap<String, String>,
    event: Option<&Value>,
) -> Result<Detected, String> {
    let variables = Variables(variables);
    let ci = read(&variables, event.unwrap_or(&Value::Null));
    let kind = flags.kind.or(ci.kind).ok_or(
        "cannot detect the Git host: run in a job of GitHub Actions, GitLab CI or Gitea Actions, or set --forge, \
         --forge-repository and --pull-request",
    )?;
    // The variables of one CI say nothing about another forge.
    let ci = if ci.kind == Some(kind) { ci } else { Ci::default() };
    let parse = |api: String| {
        Address::parse(&api, flags.insecure_http).map_err(|why| format!("{}: {why}", kind.name()))
    };
    let own_api = ci.api.or_else(|| kind.public_api()).map(parse);
    let api = flags.api.clone().map(parse).or_else(|| own_api.clone()).ok_or(
        "cannot detect the address of Gitea: set --forge-api, such as https://git.example.com/api/v1",
    )??;
    let is_own_api = own_api.is_some_and(|own| own.is_ok_and(|own| own == api));
    let is_other = flags.repository.as_ref().is_some_and(|own| ci.repository.as_ref() != Some(own));
    let repository = flags.repository.clone().or(ci.repository);
    let repository = repository.ok_or("cannot detect the repository: set --forge-repository OWNER/NAME")?;
    let place = Place::new(kind, api, &repository)?;
    // The pull request of the CI is one of its own repository.
    let is_other = is_other || flags.number.is_some_and(|number| ci.number.is_some_and(|own| own != number));
    if is_other {
        let number = flags.number;
        return Ok(Detected { place, is_own_api, number, head: None, job: ci.job });
    }
    let number = flags.number.or(ci.number);
    Ok(Detected { place, is_own_api, number, head: ci.head, job: ci.job })
}

/// The branch that the pull request of a CI job is to be merged into, if it is a job of one.
pub fn target_branch(variables: &BTreeMap<String, String>) -> Option<String> {
    Variables(variables).first(&TARGETS)
}

fn read(variables: &Variables, event: &Value) -> Ci {
    if variables.is_true("GITEA_ACTIONS") || variables.is_true("FORGEJO_ACTIONS") {
        actions(variables, event, GitHost::Gitea)
    } else if variables.is_true("GITHUB_ACTIONS") {
        actions(variables, event, GitHost::GitHub)
    } else if variables.is_true("GITLAB_CI") {
        gitlab(variables)
    } else {
        Ci::default()
    }
}

fn actions(variables: &Variables, event: &Value, kind: GitHost) -> Ci {
    let server = variables.first(&["GITHUB_SERVER_URL", "GITEA_SERVER_URL", "FORGEJO_SERVER_URL"]);
    let below = |path: &str| server.as_ref().map(|server| format!("{}/{path}", server.trim_end_matches('/')));
    let api = variables.get("GITHUB_API_URL").or_else(|| match kind {
        GitHost::Gitea => server.as_ref().map(|server| kind.api(server)),
        _ => None,
    });
    let repository = variables.first(&["GITHUB_REPOSITORY", "GITEA_REPOSITORY", "FORGEJO_REPOSITORY"]);
    // The page of a run of Gitea has the number of the run in its repository.
    let run = variables.get(if kind == GitHost::Gitea { "GITHUB_RUN_NUMBER" } else { "GITHUB_RUN_ID" });
    let job =
        repository.as_ref().zip(run).and_then(|(path, run)| below(&format!("{path}/actions/runs/{run}")));
    let pull = &event["pull_request"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let number = pull["number"].as_u64().or_else(|| number_of(event)).or_else(|| {
        let name = variables.first(&["GITHUB_REF", "GITEA_REF", "FORGEJO_REF"])?;
        name.strip_prefix("refs/pull/")?.split('/').next()?.parse().ok()
    });
    let head = text(&pull["head"]["sha"]).or_else(|| text(&event["workflow_run"]["head_sha"]));
    Ci { kind: Some(kind), api, repository, number, head, job }
}

/// The number of the pull request of an event that is not one of a pull request itself.
fn number_of(event: &Value) -> Option<u64> {
    if event["issue"]["pull_request"].is_object() {
        return event["issue"]["number"].as_u64();
    }
    // The list is empty for forks.
    match event["workflow_run"]["pull_requests"].as_array()?.as_slice() {
        [only] => only["number"].as_u64(),
        _ => None,
    }
}

fn gitlab(variables: &Variables) -> Ci {
    let server = variables.get("CI_SERVER_URL");
    let api = variables.get("CI_API_V4_URL").or_else(|| server.map(|server| GitHost::GitLab.api(&server)));
    let target = variables.get("CI_MERGE_REQUEST_PROJECT_PATH");
    let number: Option<u64> = variables.get("CI_MERGE_REQUEST_IID").and_then(|iid| iid.parse().ok());
    Ci {
        kind: Some(GitHost::GitLab),
        api,
        number,
        repository: target.or_else(|| variables.get("CI_PROJECT_PATH")),
        head: variables.first(&["CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", "CI_COMMIT_SHA"]),
        job: variables.get("CI_JOB_URL"),
    }
}
