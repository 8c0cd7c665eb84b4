//! What flags and the variables of CI systems say, and where tokens are found.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{NEW, OLD};
use crate::api::git_host::GitHost;
use crate::forge::{Address, Detected, Flags, Place, Source, Token, detect, find_token, target_branch};

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn found(pairs: &[(&str, &str)], event: &Value) -> Detected {
    detect(&Flags::default(), &variables(pairs), Some(event)).expect("everything is known")
}

const GITHUB: [(&str, &str); 6] = [
    ("GITHUB_ACTIONS", "true"),
    ("GITHUB_API_URL", "https://api.github.com"),
    ("GITHUB_SERVER_URL", "https://github.com"),
    ("GITHUB_REPOSITORY", "platform/images"),
    ("GITHUB_RUN_ID", "99"),
    ("GITHUB_REF", "refs/pull/7/merge"),
];

const GITLAB: [(&str, &str); 8] = [
    ("GITLAB_CI", "true"),
    ("CI_API_V4_URL", "https://gitlab.example.com/api/v4"),
    ("CI_PROJECT_PATH", "eve/images"),
    ("CI_MERGE_REQUEST_PROJECT_PATH", "platform/aws/images"),
    ("CI_MERGE_REQUEST_IID", "7"),
    ("CI_COMMIT_SHA", OLD),
    ("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA", ""),
    ("CI_JOB_URL", "https://gitlab.example.com/eve/images/-/jobs/5"),
];

fn event(head: &str) -> Value {
    json!({ "pull_request": { "number": 7, "head": { "sha": head }, "base": { "sha": OLD } } })
}

#[test]
fn github_actions() {
    let detected = found(&GITHUB, &event(NEW));
    let api = Address::parse("https://api.github.com", false).expect("an address");
    assert_eq!(
        detected,
        Detected {
            place: Place::new(GitHost::GitHub, api, "platform/images").expect("a place"),
            is_own_api: true,
            number: Some(7),
            head: Some(NEW.to_owned()),
            job: Some("https://github.com/platform/images/actions/runs/99".to_owned()),
        }
    );
    let without = found(&GITHUB, &Value::Null);
    assert_eq!((without.number, without.head), (Some(7), None), "only the reference");
}

#[test]
fn other_events_of_github() {
    let number = |event: &Value| found(&GITHUB[..5], event).number;
    assert_eq!(number(&json!({ "issue": { "number": 4, "pull_request": {} } })), Some(4));
    assert_eq!(number(&json!({ "issue": { "number": 4 } })), None, "an issue");
    let run = json!({ "workflow_run": { "head_sha": NEW, "pull_requests": [{ "number": 5 }] } });
    assert_eq!((number(&run), found(&GITHUB[..5], &run).head), (Some(5), Some(NEW.to_owned())));
    let fork = json!({ "workflow_run": { "head_sha": NEW, "pull_requests": [] } });
    assert_eq!(number(&fork), None);
}

#[test]
fn gitlab_merge_requests_of_forks_run_in_the_fork() {
    let detected = found(&GITLAB, &Value::Null);
    assert_eq!(detected.place.repository, "platform/aws/images");
    assert_eq!(detected.number, Some(7));
    assert_eq!(detected.head.as_deref(), Some(OLD), "an empty variable is not set");
    let mut merged = variables(&GITLAB);
    merged.insert("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA".to_owned(), NEW.to_owned());
    let merged = detect(&Flags::default(), &merged, None).expect("everything is known");
    assert_eq!(merged.head.as_deref(), Some(NEW), "not the merge commit");
}

#[test]
fn gitea_and_forgejo_set_the_variables_of_github_too() {
    for name in ["GITEA_ACTIONS", "FORGEJO_ACTIONS"] {
        let mut all = variables(&GITHUB);
        all.insert(name.to_owned(), "true".to_owned());
        all.insert("GITHUB_API_URL".to_owned(), "https://git.example.com/api/v1".to_owned());
        all.insert("GITHUB_SERVER_URL".to_owned(), "https://git.example.com/".to_owned());
        all.insert("GITHUB_RUN_NUMBER".to_owned(), "12".to_owned());
        let detected = detect(&Flags::default(), &all, Some(&event(NEW))).expect("everything");
        assert_eq!(detected.place.kind, GitHost::Gitea);
        assert_eq!(detected.place.api.to_string(), "https://git.example.com/api/v1");
        assert_eq!(detected.job.as_deref(), Some("https://git.example.com/platform/images/actions/runs/12"));
        all.remove("GITHUB_API_URL");
        let derived = detect(&Flags::default(), &all, None).expect("everything");
        assert_eq!(derived.place.api.to_string(), "https://git.example.com/api/v1");
    }
}

