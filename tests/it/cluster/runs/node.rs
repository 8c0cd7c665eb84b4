//! A control plane with a real node, and what its pods need from this machine: the static runner, and a relay to
//! servers that listen only on loopback.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::OnceCell;

use super::super::ControlPlane;

/// The control plane with a node that all tests share. If there can be no node, prints the reason and returns `None`.
pub async fn plane() -> Option<&'static ControlPlane> {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    let plane = SHARED.get_or_init(|| async { start().await }).await;
    if plane.address("node") == true {
        return Some(plane);
    }
    let why = plane.address("node_missing").as_str().unwrap_or("the reason is unknown");
    // Continuous integration has a node: no test is skipped there.
    assert!(std::env::var_os("OPSY_BED_REQUIRE_NODE").is_none(), "there is no node: {why}");
    // Written to stderr directly, because libtest captures the output of tests that pass.
    let _ = writeln!(io::stderr(), "SKIPPED: there is no Kubernetes node: {why}");
    None
}

async fn start() -> ControlPlane {
    let runner = tokio::task::spawn_blocking(runner).await.expect("it is built");
    let opsy = Path::new(env!("CARGO_BIN_EXE_opsy")).as_os_str();
    let args = ["--node".as_ref(), "--opsy".as_ref(), opsy, OsStr::new("--runner"), runner.as_os_str()];
    let plane = ControlPlane::start_with(&args).await;
    plane.install_definitions().await;
    if plane.address("node") == true {
        give_disk(&plane).await;
    }
    plane
}

/// Gives the node ephemeral storage, which builds request. The bed's kubelet does not check its disk, so that it
/// accepts pods even if the disk is full.
async fn give_disk(plane: &ControlPlane) {
    let disk = json!({"ephemeral-storage": "200Gi"});
    let status = json!({"status": {"capacity": disk, "allocatable": disk}});
    let nodes: Api<Node> = Api::all(plane.admin().await);
    let name = plane.address("node_name").as_str().expect("a name");
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.expect("it has a disk");
}

/// Builds the runner as a release does: static, because it runs in any Packer image.
fn runner() -> PathBuf {
    if let Some(path) = std::env::var_os("OPSY_BED_RUNNER") {
        return path.into();
    }
    let exe = std::env::current_exe().expect("this program");
    let target = exe.ancestors().nth(3).expect("TARGET/PROFILE/deps/it").to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([
        "rustc",
        "--locked",
        "--quiet",
        "-p",
        "opsy-runner",
        "--bin",
        "opsy-runner",
        "--profile",
        "runner",
    ]);
    cargo.arg("--target-dir").arg(&target).args(["--", "-C", "target-feature=+crt-static"]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(cargo.status().expect("cargo starts").success(), "the runner is built");
    target.join("runner/opsy-runner")
}

/// Lets pods reach a server on this machine's loopback, at another address of the machine.
pub struct Relay {
    pub url: String,
}

impl Relay {
    /// `url` is `http://127.0.0.1:PORT`.
    pub fn to(url: &str) -> Self {
        let server: SocketAddr = url
            .strip_prefix("http://")
            .and_then(|at| at.trim_end_matches('/').parse().ok())
            .expect("an address");
        let listener = TcpListener::bind((own_address(), 0)).expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                thread::spawn(move || relay(&client, &server));
            }
        });
        Self { url }
    }
}

/// The address from which this machine sends. No packet is sent to find it.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
    socket.connect("192.0.2.1:9").expect("a machine with a network");
    socket.local_addr().expect("an address").ip()
}

fn relay(client: &TcpStream, server: &SocketAddr) {
    let Ok(server) = TcpStream::connect(server) else { return };
    let copy = |mut from: &TcpStream, mut to: &TcpStream| {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    };
    thread::scope(|scope| {
        scope.spawn(|| copy(client, &server));
        copy(&server, client);
    });
}
