//! What each command prints on one fixed world without an agent, a cluster or AWS, and the help of all commands, as one
//! golden file. `INSTA_UPDATE=always cargo test --test it output::` writes it again after an intended change.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::bed::wait_for;
use crate::files::{copy, fixtures};
use crate::git::bed::{git_of, printed};
use crate::processes::pid;
use crate::terminal::Terminal;
use crate::world::{DEADLINE, run};

const ACTIVE: &str = "ami-00000000000000002";
const FORMER: &str = "ami-00000000000000001";
const BASE: &str = "ami-0000000000000000b";
const BUILD: &str = "2222222222222222";
const FORMER_BUILD: &str = "1111111111111111";

/// A state directory and a repository. Nothing in them depends on the time or the machine.
struct Fixed {
    root: tempfile::TempDir,
    commit: String,
}

impl Fixed {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let repo = root.path().join("repo");
        copy(&fixtures().join("repo"), &repo);
        let git = |args: &[&str]| {
            let mut git = git_of(&repo, ("Ada", "ada@example.com"));
            for who in ["AUTHOR", "COMMITTER"] {
                git.env(format!("GIT_{who}_DATE"), "2026-01-01T00:00:00Z");
            }
            printed(git.args(args))
        };
        git(&["init", "--quiet", "--initial-branch=main"]);
        git(&["add", "--all"]);
        git(&["commit", "--quiet", "--message", "packer: newer kernel"]);
        let commit = git(&["rev-parse", "HEAD"]).trim().to_owned();
        let fixed = Self { root, commit };
        fixed.store();
        fixed
    }

    fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    fn store(&self) {
        let last = json!({"commit": self.commit, "source": "https://git.example.com/images.git"});
        let refused = json!({"type": "Published", "status": "False", "reason": "PushRefused", "message": "main is protected"});
        self.write("memory.json", &json!({"last": last, "conditions": [refused]}));
        let node = json!({"team": "web"});
        self.write(
            "objects/PackerBuilder/default/node.json",
            &stored(&node, json!({}), node_status(&self.commit)),
        );
        let edge = stored(&json!({"team": "data"}), json!({}), edge_status(&self.commit));
        self.write("objects/PackerBuilder/default/edge.json", &edge);
        let waves = json!([{"name": "canary", "nodeGroups": ["web"]}, {"name": "prod", "nodeGroups": ["*"], "approval": "Required"}]);
        let spec =
            json!({"clusterName": "demo", "amiFrom": {"packerBuilder": "node"}, "rollout": {"waves": waves}});
        self.write("objects/AMIRefresher/default/demo.json", &stored(&node, spec, demo_status()));
        let spec = json!({"clusterName": "test", "amiFrom": {"packerBuilder": "node"}});
        self.write("objects/AMIRefresher/default/test.json", &stored(&json!({}), spec, test_status()));
        for (build, day, text) in [(FORMER_BUILD, 1, "the first build\n"), (BUILD, 2, "the second build\n")] {
            let facts = json!({
                "builder": {"namespace": "default", "name": "node"}, "build": build, "region": "us-east-1", "inputs": {},
                "why": "Template", "commit": self.commit, "createdAt": format!("2026-01-0{day}T00:00:00Z"),
            });
            self.write(&format!("logs/node-{build}/facts.json"), &facts);
            fs::write(self.state().join(format!("logs/node-{build}/packer.log")), text).expect("a log");
        }
    }

    fn write(&self, path: &str, value: &Value) {
        let path = self.state().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, value.to_string()).expect("a file");
    }

    fn opsy(&self, line: &str) -> Command {
        let mut opsy = Command::new(env!("CARGO_BIN_EXE_opsy"));
        opsy.args(line.split_whitespace()).current_dir(self.root.path().join("repo")).stdin(Stdio::null());
        opsy.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        opsy.env("HOME", self.root.path()).env("OPSY_STATE", self.state());
        // There are no AWS credentials, and the machine of the test is not asked for any.
        opsy.env("AWS_EC2_METADATA_DISABLED", "true");
        opsy
    }

    /// Runs a command line, and returns it with its exit code and its output.
    fn transcript(&self, line: &str) -> String {
        let outcome = run(self.opsy(line));
        let code = outcome.status.code().expect("an exit code");
        self.masked(&format!("$ opsy {line}\n{}{}[exit code {code}]\n\n", outcome.stdout, outcome.stderr))
    }

    /// Output, up to a line: of a long document, only the beginning is of the command line.
    fn begins(&self, line: &str, lines: usize) -> String {
        let all = self.transcript(line);
        all.lines().take(lines + 1).map(|line| format!("{line}\n")).collect::<String>() + "[…]\n\n"
    }

    /// The text without what depends on the machine, the time and the fixtures, but with the same layout.
    fn masked(&self, text: &str) -> String {
        let text = text.replace(self.root.path().to_str().expect("UTF-8"), "<root>");
        let commits = [40, 12, 9].into_iter().fold(text, |text, length| {
            text.replace(&self.commit[..length], &"0123456789abcdef0123456789abcdef01234567"[..length])
        });
        let now = |line: &str| match line.split_once(", without AWS, at ") {
            Some((before, _)) => format!("{before}, without AWS, at <now>\n"),
            None => format!("{line}\n"),
        };
        commits.lines().map(now).collect()
    }
}

