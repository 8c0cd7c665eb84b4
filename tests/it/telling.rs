//! Notifications of the whole agent in Slack: threads of successful and failed builds and rollouts, many failures at
//! once, an outage of Slack, and problems that a person must fix.

mod repository;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chat::{CHANNEL, Chat, TOKEN, threads};
use crate::world::{World, fixture, run, template};

/// As in the operator's manifests.
const NOTIFIER: &str =
    "spec:\n  notifier:\n    slack:\n      channelIDs: [C0DEMO0001]\n      secret: team-slack\n";

/// An environment whose builder and refresher notify a team.
fn told() -> World {
    let world = World::new();
    world.edit("builders/node.yaml", "spec:\n", NOTIFIER, "policy: notify the team of builds");
    world.edit("refreshers/demo.yaml", "spec:\n", NOTIFIER, "policy: notify the team of rollouts");
    world
}

fn opsy(world: &World, chat: &Chat) -> Command {
    let mut opsy = world.opsy();
    opsy.env("OPSY_SLACK_API", format!("{}/api/", chat.url));
    opsy.env("OPSY_SECRET_DEFAULT_TEAM_SLACK__TOKEN", TOKEN);
    opsy
}

fn once(world: &World, chat: &Chat) -> Option<i32> {
    let mut opsy = opsy(world, chat);
    opsy.args(["run", "--once"]);
    run(opsy).status.code()
}

/// Number of messages that ping a person or channel.
fn pings(chat: &Chat) -> usize {
    let all = chat.messages(CHANNEL);
    let replies = all.iter().flat_map(|first| first["replies"].as_array().cloned().unwrap_or_default());
    let all: Vec<Value> = all.iter().cloned().chain(replies).collect();
    all.iter().filter(|message| message["pings"].as_array().is_some_and(|pings| !pings.is_empty())).count()
}

/// Changes the template, so that a new image is due.
fn change_template(world: &World, message: &str) {
    let template = format!("{}\n# {message}\n", template());
    world.push(&[("packer/node/node.pkr.hcl", Some(&template))], message);
}

fn refused(chat: &Chat) -> Vec<Value> {
    chat.calls().into_iter().filter(|call| call[1] != 200 || !call[2].is_null()).collect()
}

#[test]
fn a_good_build_and_rollout_are_a_thread_each_and_nothing_more_is_said() {
    let (world, chat) = (told(), Chat::start());
    assert_eq!(once(&world, &chat), Some(0));
    let told = threads(&chat);
    let image = world.active_image().expect("an image");
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(told[0][0].contains(&format!("node: built {image}")), "{told:#?}");
    assert!(told[1][0].contains(&format!("demo: rolled out {image}")), "{told:#?}");
    assert!(told[1].last().is_some_and(|last| last.contains("all node groups run")), "{told:#?}");
    let first = chat.messages(CHANNEL)[0].to_string();
    assert!(first.contains("notify the team of rollouts"), "it names the commit: {first}");
    assert_eq!((pings(&chat), refused(&chat)), (0, Vec::<Value>::new()));

    let said = chat.calls().len();
    assert_eq!(once(&world, &chat), Some(0));
    assert_eq!(chat.calls().len(), said, "no message if nothing changed");
    let file = world.show("status/default/packerbuilders/node.yaml").expect("a status file");
    assert!(!file.contains("notifications"), "notifications are not part of a published status: {file}");
}

#[test]
fn a_failed_build_is_announced_once_and_so_is_its_recovery() {
    let (world, chat) = (told(), Chat::start());
    world.edit(
        "builders/node.yaml",
        "  builder:\n",
        "  failurePolicy:\n    backoff: 1s\n  builder:\n",
        "policy: try soon",
    );
    world
        .account
        .fault(json!({ "kind": "error", "operation": "RunInstances", "code": "InsufficientInstanceCapacity",
        "message": "no room <!channel>", "status": 400, "count": 2 }));
    let _agent = world.start(opsy(&world, &chat));
    world.wait("the message of the recovery", || {
        threads(&chat).first()?.iter().any(|told| told.contains("recovered: built")).then_some(())
    });
    world
        .wait("the image in the first message", || threads(&chat)[0][0].contains("built ami-").then_some(()));
    let told = threads(&chat);
    let builds: Vec<&Vec<String>> = told.iter().filter(|thread| thread[0].contains("node: built")).collect();
    assert_eq!(builds.len(), 1, "one thread for all attempts: {told:#?}");
    let loud: Vec<&String> = builds[0].iter().filter(|told| told.starts_with("(to all)")).collect();
    assert_eq!(loud.len(), 2, "the first failure and the recovery: {told:#?}");
    assert!(loud[0].contains("failed") && loud[1].contains("recovered: built"), "{told:#?}");
    assert_eq!(pings(&chat), 0, "text from AWS pings no one");
    eprintln!("{told:#?}");
}

