//! Remotes that require credentials, are empty, lack the branch, are unreachable for a while, refuse pushes, or were
//! rewritten, and status on a branch of its own.

use std::fs;
use std::time::{Duration, Instant};

use super::{assert_nowhere, builder, builds, push_node, settings, wait_for_node};
use crate::files::files_in;
use crate::git::bed::FREEZE;
use crate::world::{World, fixtures, template};

const PASSWORD: &str = "pw-5up3r-s3cr3t-git";

/// A hook that refuses the commits of Opsy, but not those of people.
const FREEZE_STATUS: &str = "read -r old new ref
case \"$(git log -1 --format=%s \"$new\")\" in opsy:*) echo 'status is frozen' >&2; exit 1;; esac";

/// Less than the time that the agent gives running reconciles to end.
const AT_ONCE: Duration = Duration::from_secs(20);

/// The arguments of all processes.
fn arguments() -> String {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    // A process may end in the meantime.
    let read = |process: fs::DirEntry| fs::read(process.path().join("cmdline")).unwrap_or_default();
    processes.map(read).map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
}

#[test]
fn a_remote_that_cannot_be_read_is_told_and_a_password_stays_secret() {
    let world = World::served(Some(&format!("agent:{PASSWORD}")));
    let right = [("OPSY_GIT_USERNAME", "agent"), ("OPSY_GIT_PASSWORD", PASSWORD)];
    let wrong = [("OPSY_GIT_USERNAME", "agent"), ("OPSY_GIT_PASSWORD", "pw-of-yesterday")];
    let fails = |variables: &[(&str, &str)], words: &str| {
        let outcome = world.once_with(variables);
        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains(PASSWORD) && !outcome.stderr.contains("pw-of-yesterday"));
    };
    fails(&[], "requires credentials, but none are set");
    fails(&wrong, "refuses the credentials");
    fails(&right, "has no commit yet: push a first one");
    push_node(&world, "");
    fails(&[right[0], right[1], ("OPSY_BRANCH", "mian")], "has no branch \"mian\", only main");
    assert_eq!(world.account.calls(), Vec::<String>::new(), "nothing is touched");

    let file = world.root().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).expect("a file");
    let mut opsy = world.opsy();
    opsy.env("OPSY_GIT_USERNAME", "agent").env("OPSY_GIT_PASSWORD_FILE", &file);
    let agent = world.start(opsy);
    world.wait("a published image", || {
        assert!(!arguments().contains(PASSWORD), "no process has the password in its arguments");
        (world.amis().get("default/node").is_some()).then_some(())
    });
    wait_for_node(&world);
    assert!(agent.stop().success());
    assert_nowhere(&world, PASSWORD);
}

#[test]
fn work_goes_on_while_the_remote_is_away() {
    let world = World::served(None);
    let server = world.server.as_ref().expect("a server");
    push_node(&world, "");
    server.away(Some("refuse"));
    let agent = world.agent();
    let says = |words: &str| {
        let log = fs::read_to_string(world.agent_log()).unwrap_or_default();
        log.contains(words).then_some(())
    };
    world.wait("the outage in the log", || says("nothing is reconciled until it can be"));
    server.away(None);
    let image = wait_for_node(&world);
    world.wait("its status in Git", || {
        (world.amis()["default/node"]["us-east-1"]["x86_64"] == image.as_str()).then_some(())
    });

    server.away(Some("503"));
    let newer = template().replace("default = \"1\"", "default = \"2\"");
    world.push(&[("packer/node/node.pkr.hcl", Some(&newer))], "policy: second");
    world.wait("the second outage in the log", || says("503"));
    assert_eq!(world.active_image(), Some(image.clone()));
    server.away(None);
    let newest = world.wait("the second image", || world.active_image().filter(|active| *active != image));
    world.wait("its status in Git", || {
        (world.amis()["default/node"]["us-east-1"]["x86_64"] == newest.as_str()).then_some(())
    });
    assert!(agent.stop().success());
    assert_eq!(builds(&world), 2);
}