fn stored(labels: &Value, spec: Value, status: Value) -> Value {
    json!({
        "generation": 1, "version": 1, "spec": spec, "annotations": null, "labels": labels, "status": status,
        "file": "manifest.yaml", "created": "2026-01-01T00:00:00Z",
    })
}

fn ready(status: &str, reason: &str, message: &str) -> Value {
    json!([{"type": "Ready", "status": status, "reason": reason, "message": message}])
}

fn node_status(commit: &str) -> Value {
    let run = |id: &str, day: u8, image: &str| {
        json!({
            "id": id, "result": "Succeeded", "why": "Template", "commit": commit, "inputs": {"baseAMI": BASE},
            "images": [image], "startedAt": format!("2026-01-0{day}T00:00:00Z"),
            "endedAt": format!("2026-01-0{day}T00:05:00Z"),
        })
    };
    json!({
        "conditions": ready("True", "ImageReady", "the image is active"), "jobStatus": "Succeeded", "buildID": BUILD,
        "images": [{"region": "us-east-1", "architecture": "x86_64", "id": ACTIVE, "name": "node-2"}],
        "lastRun": "2026-01-02T00:05:00Z", "lastRunStatus": "Succeeded", "lastRunBaseImageID": BASE,
        "lastRunBuiltImageID": ACTIVE, "history": [run(BUILD, 2, ACTIVE), run(FORMER_BUILD, 1, FORMER)],
    })
}

fn edge_status(commit: &str) -> Value {
    let facts = json!({
        "build": "4444444444444444", "region": "us-east-1", "why": "Retry", "commit": commit,
        "createdAt": "2026-01-03T01:00:00Z",
    });
    let failed = json!({
        "id": "3333333333333333", "result": "Failed", "why": "Missing", "commit": commit, "step": "build",
        "errors": ["Script exited with non-zero exit status: 7"], "startedAt": "2026-01-03T00:00:00Z",
        "endedAt": "2026-01-03T00:01:00Z",
    });
    json!({
        "conditions": ready("False", "BuildFailed", "the build failed;\nit is tried again"), "jobStatus": "Running",
        "buildID": "4444444444444444", "jobFacts": facts, "history": [failed],
    })
}

