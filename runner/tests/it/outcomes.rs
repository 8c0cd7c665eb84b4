//! Runs that are not stopped: the outcome, the images, the errors, and the files on disk.

use std::fs;

use opsy_runner::request::{self, Command, Outcome, ResourceKind};

use crate::{ARTIFACT, Bed, RUNNER};

#[test]
fn a_build_succeeds_with_its_image() {
    let bed = Bed::stub(&format!(
        "env > $ROOT/env; pwd > $ROOT/pwd
         echo '1,,ui,say,==> amazon-ebs.node: Creating temporary keypair: packer_6b032da1'
         echo '1,,ui,message,    amazon-ebs.node: Instance ID: i-0502e3594373eef5d'
         echo '1,,ui,error,==> amazon-ebs.node: apt: a warning'
         {ARTIFACT}"
    ));
    let report = bed.report_of_run();
    assert_eq!(
        (report.outcome, report.command, report.exit),
        (Outcome::Succeeded, Some(Command::Build), Some(0))
    );
    let images: Vec<_> = report.artifacts.iter().map(|a| (a.region.as_str(), a.image.as_str())).collect();
    assert_eq!(images, [("us-east-1", "ami-aee825b876bf72c2a")]);
    let kinds: Vec<_> = report.resources.iter().map(|r| r.kind).collect();
    assert_eq!(kinds, [ResourceKind::KeyPair, ResourceKind::Instance]);
    assert!(report.errors.is_empty() && report.started_at > 0 && report.ended_at >= report.started_at);
    let calls = bed.read("calls");
    assert_eq!(
        calls,
        "init -machine-readable .\nvalidate -machine-readable .\nbuild -machine-readable -color=false .\n"
    );
    assert!(bed.read("pwd").trim_end().ends_with("run/work"));
    let run = bed.dir().display().to_string();
    for expected in [
        "CHECKPOINT_DISABLE=1",
        "PACKER_NO_COLOR=1",
        &format!("TMPDIR={run}/tmp"),
        &format!("PACKER_CONFIG_DIR={run}/config"),
    ] {
        assert!(bed.read("env").lines().any(|line| line == expected), "{expected} in\n{}", bed.read("env"));
    }
    assert!(bed.log().contains("    amazon-ebs.node: Instance ID: i-0502e3594373eef5d\n"), "{}", bed.log());
    assert!(!bed.dir().join("tmp").exists(), "scratch files are removed");
    assert!(!opsy_runner::is_alive(&bed.dir()).expect("a probe"));
}

#[test]
fn progress_shows_the_newest_line() {
    let bed = Bed::stub(
        "echo '1,,ui,say,==> a.b: Waiting for AMI to become ready...'; until [ -e $ROOT/go ]; do sleep 0.05; done",
    );
    let mut running = bed.start();
    bed.until_file("run/progress.json", "Waiting for AMI");
    assert!(opsy_runner::is_alive(&bed.dir()).expect("a probe"));
    let progress = opsy_runner::read_progress(&bed.dir()).expect("readable").expect("progress");
    assert_eq!(
        (progress.command.as_str(), progress.line.as_str()),
        ("build", "==> a.b: Waiting for AMI to become ready...")
    );
    bed.write("go", "", 0o600);
    assert_eq!(running.exit_code(), Some(1));
}

#[test]
fn exit_one_is_a_failure_even_with_images_of_another_source() {
    let bed = Bed::stub(&format!(
        "{ARTIFACT} echo '1,amazon-ebs.web,error,Script exited with non-zero exit status: 7. Allowed exit codes are: [0]'; exit 1"
    ));
    let report = bed.report_of_run();
    assert_eq!((report.outcome, report.exit, report.artifacts.len()), (Outcome::Failed, Some(1), 1));
    assert_eq!(report.errors, ["Script exited with non-zero exit status: 7. Allowed exit codes are: [0]"]);
}

/// The operator runs them joined by `&&`, which has the same effect.
#[test]
fn several_builds_run_in_order_and_their_images_are_one_result() {
    let second = ARTIFACT.replace("ami-aee825b876bf72c2a", "ami-0123456789abcdef0");
    let two = |end: &str| {
        let mut bed = Bed::stub(&format!(
            "case $5 in amd64) {ARTIFACT} ;; *) echo '1,,ui,say,==> a.b: Copying to: eu-west-1'; {second} {end} ;; esac"
        ));
        let build = |arch: &str| request::Step {
            command: Command::Build,
            args: vec!["-var".into(), arch.into()],
            dir: None,
        };
        bed.request.steps.truncate(2);
        bed.request.steps.extend([build("amd64"), build("arm64")]);
        bed
    };
    let report = two("").report_of_run();
    let images: Vec<_> = report.artifacts.iter().map(|artifact| artifact.image.as_str()).collect();
    assert_eq!(
        (report.outcome, images),
        (Outcome::Succeeded, vec!["ami-0123456789abcdef0", "ami-aee825b876bf72c2a"])
    );
    let region = report.resources.iter().any(|r| r.kind == ResourceKind::Region && r.id == "eu-west-1");
    assert!(region, "{:?}", report.resources);

    let report = two("echo '1,a.b,error,boom'; exit 1").report_of_run();
    assert_eq!((report.outcome, report.artifacts.len()), (Outcome::Failed, 2), "they are orphans");
    let place = report.place.map(|place| (place.number, place.of));
    assert_eq!((place, report.build.as_deref()), (Some((2, 2)), Some("a.b")));
}

