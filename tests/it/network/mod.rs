//! Closed networks: all servers are behind an egress proxy, and have certificates of a private CA.

pub mod bed;
mod cluster;

use std::collections::BTreeSet;
use std::process::Command;

use aws_credential_types::Credentials;
use serde_json::json;

use crate::aws::config;
use crate::bed::bed as aws;
use crate::chat::{CHANNEL, Chat, TOKEN};
use crate::world::{Outcome, World, files_with, fixtures, run};
use bed::{Network, PASSWORD, USER};

const TOPIC: &str = "arn:aws:sns:us-east-1:ACCOUNT:opsy";
/// A notifier with every kind of destination.
const EVERYBODY: &str = "spec:
  notifier:
    slack: {channelIDs: [C0DEMO0001], secret: team-slack}
    discord: {secret: team-discord}
    webhook: {secret: team-hook}
    sns: {topicARN: TOPIC}
    ses: {from: opsy@example.com, to: [team@example.com]}
";

/// An environment in a closed network: the remote, AWS and the chat services have names that only the proxy resolves.
struct Closed {
    world: World,
    chat: Chat,
    network: Network,
}

impl Closed {
    fn new(network: Network) -> Self {
        let world = World::served(None);
        world.push_folder(&fixtures().join("repo"), "policy: first");
        // The template prints the environment and thereby the proxy, as templates do by accident.
        let print = "build {\n  post-processor \"shell-local\" {\n    inline = [\"env\"]\n  }\n";
        world.edit("packer/node/node.pkr.hcl", "build {\n", print, "policy: print the environment");
        let chat = Chat::start();
        let topic = TOPIC.replace("ACCOUNT", &world.account.id);
        let everybody = EVERYBODY.replace("TOPIC", &topic);
        world.edit("builders/node.yaml", "spec:\n", &everybody, "policy: notify every destination of builds");
        network.serve("git.corp.test", &world.server.as_ref().expect("a server").url());
        network.serve("aws.corp.test", &aws().endpoint);
        network.serve("chat.corp.test", &chat.url);
        Self { world, chat, network }
    }

    /// `opsy` in this network, without the CA.
    fn opsy(&self) -> Command {
        let mut opsy = self.world.opsy();
        opsy.env("OPSY_REPO", "https://git.corp.test/repo.git")
            .env("AWS_ENDPOINT_URL", "https://aws.corp.test")
            // Packer calls AWS, too.
            .env("PKR_VAR_endpoint", "https://aws.corp.test")
            .env("AWS_ACCESS_KEY_ID", self.world.account.unrestricted_key())
            .env("OPSY_SLACK_API", "https://chat.corp.test/api/")
            .env("OPSY_SECRET_DEFAULT_TEAM_SLACK__TOKEN", TOKEN)
            .env(
                "OPSY_SECRET_DEFAULT_TEAM_DISCORD__URL",
                "https://chat.corp.test/api/webhooks/1000/demo-token",
            )
            .env("OPSY_SECRET_DEFAULT_TEAM_HOOK__URL", "https://chat.corp.test/hook/ops")
            .env("OPSY_SECRET_DEFAULT_TEAM_HOOK__KEY", "shared key")
            .env("HTTPS_PROXY", self.network.proxy_with_credentials())
            .env_remove("NO_PROXY")
            // Variables of the test machine would replace those that builds get.
            .env_remove("AWS_CA_BUNDLE")
            .env_remove("SSL_CERT_FILE");
        opsy
    }

    /// Creates the topic and the sender, as a person does.
    #[tokio::main(flavor = "current_thread")]
    async fn prepare_aws(&self) {
        let sdk = config(&self.world.account).credentials_provider(self.unrestricted()).load().await;
        let topic = aws_sdk_sns::Client::new(&sdk).create_topic().name("opsy").send().await;
        topic.expect("a topic");
        let sender =
            aws_sdk_sesv2::Client::new(&sdk).create_email_identity().email_identity("opsy@example.com");
        sender.send().await.expect("a sender");
    }

    fn unrestricted(&self) -> Credentials {
        Credentials::new(self.world.account.unrestricted_key(), "emulated", None, None, "test")
    }
}

fn once(mut opsy: Command) -> Outcome {
    opsy.args(["run", "--once"]);
    run(opsy)
}

/// The names in the proxy's journal. Asserts that every request was accepted, except that libgit2 sends its credentials
/// only after a challenge.
fn names(journal: &[String]) -> BTreeSet<&str> {
    let (passed, others): (Vec<_>, Vec<_>) = journal.iter().partition(|entry| entry.ends_with(" 200"));
    assert!(others.iter().all(|entry| *entry == "git.corp.test:443 407"), "{journal:?}");
    passed.into_iter().map(|entry| entry.split(':').next().unwrap_or_default()).collect()
}

/// What `opsy logs` prints of the last build.
fn log(world: &World) -> String {
    world.run(&["logs", "pb/node"]).stdout
}

