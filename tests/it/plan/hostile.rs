//! Changes by authors who want more than a plan: credentials, facts about the account, and comments with other effects.

use std::fs;

use opsy::api::git_host::GitHost;
use serde_json::json;

use super::{Planned, actions, read};
use crate::forge::{Bed, Pull, TOKEN};
use crate::git::bed::Bed as GitServer;
use crate::world::{Outcome, run};

/// Plans the work tree for a pull request that only flags name.
fn post(planned: &Planned, pull: &Pull<'_>, args: &[&str]) -> Outcome {
    let (number, name) = (pull.number.to_string(), pull.name().to_lowercase());
    let mut opsy = planned.command(&planned.clone, &["--post", "--forge", &name, "--forge-api", &pull.api()]);
    opsy.args(["--forge-repository", &pull.repository, "--pull-request", &number]).args(args);
    opsy.env("OPSY_FORGE_TOKEN", TOKEN);
    run(opsy)
}

#[test]
fn a_fork_is_known_from_the_forge_before_anything_is_read() {
    let planned = Planned::new();
    let bed = Bed::start();
    for kind in [GitHost::GitHub, GitHost::GitLab, GitHost::Gitea] {
        let pull = bed.pull(kind, &json!({ "branch": "change", "fork": "somebody/images" }));
        let outcome = post(&planned, &pull, &["--head", "HEAD"]);
        assert_eq!(outcome.status.code(), Some(1), "{}: {outcome:?}", pull.name());
        let remedy = "use --offline, and give the job no AWS credentials";
        assert!(outcome.stderr.contains(remedy), "{}: {outcome:?}", pull.name());
        assert_eq!(
            (planned.world.account.calls(), pull.comments()),
            (Vec::new(), Vec::new()),
            "{}",
            pull.name()
        );
    }
}

#[test]
fn two_agents_of_one_repository_have_comments_and_statuses_of_their_own() {
    let planned = Planned::new();
    let bed = Bed::start();
    for pull in bed.pulls() {
        let head = planned.git(&["rev-parse", "HEAD"]).trim().to_owned();
        pull.on_it("push", json!({ "sha": head }));
        let link = "https://ci.example.com/jobs/1";
        for agent in ["test", "other", "test"] {
            let outcome =
                post(&planned, &pull, &["--head", "HEAD", "--agent-id", agent, "--link", link, "--offline"]);
            assert_eq!(outcome.status.code(), Some(0), "{}: {outcome:?}", pull.name());
        }
        let comments = pull.own_comments();
        assert_eq!(comments.len(), 2, "{}: {comments:?}", pull.name());
        assert!(comments[1].contains("### Opsy plan of . (agent other)"), "{}", comments[1]);
        assert!(
            comments.iter().all(|comment| comment.contains(&format!("[full output]({link})"))),
            "{comments:?}"
        );
        let state = pull.state();
        let contexts =
            state["statuses"].as_array().expect("a list").iter().map(|status| status["context"].clone());
        let contexts: std::collections::BTreeSet<String> =
            contexts.map(|context| context.to_string()).collect();
        assert_eq!(contexts.len(), 2, "{}: {contexts:?}", pull.name());
    }
}

#[test]
fn a_change_sends_no_secret_to_a_server_that_it_names() {
    let planned = Planned::new();
    let server = GitServer::guarded("opsy:templates-secret\n");
    server.remote().commit("main", &[("node/node.pkr.hcl", Some("source"))]);
    let secret = planned.world.root().join("secrets/default/templates");
    fs::create_dir_all(&secret).expect("a directory");
    fs::write(secret.join("username"), "opsy").expect("written");
    fs::write(secret.join("token"), "templates-secret").expect("written");
    let manifest = fs::read_to_string(planned.clone.join("builders/node.yaml")).expect("a manifest");
    let elsewhere = format!("    repoURL: {}\n    dir: node", server.url());
    let with_secret = manifest
        .replace("name: node\n", "name: other\n")
        .replace("    dir: packer/node", &elsewhere)
        .replace("  builder:\n", "  gitSync: {secret: templates}\n  builder:\n");
    fs::write(planned.clone.join("builders/other.yaml"), &with_secret).expect("written");
    let secrets = planned.world.root().join("secrets").display().to_string();
    let plan = || read(planned.command(&planned.clone, &["--secrets", &secrets]));
    let refused = plan();
    let text = refused.to_string();
    assert!(text.contains("is not readable before the merge"), "{refused:#}");
    assert!(!actions(&refused["because"]).contains(&"Build pb/other".to_owned()), "{refused:#}");
    assert_eq!(server.journal(), Vec::<String>::new(), "no request was made");

    planned.world.push(&[("builders/other.yaml", Some(&with_secret))], "reviewed");
    planned.git(&["fetch", "--quiet"]);
    planned.git(&["clean", "--quiet", "--force"]);
    planned.git(&["merge", "--quiet", "--ff-only", "origin/main"]);
    let reviewed = plan();
    assert!(!reviewed.to_string().contains("is not readable"), "{reviewed:#}");
    assert!(server.users().contains(&"opsy".to_owned()));
}
