//! The command line where there is no cluster: pipes that close, variables that are empty, paths from where
//! one stands, and what a person asks of a live object.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::world::{Outcome, World, run};

/// Runs with a standard output that nobody reads.
fn unread(mut command: Command) -> Outcome {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn().expect("the command starts");
    drop(command);
    let output = child.wait_with_output().expect("its end");
    Outcome {
        status: output.status,
        stdout: String::new(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn said(world: &World, args: &[&str]) -> Outcome {
    let mut opsy = world.opsy();
    opsy.args(args);
    run(opsy)
}

#[test]
fn a_closed_pipe_ends_the_output_alone_and_empty_variables_are_not_set() {
    let world = World::new();
    let mut opsy = world.opsy();
    opsy.args(["run", "--once", "--output", "text"]);
    for name in
        ["AWS_ENDPOINT_URL_EC2", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE", "OPSY_BRANCH"]
    {
        opsy.env(name, "");
    }
    let outcome = unread(opsy);
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    let image = world.active_image().expect("the work went on to its end");
    for args in [&["status"][..], &["status", "--output", "json"], &["crds"]] {
        let mut opsy = world.opsy();
        opsy.args(args);
        let outcome = unread(opsy);
        assert_eq!((outcome.status.code(), outcome.stderr.as_str()), (Some(0), ""), "{args:?}");
    }

    let refused = |name: &str, value: &str| {
        let mut opsy = world.opsy();
        opsy.args(["run", "--once"]).env(name, value);
        let outcome = run(opsy);
        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        outcome.stderr
    };
    let words = refused("AWS_ENDPOINT_URL_EKS", "localhost:4566");
    assert!(words.contains("AWS_ENDPOINT_URL_EKS \"localhost:4566\" must begin with https://"), "{words}");
    for (name, value) in [("OPSY_PACKER", "bin/packer"), ("OPSY_PACKER_PLUGINS", "plugins")] {
        let words = refused(name, value);
        assert!(words.contains(&world.root().join(value).display().to_string()), "{words}");
    }
    assert_eq!(world.active_image(), Some(image));
}

#[test]
fn people_act_on_live_objects_without_a_cluster() {
    let world = World::empty();
    // It notes where it was started, and fails.
    let packer = world.root().join("bin/packer");
    fs::create_dir_all(packer.parent().expect("a folder")).expect("a folder");
    fs::write(&packer, "#!/bin/sh\necho \"$1\" >> \"$PKR_VAR_calls\"\nexit 1\n").expect("a program");
    fs::set_permissions(&packer, fs::Permissions::from_mode(0o755)).expect("a program");
    let calls = world.root().join("calls");
    world.push_folder(&crate::world::fixtures().join("repo"), "policy: first");
    let opsy = || {
        let mut opsy = world.opsy();
        opsy.env("OPSY_PACKER", "bin/packer").env("PKR_VAR_calls", &calls);
        opsy
    };
    let missing = said(&world, &["reconcile", "pb/node"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        missing.stderr.contains(&format!("the state folder {} has no", world.state().display())),
        "{missing:?}"
    );

    let mut once = opsy();
    once.args(["run", "--once"]);
    assert_eq!(run(once).status.code(), Some(2));
    let tries = || fs::read_to_string(&calls).unwrap_or_default().lines().count();
    assert!(tries() > 0, "a relative path is taken from where Opsy was started");
    assert!(said(&world, &["suspend", "pb/node"]).stdout.contains("suspended"));
    let noted = said(&world, &["reconcile", "pb/node"]);
    assert!(noted.status.success() && noted.stdout.contains("the next opsy run"), "{noted:?}");

    let agent = world.start(opsy());
    let reason = || world.condition("PackerBuilder", "node", "Ready").map(|[_, reason, _]| reason);
    let live = |field: &str| {
        world
            .status("PackerBuilder", "node")
            .map(|status| status[field].as_str().unwrap_or_default().to_owned())
    };
    world.wait("the request is done", || live("lastHandledReconcileAt").filter(|at| !at.is_empty()));
    world.wait("it is suspended", || (reason()? == "Suspended").then_some(()));
    let handled = live("lastHandledReconcileAt");
    let done = said(&world, &["reconcile", "pb/node"]);
    assert!(done.status.success() && done.stdout.contains("Suspended"), "{done:?}");
    assert_ne!(live("lastHandledReconcileAt"), handled);
    assert!(said(&world, &["resume", "pb/node"]).stdout.contains("resumed"));
    world.wait("it goes on", || (reason()? != "Suspended").then_some(()));
    assert!(agent.stop().success());
}

#[test]
fn a_request_that_cannot_be_read_starts_nothing_and_changes_no_other() {
    let world = World::new();
    assert_eq!(world.once().status.code(), Some(0));
    let image = world.active_image();
    for target in ["pb/node", "ar/demo"] {
        assert!(said(&world, &["suspend", target]).status.success());
    }
    let file = world.state().join("asked/PackerBuilder/default/node.json");
    assert!(fs::read_to_string(&file).expect("the request").contains("suspend"));
    fs::write(&file, "{\"ami").expect("half a file");
    world.account.post("base-image", serde_json::json!({ "version": "20260901" }));
    let outcome = world.once();
    assert_eq!(outcome.status.code(), Some(2), "{outcome:?}");
    let name = "asked/PackerBuilder/default/node.json";
    assert!(outcome.stderr.contains(name), "{outcome:?}");
    let condition = |kind: &str, name: &str, of: &str| world.condition(kind, name, of).expect("a condition");
    assert_eq!(condition("PackerBuilder", "node", "Ready")[1], "Suspended");
    let [applied, reason, message] = condition("PackerBuilder", "node", "Applied");
    assert_eq!((applied.as_str(), reason.as_str()), ("False", "RequestUnreadable"));
    assert!(message.contains(name), "{message}");
    assert_eq!((world.active_image(), world.account.count("ec2:RunInstances")), (image, 1));
    let refused = said(&world, &["resume", "pb/node"]);
    assert!(!refused.status.success() && refused.stderr.contains(name), "{refused:?}");

    fs::remove_file(&file).expect("it is removed");
    world.once();
    assert_eq!(world.account.count("ec2:RunInstances"), 2);
    assert_eq!(condition("AMIRefresher", "demo", "Ready")[1], "Suspended", "its request was never lost");
}