#[test]
fn exit_zero_without_an_image_is_no_success() {
    let bed = Bed::stub(
        "echo \"1,,ui,say,Build 'amazon-ebs.node' finished after 715 milliseconds.\"; printf '%s\\n' '1,,ui,say,--> amazon-ebs.node: AMIs were created:\\nus-east-1: ami-aee825b876bf72c2a'",
    );
    let report = bed.report_of_run();
    assert_eq!((report.outcome, report.exit), (Outcome::NoArtifact, Some(0)));
    assert!(report.artifacts.is_empty());
}

#[test]
fn a_failed_validate_builds_nothing() {
    let bed = Bed::stub("true");
    let stub = bed.read("stub").replace("[ \"$1\" = build ] ||", "[ $1 != validate ] || { printf '%s\\n' '1,,ui,error,Error: Unsupported argument\\n\\n  on a.pkr.hcl line 21'; exit 1; }\n[ $1 = build ] ||");
    bed.write("stub", &stub, 0o755);
    let report = bed.report_of_run();
    assert_eq!(
        (report.outcome, report.command, report.exit),
        (Outcome::Failed, Some(Command::Validate), Some(1))
    );
    assert_eq!(report.errors, ["Error: Unsupported argument\n\n  on a.pkr.hcl line 21"]);
    assert_eq!(bed.builds(), 0);
    assert!(!bed.dir().join("started").exists());
}

#[test]
fn a_packer_killed_from_outside_has_failed() {
    let bed = Bed::stub(&format!("{ARTIFACT} kill -KILL $$"));
    let report = bed.report_of_run();
    assert_eq!((report.outcome, report.exit), (Outcome::Failed, None));
    assert!(report.errors.contains(&"packer was terminated by signal 9".to_owned()), "{:?}", report.errors);
}

#[test]
fn both_pipes_full_of_output_stop_nothing() {
    let bed = Bed::stub(&format!(
        "yes 'a line on standard error that is not short' | head -c 20000000 >&2 &
         yes '1,,ui,say,==> a.b: a line on standard output' | head -c 20000000
         head -c 3000000 /dev/zero | tr '\\0' x; echo
         wait; {ARTIFACT}"
    ));
    assert_eq!(bed.report_of_run().outcome, Outcome::Succeeded);
    assert!(bed.log().len() > 30_000_000);
}

#[test]
fn giant_errors_fit_into_a_termination_message() {
    let bed = Bed::stub(
        "for n in 1 2 3 4 5 6 7 8 9; do printf '1,,ui,error,%s ' $n; head -c 200000 /dev/zero | tr '\\0' '\"'; echo; done; exit 1",
    );
    let report = bed.report_of_run();
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(report.errors[0].starts_with("1 \"\"\""), "{:?}", report.errors);
}

#[test]
fn secrets_are_in_no_file() {
    const TOKEN: &str = "s3cr3t-token,with-comma";
    const KEY: &str = "-----BEGIN KEY-----\nMIIEowIBAAKCAQEA1\n-----END KEY-----";
    let mut bed = Bed::stub(
        "escaped=$(printf '%s' \"$TOKEN\" | sed 's/,/%!(PACKER_COMMA)/g')
         echo \"1,,ui,message,    a.b: token $escaped end\"
         echo \"$TOKEN\" >&2; echo \"$KEY\" >&2
         echo \"1,,ui,error,==> a.b: could not log in with $escaped\"
         printf '1,,ui,say,'; head -c 262133 /dev/zero | tr '\\0' x; printf '%s\\n' \"$escaped\"
         echo \"1,,ui,say,last $AWS_SECRET_ACCESS_KEY\"
         until grep -qs last $ROOT/run/progress.json; do sleep 0.05; done
         exit 1",
    );
    bed.request.secrets = vec!["TOKEN".into(), "KEY".into(), "ABSENT".into()];
    bed.request.steps[2].args = vec!["-var".into(), format!("token={TOKEN}"), ".".into()];
    let mut command = bed.command();
    let output =
        command.env("TOKEN", TOKEN).env("KEY", KEY).env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI").output();
    let output = output.expect("the runner runs");
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    let report = bed.report();
    assert!(report.errors.contains(&"could not log in with ***".to_owned()), "{:?}", report.errors);
    for masked in [
        "    a.b: token *** end\n",
        "x***\n",
        "last ***\n",
        "$ packer build -machine-readable -color=false -var token=*** .\n",
    ] {
        assert!(bed.log().contains(masked), "{masked:?} is not in the log");
    }
    for entry in
        fs::read_dir(bed.dir()).expect("the directory").flatten().filter(|e| e.file_name() != "request.json")
    {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        for secret in ["s3cr3t", "MIIEow", "wJalr"] {
            assert!(!text.contains(secret), "{secret} in {:?}", entry.file_name());
        }
    }
}