#[test]
fn the_branch_that_a_pull_request_is_for() {
    let target = |pairs: &[(&str, &str)]| target_branch(&variables(pairs));
    assert_eq!(target(&[("GITHUB_BASE_REF", "main")]).as_deref(), Some("main"));
    assert_eq!(target(&[("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "next")]).as_deref(), Some("next"));
    assert_eq!(target(&[("GITHUB_BASE_REF", "")]), None, "a run of a push");
}

#[test]
fn flags_take_precedence_and_another_forge_ignores_the_ci() {
    let flags = Flags { number: Some(9), ..Flags::default() };
    let detected = detect(&flags, &variables(&GITHUB), Some(&event(NEW))).expect("everything");
    assert_eq!((detected.number, detected.head), (Some(9), None), "the head is that of another pull request");
    let flags = Flags { kind: Some(GitHost::GitLab), repository: Some("a/b".to_owned()), ..Flags::default() };
    let detected = detect(&flags, &variables(&GITHUB), Some(&event(NEW))).expect("everything");
    assert_eq!(detected.place.api.to_string(), "https://gitlab.com/api/v4");
    assert_eq!((detected.number, detected.job), (None, None));
    let flags = Flags { repository: Some("platform/other".to_owned()), ..Flags::default() };
    let detected = detect(&flags, &variables(&GITHUB), Some(&event(NEW))).expect("everything");
    assert_eq!(detected.number, None, "the pull request is one of another repository");
}

#[test]
fn what_is_missing_is_named_with_its_flag() {
    let missing = |flags: &Flags, pairs: &[(&str, &str)]| {
        detect(flags, &variables(pairs), None).expect_err("something is missing")
    };
    assert!(missing(&Flags::default(), &[]).contains("--forge"));
    let gitea = Flags { kind: Some(GitHost::Gitea), ..Flags::default() };
    assert!(missing(&gitea, &[]).contains("--forge-api"));
    let github = Flags { kind: Some(GitHost::GitHub), ..Flags::default() };
    assert!(missing(&github, &[]).contains("--forge-repository"));
}

#[test]
fn addresses_and_repositories_are_checked() {
    let refused = |text: &str| Address::parse(text, false).expect_err(text);
    assert!(refused("http://git.example.com/api/v1").contains("--insecure-http"));
    assert!(refused("https://169.254.169.254/api/v4").contains("metadata"));
    assert!(refused("https://user:secret@git.example.com").contains("variable"));
    assert!(!refused("https://user:secret@git.example.com").contains("secret"));
    refused("ftp://git.example.com");
    refused("git.example.com");
    for text in
        ["https://10.1.2.3/api/v4", "http://127.0.0.1:80/api/v4", "http://localhost/api", "https://[::1]/"]
    {
        Address::parse(text, false).expect(text);
    }
    Address::parse("http://git.example.com/api/v1", true).expect("allowed");
    let place = |kind, path: &str| {
        Place::new(kind, Address::parse("https://git.example.com", false).expect("an address"), path)
    };
    for path in ["images", "a/b/c", "a/../b", "a/b?x", "/b", "a b/c", "..//"] {
        place(GitHost::GitHub, path).expect_err(path);
    }
    place(GitHost::GitLab, "group/sub/images").expect("a subgroup");
}

#[test]
fn tokens_come_from_the_variables_of_their_forge() {
    let from = |kind, pairs: &[(&str, &str)]| match find_token(kind, &variables(pairs)) {
        Ok(Source::Variable(name, _)) => name,
        Ok(Source::File(path)) => path.display().to_string(),
        Err(error) => error.to_string(),
    };
    let both = [("GITHUB_TOKEN", "a"), ("GITEA_ACTIONS", "true")];
    assert_eq!(from(GitHost::GitHub, &both[..1]), "GITHUB_TOKEN");
    assert_eq!(from(GitHost::Gitea, &both), "GITHUB_TOKEN");
    assert!(from(GitHost::Gitea, &both[..1]).contains("no token for Gitea"), "it is a token for GitHub");
    assert!(from(GitHost::GitHub, &both).contains("no token for GitHub"), "it is a token for Gitea");
    assert!(from(GitHost::GitLab, &[("CI_JOB_TOKEN", "a")]).contains("CI_JOB_TOKEN cannot write comments"));
    let own = [("OPSY_FORGE_TOKEN", "a"), ("GITLAB_TOKEN", "b"), ("OPSY_FORGE_TOKEN_FILE", "/run/token")];
    assert_eq!(from(GitHost::GitLab, &own[..2]), "OPSY_FORGE_TOKEN");
    assert_eq!(from(GitHost::GitLab, &own), "/run/token");
}

#[test]
fn tokens_are_never_printed() {
    let token = Token::new(" ghs_secret\n", "GITHUB_TOKEN").expect("a token");
    let source = Source::Variable("GITHUB_TOKEN".to_owned(), token.clone());
    assert!(!format!("{token:?} {source:?}").contains("secret"));
    let error = Token::new("two secrets", "GITHUB_TOKEN").expect_err("not a token");
    assert!(error.to_string().contains("GITHUB_TOKEN") && !error.to_string().contains("secrets"));
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("token");
    let source = Source::File(path.clone());
    assert!(source.read().expect_err("there is no file").to_string().contains("OPSY_FORGE_TOKEN_FILE"));
    std::fs::write(&path, "glpat-1\n").expect("a file");
    assert_eq!(source.read().expect("a token").secret(), "glpat-1");
}
