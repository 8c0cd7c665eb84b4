//! Which log `opsy logs` prints, and what it prints without one.

use super::*;
use crate::engine::standalone::folders::FACTS;
use serde_json::json;

fn lay_out(runs: &Path, name: &str, builder: &str, created: &str) {
    let facts = json!({
        "builder": {"namespace": "default", "name": builder}, "build": "0123456789abcdef",
        "region": "us-east-1", "inputs": {}, "why": "Missing", "commit": "a".repeat(40), "createdAt": created,
    });
    std::fs::create_dir_all(runs.join(name)).expect("a folder");
    std::fs::write(runs.join(name).join(FACTS), facts.to_string()).expect("facts");
}

#[test]
fn the_last_run_of_the_builder_or_the_named_one() {
    let runs = tempfile::tempdir().expect("a folder");
    let builder = |name: &str| Key { namespace: "default".into(), name: name.into() };
    let found = |builder: &Key, run: Option<&str>| {
        let places = [runs.path().join("runs"), runs.path().join("logs")];
        let dir = last_run(&places, builder, run).expect("readable")?;
        Some(dir.file_name()?.to_string_lossy().into_owned())
    };
    assert_eq!(found(&builder("node"), None), None);
    let (live, kept) = (runs.path().join("runs"), runs.path().join("logs"));
    lay_out(&kept, "node-2", "node", "2026-01-02T00:00:00Z");
    lay_out(&live, "node-1", "node", "2026-01-01T00:00:00Z");
    lay_out(&live, "other-1", "other", "2026-01-03T00:00:00Z");
    std::fs::create_dir(live.join(".new-node-3")).expect("half a run");
    assert_eq!(found(&builder("node"), None).as_deref(), Some("node-2"));
    assert_eq!(found(&builder("node"), Some("node-1")).as_deref(), Some("node-1"));
    assert_eq!(found(&builder("node"), Some("other-1")), None);
    assert_eq!(last_run(&[runs.path().join("none")], &builder("node"), None).expect("no folder"), None);
}

#[test]
fn a_pod_that_waits_says_what_for() {
    let waiting = |state: serde_json::Value| {
        let status = json!({"name": PACKER, "state": state, "ready": false, "restartCount": 0, "image": "", "imageID": ""});
        serde_json::from_value::<Pod>(json!({
            "metadata": {"name": "node-1-x"}, "status": {"containerStatuses": [status]},
        }))
        .expect("a pod")
    };
    let blocked = waiting(json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}));
    let words = not_started(&blocked).expect("it waits");
    let says = "Packer has not started in pod node-1-x: packer: ImagePullBackOff: no such image (a private registry ";
    assert!(words.starts_with(says) && words.contains("--image-pull-secrets"), "{words}");
    assert_eq!(not_started(&waiting(json!({"running": {}}))), None);
}

#[test]
fn what_status_keeps_of_a_run_is_shown_where_its_pod_is_gone() {
    let text = |words: &str| Some(vec![words.to_owned()]);
    let run = RunRecord {
        result: "Failed".into(),
        step: Some("build".into()),
        errors: Some(vec!["Script exited with non-zero exit status: 7".into(), "more".into()]),
        output: text("refused us: 403"),
        ..RunRecord::default()
    };
    let cause = "Failed build: Script exited with non-zero exit status: 7 (last output: refused us: 403)";
    assert_eq!(recorded(&run), format!("{cause}\nmore\n  refused us: 403\n"));
}
