//! What `opsy logs` prints of a cluster whose node does not respond.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use serde_json::{Value, json};

use crate::world::{Outcome, run};

const BUILD: &str = "0123456789abcdef";
/// What an API server responds if the kubelet of a node does not.
const UNREACHABLE: &str = "Get \"https://10.0.0.9:10250/containerLogs/default/node-x/packer\": dial tcp 10.0.0.9:10250: \
                           connect: connection refused";

/// An API server with the pod of a build whose log cannot be read, and with this status of its builder. Returns its
/// address.
fn serve(status: Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that is gone needs no response.
            let _ = respond(stream, &status);
        }
    });
    url
}

fn respond(mut stream: TcpStream, status: &Value) -> std::io::Result<()> {
    let (mut reader, mut first, mut line) =
        (BufReader::new(stream.try_clone()?), String::new(), String::new());
    reader.read_line(&mut first)?;
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = first.split(' ').nth(1).unwrap_or_default();
    let (code, body) = match path.split('?').next().unwrap_or_default() {
        "/api/v1/namespaces/default/pods" => (200, pods()),
        "/api/v1/namespaces/default/pods/node-x/log" => (500, failure(500, "InternalError", UNREACHABLE)),
        "/apis/ami.opsy.dev/v1alpha1/namespaces/default/packerbuilders/node" => (200, builder(status)),
        _ => (404, failure(404, "NotFound", path)),
    };
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {code} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn pods() -> Value {
    let labels = json!({"ami.opsy.dev/builder": "node", "ami.opsy.dev/run": format!("node-{BUILD}")});
    let ended = json!({"name": "packer", "ready": false, "restartCount": 0, "image": "", "imageID": "",
        "state": {"terminated": {"exitCode": 1}}});
    let pod =
        json!({"metadata": {"name": "node-x", "labels": labels}, "status": {"containerStatuses": [ended]}});
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod]})
}

fn builder(status: &Value) -> Value {
    json!({"kind": "PackerBuilder", "apiVersion": "ami.opsy.dev/v1alpha1", "metadata": {"name": "node"}, "status": status})
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": message})
}

/// `opsy logs` of the builder with this status.
fn logs(status: Value) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let kubeconfig = folder.path().join("kubeconfig");
    let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": serve(status)}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "users": [{"name": "u", "user": {}}]});
    fs::write(&kubeconfig, config.to_string()).expect("a kubeconfig");
    let mut opsy = Command::new(env!("CARGO_BIN_EXE_opsy"));
    opsy.args(["logs", "pb/node", "--kubeconfig"]).arg(&kubeconfig).current_dir(folder.path());
    run(opsy)
}

#[test]
fn a_log_on_a_node_that_does_not_respond_is_replaced_by_what_status_keeps_of_its_build() {
    let records = json!([
        {"id": "fedcba9876543210", "result": "Succeeded"},
        {"id": BUILD, "result": "Failed", "step": "build", "errors": ["Script exited with non-zero exit status: 7"],
            "output": ["refused us: 403"]},
    ]);
    let shown = logs(json!({"history": records}));
    let why = format!("opsy: the log of pod node-x cannot be read: {UNREACHABLE}");
    let says = format!("{why}; the status of the builder contains this of build {BUILD}:\n");
    assert!(shown.status.success() && shown.stderr == says, "{shown:?}");
    let kept = "Failed build: Script exited with non-zero exit status: 7 (last output: refused us: 403)\n  refused us: 403\n";
    assert_eq!(shown.stdout, kept);

    // The status has no record of a run in progress: that of another run would mislead.
    let shown = logs(json!({"jobStatus": "Running", "history": [records[0]]}));
    assert_eq!((shown.status.code(), shown.stdout.as_str()), (Some(1), ""), "{shown:?}");
    assert_eq!(shown.stderr, why + "\n");
}
