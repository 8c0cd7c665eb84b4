//! Tests of the runner through its interface to an engine: a directory, a process, files. Packer is a shell script
//! that prints recorded output of the real one (`stub`), or the real one (`real`).

#![expect(clippy::disallowed_methods, reason = "tests start processes, and poll until a state is reached")]

mod container;
mod leftovers;
mod outcomes;
mod real;
mod stopping;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use opsy_runner::request::{self, Report, Request, Step};

pub const RUNNER: &str = env!("CARGO_BIN_EXE_opsy-runner");

/// Long enough for a loaded machine; a test that waits longer has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// The artifact lines that a build of one image prints, as shell commands.
pub const ARTIFACT: &str = r"
echo '1795370402,amazon-ebs.node,artifact-count,2'
echo '1795370402,amazon-ebs.node,artifact,0,builder-id,mitchellh.amazonebs'
echo '1795370402,amazon-ebs.node,artifact,0,id,us-east-1:ami-aee825b876bf72c2a'
echo '1795370402,amazon-ebs.node,artifact,0,end'
echo '1795370402,amazon-ebs.node,artifact,1,id,us-east-1:ami-aee825b876bf72c2a'
echo '1795370402,amazon-ebs.node,artifact,1,end'
";

/// The directory of a run, and the stub executable next to it.
pub struct Bed {
    root: tempfile::TempDir,
    pub request: Request,
}

impl Bed {
    /// Uses a shell script as Packer: `init` and `validate` succeed, and `build` runs `body`. `$ROOT` is the
    /// directory of the bed, and every call is recorded in `calls`.
    pub fn stub(body: &str) -> Self {
        let bed = Self::new("stub");
        let script = format!(
            "#!/bin/sh\nROOT='{root}'\necho \"$*\" >> $ROOT/calls\n[ \"$1\" = build ] || exit 0\n{body}\n",
            root = bed.root.path().display()
        );
        bed.write("stub", &script, 0o755);
        bed
    }

    /// Uses a real Packer: a path, or a name that is looked up in PATH.
    pub fn real(packer: &str) -> Self {
        Self::new(packer)
    }

    fn new(packer: &str) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(root.path().join("run").join(request::WORK)).expect("a run directory");
        let packer =
            if packer == "stub" { root.path().join("stub").display().to_string() } else { packer.to_owned() };
        let steps = [request::Command::Init, request::Command::Validate, request::Command::Build];
        let request = Request {
            packer,
            steps: steps
                .into_iter()
                .map(|command| Step { command, args: vec![".".into()], dir: None })
                .collect(),
            env: [].into(),
            secrets: vec![],
            secrets_dir: None,
            limit_seconds: 600,
            grace_seconds: 60,
            defaults: [].into(),
            plugins: None,
        };
        Self { root, request }
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn dir(&self) -> PathBuf {
        self.root.path().join("run")
    }

    pub fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.root().join(name);
        fs::write(&path, text).expect("a file in the bed");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
    }

    /// Returns the contents of a file in the bed, or an empty string if it does not exist.
    pub fn read(&self, name: &str) -> String {
        fs::read(self.root().join(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub fn log(&self) -> String {
        self.read("run/packer.log")
    }

    pub fn builds(&self) -> usize {
        self.read("calls").lines().filter(|call| call.starts_with("build")).count()
    }

    /// Writes the request and returns the command that runs it.
    pub fn command(&self) -> Command {
        let request = serde_json::to_string(&self.request).expect("a request");
        self.write("run/request.json", &request, 0o600);
        let mut command = Command::new(RUNNER);
        command.arg("run").arg(self.dir()).stdin(Stdio::null());
        command
    }

    pub fn start(&self) -> Running {
        Running(self.command().spawn().expect("the runner starts"))
    }

    pub fn run(&self) -> Output {
        self.command().output().expect("the runner runs")
    }

    /// Runs to completion and returns the report, after checking its size and the exit code of the runner.
    pub fn report_of_run(&self) -> Report {
        let output = self.run();
        assert!(self.dir().join(request::RESULT).exists(), "no result: {output:?}");
        let report = self.report();
        let succeeded = report.outcome == request::Outcome::Succeeded;
        assert_eq!(output.status.code(), Some(i32::from(!succeeded)), "{output:?}\n{report:?}");
        report
    }

    pub fn report(&self) -> Report {
        let size = fs::metadata(self.dir().join(request::RESULT)).map(|m| m.len()).unwrap_or_default();
        assert!((1..4096).contains(&size), "a result of {size} bytes; log:\n{}", self.log());
        opsy_runner::read_report(&self.dir()).expect("a readable report").expect("a report")
    }

    /// Waits until a file in the bed contains `text`.
    pub fn until_file(&self, name: &str, text: &str) {
        until(&format!("{name} contains {text:?}"), || self.read(name).contains(text));
    }

    /// Returns the process ID that a stub wrote to a file.
    pub fn pid(&self, name: &str) -> i32 {
        until(&format!("a process id in {name}"), || self.read(name).ends_with('\n'));
        self.read(name).trim().parse().expect("a process id")
    }
}

/// A running runner; it is killed if the test fails.
pub struct Running(Child);

impl Running {
    pub fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }

    pub fn signal(&self, signal: i32) {
        send(self.pid(), signal);
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        let mut status = None;
        until("the runner's end", || {
            status = self.0.try_wait().expect("its status");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // In a test that passed, it has already exited.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn send(pid: i32, signal: i32) {
    // SAFETY: the signal goes to a process that this test started.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "signal {signal} to {pid}");
}

/// Returns whether a process is running; a zombie is not.
pub fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "timed out waiting for: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