fn demo_status() -> Value {
    let group = |name: &str, wave: &str, image: &str, state: &str| json!({"name": name, "kind": "Managed", "wave": wave, "currentAMI": image, "state": state});
    let moved = json!({"name": "web", "wave": "canary", "previousAMI": FORMER, "startedAt": "2026-01-02T01:00:00Z",
               "finishedAt": "2026-01-02T01:10:00Z"});
    let waves = json!([
        {"name": "canary", "state": "Done", "updated": 1, "total": 1, "startedAt": "2026-01-02T01:00:00Z",
         "finishedAt": "2026-01-02T01:10:00Z"},
        {"name": "prod", "state": "Waiting", "updated": 0, "total": 1, "reason": "waits for an approval"},
    ]);
    let former = json!({
        "id": "r1", "target": FORMER, "result": "Done", "startedAt": "2026-01-01T01:00:00Z",
        "finishedAt": "2026-01-01T01:20:00Z",
        "groups": [{"name": "web", "previousAMI": BASE, "targetAMI": FORMER, "result": "Done", "duration": "10m"}],
    });
    json!({
        "conditions": ready("False", "WaveWaiting", "wave \"prod\" waits for an approval"), "targetAMI": ACTIVE, "drifted": 1,
        "lastRun": "2026-01-01T01:20:00Z", "lastRunStatus": "Done",
        "nodeGroups": [group("web", "canary", ACTIVE, "Current"), group("batch", "prod", FORMER, "Pending")],
        "rollout": {"id": "r2", "target": ACTIVE, "startedAt": "2026-01-02T01:00:00Z", "groups": [moved], "waves": waves},
        "history": [former],
    })
}

/// The status of a refresher that holds the active image, and is back at the one before it.
fn test_status() -> Value {
    let why = "web: 1 of 2 nodes is not ready";
    let message = format!("{ACTIVE} is held since its rollout failed: {why}");
    json!({
        "conditions": ready("False", "ImageHeld", &message), "targetAMI": FORMER, "drifted": 0,
        "lastRun": "2026-01-02T02:00:00Z", "lastRunStatus": "RolledBack",
        "nodeGroups": [{"name": "web", "kind": "Managed", "currentAMI": FORMER, "state": "Current"}],
        "held": [{"ami": ACTIVE, "reason": why, "since": "2026-01-02T01:30:00Z"}],
    })
}

/// The command lines that read, and then those that request something.
const LINES: &[&str] = &[
    "status",
    "status -o wide",
    "status -o json ar/demo",
    "status -o json pb/node",
    "status -o yaml pb/edge",
    "status -o name",
    "status builders -l team!=web",
    "status pb/node pb/none",
    "status -l team=none",
    "status -l team>none",
    "history pb/node",
    "history pb/edge",
    "history ar/demo",
    "history pb/edge -o yaml",
    "history pb/none",
    "tree",
    "tree ar/demo",
    "check --repo images --interval 1m",
    "trace ami-00000000000000002",
    "trace ami-00000000000000001",
    "trace ami-00000000000000001 -o json",
    "trace ami-00000000000000009",
    "trace ami-00000000000000009 --offline",
    "trace i-0000000000000000a --offline",
    "trace node/ip-10-0-0-1 --region eu-west-1",
    "logs pb/node",
    "logs pb/node --previous",
    "logs pb/node --run 1111111111111111",
    "logs pb/edge",
    "logs ar/demo",
    "validate .",
    "validate nowhere",
    "plan --offline --repo https://git.example.com/images.git",
    "plan --base nowhere --offline",
    "reconcile pb/node",
    "reconcile node",
    "suspend pb/node",
    "resume pb/node",
    "cancel pb/node",
    "cancel pb/edge",
    "approve ar/demo prod",
    "approve ar/demo prd",
    "rollback ar/demo --dry-run --repo .",
    "accept main",
    "accept 0123456789abcdef0123456789abcdef01234567",
    "status --state nowhere --context none",
    "unknown",
];

