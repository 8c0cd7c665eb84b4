//! The state directory: two agents use it, its disk is full, it is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{builder_world, ready, run_folders, wait_for_calls, wait_for_image};
use crate::world::World;

#[test]
fn a_second_agent_on_the_folder_is_refused_and_the_first_goes_on() {
    let world = builder_world("");
    world.account.hold_images(1);
    let _first = world.agent();
    wait_for_calls(&world, "ec2:CreateImage", 1);
    for arguments in [&["run"][..], &["run", "--once"]] {
        let refused = world.run(arguments);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let words = format!("another opsy uses the state directory {}", world.state().display());
        assert!(refused.stderr.contains(&words), "{}", refused.stderr);
    }
    world.account.finish_images();
    wait_for_image(&world);
    assert_eq!(world.account.count("ec2:RunInstances"), 1);
}

#[test]
fn a_lost_folder_costs_no_build_and_no_rollout() {
    let world = World::new();
    let first = world.once();
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let (images, log, amis) = (world.our_images(), world.log(), world.amis());
    fs::remove_dir_all(world.state()).expect("the state directory is removed");
    world.account.clear_journal();

    let again = world.once();
    assert_eq!(again.status.code(), Some(0), "{again:?}");
    assert_eq!(world.account.writes(), Vec::<String>::new());
    assert_eq!((world.our_images(), world.log(), world.amis()), (images, log, amis));
}

#[test]
fn a_run_that_cannot_be_read_holds_up_its_own_builder_alone() {
    let world = builder_world("");
    world.account.hold_images(1);
    let agent = world.agent();
    wait_for_calls(&world, "ec2:CreateImage", 1);
    agent.kill();
    let (live, _) = run_folders(&world).pop().expect("a run");
    let name = live.file_name().expect("a name").to_string_lossy().into_owned();
    let facts = fs::read(live.join("facts.json")).expect("facts");
    fs::write(live.join("facts.json"), r#"{"format": 2}"#).expect("written");
    fs::create_dir_all(world.state().join("runs/notes")).expect("a directory of a person");
    let node = world.show("builders/node.yaml").expect("a builder");
    let other = node.replace("name: node\n", "name: other\n");
    let template = world.show("packer/node/node.pkr.hcl").expect("a template").replace("\"1\"", "\"2\"");
    // The live run may belong to this builder, whatever its inputs are.
    world.push(
        &[("builders/other.yaml", Some(&other)), ("packer/node/node.pkr.hcl", Some(&template))],
        "policy: another builder",
    );

    let agent = world.agent();
    world.wait("the image of the other builder", || {
        (world.ready("PackerBuilder", "other").0 == "ImageReady").then_some(())
    });
    world.wait("the message of the run's own builder", || {
        ready(&world).1.contains(&format!("run {name} cannot be read")).then_some(())
    });
    assert_eq!(world.account.count("ec2:RunInstances"), 2, "one build of each");
    let log = fs::read_to_string(world.agent_log()).expect("a log");
    for words in ["a builder called node starts nothing until then", "its name belongs to no builder"] {
        assert_eq!(log.matches(words).count(), 1, "logged once: {log}");
    }
    agent.kill();

    fs::write(live.join("facts.json"), facts).expect("written");
    let _agent = world.agent();
    world.account.finish_images();
    world.wait("the result to be collected", || {
        world.results("node").contains(&"Succeeded".to_owned()).then_some(())
    });
}

/// A small disk that is mounted at the state directory until this value is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` if this user may not mount.
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir_all(at).expect("a directory");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(at).status();
        mounted.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }

    fn fill(&self) {
        let whole = vec![0; 8 << 20];
        fs::write(self.0.join("filler"), whole).expect_err("the disk is smaller than that");
    }

    fn set_read_only(&self) {
        let mounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status();
        assert!(mounted.expect("mount runs").success(), "a small disk can be remounted read-only");
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).expect("the filler is removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a build may still have a directory open.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_starts_nothing_and_builds_continue_when_there_is_room() {
    let world = builder_world("");
    let Some(disk) = SmallDisk::mount(&world.state()) else {
        eprintln!("SKIPPED: mounting a small disk requires root; a full disk was not tested");
        return;
    };
    let agent = world.agent();
    let image = wait_for_image(&world);
    world.wait("the run to be forgotten", || run_folders(&world).is_empty().then_some(()));
    agent.kill();
    disk.fill();
    world.account.post("base-image", json!({ "version": "20260901" }));
    // After a restart it looks up base images immediately.
    let _agent = world.agent();
    let log = world.wait("the full disk in the log", || {
        let log = fs::read_to_string(world.agent_log()).unwrap_or_default();
        (log.contains("No space left on device") && log.contains("nothing new is started")).then_some(log)
    });
    assert!(log.contains(&format!("the state directory {}", world.state().display())), "{log}");
    assert!(log.contains("free disk space there, or allow Opsy to write there"), "{log}");
    assert_eq!(world.account.count("ec2:RunInstances"), 1, "nothing new");
    assert_eq!(run_folders(&world), []);
    assert_eq!(world.active_image(), Some(image.clone()), "the existing image stays");

    disk.free();
    let newer = world
        .wait("an image of the newer base image", || world.active_image().filter(|newer| *newer != image));
    assert_eq!(world.account.count("ec2:RunInstances"), 2);
    assert_eq!(world.our_images().len(), 2, "{newer}");
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named_with_the_reason_and_the_remedy() {
    let world = builder_world("");
    let Some(disk) = SmallDisk::mount(&world.state()) else {
        eprintln!("SKIPPED: mounting a small disk requires root; an unwritable directory was not tested");
        return;
    };
    let refused = |reason: &str| {
        let outcome = world.once();
        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        let directory = format!("the state directory {}", world.state().display());
        for words in [directory.as_str(), reason, "free disk space there", "--state"] {
            assert!(outcome.stderr.contains(words), "{words}: {outcome:?}");
        }
    };
    disk.fill();
    refused("No space left on device");
    disk.free();
    assert!(world.once().status.success(), "there is room again");
    disk.set_read_only();
    refused("Read-only file system");
    let suspended = world.run(&["suspend", "pb/node"]);
    assert_eq!(suspended.status.code(), Some(1));
    let directory = format!("cannot write to the state directory {}", world.state().display());
    assert!(suspended.stderr.contains(&directory) && suspended.stderr.contains("Read-only"), "{suspended:?}");
    assert_eq!(world.account.count("ec2:RunInstances"), 1);
}