#[test]
fn a_failed_rollout_is_announced_once_and_so_is_the_next_that_works() {
    let (world, chat) = (told(), Chat::start());
    world
        .account
        .fault(json!({ "kind": "nodegroup-update-fails", "errorCode": "PodEvictionFailure", "count": 1 }));
    assert_eq!(once(&world, &chat), Some(2));
    let failed = threads(&chat);
    assert_eq!(failed.len(), 2, "a build and a rollout: {failed:#?}");
    let loud = |thread: &[String]| thread.iter().filter(|told| told.starts_with("(to all)")).count();
    assert_eq!(loud(&failed[1]), 1, "{failed:#?}");
    let failures = failed[1][1..].iter().filter(|told| told.contains("could not be moved"));
    assert_eq!(failures.count(), 1, "the failure is one message: {failed:#?}");
    assert_eq!(once(&world, &chat), Some(2));
    assert_eq!(threads(&chat), failed, "no message if nothing changed");

    change_template(&world, "policy: fix it");
    assert_eq!(once(&world, &chat), Some(0));
    let told = threads(&chat);
    assert_eq!(told.len(), 4, "{told:#?}");
    assert_eq!(loud(&told[3]), 1, "the recovery: {told:#?}");
    eprintln!("{told:#?}");
}

/// An environment with two hundred refreshers that are all denied the same call.
fn denied(further: &str) -> World {
    let refresher = fixture("refreshers/demo.yaml")
        .replace("controllerTimer: 10s", "controllerTimer: 1h")
        .replace("  amiFrom:\n    packerBuilder: node\n", "  refreshConfig:\n    enable: false\n")
        .replacen("spec:\n", further, 1);
    let refreshers: Vec<(String, String)> = (0..200)
        .map(|number| {
            let text = refresher.replace("name: demo\n", &format!("name: demo-{number}\n"));
            (format!("refreshers/{number}.yaml"), text)
        })
        .collect();
    let files: Vec<(&str, Option<&str>)> =
        refreshers.iter().map(|(path, text)| (path.as_str(), Some(text.as_str()))).collect();
    let world = World::empty();
    world.push(&files, "policy: two hundred");
    world.account.fault(json!({ "kind": "deny", "service": "eks", "operation": "ListNodegroups" }));
    world
}

/// Time until the status of all of them reports the denial.
fn all_denied(world: &World, begun: Instant) -> Duration {
    world.wait("all to be denied", || {
        let all = world.run(&["status", "--output", "json"]).stdout;
        let all: Value = serde_json::from_str(&all).ok()?;
        let says = |object: &&Value| object["status"]["conditions"].to_string().contains("AwsDenied");
        (all.as_array()?.iter().filter(says).count() == 200).then_some(())
    });
    begun.elapsed()
}

#[test]
fn two_hundred_failures_of_one_cause_are_one_message_and_delay_nobody() {
    let (untold, chat) = (denied("spec:\n"), Chat::start());
    let begun = Instant::now();
    let agent = untold.start(opsy(&untold, &chat));
    let without = all_denied(&untold, begun);
    drop(agent);

    let world = denied(NOTIFIER);
    // A reconcile that waited for Slack would take long.
    chat.control("faults", json!({ "kind": "slow", "place": "chat", "seconds": 2, "count": 1 }));
    let begun = Instant::now();
    let _agent = world.start(opsy(&world, &chat));
    let with = all_denied(&world, begun);
    world.wait("the one message", || threads(&chat).first()?[0].contains("200 objects fail").then_some(()));
    assert_eq!(threads(&chat).len(), 1, "{:#?}", threads(&chat));
    assert_eq!(refused(&chat), Vec::<Value>::new(), "the rate limit is respected");
    let calls = chat.calls().len();
    assert!(calls <= 4, "{:#?}", chat.calls());
    assert!(
        with < without + Duration::from_secs(10),
        "no reconcile waits for Slack: {with:?}, {without:?} without it"
    );
    eprintln!(
        "200 failures: in all statuses after {with:?} ({without:?} without Slack), sent in {calls} calls"
    );

    world.account.clear_faults();
    world.push(&[("opsy.yaml", Some("limits:\n  concurrentBuilds: 3\n"))], "policy: wake all");
    let over = |told: &String| told.contains("is resolved for all 200");
    world.wait("the message of the recovery", || threads(&chat).first()?.iter().any(over).then_some(()));
    assert_eq!(threads(&chat).iter().flatten().count(), 2, "{:#?}", threads(&chat));
}

