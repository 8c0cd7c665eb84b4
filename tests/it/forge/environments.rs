//! From the environment of a CI system to a comment, and through the proxy of a company.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use opsy::api::git_host::GitHost;
use opsy::api::network::{Authorities, Network};
use opsy::api::proxy::Proxies;
use opsy::forge::{Address, Client, Detected, Flags, ForgeError, Place, Token, connect, post};
use serde_json::json;

use super::{Bed, Pull, TOKEN};
use crate::network::bed::Network as Company;

/// The variables of a run of this pull request. `event` is a file.
fn variables(pull: &Pull<'_>, event: &str) -> BTreeMap<String, String> {
    let (api, number) = (pull.api(), pull.number.to_string());
    let pairs: &[(&str, &str)] = match pull.kind {
        GitHost::GitLab => &[
            ("GITLAB_CI", "true"),
            ("CI_API_V4_URL", &api),
            ("CI_PROJECT_PATH", &pull.repository),
            ("CI_MERGE_REQUEST_IID", &number),
            ("CI_COMMIT_SHA", &pull.head),
            ("GITLAB_TOKEN", TOKEN),
        ],
        kind => &[
            ("GITHUB_ACTIONS", "true"),
            ("GITEA_ACTIONS", if kind == GitHost::Gitea { "true" } else { "" }),
            ("GITHUB_API_URL", &api),
            ("GITHUB_REPOSITORY", &pull.repository),
            ("GITHUB_EVENT_PATH", event),
            ("GITHUB_TOKEN", TOKEN),
        ],
    };
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn connected(variables: &BTreeMap<String, String>) -> Result<(Detected, Client), ForgeError> {
    connect(&Flags::default(), variables, &Network::default(), Timestamp::now)
}

#[tokio::test]
async fn a_plan_is_posted_with_what_the_ci_says() {
    let bed = Bed::start();
    let folder = tempfile::tempdir().expect("a directory");
    for pull in bed.pulls() {
        let file = folder.path().join("event.json");
        let side = |sha: &str| json!({ "sha": sha, "repo": { "full_name": pull.repository } });
        let event =
            json!({ "pull_request": { "number": pull.number, "head": side(&pull.head), "base": side("b") } });
        std::fs::write(&file, event.to_string()).expect("a file");
        let (detected, client) =
            connected(&variables(&pull, &file.display().to_string())).expect("connected");
        assert_eq!((detected.number, detected.head.as_deref()), (Some(pull.number), Some(&*pull.head)));
        post(&client, &pull.plan(&pull.head, "a plan")).await.expect("posted");
        assert_eq!(pull.own_comments().len(), 1, "{}", pull.name());
    }
}

/// A variable of an earlier step must not send the token of the job elsewhere.
#[test]
fn a_token_of_the_ci_is_only_for_the_api_of_the_ci() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let mut variables = variables(&pull, "");
        let flags = |api: &str| Flags { api: Some(api.to_owned()), ..Flags::default() };
        let connect = |api: &str, variables: &BTreeMap<String, String>| {
            connect(&flags(api), variables, &Network::default(), Timestamp::now).map(drop)
        };
        connect(&pull.api(), &variables).expect("the same address");
        let elsewhere = "https://forge.example.com/api";
        let refused = connect(elsewhere, &variables).expect_err("refused").to_string();
        assert!(refused.contains("is not sent to https://forge.example.com/api"), "{refused}");
        variables.insert("OPSY_FORGE_TOKEN".to_owned(), "own".to_owned());
        connect(elsewhere, &variables).expect("a token for Opsy");
    }
}

#[test]
fn what_is_missing_is_named_and_no_secret_is() {
    let bed = Bed::start();
    for pull in bed.pulls() {
        let refused = |name: &str, value: &str| {
            let mut variables = variables(&pull, "");
            variables.insert(name.to_owned(), value.to_owned());
            connected(&variables).map(drop).expect_err("refused").to_string()
        };
        let token = if pull.kind == GitHost::GitLab { "GITLAB_TOKEN" } else { "GITHUB_TOKEN" };
        let without = refused(token, "");
        assert!(without.contains("set OPSY_FORGE_TOKEN or OPSY_FORGE_TOKEN_FILE"), "{without}");
        let broken = refused(token, "two words");
        assert!(broken.contains(token) && !broken.contains("words"), "{broken}");
        let event = refused("GITHUB_EVENT_PATH", "/nonexistent");
        assert!(event.contains("GITHUB_EVENT_PATH (/nonexistent) cannot be read"), "{event}");
    }
}

/// The certificates of a PEM file.
fn authorities(company: &Company) -> Authorities {
    let pem = std::fs::read_to_string(company.ca()).expect("the authority");
    let body = pem.split("-----BEGIN CERTIFICATE-----").nth(1).expect("a certificate");
    let body: String = body.split("-----END").next().expect("an end").split_whitespace().collect();
    Authorities::new(company.ca(), pem, vec![STANDARD.decode(body).expect("base64")])
}

#[tokio::test]
async fn a_forge_of_a_company_is_reached_through_its_proxy_with_its_authority() {
    let (bed, company) = (Bed::start(), Company::guarded());
    for pull in bed.pulls() {
        company.serve("git.corp.test", &pull.api());
        let path = &pull.api()[pull.api().find("/api/").expect("a path")..];
        let api = Address::parse(&format!("https://git.corp.test{path}"), false).expect("an address");
        let place = Place::new(pull.kind, api, &pull.repository).expect("a place");
        let proxy = company.proxy_with_credentials();
        let proxies = Proxies::read(|name| (name == "HTTPS_PROXY").then(|| proxy.clone())).expect("a proxy");
        let mut network = Network { proxies, authorities: Some(authorities(&company)), has_cert_file: false };
        let client = |network: &Network| {
            let token = Token::new(TOKEN, "FORGE_TOKEN").expect("a token");
            Client::new(network, place.clone(), token, None, Timestamp::now).expect("a client")
        };
        post(&client(&network), &pull.plan(&pull.head, "a plan")).await.expect("posted");
        let journal = company.journal();
        assert!(
            !journal.is_empty() && journal.iter().all(|line| line == "git.corp.test:443 200"),
            "{journal:?}"
        );
        network.authorities = None;
        let error = client(&network).pull_request(pull.number).await.expect_err("not trusted").to_string();
        assert!(error.contains("--ca-file"), "{error}");
        company.journal();
    }
}
