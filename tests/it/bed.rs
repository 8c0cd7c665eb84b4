//! Programs of the test bed, and the emulated AWS, which starts once for this test binary and ends with it. Every test has
//! its own account.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Startup takes at most two seconds on an idle machine, and ten on a busy one.
const START: Duration = Duration::from_secs(60);

/// Longer than any build: a held image stays pending until `finish_images`.
const HELD: u64 = 24 * 3600;

/// A program in a directory of `tests/bed`. It ends when it is dropped, and at the latest with this process.
pub struct Process {
    child: Child,
    /// The content of its port file.
    pub address: Value,
}

impl Process {
    /// Starts the program of this directory and waits until it is ready. The arguments tell Python which program to run;
    /// the options are further ones with paths.
    pub fn start(directory: &str, arguments: &[&str], options: &[(&str, &Path)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let port_file = folder.path().join("address.json");
        let python = std::env::var("OPSY_BED_PYTHON").unwrap_or_else(|_| "python3".into());
        let mut command = Command::new(python);
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bed").join(directory));
        command.args(arguments).args(["--port", "0", "--die-with-parent", "--port-file"]).arg(&port_file);
        for (option, path) in options {
            command.arg(option).arg(path);
        }
        let child = command.stdout(Stdio::null()).spawn().expect(
            "Python starts: run the tests with `make test`, or set OPSY_BED_PYTHON to the Python of the test bed",
        );
        let what = format!("the program in tests/bed/{directory}");
        let address = wait_for(&what, START, || std::fs::read(&port_file).ok());
        Self { child, address: serde_json::from_slice(&address).expect("JSON") }
    }

    /// A string of its port file.
    pub fn text(&self, key: &str) -> String {
        self.address[key].as_str().unwrap_or_else(|| panic!("no {key}: {}", self.address)).to_owned()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address["port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // If this fails, it has ended already or ends with this process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where the emulated AWS listens.
pub struct Bed {
    pub endpoint: String,
    /// Port of its sshd.
    pub ssh_port: u64,
    /// User that a build logs in as.
    pub ssh_user: String,
    _process: Process,
}

/// The emulated AWS that all tests share.
pub fn bed() -> &'static Bed {
    static BED: OnceLock<Bed> = OnceLock::new();
    BED.get_or_init(|| {
        let process = Process::start("aws", &["-m", "opsybed", "--ssh"], &[]);
        Bed {
            endpoint: process.text("endpoint"),
            ssh_port: process.address["ssh_port"].as_u64().expect("sshd runs"),
            ssh_user: process.text("ssh_user"),
            _process: process,
        }
    })
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

    /// The access key of a user with this policy of `deploy/iam` alone.
    pub fn key_with(&self, file: &str, seed: &Value) -> String {
        let key = format!("AKIA{}READ", self.id);
        self.attach("reader", &key, &[file], seed);
        key
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

    /// The image with this ID, with its tags.
    pub fn image(&self, region: &str, id: &str) -> Value {
        let state = self.state_in(region);
        let mut images = state["images"].as_array().expect("images").iter();
        images.find(|image| image["id"] == id).unwrap_or_else(|| panic!("no image {id} in {region}")).clone()
    }

    /// Resources that builds left behind in us-east-1.
    pub fn orphans(&self) -> Vec<String> {
        self.orphans_in("us-east-1")
    }

    /// Resources that builds left behind in this region.
    pub fn orphans_in(&self, region: &str) -> Vec<String> {
        let state = self.state_in(region);
        let kinds = state["leftovers"].as_object().expect("orphans by kind").iter();
        let name = |kind: &str, id: &Value| format!("{kind} {id}");
        kinds
            .flat_map(|(kind, ids)| ids.as_array().expect("a list").iter().map(move |id| name(kind, id)))
            .collect()
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

    /// Calls that changed something, or would have.
    pub fn writes(&self) -> Vec<String> {
        let reads = |call: &String| [":Describe", ":List", ":Get"].iter().any(|read| call.contains(read));
        self.calls().into_iter().filter(|call| !reads(call)).collect()
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

    /// Keeps the images of the next `count` builds pending until `finish_images`.
    pub fn hold_images(&self, count: usize) {
        self.fault(json!({ "kind": "image-pending", "seconds": HELD, "count": count }));
    }

    /// Makes the pending images available.
    pub fn finish_images(&self) {
        self.post("clock", json!({ "advance": HELD }));
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