/// A process that ends with the test.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_watch_prints_what_changes_until_it_is_interrupted() {
    let fixed = Fixed::new();
    let [file, errors] = ["watch", "errors"].map(|name| fixed.root.path().join(name));
    let mut opsy = fixed.opsy("status pb/node pb/later --watch");
    opsy.stdout(File::create(&file).expect("a file"));
    opsy.stderr(File::create(&errors).expect("a file"));
    let mut watching = Watching(opsy.spawn().expect("opsy starts"));
    let shown = || fs::read_to_string(&file).expect("the output");
    let line = |text: &str| shown().contains(text).then_some(());
    wait_for("the first state", DEADLINE, || line("PackerBuilder/default/node  Ready=True ImageReady: "));
    let failed = json!({"conditions": ready("False", "BuildFailed", "no space")});
    let later = stored(&json!({}), json!({}), failed);
    fixed.write("objects/PackerBuilder/default/later.json", &later);
    wait_for("the new object", DEADLINE, || {
        line("PackerBuilder/default/later  Ready=False BuildFailed: no space\n")
    });
    let [objects, aside] = ["objects/PackerBuilder", "aside"].map(|path| fixed.state().join(path));
    fs::rename(&objects, &aside).expect("renamed");
    fs::write(&objects, "").expect("written");
    let reported = || fs::read_to_string(&errors).expect("the errors");
    wait_for("the failed read", DEADLINE, || (!reported().is_empty()).then_some(()));
    fs::remove_file(&objects).expect("removed");
    fs::rename(&aside, &objects).expect("renamed");
    fs::remove_file(fixed.state().join("objects/PackerBuilder/default/later.json")).expect("removed");
    wait_for("its end", DEADLINE, || line("PackerBuilder/default/later  deleted\n"));
    assert_eq!(shown().lines().count(), 3, "what has not changed is printed once: {}", shown());
    let reported = reported();
    let [failure, end] = reported.lines().collect::<Vec<_>>()[..] else { panic!("{reported}") };
    assert!(
        failure.starts_with("opsy: the status cannot be read, and is read again every 2 s: "),
        "{reported}"
    );
    assert_eq!(end, "opsy: the status can be read again");
    // A test that runs in the background inherits that SIGINT is ignored.
    kill_process(pid(watching.0.id()), Signal::TERM).expect("it is running");
    let status = watching.0.wait().expect("its end");
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
}

#[test]
fn a_watch_on_a_terminal_shows_what_builds_and_rollouts_wait_for() {
    let fixed = Fixed::new();
    let mut terminal = Terminal::start(fixed.opsy("status --watch"), 40, 100);
    let shown = |terminal: &Terminal, what: &str, parts: &[&str]| {
        terminal.wait_for_row(what, |row| parts.iter().all(|part| row.contains(part)));
    };
    shown(&terminal, "the numbers", &["1 in sync, 3 not ready"]);
    shown(&terminal, "the build", &["  pb/edge  running  ", " h "]);
    shown(
        &terminal,
        "the rollout",
        &["  ar/demo  waiting  ", " h ", "  1/2 node groups, waits for an approval"],
    );
    let mut later = node_status(&fixed.commit);
    later["jobStatus"] = "Running".into();
    later["command"] = "validate".into();
    later["jobFacts"] = edge_status(&fixed.commit)["jobFacts"].take();
    fixed.write("objects/PackerBuilder/default/later.json", &stored(&json!({}), json!({}), later));
    shown(&terminal, "the usual time", &["  pb/later  validate  ", " (usually 5 min)"]);
    terminal.press_ctrl_c();
    let end = terminal.end();
    assert!(
        end.lines.iter().any(|line| line.starts_with("default/later  True   ImageReady")),
        "{:#?}",
        end.lines
    );
    assert_eq!(end.status.code(), Some(130));
}

/// The commands that the help lists.
fn commands(help: &str) -> Vec<String> {
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    listed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn the_output_of_all_commands_is_as_in_the_golden_file() {
    let fixed = Fixed::new();
    let mut text: String = LINES.iter().map(|line| fixed.transcript(line)).collect();
    text += &fixed.begins("crds", 3);
    text += &fixed.begins("completion bash", 3);
    text += &fixed.begins("man", 5);
    let help = fixed.transcript("--help");
    let commands = commands(&help);
    assert!(commands.len() > 15 && commands.contains(&"help".to_owned()), "{commands:?}");
    text += &help;
    for command in commands.iter().filter(|command| *command != "help") {
        text += &fixed.transcript(&format!("{command} --help"));
    }
    insta::assert_snapshot!(text);
}