#[test]
fn a_restart_while_the_remote_is_away_uses_the_last_commit() {
    let world = World::served(None);
    let server = world.server.as_ref().expect("a server");
    push_node(&world, "");
    assert_eq!(world.once().status.code(), Some(0));
    let image = world.active_image().expect("an image");
    server.away(Some("refuse"));
    let refused = world.once();
    assert_eq!(refused.status.code(), Some(1), "with --once, an unreachable remote is an error: {refused:?}");

    world.account.post("base-image", serde_json::json!({ "version": "20260901" }));
    let agent = world.agent();
    let newer = world
        .wait("an image of the newer base image", || world.active_image().filter(|active| *active != image));
    let log = fs::read_to_string(world.agent_log()).expect("a log");
    assert!(log.contains("starting from the commit that was fetched last"), "{log}");
    server.away(None);
    world.wait("its status in Git", || {
        (world.amis()["default/node"]["us-east-1"]["x86_64"] == newer.as_str()).then_some(())
    });
    assert!(agent.stop().success());
    assert_eq!(builds(&world), 2);
}

#[test]
fn an_agent_that_never_got_going_ends_at_once_and_takes_nothing_away() {
    let world = World::served(None);
    let server = world.server.as_ref().expect("a server");
    push_node(&world, "");
    assert_eq!(world.once().status.code(), Some(0));
    let log = world.log();
    fs::remove_dir_all(world.state()).expect("the state directory");
    let says = |words: &str| {
        let log = fs::read_to_string(world.agent_log()).unwrap_or_default();
        log.contains(words).then_some(())
    };
    server.away(Some("refuse"));
    let agent = world.agent();
    world.wait("the outage in the log", || says("nothing is reconciled until it can be"));
    let start = Instant::now();
    assert!(agent.stop().success());
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());

    // A file takes the place of a directory, so that no object can be stored.
    fs::remove_file(world.agent_log()).expect("a log");
    let agent = world.agent();
    world.wait("the outage in the log", || says("nothing is reconciled until it can be"));
    fs::create_dir_all(world.state().join("objects")).expect("a directory");
    fs::write(world.state().join("objects/PackerBuilder"), "").expect("a file");
    server.away(None);
    world.wait("the error in the log", || says("the commit cannot be loaded"));
    assert!(agent.stop().success());
    assert_eq!(world.log(), log, "its status stays in Git");
    fs::remove_dir_all(world.state()).expect("the state directory");
    assert_eq!(world.once().status.code(), Some(0));
    assert_eq!((builds(&world), world.log()), (1, log));
}

#[test]
fn a_commit_that_could_not_be_loaded_is_retried_without_a_new_one() {
    let world = World::served(None);
    let server = world.server.as_ref().expect("a server");
    push_node(&world, "");
    let says = |words: &str, count: usize| {
        let log = fs::read_to_string(world.agent_log()).unwrap_or_default();
        (log.matches(words).count() >= count).then_some(())
    };
    server.away(Some("refuse"));
    let agent = world.agent();
    world.wait("the agent to run", || says("nothing is reconciled until it can be", 1));
    // A file takes the place of a directory, so that no object can be stored.
    fs::create_dir_all(world.state().join("objects")).expect("a directory");
    let obstacle = world.state().join("objects/PackerBuilder");
    fs::write(&obstacle, "").expect("a file");
    server.away(None);
    world.wait("the error in the log, twice", || says("the commit cannot be loaded", 2));
    assert_eq!(world.account.calls(), Vec::<String>::new(), "nothing is reconciled");
    fs::remove_file(&obstacle).expect("the obstacle is removed");
    wait_for_node(&world);
    assert!(agent.stop().success());
}

