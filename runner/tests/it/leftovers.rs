//! Second runners, restarts, killed runners, orphaned processes and full disks: nothing runs twice, and nothing is
//! left behind.

use std::fs;

use opsy_runner::request::{Command, Outcome, ResourceKind};

use crate::{ARTIFACT, Bed, runs};

/// A process that outlives its parent in its own session, ignores SIGTERM and keeps the output pipes open.
const ORPHAN: &str = "
setsid sh -c 'trap \"\" TERM; (echo $$ > $0/orphan; while :; do sleep 0.05; done) & sleep 600' $ROOT &
until [ -s $ROOT/orphan ]; do sleep 0.05; done
";

#[test]
fn orphans_are_ended_and_hold_nothing_up() {
    let bed = Bed::stub(&format!("{ORPHAN} {ARTIFACT}"));
    assert_eq!(bed.report_of_run().outcome, Outcome::Succeeded);
    assert!(!runs(bed.pid("orphan")));
    let run = bed.dir().display().to_string();
    let marked = fs::read_dir("/proc").expect("processes").flatten().filter(|entry| {
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environ).contains(&format!("OPSY_RUN_DIR={run}\0"))
    });
    assert_eq!(marked.count(), 0, "processes of the run are still alive");
}

#[test]
fn a_second_runner_touches_nothing() {
    let bed = Bed::stub(&format!("until [ -e $ROOT/go ]; do sleep 0.05; done; {ARTIFACT}"));
    let mut running = bed.start();
    bed.until_file("run/started", "\n");
    let before: Vec<_> = names(&bed);
    let second = bed.run();
    assert_eq!(second.status.code(), Some(3));
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(words.starts_with("opsy-runner: another runner has locked the directory "), "{words}");
    assert_eq!(names(&bed), before);
    bed.write("go", "", 0o600);
    assert_eq!(running.exit_code(), Some(0));
    assert_eq!(bed.builds(), 1);
}

fn names(bed: &Bed) -> Vec<std::ffi::OsString> {
    let mut names: Vec<_> =
        fs::read_dir(bed.dir()).expect("the directory").flatten().map(|entry| entry.file_name()).collect();
    names.retain(|name| name != "progress.json" && name != ".progress.json.part");
    names.sort();
    names
}

#[test]
fn a_finished_run_is_not_run_again() {
    let bed = Bed::stub("exit 1");
    assert_eq!(bed.report_of_run().outcome, Outcome::Failed);
    let before = bed.read("run/result.json");
    assert_eq!(bed.run().status.code(), Some(0));
    assert_eq!(bed.read("run/result.json"), before);
    assert_eq!(bed.builds(), 1);
}

/// The runner is killed during a build. Packer gets SIGTERM, prints more than an unread pipe of the default size
/// can hold, and cleans up, although nothing reads its output.
const CLEANS_UP: &str = r#"
echo '1,,ui,say,==> a.b: Instance ID: i-0502e3594373eef5d'
sh -c 'trap "" TERM; echo $$ > $0/plugin; while :; do sleep 0.05; done' $ROOT &
cleanup() {
  echo told > $ROOT/told
  until [ -e $ROOT/go ]; do sleep 0.05; done
  head -c 200000 /dev/zero | tr '\0' x
  echo cleaned > $ROOT/cleaned
  exit 1
}
trap cleanup TERM
until [ -s $ROOT/plugin ]; do sleep 0.05; done
echo $$ > $ROOT/leader
while :; do sleep 0.05; done
"#;

#[test]
fn a_killed_runner_means_a_cancelled_build_and_a_lost_run() {
    let bed = Bed::stub(CLEANS_UP);
    let mut running = bed.start();
    let (leader, plugin) = (bed.pid("leader"), bed.pid("plugin"));
    bed.until_file("run/announced.jsonl", "i-0502e3594373eef5d");
    running.signal(libc::SIGKILL);
    assert_eq!(running.exit_code(), None);
    bed.until_file("told", "told");
    assert!(!opsy_runner::is_alive(&bed.dir()).expect("a probe"));
    assert_eq!(opsy_runner::read_report(&bed.dir()).expect("readable"), None);

    let mut next = bed.start();
    crate::until("the next runner holds the lock", || opsy_runner::is_alive(&bed.dir()).expect("a probe"));
    bed.write("go", "", 0o600);
    assert_eq!(next.exit_code(), Some(1));
    assert_eq!(bed.read("cleaned"), "cleaned\n", "packer was allowed to finish");
    assert!(!runs(leader) && !runs(plugin), "processes that packer left are killed");
    let report = bed.report();
    assert_eq!((report.outcome, report.command, report.exit), (Outcome::Lost, Some(Command::Build), None));
    assert_eq!(report.resources[0].kind, ResourceKind::Instance);
    assert_eq!(report.errors, ["the runner was killed while packer was building"]);
    assert!(report.started_at > 0);
    assert_eq!(bed.builds(), 1);
}

#[test]
fn a_lost_build_that_does_not_end_is_killed_after_the_grace() {
    let mut bed = Bed::stub("trap '' TERM; echo $$ > $ROOT/leader; while :; do sleep 0.05; done");
    bed.request.grace_seconds = 1;
    let mut running = bed.start();
    let leader = bed.pid("leader");
    running.signal(libc::SIGKILL);
    running.exit_code();
    assert!(runs(leader), "it ignores SIGTERM");
    assert_eq!(bed.report_of_run().outcome, Outcome::Lost);
    assert!(!runs(leader));
}

#[test]
fn a_runner_killed_before_the_build_runs_it_next_time() {
    let bed = Bed::stub(ARTIFACT);
    let stub = bed.read("stub").replace("[ \"$1\" = build ] ||", "[ $1 != validate ] || [ -e $ROOT/go ] || { echo $$ > $ROOT/leader; exec sleep 600; }\n[ $1 = build ] ||");
    bed.write("stub", &stub, 0o755);
    let mut running = bed.start();
    let leader = bed.pid("leader");
    running.signal(libc::SIGKILL);
    running.exit_code();
    bed.write("go", "", 0o600);
    assert_eq!(bed.report_of_run().outcome, Outcome::Succeeded);
    assert!(!runs(leader));
    assert_eq!(bed.builds(), 1);
}

/// The directory is a small file system of its own, which the output fills.
#[test]
fn a_full_disk_costs_the_log_and_not_the_result() {
    let bed = Bed::stub(&format!("yes '1,,ui,say,==> a.b: filling the disk' | head -c 2000000; {ARTIFACT}"));
    bed.command();
    let script = "mount -t tmpfs -o size=256k none \"$1\" && mkdir \"$1/work\" && cp \"$2\" \"$1/request.json\" && \"$3\" run \"$1\"; code=$?; cp \"$1/result.json\" \"$4\"; exit $code";
    fs::rename(bed.dir().join("request.json"), bed.root().join("request.json")).expect("the request");
    let mut command = crate::container::unshared(&["--mount"]);
    command.args(["sh", "-c", script, "sh"]).arg(bed.dir()).arg(bed.root().join("request.json"));
    let output = command.arg(crate::RUNNER).arg(bed.root().join("result.json")).output().expect("unshare");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: opsy_runner::request::Report =
        serde_json::from_str(&bed.read("result.json")).expect("a report");
    assert_eq!((report.outcome, report.artifacts.len()), (Outcome::Succeeded, 1));
}
