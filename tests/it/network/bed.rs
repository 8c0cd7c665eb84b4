//! A corporate network for one test: an egress proxy, and the bed's servers with certificates of a private CA, under
//! names that only the proxy resolves.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{request, wait_for};

/// Startup takes half a second on an idle machine, several seconds on a busy one.
const START: Duration = Duration::from_secs(60);

/// The credentials for the proxy. No output may contain the password.
pub const USER: &str = "ann";
pub const PASSWORD: &str = "pr0xy-hunter2";

pub struct Network {
    child: Child,
    folder: tempfile::TempDir,
    port: u64,
}

impl Network {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let port_file = folder.path().join("address.json");
        let python = std::env::var("OPSY_BED_PYTHON").unwrap_or_else(|_| "python3".into());
        let child = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bed/network/netbed.py"))
            .args(["--port", "0", "--die-with-parent", "--dir"])
            .arg(folder.path())
            .arg("--port-file")
            .arg(&port_file)
            .stdout(Stdio::null())
            .spawn()
            .expect("the network bed starts");
        wait_for("the network bed", START, || port_file.exists().then_some(()));
        let address: Value =
            serde_json::from_slice(&std::fs::read(&port_file).expect("the address file")).expect("JSON");
        Self { child, folder, port: address["port"].as_u64().expect("a port") }
    }

    /// A network whose proxy requires credentials.
    pub fn guarded() -> Self {
        let network = Self::start();
        network.control("POST", "credentials", json!({ "credentials": format!("{USER}:{PASSWORD}") }));
        network
    }

    /// The proxy's address, without credentials.
    pub fn proxy(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The proxy's address, with credentials.
    pub fn proxy_with_credentials(&self) -> String {
        format!("http://{USER}:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Gives the server at a URL of this machine a name and a certificate. Returns `https://<name>`, and an address of the
    /// same server that needs no proxy.
    pub fn serve(&self, name: &str, url: &str) -> (String, String) {
        let host = json!({ "name": name, "to": authority(url), "tls": true });
        let port = self.control("POST", "host", host)["port"].as_u64().expect("a port");
        (format!("https://{name}"), format!("https://0.0.0.0:{port}"))
    }

    /// Lets the proxy forward a name and port to the server at a URL, without TLS of its own.
    pub fn pass(&self, name: &str, port: u16, url: &str) {
        self.control("POST", "host", json!({ "name": name, "port": port, "to": authority(url) }));
    }

    /// Requests to the proxy since the last call, as `name:port status`.
    pub fn journal(&self) -> Vec<String> {
        let entries = self.control("DELETE", "journal", Value::Null);
        let line =
            |entry: &Value| format!("{} {}", entry["target"].as_str().unwrap_or_default(), entry["status"]);
        entries.as_array().expect("a list").iter().map(line).collect()
    }

    pub fn control(&self, method: &str, path: &str, body: Value) -> Value {
        request(method, &format!("{}/_bed/{path}", self.proxy()), Some(body))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // If this fails, it has ended already or ends with this process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Host and port of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}