#[test]
fn a_refusing_hook_holds_up_status_alone() {
    let world = World::served(None);
    let server = world.server.as_ref().expect("a server");
    world.push_folder(&fixtures().join("repo"), "policy: first");
    server.remote().hook("pre-receive", FREEZE);
    let refused = world.once();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let words = "status is frozen: ask the platform team";
    assert!(
        refused.stderr.contains("the push of status was refused") && refused.stderr.contains(words),
        "{refused:?}"
    );
    let image = world.active_image().expect("an image");
    for group in ["system", "web", "batch"] {
        assert_eq!(world.group(group)["release_version"], image.as_str(), "{group}");
    }
    assert_eq!(world.log(), ["policy: first"]);
    let message = world.saved_condition("PushRefused").expect("the status of the repository");
    assert!(message.contains(words), "{message}");

    let agent = world.agent();
    let says_so = || fs::read_to_string(world.agent_log()).ok()?.contains(words).then_some(());
    world.wait("the refusal in the log", says_so);
    for (kind, name) in [("PackerBuilder", "node"), ("AMIRefresher", "demo")] {
        assert_eq!(world.condition(kind, name, "Published"), None, "the repository reports it");
        let ready = world.condition(kind, name, "Ready").expect("a status");
        assert_eq!(ready[0], "True", "{ready:?}");
    }
    let table = world.run(&["status", "--output", "text"]).stdout;
    let line = table.lines().find(|line| line.starts_with("Published")).expect("it is shown");
    let due = format!("PushRefused  pre-receive hook declined: {words}");
    assert!(line.contains("False") && line.contains(&due), "{table}");

    server.remote().unhook("pre-receive");
    assert!(agent.stop().success(), "it publishes before it ends");
    assert_eq!(world.log().len(), 2, "{:?}", world.log());
    assert_eq!(world.amis()["default/node"]["us-east-1"]["x86_64"], image.as_str());
    let _agent = world.agent();
    world.wait("the end of the refusal", || world.saved_condition("PushRefused").is_none().then_some(()));
    assert_eq!(builds(&world), 1);
}

#[test]
fn a_refusal_is_reported_once_and_not_by_each_object() {
    const OBJECTS: usize = 30;
    let world = World::served(None);
    let server = world.server.as_ref().expect("a server");
    push_suspended(&world, "first", 0..OBJECTS);
    let agent = world.agent();
    world.wait("the status of all objects in Git", || {
        let has = |number| world.show(&suspended_status(number)).is_some();
        (0..OBJECTS).all(has).then_some(())
    });
    let statuses = || files_in(&world.state(), &world.state().join("objects"));
    let before = statuses();
    assert!(before.len() >= OBJECTS, "{before:?}");

    server.remote().hook("pre-receive", FREEZE_STATUS);
    push_suspended(&world, "one more", OBJECTS..OBJECTS + 1);
    world.wait("the refusal", || world.saved_condition("PushRefused"));
    server.remote().unhook("pre-receive");
    assert!(agent.stop().success(), "it publishes before it ends");
    assert!(world.show(&suspended_status(OBJECTS)).is_some());
    let after = statuses();
    let written: Vec<_> = before.iter().filter(|file| !after.contains(file)).collect();
    assert_eq!(written, Vec::<&(String, String)>::new(), "no status reports it");
    let log = fs::read_to_string(world.agent_log()).expect("a log");
    let notes = log.lines().filter(|line| line.contains("\"object\"") && line.contains("PushRefused"));
    assert_eq!(notes.collect::<Vec<_>>(), Vec::<&str>::new(), "nothing is reported per object");

    let _agent = world.agent();
    world.wait("the end of the refusal", || world.saved_condition("PushRefused").is_none().then_some(()));
    assert_eq!(statuses(), after, "its end changes no status either");
}

/// Pushes suspended builders with these numbers.
fn push_suspended(world: &World, message: &str, numbers: std::ops::Range<usize>) {
    let file = |number| {
        let text = builder(&format!("s{number}"), "packer", "", "  suspend: true\n");
        (format!("builders/s{number}.yaml"), text)
    };
    let files: Vec<(String, String)> =
        numbers.map(file).chain([("opsy.yaml".to_owned(), settings(""))]).collect();
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), Some(text.as_str()))).collect();
    world.push(&files, message);
}

fn suspended_status(number: usize) -> String {
    format!("status/default/packerbuilders/s{number}.yaml")
}

