//! The emulated AWS, which starts once for this test binary and ends with it. Every test has its own account.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Startup takes two seconds on an idle machine, ten on a busy one.
const START: Duration = Duration::from_secs(60);

/// Where the emulated AWS listens.
pub struct Bed {
    pub endpoint: String,
    /// Port of its sshd.
    pub ssh_port: u64,
    /// User that a build logs in as.
    pub ssh_user: String,
    _child: Option<Child>,
}

/// The emulated AWS that all tests share.
pub fn bed() -> &'static Bed {
    static BED: OnceLock<Bed> = OnceLock::new();
    BED.get_or_init(start)
}

fn start() -> Bed {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bed/aws");
    let scratch = tempfile::tempdir().expect("a temporary directory").keep();
    let port_file = scratch.join("address.json");
    let python = std::env::var("OPSY_BED_PYTHON").unwrap_or_else(|_| "python3".into());
    // PR_SET_PDEATHSIG is bound to the thread that forks, which must therefore live as long as the tests.
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn({
        let port_file = port_file.clone();
        move || {
            let child = Command::new(python)
                .args(["-m", "opsybed", "--port", "0", "--ssh", "--die-with-parent", "--port-file"])
                .arg(&port_file)
                .current_dir(dir)
                .stdout(Stdio::null())
                .spawn();
            send.send(child).expect("the test binary waits for the bed");
            loop {
                std::thread::park();
            }
        }
    });
    let child = receive.recv().expect("the bed's thread runs").expect(
        "the emulated AWS starts: run the tests with `make test`, or set OPSY_BED_PYTHON to its Python",
    );
    wait_for("the emulated AWS", START, || port_file.exists().then_some(()));
    let address: Value =
        serde_json::from_slice(&std::fs::read(&port_file).expect("the address file")).expect("JSON");
    Bed {
        endpoint: address["endpoint"].as_str().expect("an endpoint").to_owned(),
        ssh_port: address["ssh"]["port"].as_u64().or(address["ssh_port"].as_u64()).expect("sshd runs"),
        ssh_user: address["ssh"]["user"]
            .as_str()
            .or(address["ssh_user"].as_str())
            .expect("a user")
            .to_owned(),
        _child: Some(child),
    }
}

/// One emulated AWS account, empty or seeded.
#[derive(Clone, Debug)]
pub struct Account {
    pub id: String,
}

impl Account {
    /// An account that no other test uses.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = u64::from(std::process::id()) * 1000 + NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id: format!("{:012}", 100_000_000_000 + number) }
    }

    /// Cluster `demo` with its node groups and base images in us-east-1.
    pub fn seeded() -> (Self, Value) {
        let account = Self::new();
        let ids = account.post("seed", json!({ "region": "us-east-1", "cluster": "demo" }));
        (account, ids)
    }

    /// The SDK's standard environment for this account.
    pub fn env(&self) -> BTreeMap<String, String> {
        let endpoint = bed().endpoint.as_str();
        let key = format!("AKIA{}TEST", self.id);
        [
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ACCESS_KEY_ID", &key),
            ("AWS_SECRET_ACCESS_KEY", "emulated"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", "/nonexistent"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// The access key of Packer, which is another IAM user than the agent.
    pub fn packers_key(&self) -> String {
        format!("AKIA{}PACK", self.id)
    }

    /// The access key of a user without restrictions, with at least the rights that Packer's documentation asks for.
    pub fn unrestricted_key(&self) -> String {
        format!("AKIA{}DOCS", self.id)
    }

    /// Restricts the agent's key to `agent.json` and Packer's key to `build.json`, each with these further policies of
    /// `deploy/iam`. `seed` names the network of the builds.
    pub fn restrict(&self, seed: &Value, agent: &[&str], build: &[&str]) {
        self.attach("agent", &self.env()["AWS_ACCESS_KEY_ID"], &[&["agent.json"], agent].concat(), seed);
        self.attach("packer", &self.packers_key(), &[&["build.json"], build].concat(), seed);
    }

    fn attach(&self, user: &str, key: &str, files: &[&str], seed: &Value) {
        let values = json!({ "VPC": seed["vpc"] });
        let policy = json!({ "user": user, "access_key": key, "files": files, "values": values });
        let attached = self.post("policy", policy);
        assert_eq!(attached["access_key"], *key, "{attached}");
    }

    pub fn state(&self) -> Value {
        self.look("state")
    }

    /// The state of this region.
    pub fn state_in(&self, region: &str) -> Value {
        request("GET", &format!("{}&region={region}", self.url("state")), None)
    }

    /// All calls of this account in order, as `service:Operation`.
    pub fn calls(&self) -> Vec<String> {
        let name = |entry: &Value| {
            let part = |key: &str| entry[key].as_str().unwrap_or("?").to_owned();
            format!("{}:{}", part("service"), part("operation"))
        };
        self.journal().iter().map(name).collect()
    }

    /// How often an operation was called.
    pub fn count(&self, call: &str) -> usize {
        self.calls().iter().filter(|name| *name == call).count()
    }

    pub fn journal(&self) -> Vec<Value> {
        let journal = self.look("journal");
        let entries = journal.as_array().or(journal["entries"].as_array());
        entries.expect("the journal is a list").clone()
    }

    /// Clears the journal.
    pub fn clear_journal(&self) {
        request("DELETE", &self.url("journal"), None);
    }

    /// Injects a fault into the emulated AWS for this account.
    pub fn fault(&self, mut fault: Value) -> Value {
        fault["account"] = json!(self.id);
        request("POST", &self.url("faults"), Some(fault))
    }

    pub fn clear_faults(&self) {
        request("DELETE", &self.url("faults"), None);
    }

    pub fn post(&self, path: &str, mut body: Value) -> Value {
        body["account"] = json!(self.id);
        request("POST", &self.url(path), Some(body))
    }

    pub fn delete(&self, path: &str, mut body: Value) -> Value {
        body["account"] = json!(self.id);
        request("DELETE", &self.url(path), Some(body))
    }

    pub fn look(&self, path: &str) -> Value {
        request("GET", &self.url(path), None)
    }

    fn url(&self, path: &str) -> String {
        format!("{}/_bed/{path}?account={}", bed().endpoint, self.id)
    }
}

pub fn request(method: &str, url: &str, body: Option<Value>) -> Value {
    let request = ureq::http::Request::builder().method(method).uri(url);
    let request = request.header("content-type", "application/json");
    let text = body.map(|body| body.to_string()).unwrap_or_default();
    let request = request.body(text).expect("a request");
    let agent: ureq::Agent = ureq::Agent::config_builder().allow_non_standard_methods(true).build().into();
    let mut answer = agent.run(request).unwrap_or_else(|error| panic!("{method} {url}: {error}"));
    answer.body_mut().read_json().unwrap_or(Value::Null)
}

/// Waits until `look` returns a value, and panics after `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "timed out after {limit:?} waiting for: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