#[test]
fn everything_reaches_its_server_through_the_proxy_and_nothing_keeps_its_password() {
    let closed = Closed::new(Network::guarded());
    closed.prepare_aws();
    let mut opsy = closed.opsy();
    opsy.env("OPSY_CA_FILE", closed.network.ca()).env("OPSY_LOG", "debug");
    let outcome = once(opsy);
    let world = &closed.world;
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    assert!(world.active_image().is_some());
    assert!(world.show("status/amis.json").is_some(), "pushed: {:?}", world.log());
    assert_eq!(closed.chat.messages(CHANNEL).len(), 1);
    assert_eq!(closed.chat.messages("1000").len(), 1);
    assert_ne!(closed.chat.look("received?name=ops"), json!([]));
    let sent = world.account.look("sent");
    let kinds: BTreeSet<_> =
        sent.as_array().expect("a list").iter().map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds, BTreeSet::from([Some("ses"), Some("sns")]));
    assert_eq!(
        names(&closed.network.journal()),
        BTreeSet::from(["aws.corp.test", "chat.corp.test", "git.corp.test"])
    );
    assert!(log(world).contains("HTTPS_PROXY=http://***@127.0.0.1:"), "{}", log(world));
    let basic = "YW5uOnByMHh5LWh1bnRlcjI=";
    for secret in [PASSWORD, basic] {
        let said = [&outcome.stdout, &outcome.stderr];
        assert!(said.iter().all(|text| !text.contains(secret)), "{outcome:?}");
        assert_eq!(files_with(&world.state(), secret), Vec::<String>::new());
        assert_eq!(files_with(&world.remote(), secret), Vec::<String>::new());
    }

    // Hosts in NO_PROXY are reached without the proxy, even a broken one, and http_proxy is not used for https.
    let direct = |name: &str, url: &str| closed.network.serve(name, url).1;
    let mut opsy = closed.opsy();
    opsy.env("OPSY_CA_FILE", closed.network.ca())
        .env(
            "OPSY_REPO",
            direct("git.corp.test", &world.server.as_ref().expect("a server").url()) + "/repo.git",
        )
        .env("AWS_ENDPOINT_URL", "http://aws.corp.test")
        .env("HTTPS_PROXY", "http://ann:hunter2@127.0.0.1:1")
        .env("http_proxy", closed.network.proxy_with_credentials())
        .env("NO_PROXY", "0.0.0.0/8,");
    closed.network.pass("aws.corp.test", 80, &aws().endpoint);
    let outcome = once(opsy);
    assert_eq!(outcome.status.code(), Some(0), "{}", outcome.stderr);
    let journal = closed.network.journal();
    assert!(
        !journal.is_empty() && journal.iter().all(|entry| entry == "aws.corp.test:80 200"),
        "{journal:?}"
    );
}

#[test]
fn without_the_authority_or_the_credentials_each_client_says_what_to_set() {
    let closed = Closed::new(Network::start());
    let outcome = once(closed.opsy());
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(outcome.stderr.contains("git.corp.test") && outcome.stderr.contains("--ca-file"), "{outcome:?}");

    // Only the repository is reachable.
    let world = &closed.world;
    let agent = |change: &dyn Fn(&mut Command)| {
        let mut opsy = closed.opsy();
        opsy.env("OPSY_REPO", world.remote());
        change(&mut opsy);
        world.start(opsy)
    };
    let says = |condition: &str, words: &str| {
        world.wait(words, || {
            let [_, _, message] = world.condition("PackerBuilder", "node", condition)?;
            message.contains(words).then_some(())
        });
    };
    let running = agent(&|_| ());
    says("Ready", "cannot reach aws.corp.test: its certificate is not signed by a trusted authority");
    running.kill();
    // With AWS reachable, there is something to notify about.
    let running = agent(&|opsy| {
        opsy.env("AWS_ENDPOINT_URL", &aws().endpoint).env("PKR_VAR_endpoint", &aws().endpoint);
    });
    says("Notified", "--ca-file");
    running.kill();

    closed.network.control("POST", "credentials", json!({ "credentials": format!("{USER}:{PASSWORD}") }));
    let ca = closed.network.ca();
    let mut opsy = closed.opsy();
    opsy.env("OPSY_CA_FILE", &ca).env("HTTPS_PROXY", closed.network.proxy());
    let outcome = once(opsy);
    assert!(outcome.stderr.contains("the proxy asks for credentials (HTTP 407)"), "{outcome:?}");
    let mut opsy = closed.opsy();
    opsy.env("OPSY_CA_FILE", &ca)
        .env("HTTPS_PROXY", closed.network.proxy().replace("http://", "http://ann:wr0ng@"));
    let outcome = once(opsy);
    assert!(outcome.stderr.contains("(HTTP 407)") && !outcome.stderr.contains("wr0ng"), "{outcome:?}");
    let running = agent(&|opsy| {
        opsy.env("OPSY_CA_FILE", &ca).env("HTTPS_PROXY", closed.network.proxy());
    });
    says("Ready", "the proxy asks for credentials (HTTP 407)");
    says("Notified", "the proxy asks for credentials (HTTP 407)");
    running.kill();

    let mut opsy = closed.opsy();
    opsy.env("OPSY_CA_FILE", &ca).env("OPSY_REPO", "https://elsewhere.corp.test/repo.git");
    let outcome = once(opsy);
    assert!(outcome.stderr.contains("the proxy refuses to connect to it"), "{outcome:?}");
}

#[test]
fn settings_of_the_network_that_cannot_be_used_are_refused_at_the_start() {
    let world = World::new();
    let empty = world.root().join("empty.pem");
    std::fs::write(&empty, "nothing\n").expect("written");
    for (name, value, words) in [
        ("OPSY_CA_FILE", empty.to_str().expect("UTF-8"), "holds no certificate"),
        ("OPSY_CA_FILE", "/nowhere/ca.pem", "--ca-file /nowhere/ca.pem: No such file"),
        (
            "https_proxy",
            "socks5://ann:hunter2@127.0.0.1:1",
            "https_proxy is a socks5:// proxy, which is not supported",
        ),
    ] {
        let mut opsy = world.opsy();
        opsy.env_remove("HTTPS_PROXY").env(name, value);
        let outcome = once(opsy);
        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains(words) && !outcome.stderr.contains("hunter2"), "{outcome:?}");
    }
}
