//! Stopping a build: one SIGTERM to Packer's first process, a grace period for the cleanup, then SIGKILL.

use opsy_runner::request::Outcome;

use crate::{ARTIFACT, Bed, runs, until};

/// A Packer that cleans up on SIGTERM: `$ROOT/terms` records the signals to its first process,
/// `$ROOT/child-terms` those to a process that it started.
const TIDY: &str = r#"
sh -c 'trap "echo term >> $0/child-terms" TERM; echo $$ > $0/child; while :; do sleep 0.05; done' $ROOT &
trap 'echo term >> $ROOT/terms' TERM
until [ -s $ROOT/child ]; do sleep 0.05; done
echo '1,,ui,say,==> a.b: building'
until [ -e $ROOT/terms ]; do sleep 0.05; done
echo '1,,ui,say,Cancelling build after receiving terminated'
until [ -e $ROOT/second ]; do sleep 0.05; done
echo '1,,ui,say,Cleanly cancelled builds after being interrupted.'
until [ -e $ROOT/end ]; do sleep 0.05; done
"#;

#[test]
fn sigterm_reaches_the_first_process_once() {
    let bed = Bed::stub(&format!("{TIDY} exit 1"));
    let mut running = bed.start();
    bed.until_file("run/progress.json", "building");
    running.signal(libc::SIGTERM);
    bed.until_file("run/progress.json", "Cancelling");
    running.signal(libc::SIGTERM);
    running.signal(libc::SIGINT);
    bed.write("second", "", 0o600);
    bed.until_file("run/progress.json", "Cleanly cancelled");
    bed.write("end", "", 0o600);
    assert_eq!(running.exit_code(), Some(1));
    let report = bed.report();
    assert_eq!((report.outcome, report.exit), (Outcome::Cancelled, Some(1)));
    assert_eq!(bed.read("terms"), "term\n");
    assert_eq!(bed.read("child-terms"), "", "the group must not be signaled");
    assert!(!runs(bed.pid("child")), "processes that packer left are killed");
}

#[test]
fn a_cancelled_build_that_made_its_image_has_succeeded() {
    let bed = Bed::stub(&format!("{TIDY} {ARTIFACT} exit 0"));
    let mut running = bed.start();
    bed.until_file("run/progress.json", "building");
    running.signal(libc::SIGINT);
    bed.until_file("terms", "term");
    bed.write("second", "", 0o600);
    bed.write("end", "", 0o600);
    assert_eq!(running.exit_code(), Some(0));
    assert_eq!((bed.report().outcome, bed.report().artifacts.len()), (Outcome::Succeeded, 1));
}

#[test]
fn the_stop_file_stops_too() {
    let bed = Bed::stub(&format!("{TIDY} exit 1"));
    let mut running = bed.start();
    bed.until_file("run/progress.json", "building");
    bed.write("run/stop", "", 0o600);
    bed.until_file("terms", "term");
    bed.write("second", "", 0o600);
    bed.write("end", "", 0o600);
    assert_eq!(running.exit_code(), Some(1));
    assert_eq!(bed.report().outcome, Outcome::Cancelled);
}

#[test]
fn a_run_stopped_before_it_begins_starts_nothing() {
    let bed = Bed::stub("true");
    bed.write("run/stop", "", 0o600);
    assert_eq!(bed.report_of_run().outcome, Outcome::Cancelled);
    assert_eq!(bed.read("calls"), "");
}

#[test]
fn a_packer_that_ignores_sigterm_is_killed_with_its_group_after_the_grace() {
    let mut bed = Bed::stub(
        "trap '' TERM; sh -c 'echo $$ > $0/child; while :; do sleep 0.05; done' $ROOT &
         echo $$ > $ROOT/leader; while :; do sleep 0.05; done",
    );
    bed.request.grace_seconds = 1;
    let mut running = bed.start();
    let (leader, child) = (bed.pid("leader"), bed.pid("child"));
    running.signal(libc::SIGTERM);
    assert_eq!(running.exit_code(), Some(1));
    let report = bed.report();
    assert_eq!((report.outcome, report.exit), (Outcome::Cancelled, None));
    assert!(report.errors.contains(&"packer was terminated by signal 9".to_owned()), "{:?}", report.errors);
    assert!(report.ended_at > report.started_at, "packer had the grace period");
    assert!(!runs(leader) && !runs(child));
}

#[test]
fn the_limit_stops_a_build_that_cleans_up() {
    let mut bed = Bed::stub("trap 'echo term >> $ROOT/terms; exit 1' TERM; while :; do sleep 0.05; done");
    bed.request.limit_seconds = 1;
    let report = bed.report_of_run();
    assert_eq!((report.outcome, report.exit), (Outcome::TimedOut, Some(1)));
    assert_eq!(bed.read("terms"), "term\n");
}

#[test]
fn a_validate_that_hangs_is_stopped_and_builds_nothing() {
    let mut bed = Bed::stub("true");
    let stub = bed.read("stub").replace(
        "[ \"$1\" = build ] ||",
        "[ $1 != validate ] || { echo $$ > $ROOT/leader; exec sleep 600; }\n[ $1 = build ] ||",
    );
    bed.write("stub", &stub, 0o755);
    bed.request.limit_seconds = 1;
    let report = bed.report_of_run();
    assert_eq!(report.outcome, Outcome::TimedOut);
    assert_eq!(bed.builds(), 0);
    let leader = bed.pid("leader");
    until("its end", || !runs(leader));
}
