//! Builds that cannot succeed: the status names the cause, a failure counts once, and nothing is left behind.

use super::{assert_nowhere, builder, builds, push_node, settings, wait_for_node};
use crate::packers::Packer;
use crate::world::{Outcome, World, run, script_template, template};

const TOKEN: &str = "tkn-5up3r-s3cr3t-value";

fn ready(world: &World, name: &str) -> [String; 3] {
    world.condition("PackerBuilder", name, "Ready").unwrap_or_else(|| panic!("{name} has no status"))
}

/// `opsy run --once` with a secret in its environment.
fn once(world: &World) -> Outcome {
    world.once_with(&[("OPSY_SECRET_DEFAULT_PACKER__TOKEN", TOKEN)])
}

fn push_broken(world: &World) {
    let refused = template().replace("instance_type", "instance_tpye");
    let undeclared =
        template().replace("var.ami_id", "\"ami-1\"").replace("variable \"ami_id\"", "variable \"other\"");
    let own = |name: &str| (format!("packer/{name}/a.pkr.hcl"), name.to_owned());
    let templates = [
        (own("node"), template().to_owned()),
        (own("refused"), refused),
        (own("undeclared"), undeclared),
        (own("failing"), script_template("echo no such package; exit 7")),
        (own("fruitless"), script_template("echo $PWD; exit 0")),
        (own("told"), script_template("echo token is $TOKEN; exit 3")),
        (own("keyless"), script_template("exit 0")),
        (own("foreign"), script_template("exit 0")),
    ];
    let mut files = vec![("opsy.yaml".to_owned(), settings(""))];
    for ((path, name), text) in templates {
        let more = match name.as_str() {
            "told" => "    secret: packer\n",
            "keyless" => "    secret: absent\n",
            "foreign" => "    repoURL: http://127.0.0.1:9/templates.git\n",
            _ => "",
        };
        files.push((format!("builders/{name}.yaml"), builder(&name, &format!("packer/{name}"), more, "")));
        files.push((path, text));
    }
    files.push(("builders/gone.yaml".to_owned(), builder("gone", "packer/gone", "", "")));
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), Some(text.as_str()))).collect();
    world.push(&files, "policy: first");
}

#[test]
fn every_way_a_build_cannot_work_is_told_and_the_neighbour_builds() {
    cannot_work(Packer::Old);
}

#[test]
fn every_way_a_build_cannot_work_is_told_of_a_current_packer() {
    cannot_work(Packer::Current);
}

fn cannot_work(packer: Packer) {
    let mut world = World::empty();
    world.build_with(packer);
    push_broken(&world);
    let outcome = once(&world);
    assert_eq!(outcome.status.code(), Some(2), "{outcome:?}");
    let told = [
        ("node", "True", "ImageReady", "active"),
        ("refused", "False", "BuildFailed", "Did you mean\n\"instance_type\"?"),
        ("undeclared", "False", "BuildFailed", "To declare variable \"ami_id\""),
        ("failing", "False", "BuildFailed", "Script exited with non-zero exit status: 7"),
        ("fruitless", "False", "BuildFailed", "packer exited with 0 but reported no image"),
        ("told", "False", "BuildFailed", "Script exited with non-zero exit status: 3"),
        ("keyless", "False", "BuildRefused", "secret default/absent not found: name a directory"),
        ("foreign", "False", "TemplateUnavailable", "http://127.0.0.1:9/templates.git cannot be reached"),
        ("gone", "False", "TemplateInvalid", "\"packer/gone\" does not exist in the repository"),
    ];
    for (name, status, reason, message) in told {
        let found = ready(&world, name);
        assert!(found[0] == status && found[1] == reason && found[2].contains(message), "{name}: {found:?}");
    }
    assert_eq!(
        world.amis().as_object().map(|all| all.keys().collect::<Vec<_>>()),
        Some(vec![&"default/node".to_owned()])
    );
    let log = world.log();

    let again = once(&world);
    assert_eq!(again.status.code(), Some(2), "{again:?}");
    for name in ["refused", "undeclared", "failing", "fruitless", "told"] {
        assert_eq!(world.results(name), ["Failed"], "{name}");
    }
    assert_eq!((builds(&world), world.our_images().len()), (1, 1));
    assert_eq!(world.account.orphans(), Vec::<String>::new());
    assert_eq!(world.log(), log, "nothing new to publish");
    assert!(!outcome.stderr.contains(TOKEN) && !outcome.stdout.contains(TOKEN));
    assert_nowhere(&world, TOKEN);
    let history = world.git(&world.remote(), &["log", "--all", "--patch"]);
    let place = world.state().display().to_string();
    assert!(!history.contains(&place), "a path of this machine is in Git: {history}");
}

#[test]
fn a_build_inherits_no_secret_of_whoever_started_the_agent() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::empty();
    let script = script_template(
        "echo ci [$CI_JOB_TOKEN] key $PKR_VAR_api_key vault $VAULT_ADDR own [$OPSY_PASS_ENV]; exit 3",
    );
    let files = [
        ("opsy.yaml", settings("")),
        ("builders/node.yaml", builder("node", "packer/node", "", "  failurePolicy: {limit: 1}\n")),
        ("packer/node/a.pkr.hcl", script),
    ];
    world.push(&files.each_ref().map(|(path, text)| (*path, Some(text.as_str()))), "policy: first");
    let mut opsy = world.opsy();
    opsy.args(["run", "--once"]).env("OPSY_PASS_ENV", "VAULT_*");
    opsy.env("CI_JOB_TOKEN", TOKEN).env("PKR_VAR_api_key", TOKEN).env("VAULT_ADDR", "https://vault.invalid");
    let outcome = run(opsy);
    assert_eq!(outcome.status.code(), Some(2), "{outcome:?}");
    let said = world.status("PackerBuilder", "node").expect("a status").to_string();
    assert!(said.contains("ci [] key *** vault https://vault.invalid own []"), "{said}");
    let mode = |path: std::path::PathBuf| path.metadata().expect("it is there").permissions().mode() & 0o777;
    let modes = ["", "objects", "runs", "clone", "lock"].map(|path| mode(world.state().join(path)));
    assert_eq!(modes, [0o700, 0o700, 0o700, 0o700, 0o600]);
}

#[test]
fn a_build_waits_for_packer_to_be_installed() {
    let world = World::empty();
    push_node(&world, "");
    let outcome = world.once_with(&[("PATH", "/nonexistent")]);
    assert_eq!(outcome.status.code(), Some(2), "{outcome:?}");
    let [_, reason, message] = ready(&world, "node");
    assert!(reason == "BuildFailed" && message.contains("packer: "), "{reason}: {message}");
    // On a slow machine the next try is due before the run ends.
    let failed = world.results("node");
    assert!(failed.iter().all(|result| result == "Failed") && !failed.is_empty(), "{failed:?}");
    assert_eq!(builds(&world), 0);
    let _agent = world.agent();
    wait_for_node(&world);
    assert_eq!((world.results("node").len(), builds(&world)), (failed.len() + 1, 1));
}
