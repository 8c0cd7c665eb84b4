//! Push webhooks: the real program with an interval of one hour, and a Git server that reports its pushes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;

use crate::world::{Agent, World, run};

pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// An agent that receives webhooks, and its address.
struct Receiving {
    world: World,
    _agent: Agent,
    address: String,
}

/// Returns whether the agent with this log has synced this commit.
pub fn has_synced(log: &Path, commit: &str) -> bool {
    let log = fs::read_to_string(log).unwrap_or_default();
    log.lines().any(|line| line.contains("\"synced\"") && line.contains(commit))
}

/// The HMAC-SHA256 of a text, in hexadecimal.
pub fn hmac(key: &str, text: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("a key").chain_update(text).finalize();
    mac.into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Delivers a push with this body, as Gitea does, and returns the status code of the response.
pub fn deliver(address: &str, secret: &str, body: &str) -> u16 {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let request = agent.post(format!("http://{address}/hook"));
    let request = request.header("content-type", "application/json");
    let request = request.header("x-gitea-event", "push").header("x-gitea-signature", hmac(secret, body));
    let request = request.header("x-gitea-delivery", "f6266f16-1bf3-46a5-9ea4-602e06ead473");
    request.send(body).expect("a response").status().as_u16()
}

/// The body of a push to a branch of a repository.
pub fn pushed(url: &str, branch: &str) -> String {
    json!({ "ref": format!("refs/heads/{branch}"), "repository": { "clone_url": url } }).to_string()
}

/// A repository whose object is suspended, and an agent that fetches only on pushes.
impl Receiving {
    fn start() -> Self {
        let world = World::served(None);
        let builder = "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: {name: node}\n\
                       spec:\n  region: us-east-1\n  suspend: true\n  builder: {dir: packer}\n";
        let settings = "publish: {enabled: false}\n";
        let first =
            world.push(&[("node.yaml", Some(builder)), ("opsy.yaml", Some(settings))], "policy: first");
        let secret = world.root().join("secret");
        fs::write(&secret, SECRET).expect("a file");
        let mut opsy = world.opsy();
        opsy.env("OPSY_INTERVAL", "1h")
            .env("OPSY_WEBHOOK_LISTEN", "127.0.0.1:0")
            .env("OPSY_WEBHOOK_SECRET_FILE", &secret);
        let agent = world.start(opsy);
        let address = world.logged(&world.agent_log(), "webhook");
        let receiving = Self { world, _agent: agent, address };
        receiving.synced(&first);
        receiving.fetches();
        receiving
    }

    fn url(&self) -> String {
        self.world.server.as_ref().expect("a server").url()
    }

    fn push(&self, number: usize) -> String {
        let text = format!("publish: {{enabled: false}}\nauthor: {{name: n{number}}}\n");
        self.world.push(&[("opsy.yaml", Some(&text))], &format!("policy: {number}"))
    }

    fn synced(&self, commit: &str) {
        self.world.wait("the sync", || has_synced(&self.world.agent_log(), commit).then_some(()));
    }

    /// Number of requests for the branches of the server since the last call.
    fn fetches(&self) -> usize {
        let journal = self.world.server.as_ref().expect("a server").journal();
        journal.iter().filter(|line| line.contains("info/refs")).count()
    }

    fn logged(&self, words: &str) -> usize {
        let log = fs::read_to_string(self.world.agent_log()).unwrap_or_default();
        log.lines().filter(|line| line.contains(words)).count()
    }
}

#[test]
fn a_signed_push_is_fetched_at_once_and_nothing_else_is() {
    let receiving = Receiving::start();
    let (address, body) = (&receiving.address, pushed(&receiving.url(), "main"));
    let second = receiving.push(2);
    assert_eq!(deliver(address, "not the secret of this agent", &body), 401);
    assert_eq!(deliver(address, SECRET, &pushed("https://git.example.com/other.git", "main")), 202);
    assert_eq!(deliver(address, SECRET, &pushed(&receiving.url(), "feature")), 202);
    // Wait until the agent has handled both; it pauses between them.
    let others = "a push to another repository or branch was reported";
    receiving.world.wait("both pushes to be handled", || (receiving.logged(others) == 2).then_some(()));
    assert_eq!(receiving.fetches(), 0, "nothing was fetched");
    assert!(!has_synced(&receiving.world.agent_log(), &second));

    let start = Instant::now();
    assert_eq!(deliver(address, SECRET, &body), 202);
    receiving.synced(&second);
    for _ in 0..30 {
        assert_eq!(deliver(address, SECRET, &body), 202);
    }
    let third = receiving.push(3);
    assert_eq!(deliver(address, SECRET, &body), 202);
    receiving.synced(&third);
    let (fetches, seconds) = (receiving.fetches(), start.elapsed().as_secs());
    assert!(u64::try_from(fetches).expect("few") <= seconds + 2, "{fetches} fetches in {seconds} s");
    let log = fs::read_to_string(receiving.world.agent_log()).expect("a log");
    assert!(log.contains("f6266f16-1bf3-46a5-9ea4-602e06ead473") && !log.contains(SECRET));
}

#[test]
fn large_bodies_and_floods_are_refused_and_the_secret_is_rotated() {
    let receiving = Receiving::start();
    let (address, body) = (&receiving.address, pushed(&receiving.url(), "main"));
    let mut stream = TcpStream::connect(address).expect("connected");
    let request = "POST /hook HTTP/1.1\r\nHost: x\r\nContent-Length: 2097152\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    assert!(response.starts_with("HTTP/1.1 413"), "{response}");

    let statuses: Vec<_> = (0..60).map(|_| deliver(address, "not the secret of this agent", &body)).collect();
    assert_eq!((statuses[0], statuses.contains(&429)), (401, true), "{statuses:?}");

    let new = "fedcba9876543210fedcba9876543210";
    let file = receiving.world.root().join("secret");
    fs::write(&file, format!("{SECRET}\n{new}\n")).expect("a file");
    let second = receiving.push(2);
    assert_eq!(deliver(address, new, &body), 202);
    receiving.synced(&second);
    fs::write(&file, new).expect("a file");
    assert_ne!(deliver(address, SECRET, &body), 202);
    let third = receiving.push(3);
    assert_eq!(deliver(address, new, &body), 202);
    receiving.synced(&third);
}

#[test]
fn an_agent_without_a_usable_secret_does_not_start() {
    let world = World::empty();
    for (secret, words) in [(None, "needs a secret"), (Some("hunter2"), "at least 16")] {
        let mut opsy = world.opsy();
        opsy.args(["run", "--webhook-listen", "127.0.0.1:0"]);
        opsy.envs(secret.map(|secret| ("OPSY_WEBHOOK_SECRET", secret)));
        let outcome = run(opsy);
        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains(words) && !outcome.stderr.contains("hunter2"), "{outcome:?}");
    }
}
