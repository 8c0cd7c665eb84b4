//! A corporate network for one test: an egress proxy, and the bed's servers with certificates of a private CA, under
//! names that only the proxy resolves.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::bed::{Process, request};

/// The credentials for the proxy. No output may contain the password.
pub const USER: &str = "ann";
pub const PASSWORD: &str = "pr0xy-hunter2";

pub struct Network {
    process: Process,
    folder: tempfile::TempDir,
}

impl Network {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        Self { process: Process::start("network", &["netbed.py"], &[("--dir", folder.path())]), folder }
    }

    /// A network whose proxy requires credentials.
    pub fn guarded() -> Self {
        let network = Self::start();
        network.control("POST", "credentials", json!({ "credentials": format!("{USER}:{PASSWORD}") }));
        network
    }

    /// The proxy's address, without credentials.
    pub fn proxy(&self) -> String {
        format!("http://127.0.0.1:{}", self.process.port())
    }

    /// The proxy's address, with credentials.
    pub fn proxy_with_credentials(&self) -> String {
        format!("http://{USER}:{PASSWORD}@127.0.0.1:{}", self.process.port())
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

/// Host and port of a URL.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}
