//! What people read of the repository itself: files that are broken, pushes that are refused, the digest of
//! the day, and objects that name nobody.

use super::*;

/// Whom `opsy.yaml` names, beside what the fixture's says.
const EVERYBODY: &str = "agentID: test\npublish:\n  quietPeriod: 100ms\nnotifier:\n  slack:\n    \
    channelIDs: [C0DEMO0001]\n    secret: team-slack\n";

/// A world whose objects name nobody, and whose settings name a team.
fn everybody(further: &str) -> World {
    let world = World::new();
    settings(&world, further);
    world
}

fn settings(world: &World, further: &str) {
    world.push(&[("opsy.yaml", Some(&format!("{EVERYBODY}{further}")))], "policy: tell the team");
}

#[test]
fn who_is_told_of_everything_is_told_of_objects_that_name_nobody_and_of_broken_files_once() {
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
    // Somebody else breaks the file of an object that is there.
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
    assert!(told["replies"].to_string().contains("policy: tidy up"), "whose it was: {told}");
    let said = chat.calls().len();
    assert_eq!(once(&world, &chat), Some(2));
    assert_eq!(chat.calls().len(), said, "nothing when nothing changed");

    world.edit("builders/node.yaml", "  regoin:", "  region:", "policy: mend it");
    world.push(&[("builders/web.yaml", None)], "policy: no web");
    assert_eq!(once(&world, &chat), Some(0));
    let told = threads(&chat).pop().expect("a thread");
    assert!(told.iter().any(|told| told.contains("ManifestBroken is over")), "{told:#?}");
    assert_eq!(threads(&chat).len(), 3, "{:#?}", threads(&chat));
}

/// Refuses commits of ours.
const FREEZE: &str = "while read -r old new ref; do
  case \"$(git log -1 --format=%s \"$new\")\" in opsy:*) echo 'status is frozen' >&2; exit 1;; esac
done";

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
    world.wait("it to be kept", || {
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
    assert!(agent.stop().success(), "the last thing it does is to publish");
    let _agent = world.start(opsy(&world, &chat));
    // A commit of ours is needed before it is known that the branch takes them.
    world.wait("the end", || is_told("PushRefused is over"));
    let told = threads(&chat);
    let refusals: Vec<_> = told.iter().filter(|thread| thread[0].contains("PushRefused")).collect();
    assert!(refusals.len() == 1 && refusals[0].len() == 2, "{told:#?}");
}

#[test]
fn a_day_has_one_digest() {
    let (world, chat) = (everybody(""), Chat::start());
    let digest = |zone: &str| format!("digest: {{time: \"00:00\", timeZone: {zone}}}\n");
    // Twelve hours behind Greenwich it is one day, fourteen before it always a later one.
    settings(&world, &digest("Etc/GMT+12"));
    assert_eq!(once(&world, &chat), Some(0));
    assert_eq!(threads(&chat).len(), 2, "none on the day it is asked for: {:#?}", threads(&chat));
    settings(&world, &digest("Pacific/Kiritimati"));
    change_template(&world, "policy: another day");
    assert_eq!(once(&world, &chat), Some(0));
    let told = threads(&chat);
    assert_eq!(told.len(), 5, "a build, a rollout and the digest: {told:#?}");
    assert!(told[4][0].contains("1 builder and 1 refresher, all well"), "{told:#?}");
    let words = chat.messages(CHANNEL).pop().expect("a digest").to_string();
    let image = world.active_image().expect("an image");
    assert!(words.contains(&format!("node {image}")) && words.contains(&format!("demo {image}")), "{words}");
    let said = chat.calls().len();
    assert_eq!(once(&world, &chat), Some(0));
    assert_eq!(chat.calls().len(), said, "once a day");
}
