//! Tests with the real Packer: the installed version and a current one. The `null` builder creates no image, so a
//! complete build ends as NoArtifact; builds of images run against the emulated AWS in the agent's tests.

use opsy_runner::request::{Command, Outcome, Report};

use crate::{Bed, runs};

/// Returns one bed per Packer version.
fn beds(template: &str) -> [Bed; 2] {
    ["packer".to_owned(), current()].map(|packer| bed(&packer, template))
}

fn bed(packer: &str, template: &str) -> Bed {
    let found = std::process::Command::new(packer).arg("version").output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "these tests need Packer in PATH, and a current Packer in the directory OPSY_BED_PACKER: run them with \
         `make test`, or set the variable to the output of tests/bed/bin/packer"
    );
    let bed = Bed::real(packer);
    bed.write("run/work/node.pkr.hcl", template, 0o600);
    bed
}

fn current() -> String {
    format!("{}/packer", std::env::var("OPSY_BED_PACKER").unwrap_or_default())
}

fn template(script: &str) -> String {
    let script = serde_json::Value::from(script);
    format!(
        r#"
source "null" "node" {{
  communicator = "none"
}}
build {{
  sources = ["source.null.node"]
  provisioner "shell-local" {{
    inline = [{script}]
  }}
}}
"#
    )
}

fn failed(report: &Report, command: Command, words: &str) {
    assert_eq!(
        (report.outcome, report.command, report.exit),
        (Outcome::Failed, Some(command), Some(1)),
        "{report:?}"
    );
    assert!(report.errors.first().is_some_and(|error| error.contains(words)), "{:?}", report.errors);
}

#[test]
fn a_build_without_an_image_is_no_success() {
    for bed in beds(&template("echo token: $TOKEN; echo Instance ID: i-0502e3594373eef5d")) {
        let mut command = bed.command();
        command.env("TOKEN", "hunter22");
        let secrets = bed.read("run/request.json").replace(r#""secrets":[]"#, r#""secrets":["TOKEN"]"#);
        bed.write("run/request.json", &secrets, 0o600);
        command.status().expect("the runner runs");
        let report = bed.report();
        assert_eq!((report.outcome, report.exit), (Outcome::NoArtifact, Some(0)), "{}", bed.log());
        assert!(bed.log().contains("token: ***\n"), "{}", bed.log());
    }
}

/// Without internet access, the command that needs a plugin names the plugin that it cannot install.
#[test]
fn a_plugin_that_is_missing_is_named() {
    let source = "source \"amazon-ebs\" \"node\" {}\nbuild { sources = [\"source.amazon-ebs.node\"] }\n";
    let required = "packer {\n  required_plugins {\n    amazon = {\n      source  = \"github.com/hashicorp/amazon\"\n      \
                    version = \">= 1\"\n    }\n  }\n}\n";
    for (template, command, words) in [
        (source.to_owned(), Command::Validate, "Unknown source type amazon-ebs"),
        (format!("{required}{source}"), Command::Init, "github.com/hashicorp/amazon"),
    ] {
        let mut bed = bed(&current(), &template);
        let nowhere = "http://127.0.0.1:9".to_owned();
        bed.request.env =
            [("https_proxy".to_owned(), nowhere.clone()), ("HTTPS_PROXY".to_owned(), nowhere)].into();
        bed.request.plugins = Some(bed.root().join("plugins").display().to_string());
        let report = bed.report_of_run();
        assert_eq!((report.outcome, report.command), (Outcome::Failed, Some(command)), "{report:?}");
        assert!(report.errors.iter().any(|error| error.contains(words)), "{report:?}");
    }
}

/// Packer 1.6 does not know the block and has no `init` that would report it.
#[test]
fn required_plugins_are_too_new_for_packer_1_6() {
    let bed = bed("packer", "packer {\n  required_plugins {}\n}\n");
    failed(&bed.report_of_run(), Command::Validate, "required_plugins");
}

#[test]
fn a_syntax_error_is_reported_with_its_place() {
    for (bed, command) in
        beds("source \"null\" \"node\" {\n").into_iter().zip([Command::Validate, Command::Init])
    {
        failed(&bed.report_of_run(), command, "on node.pkr.hcl line ");
    }
}

#[test]
fn an_undeclared_variable_is_reported_by_name() {
    for mut bed in beds(&template("true")) {
        bed.request.steps[2].args = vec!["-var".into(), "nope=1".into(), ".".into()];
        failed(&bed.report_of_run(), Command::Build, "A \"nope\" variable was passed");
    }
}

#[test]
fn a_failing_provisioner_is_reported() {
    for bed in beds(&template("echo the mirror is away; exit 7")) {
        let report = bed.report_of_run();
        failed(&report, Command::Build, "exit status: 7");
        assert_eq!((report.build.as_deref(), report.errors.len()), (Some("null.node"), 1), "{report:?}");
        assert_eq!(report.output.last().map(String::as_str), Some("the mirror is away"), "{report:?}");
    }
}

#[test]
fn sigterm_cancels_it() {
    for bed in beds(&template("echo $$ > script; exec sleep 600")) {
        let mut running = bed.start();
        let script = bed.pid("run/work/script");
        running.signal(libc::SIGTERM);
        assert_eq!(running.exit_code(), Some(1));
        let report = bed.report();
        assert_eq!((report.outcome, report.exit), (Outcome::Cancelled, Some(1)), "{}", bed.log());
        assert!(bed.log().contains("Cleanly cancelled builds after being interrupted"), "{}", bed.log());
        assert!(!runs(script));
    }
}

/// The kernel sends SIGTERM to Packer, whose cleanup runs to completion although nothing reads its output. Packer's
/// own log file shows that.
#[test]
fn it_cleans_up_when_the_runner_is_killed() {
    for mut bed in beds(&template("echo $$ > script; exec sleep 600")) {
        let log = bed.root().join("log").display().to_string();
        bed.request.env = [("PACKER_LOG".into(), "1".into()), ("PACKER_LOG_PATH".into(), log)].into();
        let mut running = bed.start();
        let script = bed.pid("run/work/script");
        running.signal(libc::SIGKILL);
        running.exit_code();
        bed.until_file("log", "Cleanly cancelled builds after being interrupted");
        assert_eq!(bed.report_of_run().outcome, Outcome::Lost);
        assert!(!runs(script));
    }
}