#[test]
fn a_rewritten_branch_is_held_back_until_a_person_accepts_it() {
    let world = World::served(None);
    push_node(&world, "");
    let agent = world.agent();
    let image = wait_for_node(&world);
    world.wait("its status in Git", || world.amis().get("default/node").map(|_| ()));
    let first = world.git(&world.remote(), &["rev-list", "--max-parents=0", "main"]).trim().to_owned();
    let server = world.server.as_ref().expect("a server");
    let builder = world.show("builders/node.yaml").expect("the builder");
    let newer = template().replace("default = \"1\"", "default = \"2\"");
    let settings = settings("");
    let files = [
        ("opsy.yaml", Some(settings.as_str())),
        ("builders/node.yaml", Some(&builder)),
        ("packer/node/node.pkr.hcl", Some(&newer)),
    ];
    let tip = server.remote().rewrite("main", &files);
    let said = world.wait("the tip to be held back", || world.saved_condition("BranchRewritten"));
    assert!(said.contains(&format!("`opsy accept {tip}`")) && said.contains(&first), "{said}");
    let shown = world.run(&["status", "--output", "text"]);
    let line = shown.stdout.lines().find(|line| line.contains("BranchRewritten")).expect("it is shown");
    assert!(line.contains(&tip) && line.contains(&first), "{line}");
    assert!(agent.stop().success());
    assert_eq!((world.log(), builds(&world)), (vec!["by hand".to_owned()], 1), "nothing is pushed or built");

    // The clone is deleted, as with a pod: the agent's state is stored elsewhere.
    fs::remove_dir_all(world.state().join("clone")).expect("the clone");
    let log = world.root().join("second.log");
    let agent = world.start_logged(world.opsy(), &log);
    let again = world.wait("the tip to be held back again", || {
        world.saved_condition("BranchRewritten").filter(|said| said.contains("cannot be loaded"))
    });
    assert!(again.contains(&tip) && again.contains(&first), "{again}");
    let other = world.run(&["accept", &first]);
    assert!(other.status.success() && other.stdout.contains("is accepted"), "{other:?}");
    let asked = world.state().join("asked/accept.json");
    world.wait("the request to be handled", || (!asked.exists()).then_some(()));
    assert_eq!((world.log(), builds(&world)), (vec!["by hand".to_owned()], 1), "another commit was accepted");
    assert!(world.run(&["accept", &tip]).status.success());
    let newest =
        world.wait("the image of the new history", || world.active_image().filter(|active| *active != image));
    world.wait("its status in Git", || {
        (world.amis()["default/node"]["us-east-1"]["x86_64"] == newest.as_str()).then_some(())
    });
    world.wait("the end of the hold", || world.saved_condition("BranchRewritten").is_none().then_some(()));
    assert!(agent.stop().success());
    let log = world.log();
    assert_eq!((log.last().map(String::as_str), builds(&world)), (Some("by hand"), 2), "{log:?}");
    assert!(
        log[..log.len() - 1].iter().all(|subject| subject.starts_with("opsy: ")),
        "nothing old came back: {log:?}"
    );
}

#[test]
fn status_goes_nowhere_or_to_a_branch_of_its_own() {
    let world = World::served(None);
    push_node(&world, "  enabled: false\n");
    let off = world.once();
    assert_eq!(off.status.code(), Some(0), "{off:?}");
    assert_eq!(world.log(), ["policy: first"]);
    let shown = world.run(&["status", "--output", "text"]).stdout;
    assert!(!shown.contains("Published"), "the repository wants it so: {shown}");

    world.edit("opsy.yaml", "enabled: false", "branch: opsy-status", "policy: publish");
    let elsewhere = world.once();
    assert_eq!(elsewhere.status.code(), Some(0), "{elsewhere:?}");
    assert_eq!(world.log(), ["policy: publish", "policy: first"]);
    let files = world.git(&world.remote(), &["ls-tree", "-r", "--name-only", "opsy-status"]);
    assert!(
        files.contains("status/amis.json") && files.lines().all(|file| file.starts_with("status/")),
        "{files}"
    );
    let tip = world.git(&world.remote(), &["log", "--format=%P%s", "opsy-status"]);
    assert!(tip.lines().count() == 1 && tip.starts_with("opsy: "), "one commit without parents: {tip}");

    fs::remove_dir_all(world.state()).expect("the state directory");
    let anew = world.once();
    assert_eq!(anew.status.code(), Some(0), "{anew:?}");
    assert_eq!((builds(&world), world.log().len()), (1, 2), "the status is restored from Git");
}
