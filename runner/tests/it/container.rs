//! The runner as PID 1 of a pod: it handles signals, reaps orphans, writes the termination message and
//! copies the log to standard output.

use std::fs;
use std::process::{Command, Stdio};

use opsy_runner::request::{Outcome, Report};

use crate::{ARTIFACT, Bed, RUNNER, Running, send, until};

/// Returns `unshare` with these namespaces. If the kernel or a sandbox forbids them, a user namespace
/// grants the rights; if that is forbidden too, the test fails with a message.
pub fn unshared(namespaces: &[&str]) -> Command {
    let allowed = |extra: &[&str]| {
        let mut probe = Command::new("unshare");
        probe.args(extra).args(namespaces).arg("true").stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    let rights: &[&str] = if allowed(&[]) { &[] } else { &["--user", "--map-root-user"] };
    assert!(
        allowed(rights),
        "this test needs `unshare {}`, as root or with user namespaces",
        namespaces.join(" ")
    );
    let mut command = Command::new("unshare");
    command.args(rights).args(namespaces);
    command
}

fn as_pid_1(bed: &Bed) -> Command {
    bed.command();
    let mut command = unshared(&["--pid", "--fork", "--mount-proc"]);
    command.arg(RUNNER).arg("run").arg(bed.dir()).env("OPSY_TERMINATION_MESSAGE", bed.root().join("message"));
    command
}

#[test]
fn pid_1_builds_reaps_and_tells() {
    let bed = Bed::stub(&format!(
        "(sh -c 'exit 0' &) ; (setsid sleep 600 &)
         echo '1,,ui,say,==> a.b: for the pod log'
         {ARTIFACT}"
    ));
    let output = as_pid_1(&bed).output().expect("unshare");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let message: Report = serde_json::from_str(&bed.read("message")).expect("a termination message");
    assert_eq!(message, bed.report());
    assert_eq!(message.outcome, Outcome::Succeeded);
    assert!(String::from_utf8_lossy(&output.stdout).contains("==> a.b: for the pod log\n"), "{output:?}");

    fs::remove_file(bed.root().join("message")).expect("the message");
    assert!(as_pid_1(&bed).status().expect("unshare").success());
    assert_eq!(bed.builds(), 1, "a restarted container does not build again");
    assert!(!bed.read("message").is_empty(), "but it writes the result again");
}

#[test]
fn pid_1_takes_sigterm() {
    let bed = Bed::stub(
        "trap 'echo term >> $ROOT/terms; exit 1' TERM
         echo '1,,ui,say,==> a.b: building'; while :; do sleep 0.05; done",
    );
    let mut running = Running(as_pid_1(&bed).stdout(Stdio::null()).spawn().expect("unshare"));
    bed.until_file("run/progress.json", "building");
    let mut runner = None;
    let children = format!("/proc/{0}/task/{0}/children", running.pid());
    until("the runner below unshare", || {
        runner =
            fs::read_to_string(&children).ok().and_then(|pids| pids.split_whitespace().next()?.parse().ok());
        runner.is_some()
    });
    send(runner.expect("waited for"), libc::SIGTERM);
    assert_eq!(running.exit_code(), Some(1));
    assert_eq!((bed.report().outcome, bed.report().exit), (Outcome::Cancelled, Some(1)));
    assert_eq!(bed.read("terms"), "term\n");
}

/// The result is written even if the termination message cannot be written and standard error is closed.
#[test]
fn nobody_listening_costs_nothing() {
    let bed = Bed::stub(ARTIFACT);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = bed.command();
    command
        .env("OPSY_TERMINATION_MESSAGE", bed.root())
        .stdout(writer.try_clone().expect("a pipe"))
        .stderr(writer);
    assert!(command.status().expect("the runner runs").success());
    assert_eq!(bed.report().outcome, Outcome::Succeeded);
}

#[test]
fn a_command_runs_in_its_own_folder_of_the_repository() {
    let mut bed = Bed::stub(&format!("pwd > $ROOT/where; {ARTIFACT}"));
    std::fs::create_dir_all(bed.dir().join("work/packer/web")).expect("a directory");
    for step in &mut bed.request.steps {
        step.dir = Some("packer/web".into());
    }
    assert_eq!(bed.report_of_run().outcome, Outcome::Succeeded);
    assert!(bed.read("where").ends_with("/run/work/packer/web\n"), "{}", bed.read("where"));
}