#[test]
fn values_of_a_mounted_secret_are_masked_though_nobody_names_them() {
    let mut bed = Bed::stub("echo \"1,,ui,error,==> a.b: no login with $PASSWORD\"; exit 1");
    let mounted = bed.root().join("secret/..data");
    fs::create_dir_all(&mounted).expect("a mounted Secret");
    fs::write(mounted.join("PASSWORD"), "hunter22\n").expect("a key");
    std::os::unix::fs::symlink("..data/PASSWORD", bed.root().join("secret/PASSWORD")).expect("a link");
    bed.request.secrets_dir = Some(bed.root().join("secret").display().to_string());
    let output = bed.command().env("PASSWORD", "hunter22").output().expect("the runner runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(bed.report().errors.contains(&"no login with ***".to_owned()), "{:?}", bed.report().errors);
    assert!(!bed.log().contains("hunter22"), "{}", bed.log());
}

#[test]
fn a_packer_that_can_not_start_says_why() {
    let mut bed = Bed::stub("true");
    bed.request.packer = "/nowhere/packer".into();
    let report = bed.report_of_run();
    assert_eq!((report.outcome, report.exit), (Outcome::NotStarted, None));
    assert_eq!(report.errors, ["starting /nowhere/packer: No such file or directory (os error 2)"]);

    let bed = Bed::stub("true");
    bed.write("stub", "#!/bin/sh\n", 0o644);
    let report = bed.report_of_run();
    assert_eq!(report.outcome, Outcome::NotStarted);
    assert!(report.errors[0].contains("Permission denied"), "{:?}", report.errors);

    let bed = Bed::stub("true");
    fs::remove_dir(bed.dir().join("work")).expect("the directory is empty");
    assert_eq!(bed.report_of_run().errors, ["preparing the run directory: directory work does not exist"]);
}

#[test]
fn an_unreadable_request_is_reported() {
    let bed = Bed::stub("true");
    let mut command = bed.command();
    bed.write("run/request.json", "{", 0o600);
    assert_eq!(command.output().expect("the runner runs").status.code(), Some(1));
    assert_eq!(bed.report().outcome, Outcome::NotStarted);
    assert!(bed.report().errors[0].starts_with("reading the request: "), "{:?}", bed.report().errors);
}

#[test]
fn an_old_packer_has_no_init_and_a_legacy_template_needs_none() {
    let bed = Bed::stub(ARTIFACT);
    let stub = bed.read("stub").replace(
        "[ \"$1\" = build ] ||",
        "[ $1 != init ] || { echo 'Usage: packer [--version]' >&2; exit 127; }\n[ $1 = build ] ||",
    );
    bed.write("stub", &stub, 0o755);
    assert_eq!(bed.report_of_run().outcome, Outcome::Succeeded);
    assert!(
        bed.log().contains("skipping packer init: this version of Packer does not have it"),
        "{}",
        bed.log()
    );

    let mut bed = Bed::stub(ARTIFACT);
    bed.request.steps[0].args = vec!["web.json".into()];
    assert_eq!(bed.report_of_run().outcome, Outcome::Succeeded);
    assert!(!bed.read("calls").contains("init"), "{}", bed.read("calls"));
}

#[test]
fn install_copies_a_runner_that_runs() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let target = dir.path().join("bin");
    for _ in 0..2 {
        let status = std::process::Command::new(RUNNER).arg("install").arg(&target).status();
        assert!(status.expect("the runner runs").success());
    }
    let bed = Bed::stub(ARTIFACT);
    bed.command();
    let installed = std::process::Command::new(target.join("opsy-runner")).arg("run").arg(bed.dir()).status();
    assert!(installed.expect("the copy runs").success());
    let usage = std::process::Command::new(RUNNER).arg("build").output().expect("the runner runs");
    assert_eq!(usage.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&usage.stderr).starts_with("usage: opsy-runner run DIR"));
}