#[test]
fn a_slack_that_is_away_while_the_agent_restarts_misses_nothing_and_hears_nothing_twice() {
    let (world, chat) = (told(), Chat::start());
    // The build takes long enough that its thread exists when Slack goes down.
    world.account.fault(json!({ "kind": "slow", "operation": "CreateImage", "seconds": 6, "count": 1 }));
    let agent = world.start(opsy(&world, &chat));
    world.wait("the thread of the build", || threads(&chat).first().map(drop));
    chat.control("down", json!({}));
    world.wait("the rollout", || {
        let status = world.status("AMIRefresher", "demo")?;
        (status["history"][0]["result"] == "Done").then_some(())
    });
    agent.kill();
    chat.control("clock", json!({ "advance": 3600 }));
    let _agent = world.start(opsy(&world, &chat));
    let unsent = || world.condition("PackerBuilder", "node", "Notified");
    world.wait("the condition Notified", unsent);
    chat.control("up", json!({}));
    world.wait("the rest of both threads", || {
        let told = threads(&chat);
        (told.len() == 2
            && told[0].iter().any(|told| told.contains("is active"))
            && told[0][0].contains("built"))
        .then_some(())
    });
    world.wait("the end of the condition Notified", || unsent().is_none().then_some(()));
    let told = threads(&chat);
    assert!(told[1][0].contains("demo: rolled out"), "the outcome of the rollout: {told:#?}");
    let mut all: Vec<&String> = told.iter().flatten().collect();
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count, "nothing twice: {told:#?}");
}

#[test]
fn what_a_person_must_fix_is_in_the_status_once() {
    let (world, chat) = (told(), Chat::start());
    let says = |world: &World| {
        let found = world.condition("PackerBuilder", "node", "Notified");
        found.map(|[_, reason, message]| format!("{reason} {message}"))
    };
    let mut without = opsy(&world, &chat);
    without.env_remove("OPSY_SECRET_DEFAULT_TEAM_SLACK__TOKEN").args(["run", "--once"]);
    assert_eq!(run(without).status.code(), Some(0), "it blocks nothing");
    let missing = says(&world).expect("a condition");
    assert!(missing.contains("SecretUnreadable") && missing.contains("default/team-slack"), "{missing}");

    let mut wrong = opsy(&world, &chat);
    wrong.env("OPSY_SECRET_DEFAULT_TEAM_SLACK__TOKEN", "xoxb-wrong").args(["run", "--once"]);
    assert_eq!(run(wrong).status.code(), Some(0));
    let token = says(&world).expect("a condition");
    assert!(token.contains("SlackTokenInvalid") && !token.contains("xoxb-wrong"), "{token}");
    assert_eq!(chat.calls().len(), 1, "sent once, without retries: {:?}", chat.calls());

    chat.control("channels", json!({ "id": CHANNEL, "archived": true }));
    assert_eq!(once(&world, &chat), Some(0));
    let archived = says(&world).expect("a condition");
    assert!(archived.contains("SlackChannelArchived") && archived.contains(CHANNEL), "{archived}");

    chat.control("channels", json!({ "id": CHANNEL, "archived": false }));
    assert_eq!(once(&world, &chat), Some(0));
    assert_eq!(says(&world), None);
    assert_eq!(threads(&chat).len(), 2, "{:#?}", threads(&chat));
    let published = world.git(&world.remote(), &["log", "--patch", "--format=", "main", "--", "status"]);
    assert!(published.contains("type: Ready"), "the status was published: {published}");
    assert!(!published.contains("Notified"), "but never this condition: {published}");
    let log = std::fs::read_to_string(world.agent_log()).unwrap_or_default();
    assert!(!log.contains(TOKEN) && !log.contains("xoxb-wrong"));
}

#[test]
fn whoever_breaks_a_manifest_reads_where_and_in_which_commit() {
    let (world, chat) = (told(), Chat::start());
    assert_eq!(once(&world, &chat), Some(0));
    world.edit("builders/node.yaml", "  region:", "  regoin:", "policy: tidy up");
    assert_eq!(once(&world, &chat), Some(2));
    let broken = chat.messages(CHANNEL).pop().expect("a message").to_string();
    for words in ["node needs attention: ManifestBroken", "builders/node.yaml", "regoin", "policy: tidy up"] {
        assert!(broken.contains(words), "{words} in {broken}");
    }
    assert!(world.active_image().is_some(), "the last good version is in force");
    world.edit("builders/node.yaml", "  regoin:", "  region:", "policy: fix it");
    assert_eq!(once(&world, &chat), Some(0));
    let told = threads(&chat).pop().expect("a thread");
    assert!(told.iter().any(|told| told.contains("ManifestBroken is resolved")), "{told:#?}");
    assert_eq!(threads(&chat).len(), 3, "{:#?}", threads(&chat));
}
