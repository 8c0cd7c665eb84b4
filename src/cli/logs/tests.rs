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

fn args(run: Option<&str>, previous: bool) -> Args {
    Args {
        target: "pb/node".parse().expect("a target"),
        follow: false,
        run: run.map(str::to_owned),
        previous,
        builds_namespace: None,
        place: PlaceFlags::default(),
    }
}

#[test]
fn the_last_run_of_the_builder_or_the_named_one() {
    let runs = tempfile::tempdir().expect("a folder");
    let builder = |name: &str| Key { namespace: "default".into(), name: name.into() };
    let (live, kept) = (runs.path().join("runs"), runs.path().join("logs"));
    let found = |name: &str, args: Args| {
        let known = runs_of(&[live.clone(), kept.clone()], &builder(name)).expect("readable");
        Some(choose(&known, &args)?.strip_prefix(runs.path()).expect("inside").display().to_string())
    };
    assert_eq!(found("node", args(None, false)), None);
    lay_out(&kept, "node-2", "node", "2026-01-02T00:00:00Z");
    lay_out(&live, "node-2", "node", "2026-01-02T00:00:00Z");
    lay_out(&live, "node-1", "node", "2026-01-01T00:00:00Z");
    lay_out(&live, "other-1", "other", "2026-01-03T00:00:00Z");
    std::fs::create_dir(live.join(".new-node-3")).expect("half a run");
    assert_eq!(found("node", args(None, false)).as_deref(), Some("runs/node-2"));
    assert_eq!(
        found("node", args(None, true)).as_deref(),
        Some("runs/node-1"),
        "a log in both places is one"
    );
    assert_eq!(found("other", args(None, true)), None);
    assert_eq!(found("node", args(Some("node-1"), false)).as_deref(), Some("runs/node-1"));
    assert_eq!(found("node", args(Some("0123456789abcdef"), false)).as_deref(), Some("runs/node-2"));
    assert_eq!(found("node", args(Some("other-1"), false)), None);
    assert!(runs_of(&[runs.path().join("none")], &builder("node")).expect("no folder").is_empty());
}

#[test]
fn the_run_before_the_last_is_the_first_record_while_a_run_is_in_progress() {
    let history: Vec<_> = ["b", "a"].map(|id| json!({"id": id, "result": "Failed"})).into();
    let id = |phase: &str, args: Args| {
        let status = json!({"jobStatus": phase, "history": history});
        let status = serde_json::from_value(status).expect("a status");
        recorded_run(&args, &status).map(|run| run.id.clone())
    };
    assert_eq!(id("Running", args(None, true)).as_deref(), Some("b"));
    assert_eq!(id("Failed", args(None, true)).as_deref(), Some("a"));
    assert_eq!(id("Failed", args(None, false)).as_deref(), Some("b"));
    assert_eq!(id("Failed", args(Some("node-a"), false)).as_deref(), Some("a"));
    assert_eq!(id("Failed", args(Some("c"), false)), None);
    assert_eq!(run_name("node", "0123456789abcdef"), "node-0123456789abcdef");
    assert_eq!(run_name("node", "node-1"), "node-1");
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
