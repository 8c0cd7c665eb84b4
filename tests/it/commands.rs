//! The command line without a cluster: closed pipes, empty variables, relative paths, the place on which a command
//! acts, and requests to live objects.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use crate::git::bed::keygen;
use crate::world::{Outcome, World, fixtures, run};

/// Runs a command whose standard output is a closed pipe.
fn unread(mut command: Command) -> Outcome {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn().expect("the command starts");
    drop(command);
    let output = child.wait_with_output().expect("the exit status");
    Outcome {
        status: output.status,
        stdout: String::new(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
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
    let image = world.active_image().expect("the run continued to its end");
    for args in [&["status"][..], &["status", "--output", "json"], &["crds"]] {
        let mut opsy = world.opsy();
        opsy.args(args);
        let outcome = unread(opsy);
        assert_eq!((outcome.status.code(), outcome.stderr.as_str()), (Some(0), ""), "{args:?}");
    }

    let refused = |name: &str, value: &str| {
        let outcome = world.once_with(&[(name, value)]);
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
    // It records its subcommand, and fails.
    let packer = world.root().join("bin/packer");
    fs::create_dir_all(packer.parent().expect("a directory")).expect("a directory");
    fs::write(&packer, "#!/bin/sh\necho \"$1\" >> \"$PKR_VAR_calls\"\nexit 1\n").expect("a program");
    fs::set_permissions(&packer, fs::Permissions::from_mode(0o755)).expect("a program");
    let calls = world.root().join("calls");
    world.push_folder(&fixtures().join("repo"), "policy: first");
    let opsy = || {
        let mut opsy = world.opsy();
        opsy.env("OPSY_PACKER", "bin/packer").env("PKR_VAR_calls", &calls);
        opsy
    };
    let missing = world.run(&["reconcile", "pb/node"]);
    assert_eq!(missing.status.code(), Some(1));
    let place = format!("state directory {}", world.state().display());
    let words =
        format!("no PackerBuilder default/node in the {place}; it has none (select another namespace");
    assert!(missing.stderr.contains(&words), "{missing:?}");

    let mut once = opsy();
    once.args(["run", "--once"]);
    assert_eq!(run(once).status.code(), Some(2));
    let tries = || fs::read_to_string(&calls).unwrap_or_default().lines().count();
    assert!(tries() > 0, "a relative path is resolved against the working directory of Opsy");
    let later = "; no agent is running there: the next `opsy run` with this state directory applies it\n";
    let suspended = world.run(&["suspend", "pb/node"]);
    let words = format!("packerbuilder.ami.opsy.dev/default/node suspended ({place}); ");
    assert!(suspended.stdout.starts_with(&words) && suspended.stdout.ends_with(later), "{suspended:?}");
    let noted = world.run(&["reconcile", "pb/node"]);
    assert!(noted.status.success() && noted.stdout.ends_with(later), "{noted:?}");

    let agent = world.start(opsy());
    let suspended = || world.condition("PackerBuilder", "node", "Suspended").map(|[_, reason, _]| reason);
    let live = |field: &str| {
        world
            .status("PackerBuilder", "node")
            .map(|status| status[field].as_str().unwrap_or_default().to_owned())
    };
    world.wait("the request to be handled", || live("lastHandledReconcileAt").filter(|at| !at.is_empty()));
    world.wait("the builder to be suspended", || (suspended()? == "Annotation").then_some(()));
    let handled = live("lastHandledReconcileAt");
    let done = world.run(&["reconcile", "pb/node"]);
    assert_eq!(done.status.code(), Some(1), "it was never built: {done:?}");
    assert!(done.stdout.contains("Ready=False") && done.stdout.contains("Suspended"), "{done:?}");
    assert_ne!(live("lastHandledReconcileAt"), handled);
    let resumed = world.run(&["resume", "pb/node"]);
    assert_eq!(
        resumed.stdout,
        format!("packerbuilder.ami.opsy.dev/default/node resumed ({place})\n"),
        "{resumed:?}"
    );
    world.wait("the builder to be resumed", || suspended().is_none().then_some(()));
    assert!(agent.stop().success());
}

#[test]
fn a_request_that_cannot_be_read_starts_nothing_and_changes_no_other() {
    let world = World::new();
    assert_eq!(world.once().status.code(), Some(0));
    let image = world.active_image();
    for target in ["pb/node", "ar/demo"] {
        assert!(world.run(&["suspend", target]).status.success());
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
    assert_eq!(condition("PackerBuilder", "node", "Suspended")[0], "True");
    assert_eq!(
        condition("PackerBuilder", "node", "Ready")[..2],
        ["True", "ImageReady"],
        "the last outcome stays"
    );
    let [applied, reason, message] = condition("PackerBuilder", "node", "Applied");
    assert_eq!((applied.as_str(), reason.as_str()), ("False", "RequestUnreadable"));
    assert!(message.contains(name), "{message}");
    assert_eq!((world.active_image(), world.account.count("ec2:RunInstances")), (image, 1));
    let refused = world.run(&["resume", "pb/node"]);
    assert!(!refused.status.success() && refused.stderr.contains(name), "{refused:?}");

    fs::remove_file(&file).expect("the request is removed");
    world.once();
    assert_eq!(world.account.count("ec2:RunInstances"), 2);
    assert_eq!(condition("AMIRefresher", "demo", "Suspended")[0], "True", "its request was never lost");
}

/// `opsy` as run by a person who is not root and whose home is the directory of this test. `None` if the tests run as
/// root and there are no user namespaces.
fn of_a_user(world: &World, args: &[&str]) -> Option<Command> {
    let program = env!("CARGO_BIN_EXE_opsy");
    let mut command = match rustix::process::geteuid().is_root() {
        false => Command::new(program),
        true => {
            let tried = Command::new("unshare").args(["--user", "true"]).status();
            if !tried.is_ok_and(|status| status.success()) {
                return None;
            }
            let mut command = Command::new("unshare");
            command.args(["--user", program]);
            command
        }
    };
    for name in ["OPSY_STATE", "OPSY_KUBECONFIG", "KUBECONFIG", "KUBERNETES_SERVICE_HOST", "XDG_STATE_HOME"] {
        command.env_remove(name);
    }
    command.args(args).env("HOME", world.root()).stdin(Stdio::null());
    Some(command)
}

/// A kubeconfig of a cluster that does not respond.
const KUBECONFIG: &str = r#"
{apiVersion: v1, kind: Config, current-context: away, clusters: [{name: c, cluster: {server: "https://127.0.0.1:9"}}],
contexts: [{name: away, context: {cluster: c, user: u}}], users: [{name: u, user: {token: t}}]}
"#;

#[test]
fn a_command_goes_to_the_place_that_the_rule_selects() {
    let world = World::empty();
    if of_a_user(&world, &[]).is_none() {
        eprintln!(
            "SKIPPED: as root, this test needs user namespaces; the selection of the place was not tested"
        );
        return;
    }
    let user = |args: &[&str]| run(of_a_user(&world, args).expect("a user"));
    let reading = [&["status"][..], &["logs", "pb/node"], &["suspend", "pb/node"]];
    for args in reading {
        let nowhere = user(args);
        assert_eq!(nowhere.status.code(), Some(1), "{args:?}: {nowhere:?}");
        for way in ["--state", "--kubeconfig", "`opsy run`"] {
            assert!(nowhere.stderr.contains(way), "{args:?} names {way}: {nowhere:?}");
        }
    }

    let dir = world.root().join("agent");
    let dir = dir.to_str().expect("UTF-8");
    let agent = || user(&["run", "--engine", "kubernetes", "--repo", "images", "--state", dir]);
    let nowhere = agent();
    let words = "not in a pod, and the kubeconfig of kubectl cannot be used";
    assert!(nowhere.status.code() == Some(1) && nowhere.stderr.contains(words), "{nowhere:?}");

    let state = world.root().join(".local/state/opsy");
    fs::create_dir_all(&state).expect("a state directory");
    let there = format!("state directory {}", state.display());
    let status = user(&["status"]);
    assert!(status.status.success() && status.stdout.contains(&there), "{status:?}");
    assert!(status.stderr.contains(&format!("no agent is running in the {there}")), "{status:?}");

    fs::create_dir_all(world.root().join(".kube")).expect("a directory");
    fs::write(world.root().join(".kube/config"), KUBECONFIG).expect("a kubeconfig");
    let cluster = "check that the cluster is running";
    for args in reading {
        let outcome = user(args);
        assert!(
            outcome.stderr.contains(cluster),
            "a state directory without a running agent is not selected: {args:?}: {outcome:?}"
        );
    }
    let connects = agent();
    assert_eq!(connects.status.code(), Some(1));
    assert!(
        !connects.stderr.contains(words) && connects.stderr.contains("Connection refused"),
        "{connects:?}"
    );
    let named = user(&["status", "--state", state.to_str().expect("UTF-8")]);
    assert!(named.status.success() && named.stdout.contains(&there), "{named:?}");
    let both = user(&["status", "--state", "here", "--context", "away"]);
    assert!(both.stderr.contains("cannot be used with"), "{both:?}");

    // The state directory of an agent in a cluster contains a clone, and no objects.
    let lock = File::create(state.join("lock")).expect("a lock");
    lock.lock().expect("the lock");
    fs::write(state.join("lock"), "kubernetes\n").expect("written");
    assert!(user(&["status"]).stderr.contains(cluster));
    fs::write(state.join("lock"), "standalone\n").expect("written");
    for args in [&["status"][..], &["logs", "pb/node"], &["suspend", "pb/node"]] {
        let outcome = user(args);
        let words = outcome.stdout.clone() + &outcome.stderr;
        assert!(words.contains(&there) && !words.contains("no agent is running"), "{args:?}: {outcome:?}");
    }
}

#[test]
fn resume_names_what_in_git_still_suspends_the_object() {
    let world = World::new();
    let suspended = "  name: node\n  annotations: {ami.opsy.dev/suspend: \"true\"}\n";
    world.edit("builders/node.yaml", "  name: node\n", suspended, "policy: suspend it");
    assert_eq!(world.once().status.code(), Some(3));
    for (change, what) in [
        (None, "the annotation ami.opsy.dev/suspend"),
        (Some((suspended, "  name: node\n")), ""),
        (Some(("  region: us-east-1\n", "  region: us-east-1\n  suspend: true\n")), "spec.suspend: true"),
    ] {
        if let Some((from, to)) = change {
            world.edit("builders/node.yaml", from, to, "policy: change it");
            world.once();
        }
        assert!(world.run(&["suspend", "pb/node"]).status.success());
        let resumed = world.run(&["resume", "pb/node"]);
        if what.is_empty() {
            assert!(resumed.status.success() && resumed.stdout.contains("node resumed ("), "{resumed:?}");
            continue;
        }
        assert_eq!((resumed.status.code(), resumed.stdout.as_str()), (Some(1), ""), "{resumed:?}");
        let words =
            format!("its manifest suspends it; remove {what} from builders/node.yaml and push the commit");
        assert!(resumed.stderr.contains(&words), "{resumed:?}");
    }
}

#[test]
fn a_person_approves_a_wave_by_a_command_and_another_by_a_commit() {
    let world = World::new();
    let waves = "  rollout:\n    waves:\n      - {name: canary, nodeGroups: [batch]}\n      - {name: prod, nodeGroups: [web], \
                 approval: Required}\n      - {name: last, nodeGroups: ['*'], approval: Required}\n";
    let refresher = world.show("refreshers/demo.yaml").expect("the manifest") + waves;
    world.push(&[("refreshers/demo.yaml", Some(&refresher))], "policy: roll out in waves");
    let outcome = world.once();
    assert_eq!(outcome.status.code(), Some(3), "it waits for an approval: {outcome:?}");
    let image = world.active_image().expect("an image");
    let on = |name: &str| world.group(name)["release_version"] == *image;
    assert_eq!(["batch", "web", "system"].map(on), [true, false, false]);
    let status = world.run(&["status"]).stdout;
    let row = |wave: &str| {
        let cells = |line: &&str| line.split_whitespace().nth(1) == Some(wave);
        status.lines().find(cells).unwrap_or_else(|| panic!("no wave {wave}: {status}"))
    };
    assert!(row("canary").contains("Done") && row("canary").contains("1/1"), "{status}");
    assert!(row("prod").contains("Waiting"), "{status}");
    assert!(row("prod").ends_with(&format!("ami.opsy.dev/approve: prod={image}")), "{status}");
    assert!(row("last").contains("Pending"), "{status}");

    for (args, words) in [
        (
            ["approve", "ar/demo", "prd"],
            "no wave \"prd\"; the waves are canary, prod, last; did you mean prod?",
        ),
        (["approve", "ar/demo", "canary"], "wave \"canary\" needs no approval"),
        (["approve", "pb/node", "prod"], "packerbuilder/node has no waves"),
    ] {
        let refused = world.run(&args);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(refused.stderr.to_lowercase().contains(words), "{refused:?}");
    }
    let other = world.run(&["approve", "ar/demo", "prod", "ami-00000000"]);
    let words = format!("rolls out {image}, not ami-00000000");
    assert!(!other.status.success() && other.stderr.contains(&words), "{other:?}");
    let approved = world.run(&["approve", "ar/demo", "prod", &image]);
    let words = format!("amirefresher.ami.opsy.dev/default/demo wave \"prod\" approved for {image} (");
    assert!(approved.status.success() && approved.stdout.starts_with(&words), "{approved:?}");
    let outcome = world.once();
    assert_eq!(outcome.status.code(), Some(3), "the last wave waits: {outcome:?}");
    assert_eq!(["batch", "web", "system"].map(on), [true, true, false]);

    let annotated = format!("metadata:\n  annotations:\n    ami.opsy.dev/approve: last={image}\n");
    world.edit("refreshers/demo.yaml", "metadata:\n", &annotated, "policy: approve the last wave");
    let outcome = world.once();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    assert_eq!(["batch", "web", "system"].map(on), [true, true, true]);
}

#[test]
fn a_person_rolls_back_by_a_commit_that_a_command_writes() {
    let world = World::new();
    assert_eq!(world.once().status.code(), Some(0));
    let image = world.active_image().expect("an image");
    let initial = world.seed["initial_image"].as_str().expect("an image").to_owned();
    let rollback = |args: &[&str]| {
        let mut opsy = world.opsy();
        opsy.args(["rollback", "ar/demo", "--reason", "loses packets"]).args(args).env("HOME", world.root());
        run(opsy)
    };
    let before = world.show("refreshers/demo.yaml").expect("the manifest");
    let shown = rollback(&["--dry-run"]);
    let added =
        format!("+  held:\n+    - ami: {image}\n+      reason: \"loses packets\"\n+  ami: {initial}\n");
    assert!(shown.status.success() && shown.stdout.contains(&added), "{shown:?}");
    assert!(
        shown.stdout.starts_with("diff --git a/refreshers/demo.yaml b/refreshers/demo.yaml\n"),
        "{shown:?}"
    );
    assert_eq!(
        shown.stdout.lines().filter(|line| line.starts_with('-')).count(),
        1,
        "nothing is removed: {shown:?}"
    );
    assert_eq!(world.show("refreshers/demo.yaml").as_ref(), Some(&before));
    let refused = rollback(&[]);
    assert!(refused.stderr.contains("set user.name and user.email"), "{refused:?}");

    let config = "[user]\n  name = Ada\n  email = ada@example.com\n";
    fs::write(world.root().join(".gitconfig"), config).expect("a file");
    let committed = rollback(&[]);
    let words = format!("amirefresher.ami.opsy.dev/default/demo returns to {initial}: commit ");
    assert!(committed.status.success() && committed.stdout.starts_with(&words), "{committed:?}");
    let subject = format!("Roll back AMIRefresher default/demo to {initial}");
    assert_eq!(world.log().first(), Some(&subject));
    let again = rollback(&["--to", &initial]);
    assert!(again.status.success() && again.stdout.contains("nothing to commit"), "{again:?}");

    assert_eq!(world.once().status.code(), Some(0));
    for name in ["batch", "web", "system"] {
        assert_eq!(world.group(name)["release_version"], initial, "{name}");
    }
    for (args, words) in [
        (&["--to", "i-1"][..], "invalid value 'i-1'"),
        (&["--path", "builders"], "no manifest below builders declares AMIRefresher default/demo"),
    ] {
        let refused = rollback(args);
        assert!(!refused.status.success() && refused.stderr.contains(words), "{refused:?}");
    }

    // Servers sign merges themselves: only an agent that verifies signatures refuses an unsigned commit.
    let key = keygen(world.root().join("key"), "ed25519", "");
    let key = key.to_str().expect("UTF-8");
    let signed = rollback(&["--to", "ami-0000000a", "--signing-key", key]);
    assert!(signed.status.success(), "{signed:?}");
    let raw = || world.git(&world.remote(), &["cat-file", "commit", "HEAD"]);
    assert!(raw().contains("gpgsig -----BEGIN SSH SIGNATURE-----"), "{}", raw());
    let unsigned = rollback(&["--to", "ami-0000000b"]);
    assert!(unsigned.status.success() && unsigned.stderr.is_empty(), "{unsigned:?}");
    assert!(!raw().contains("gpgsig"), "{}", raw());

    assert!(rollback(&["--to", "ami-0000000a", "--signing-key", key]).status.success());
    let (memory, kept) = (world.state().join("memory.json"), world.root().join("kept.json"));
    fs::rename(&memory, &kept).expect("moved");
    let unknown = rollback(&["--to", "ami-0000000b"]);
    assert!(unknown.status.success(), "{unknown:?}");
    assert!(unknown.stderr.contains("this one is not") && unknown.stderr.lines().count() == 1, "{unknown:?}");

    let signed = rollback(&["--to", "ami-0000000a", "--signing-key", key]);
    assert!(signed.status.success(), "{signed:?}");
    let tip = world.log();
    fs::rename(&kept, &memory).expect("moved back");
    let refused = rollback(&["--to", "ami-0000000b", "--verify", &format!("{key}.pub")]);
    assert_eq!((refused.status.code(), world.log()), (Some(1), tip.clone()), "{refused:?}");
    // The record of an agent that verifies.
    let record = fs::read(&memory).expect("the memory");
    let mut record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
    record["last"]["verified"] = record["last"]["commit"].clone();
    fs::write(&memory, record.to_string()).expect("written");
    let refused = rollback(&["--to", "ami-0000000b"]);
    assert_eq!((refused.status.code(), world.log()), (Some(1), tip), "{refused:?}");
    assert!(refused.stderr.contains("sign with --signing-key"), "{refused:?}");
    assert!(rollback(&["--to", "ami-0000000b", "--allow-unsigned"]).status.success());
    assert!(!raw().contains("gpgsig"), "{}", raw());
}

#[test]
fn problems_have_a_place_for_code_scanning() {
    let folder = tempfile::tempdir().expect("a directory");
    let manifest = fs::read_to_string(fixtures().join("repo/builders/node.yaml")).expect("a manifest");
    fs::create_dir(folder.path().join("builders")).expect("a directory");
    let broken = manifest.replace("  region: us-east-1\n", "  region: us-east-1\n  bogus: 1\n");
    fs::write(folder.path().join("builders/node.yaml"), broken).expect("written");
    let mut opsy = Command::new(env!("CARGO_BIN_EXE_opsy"));
    opsy.args(["validate", "--output", "sarif", "."]).current_dir(folder.path());
    let outcome = run(opsy);
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    let sarif: serde_json::Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(sarif["version"], "2.1.0");
    let results = sarif["runs"][0]["results"].as_array().expect("results");
    let found = results.iter().find(|result| result["message"]["text"].to_string().contains("bogus"));
    let place = &found.expect("the problem")["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "builders/node.yaml");
    assert_eq!(place["region"], serde_json::json!({ "startLine": 7, "startColumn": 3, "endColumn": 8 }));
}
