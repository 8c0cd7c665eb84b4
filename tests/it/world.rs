//! The environment of one test: an AWS account, a Git remote and a state directory. Opsy starts as users start it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::Value;

use crate::bed::{Account, bed, wait_for};
use crate::files::files_in;
pub use crate::files::{copy, files_with, fixture, fixtures, script_template, template};
use crate::git::bed::{Bed as GitServer, git_of, printed};
use crate::packers::Packer;
pub use crate::processes::kill;
use crate::processes::{self, pid};

/// Builds and rollouts in the emulated AWS take seconds, and longer on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(120);

pub struct World {
    pub account: Account,
    /// IDs of the seeded resources.
    pub seed: Value,
    /// The Git server of the remote; `None` if the remote is a path.
    pub server: Option<GitServer>,
    /// The Packer that builds use.
    packer: Packer,
    root: tempfile::TempDir,
}

/// The exit status and output of a command.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl World {
    /// A seeded account, and a remote with the repository `fixtures/repo`.
    pub fn new() -> Self {
        let world = Self::empty();
        world.push_folder(&fixtures().join("repo"), "policy: first");
        world
    }

    /// A seeded account and an empty remote.
    pub fn empty() -> Self {
        let (account, seed) = Account::seeded();
        // The update of a node group takes an emulated minute: two seconds at this speed.
        account.post("clock", serde_json::json!({ "speed": 30 }));
        let root = tempfile::tempdir().expect("a temporary directory");
        let world = Self { account, seed, server: None, packer: Packer::Old, root };
        world.restrict(&[]);
        world.git(world.root.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "remote.git"]);
        world
    }

    /// Uses this Packer for builds, with the IAM policies that it needs.
    pub fn build_with(&mut self, packer: Packer) {
        self.packer = packer;
        self.restrict(&[]);
    }

    /// Attaches another policy of `deploy/iam/optional` to the agent.
    pub fn allow(&self, policy: &str) {
        self.restrict(&[&format!("optional/{policy}.json")]);
    }

    /// The access key of a user with this policy of `deploy/iam` alone.
    pub fn key_with(&self, file: &str) -> String {
        self.account.key_with(file, &self.seed)
    }

    fn restrict(&self, further: &[&str]) {
        let (agent, build) = self.packer.policies();
        self.account.restrict(&self.seed, &[agent, further].concat(), build);
    }

    /// A seeded account and an empty remote on a Git server, which requires one of these `user:password` lines, if any.
    pub fn served(credentials: Option<&str>) -> Self {
        let server = credentials.map_or_else(GitServer::start, GitServer::guarded);
        let mut world = Self::empty();
        world.server = Some(server);
        world
    }

    /// The path of the remote, to which people push.
    pub fn remote(&self) -> PathBuf {
        let path = |server: &GitServer| server.remote().path().to_owned();
        self.server.as_ref().map_or_else(|| self.root.path().join("remote.git"), path)
    }

    /// The directory of this test.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    /// Commits a copy of a directory and pushes it.
    pub fn push_folder(&self, folder: &Path, message: &str) {
        let files = files_in(folder, folder);
        let files: Vec<(&str, Option<&str>)> =
            files.iter().map(|(path, text)| (path.as_str(), Some(text.as_str()))).collect();
        self.push(&files, message);
    }

    /// Commits files on top of the remote's newest commit and pushes them, as a person does; `None` deletes a file.
    pub fn push(&self, files: &[(&str, Option<&str>)], message: &str) -> String {
        self.push_with(message, |dir| {
            for (path, text) in files {
                let path = dir.join(path);
                fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
                match text {
                    Some(text) => fs::write(&path, text).expect("a file"),
                    None => fs::remove_file(&path).expect("a file to delete"),
                }
            }
            self.git(dir, &["add", "--all"]);
        })
    }

    /// Commits what `stage` adds to the index in a checkout of the newest commit, and pushes it.
    pub fn push_with(&self, message: &str, stage: impl FnOnce(&Path)) -> String {
        let checkout = tempfile::tempdir_in(self.root.path()).expect("a temporary directory");
        let dir = checkout.path();
        self.git(dir, &["clone", "--quiet", self.remote().to_str().expect("UTF-8"), "."]);
        self.git(dir, &["checkout", "--quiet", "-B", "main"]);
        stage(dir);
        self.git(dir, &["commit", "--quiet", "--message", message]);
        wait_for("the push to be accepted", DEADLINE, || self.pushed(dir).then_some(()));
        self.git(dir, &["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Pushes, and returns whether it succeeded. A push that lost a race against Opsy's own is rebased for the next try.
    fn pushed(&self, dir: &Path) -> bool {
        let push = self.git_command(dir).args(["push", "--quiet", "origin", "HEAD:main"]).output();
        let push = push.expect("git runs");
        let errors = String::from_utf8_lossy(&push.stderr);
        let lost = ["cannot lock ref", "fetch first", "non-fast-forward"];
        assert!(
            push.status.success() || lost.iter().any(|words| errors.contains(words)),
            "git push: {errors}"
        );
        if !push.status.success() {
            self.git(dir, &["pull", "--quiet", "--rebase", "origin", "main"]);
        }
        push.status.success()
    }

    /// Replaces a string in one file of the remote.
    pub fn edit(&self, path: &str, from: &str, to: &str, message: &str) -> String {
        let text = self.show(path).unwrap_or_else(|| panic!("{path} is not in the remote"));
        assert!(text.contains(from), "{path} does not contain {from:?}");
        self.push(&[(path, Some(&text.replace(from, to)))], message)
    }

    /// A file at the remote's tip.
    pub fn show(&self, path: &str) -> Option<String> {
        let output = self.git_command(&self.remote()).args(["show", &format!("main:{path}")]).output();
        let output = output.expect("git runs");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Subjects of the remote's commits, newest first.
    pub fn log(&self) -> Vec<String> {
        let log = self.git(&self.remote(), &["log", "--format=%s", "main"]);
        log.lines().map(str::to_owned).collect()
    }

    pub fn amis(&self) -> Value {
        let text = self.show("status/amis.json").unwrap_or_else(|| "null".into());
        serde_json::from_str(&text).expect("amis.json is JSON")
    }

    /// A condition of an object: its status, reason and message.
    pub fn condition(&self, kind: &str, name: &str, condition: &str) -> Option<[String; 3]> {
        let status = self.status(kind, name)?;
        let found = status["conditions"].as_array()?.iter().find(|c| c["type"] == condition)?;
        Some(["status", "reason", "message"].map(|part| found[part].as_str().unwrap_or("-").to_owned()))
    }

    /// Reason and message of the condition Ready of an object.
    pub fn ready(&self, kind: &str, name: &str) -> (String, String) {
        let [_, reason, message] = self.condition(kind, name, "Ready").unwrap_or_default();
        (reason, message)
    }

    /// Why each run of a builder started, and its result, newest first.
    pub fn history(&self, name: &str) -> Vec<(String, String)> {
        let status = self.status("PackerBuilder", name).unwrap_or_default();
        let history = status["history"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        history.map(|run| (text(&run["why"]), text(&run["result"]))).collect()
    }

    /// Results of the runs of a builder, newest first.
    pub fn results(&self, name: &str) -> Vec<String> {
        self.history(name).into_iter().map(|(_, result)| result).collect()
    }

    /// The message of the condition of the repository with this reason, in the agent's saved state.
    pub fn saved_condition(&self, reason: &str) -> Option<String> {
        let memory = fs::read(self.state().join("memory.json")).ok()?;
        let memory: Value = serde_json::from_slice(&memory).ok()?;
        let found = memory["conditions"].as_array()?.iter().find(|found| found["reason"] == reason)?;
        Some(found["message"].as_str()?.to_owned())
    }

    pub fn git(&self, dir: &Path, args: &[&str]) -> String {
        printed(self.git_command(dir).args(args))
    }

    fn git_command(&self, dir: &Path) -> Command {
        git_of(dir, ("Platform Team", "platform@example.com"))
    }

    /// The address of the remote, as passed to Opsy.
    fn address(&self) -> OsString {
        self.server.as_ref().map_or_else(|| self.remote().into(), |server| server.url().into())
    }

    /// `opsy` with the environment of this test.
    pub fn opsy(&self) -> Command {
        let mut opsy = Command::new(env!("CARGO_BIN_EXE_opsy"));
        opsy.envs(self.account.env())
            .env("OPSY_BUILD_AWS_ACCESS_KEY_ID", self.account.packers_key())
            .env("OPSY_BUILD_AWS_SECRET_ACCESS_KEY", "emulated-too")
            .env("PKR_VAR_endpoint", &bed().endpoint)
            .env("OPSY_REPO", self.address())
            .env("OPSY_STATE", self.state())
            .env("OPSY_OUTPUT", "json")
            .env("OPSY_INTERVAL", "1s")
            .current_dir(self.root.path())
            .stdin(Stdio::null());
        self.packer.choose(&mut opsy);
        opsy
    }

    /// Runs `opsy` with these arguments to its end.
    pub fn run(&self, args: &[&str]) -> Outcome {
        let mut opsy = self.opsy();
        opsy.args(args);
        run(opsy)
    }

    /// Runs `opsy run --once` to its end.
    pub fn once(&self) -> Outcome {
        self.once_with(&[])
    }

    /// Runs `opsy run --once` with these variables to its end.
    pub fn once_with(&self, variables: &[(&str, &str)]) -> Outcome {
        let mut opsy = self.opsy();
        opsy.args(["run", "--once"]).envs(variables.iter().copied());
        run(opsy)
    }

    /// A running agent, killed when dropped.
    pub fn agent(&self) -> Agent {
        self.start(self.opsy())
    }

    /// Starts an agent by this command.
    pub fn start(&self, opsy: Command) -> Agent {
        self.start_logged(opsy, &self.agent_log())
    }

    /// Starts an agent by this command, with this log.
    pub fn start_logged(&self, mut opsy: Command, log: &Path) -> Agent {
        let log = fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        opsy.arg("run").stdout(Stdio::null()).stderr(log);
        Agent(opsy.spawn().expect("opsy starts"))
    }

    pub fn agent_log(&self) -> PathBuf {
        self.root.path().join("agent.log")
    }

    /// The status of an object, as `opsy status` prints it.
    pub fn status(&self, kind: &str, name: &str) -> Option<Value> {
        let all = self.run(&["status", "--output", "json"]).stdout;
        let all: Value = serde_json::from_str(&all).ok()?;
        let found = all.as_array()?.iter().find(|o| o["kind"] == kind && o["name"] == name);
        found.map(|object| object["status"].clone())
    }

    /// Waits for this field in a log of an agent, and returns its value.
    pub fn logged(&self, log: &Path, field: &str) -> String {
        self.wait(&format!("{field} in the log"), || {
            let log = fs::read_to_string(log).ok()?;
            let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find_map(|line| line[field].as_str().map(str::to_owned))
        })
    }

    /// Waits for a condition. On a timeout, panics with the state of AWS, the Git log and the end of the agent's log.
    pub fn wait<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_for(what, DEADLINE, look)));
        shown.unwrap_or_else(|_| {
            let log = fs::read_to_string(self.agent_log()).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            panic!("{what}\nstate: {:#}\nlog: {:#?}\nagent:\n{tail}", self.account.state(), self.log())
        })
    }

    /// ID and tag `status` of each image of Opsy.
    pub fn our_images(&self) -> Vec<(String, String)> {
        let state = self.account.state();
        let images = state["images"].as_array().expect("images").iter();
        images
            .filter(|image| image["tags"]["brought-to-you-by"] == "opsy-the-ami-operator")
            .map(|image| {
                let status = image["tags"]["status"].as_str().unwrap_or("-").to_owned();
                (image["id"].as_str().expect("an id").to_owned(), status)
            })
            .collect()
    }

    /// The image that is tagged active, if there is exactly one.
    pub fn active_image(&self) -> Option<String> {
        let images = self.our_images();
        let mut active = images.into_iter().filter(|(_, status)| status == "active");
        match (active.next(), active.next()) {
            (Some((id, _)), None) => Some(id),
            _ => None,
        }
    }

    /// Processes of this test's builds: the runners, and the processes that they started.
    pub fn build_processes(&self) -> (Vec<u32>, Vec<u32>) {
        processes::of_builds(&self.state())
    }

    /// A node group of cluster `demo`.
    pub fn group(&self, name: &str) -> Value {
        let state = self.account.state();
        let groups = state["node_groups"].as_array().expect("node groups");
        groups.iter().find(|group| group["name"] == name).cloned().unwrap_or(Value::Null)
    }
}

impl Drop for World {
    /// Builds outlive the agent by design, but must not outlive a failed test.
    fn drop(&mut self) {
        let (runners, others) = self.build_processes();
        kill(&[runners, others].concat());
    }
}

/// Runs a command to its end, within `DEADLINE`.
pub fn run(command: Command) -> Outcome {
    run_within(DEADLINE, command)
}

/// Runs a command to its end, within this deadline.
pub fn run_within(deadline: Duration, mut command: Command) -> Outcome {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
    let id = child.id();
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    let start = Instant::now();
    let output = receive.recv_timeout(deadline).unwrap_or_else(|_| {
        kill(&[id]);
        panic!("{command:?} did not end within {:?}", start.elapsed())
    });
    let output = output.expect("output");
    Outcome {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A running agent.
pub struct Agent(Child);

impl Agent {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn kill(mut self) {
        self.0.kill().expect("a running agent");
        self.0.wait().expect("the exit status");
    }

    /// Waits until the agent ends by itself, and returns its exit status.
    pub fn ended(mut self) -> ExitStatus {
        self.0.wait().expect("the exit status")
    }

    /// Sends SIGTERM, and returns the exit status.
    pub fn stop(mut self) -> ExitStatus {
        kill_process(pid(self.0.id()), Signal::TERM).expect("the agent is running");
        self.0.wait().expect("the exit status")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
