//! A control plane with a real node, and what its pods need of this machine: the runner's static program,
//! and a way to servers that listen on loopback only.

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

/// The one with a node that all tests share; `None`, with a word to people, where there can be none.
pub async fn plane() -> Option<&'static ControlPlane> {
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    let plane = SHARED.get_or_init(|| async { start().await }).await;
    if plane.address("node") == true {
        return Some(plane);
    }
    let why = plane.address("node_missing").as_str().unwrap_or("nobody says why");
    // Continuous integration has a node: there nothing is left out.
    assert!(std::env::var_os("OPSY_BED_REQUIRE_NODE").is_none(), "there is no node: {why}");
    // Past libtest, which keeps what a test that passes prints.
    let _ = writeln!(io::stderr(), "LEFT OUT, there is no Kubernetes node: {why}");
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

/// The bed's kubelet does not look at its disk, so that a full one is no reason to refuse pods. Builds ask for some of it.
async fn give_disk(plane: &ControlPlane) {
    let disk = json!({"ephemeral-storage": "200Gi"});
    let status = json!({"status": {"capacity": disk, "allocatable": disk}});
    let nodes: Api<Node> = Api::all(plane.admin().await);
    let name = plane.address("node_name").as_str().expect("a name");
    nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.expect("it has a disk");
}

/// The runner as a release has it: static, since it runs beside any Packer.
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

/// Lets pods reach a server on this machine's loopback: at an address of the machine that is not one.
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

/// The address this machine would speak from: nothing is sent for it.
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
