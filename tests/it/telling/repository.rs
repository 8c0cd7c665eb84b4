//! Notifications about the repository itself: broken files, refused pushes, the daily digest, and objects without a
//! notifier.

use super::*;
use crate::git::bed::FREEZE;
use crate::world::fixtures;

/// The `opsy.yaml` of the fixture with a notifier.
const EVERYBODY: &str = "agentID: test\npublish:\n  quietPeriod: 100ms\nnotifier:\n  slack:\n    \
    channelIDs: [C0DEMO0001]\n    secret: team-slack\n";

/// An environment whose objects have no notifier, and whose `opsy.yaml` has one.
fn everybody(further: &str) -> World {
    let world = World::new();
    settings(&world, further);
    world
}

fn settings(world: &World, further: &str) {
    world.push(&[("opsy.yaml", Some(&format!("{EVERYBODY}{further}")))], "policy: notify the team");
}

#[test]
fn objects_without_a_notifier_and_broken_files_are_reported_once_to_the_notifier_of_opsy_yaml() {
    let (world, chat) = (everybody(""), Chat::start());
    assert_eq!(once(&world, &chat), Some(0));
    assert_eq!(threads(&chat).len(), 2, "a build and a rollout: {:#?}", threads(&chat));

    let broken = "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: web\nspec:\n  regoin: x\n";
    world.push(&[("builders/web.yaml", Some(broken))], "policy: add web");
    assert_eq!(once(&world, &chat), Some(2));
    let told = chat.messages(CHANNEL).pop().expect("a message").to_string();
    for words in ["needs attention: ManifestBroken", "builders/web.yaml:6", "regoin", "policy: add web"] {
        assert!(told.contains(words), "{words} in {told}");
    }
    // Another person breaks the manifest of an existing object.
    world.edit("builders/node.yaml", "  region:", "  regoin:", "policy: tidy up");
    assert_eq!(once(&world, &chat), Some(2));
    let told = threads(&chat);
    assert_eq!(told.len(), 3, "{told:#?}");
    assert_eq!(told[2].len(), 2, "{told:#?}");
    assert!(
        told[2][1].starts_with("(to all)") && told[2][1].contains("builders/node.yaml is broken"),
        "{told:#?}"
    );
    let told = chat.messages(CHANNEL).pop().expect("a message");
    assert!(told["replies"].to_string().contains("policy: tidy up"), "it names the commit: {told}");
    let said = chat.calls().len();
    assert_eq!(once(&world, &chat), Some(2));
    assert_eq!(chat.calls().len(), said, "no message if nothing changed");

    world.edit("builders/node.yaml", "  regoin:", "  region:", "policy: fix it");
    world.push(&[("builders/web.yaml", None)], "policy: no web");
    assert_eq!(once(&world, &chat), Some(0));
    let told = threads(&chat).pop().expect("a thread");
    assert!(told.iter().any(|told| told.contains("ManifestBroken is resolved")), "{told:#?}");
    assert_eq!(threads(&chat).len(), 3, "{:#?}", threads(&chat));
}

#[test]
fn a_branch_that_takes_no_push_is_told_once_whatever_number_of_objects_waits_and_restarts() {
    let (world, chat) = (World::served(None), Chat::start());
    let server = world.server.as_ref().expect("a server");
    world.push_folder(&fixtures().join("repo"), "policy: first");
    settings(&world, "");
    server.remote().hook("pre-receive", FREEZE);
    let is_told =
        |words: &str| threads(&chat).iter().flatten().any(|told| told.contains(words)).then_some(());
    let agent = world.start(opsy(&world, &chat));
    world.wait("the refusal", || is_told("needs attention: PushRefused"));
    let memory = world.state().join("memory.json");
    world.wait("the notification to be saved", || {
        let memory: Value = serde_json::from_slice(&std::fs::read(&memory).ok()?).ok()?;
        let sent = |told: &&Value| {
            told["messageID"].is_string() && told["thread"].to_string().contains("PushRefused")
        };
        memory["notifications"].as_array()?.iter().find(sent).map(drop)
    });
    agent.kill();
    let log = world.root().join("second.log");
    let agent = world.start_logged(opsy(&world, &chat), &log);
    let refused = || std::fs::read_to_string(&log).ok()?.contains("status is frozen").then_some(());
    world.wait("the next refusal", refused);
    server.remote().unhook("pre-receive");
    assert!(agent.stop().success(), "it publishes before it ends");
    let _agent = world.start(opsy(&world, &chat));
    // Only a commit of Opsy shows that the branch accepts pushes again.
    world.wait("the message of the recovery", || is_told("PushRefused is resolved"));
    let told = threads(&chat);
    let refusals: Vec<_> = told.iter().filter(|thread| thread[0].contains("PushRefused")).collect();
    assert!(refusals.len() == 1 && refusals[0].len() == 2, "{told:#?}");
}

#[test]
fn a_day_has_one_digest() {
    let (world, chat) = (everybody(""), Chat::start());
    let digest = |zone: &str| format!("digest: {{time: \"00:00\", timeZone: {zone}}}\n");
    // The second time zone is 26 hours ahead of the first, so that it is always a later day there.
    settings(&world, &digest("Etc/GMT+12"));
    assert_eq!(once(&world, &chat), Some(0));
    assert_eq!(
        threads(&chat).len(),
        2,
        "no digest on the day on which it is configured: {:#?}",
        threads(&chat)
    );
    settings(&world, &digest("Pacific/Kiritimati"));
    change_template(&world, "policy: another day");
    assert_eq!(once(&world, &chat), Some(0));
    let told = threads(&chat);
    assert_eq!(told.len(), 5, "a build, a rollout and the digest: {told:#?}");
    assert!(told[4][0].contains("1 builder and 1 refresher, all healthy"), "{told:#?}");
    let words = chat.messages(CHANNEL).pop().expect("a digest").to_string();
    let image = world.active_image().expect("an image");
    assert!(words.contains(&format!("node {image}")) && words.contains(&format!("demo {image}")), "{words}");
    let said = chat.calls().len();
    assert_eq!(once(&world, &chat), Some(0));
    assert_eq!(chat.calls().len(), said, "one digest per day");
}
