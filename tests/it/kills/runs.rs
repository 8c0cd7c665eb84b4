//! Events during a build: its runner dies, the agent is stopped, its inputs change, its builder is deleted.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{builder_status, builder_world, live_runs, ready, run_folders, wait_for_calls, wait_for_image};
use crate::packers::Packer;
use crate::world::{Agent, World, kill};

/// The agent ends within seconds of SIGTERM, even on a busy machine.
const STOPS_WITHIN: Duration = Duration::from_secs(20);

/// A run lives for seconds: at this interval, two at once are noticed.
const SAMPLE: Duration = Duration::from_millis(20);

/// Starts an agent whose build waits for its image.
fn held_build(world: &World) -> Agent {
    world.account.hold_images(1);
    let agent = world.agent();
    wait_for_calls(world, "ec2:CreateImage", 1);
    agent
}

/// Gets a running agent, the runners and the processes that they started; returns the agent unless it killed it.
type Kill = fn(Agent, &[u32], &[u32]) -> Option<Agent>;

/// Lets `killed` kill processes of a build, restarts the agent if it was killed, and asserts on the failure, the
/// backoff and the next try of the builder.
fn killed_build(packer: Packer, killed: Kill) {
    let mut world = builder_world("  failurePolicy:\n    backoff: 1h\n");
    world.build_with(packer);
    let agent = held_build(&world);
    let (runners, others) = world.build_processes();
    assert_eq!(runners.len(), 1, "one runner");
    assert!(!others.is_empty(), "Packer runs");
    let agent = killed(agent, &runners, &others).unwrap_or_else(|| world.agent());
    world.wait("the backoff after the failed build", || (ready(&world).0 == "BuildFailed").then_some(()));
    let (_, message) = ready(&world);
    assert!(message.contains("does not count, next attempt at "), "{message}");
    world.wait("the sweep of the orphans", || world.account.orphans().is_empty().then_some(()));
    assert_eq!(world.our_images(), [], "the image that was pending is swept as well");
    agent.kill();
    let paused = world.once();
    assert_ne!(paused.status.code(), Some(0), "the exit code reports a failed builder: {paused:?}");
    assert_eq!(
        world.account.count("ec2:RunInstances"),
        1,
        "no retry before the backoff is over, even after a restart"
    );
    assert_eq!(world.results("node").len(), 1, "counted once: {:?}", world.results("node"));

    world.edit("builders/node.yaml", "backoff: 1h", "backoff: 1s", "policy: sooner");
    let _agent = world.agent();
    wait_for_image(&world);
    assert_eq!(world.results("node")[0], "Succeeded");
    assert_eq!(world.results("node").len(), 2);
    assert_eq!(world.account.count("ec2:RunInstances"), 2);
    assert_eq!(world.our_images().len(), 1);
    world.wait("the sweep of the orphans", || world.account.orphans().is_empty().then_some(()));
}

#[test]
fn a_killed_runner_is_one_failure_and_its_build_is_cleaned_up() {
    killed_build(Packer::Old, |agent, runners, _| {
        kill(runners);
        Some(agent)
    });
}

#[test]
fn a_runner_killed_with_its_packer_is_one_failure_and_its_build_is_swept() {
    killed_build(Packer::Old, |agent, runners, others| {
        kill(&[runners, others].concat());
        Some(agent)
    });
}

#[test]
fn a_machine_that_went_down_during_a_build_is_one_failure_and_its_build_is_swept() {
    killed_build(Packer::Current, |agent, runners, others| {
        agent.kill();
        kill(&[runners, others].concat());
        None
    });
}

#[test]
fn sigterm_leaves_the_build_running_and_the_next_start_harvests_it() {
    let world = builder_world("");
    let agent = held_build(&world);
    let asked = Instant::now();
    let status = agent.stop();
    assert_eq!(status.code(), Some(0));
    assert!(asked.elapsed() < STOPS_WITHIN, "{:?}", asked.elapsed());
    assert_eq!(world.build_processes().0.len(), 1, "the runner continues");
    world.account.finish_images();
    world.wait("the end of the build without an agent", || {
        run_folders(&world).iter().any(|(_, ended)| *ended).then_some(())
    });
    assert_eq!(world.active_image(), None, "no agent collected the result");
    let _agent = world.agent();
    wait_for_image(&world);
    assert_eq!(world.results("node"), ["Succeeded"]);
    assert_eq!(world.account.count("ec2:RunInstances"), 1);
    world.wait("the run to be forgotten", || run_folders(&world).is_empty().then_some(()));
}

#[test]
fn a_signal_ends_a_single_run_and_the_next_takes_its_build_up() {
    for signal in [Signal::TERM, Signal::INT] {
        let world = builder_world("");
        world.account.hold_images(1);
        let mut opsy = world.opsy();
        opsy.args(["run", "--once"]).stderr(std::process::Stdio::piped());
        let once = opsy.spawn().expect("opsy starts");
        wait_for_calls(&world, "ec2:CreateImage", 1);
        let asked = Instant::now();
        kill_process(Pid::from_child(&once), signal).expect("it runs");
        let ended = once.wait_with_output().expect("the exit status");
        assert!(asked.elapsed() < STOPS_WITHIN, "{:?}", asked.elapsed());
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{said}");
        assert!(said.contains("interrupted; builds continue, and the next run resumes them"), "{said}");
        assert_eq!(world.build_processes().0.len(), 1, "the runner continues");

        world.account.finish_images();
        let next = world.once();
        assert_eq!(next.status.code(), Some(0), "{next:?}");
        assert_eq!(world.results("node"), ["Succeeded"]);
        assert_eq!(world.account.count("ec2:RunInstances"), 1);
        let image = world.active_image().expect("an image");
        assert_eq!(world.amis()["default/node"]["us-east-1"]["x86_64"], image.as_str());
    }
}

#[test]
fn cancel_stops_the_running_build_and_resume_builds_again() {
    let world = builder_world("");
    let _agent = held_build(&world);
    let build = builder_status(&world)["buildID"].as_str().expect("a build").to_owned();
    let canceled = world.run(&["cancel", "pb/node"]);
    assert!(canceled.status.success(), "{canceled:?}");
    assert!(
        canceled.stdout.contains(&format!("node cancellation of build {build} requested (state directory")),
        "{canceled:?}"
    );
    let message = world.wait("the builder to report the cancellation", || {
        let (reason, message) = ready(&world);
        (reason == "Cancelled").then_some(message)
    });
    assert!(message.contains(&build) && message.contains("`opsy resume`"), "{message}");
    assert_eq!(world.results("node"), ["Cancelled"]);
    world.wait("the end of its processes", || {
        let (runners, others) = world.build_processes();
        (runners.is_empty() && others.is_empty()).then_some(())
    });
    world.wait("the sweep of the orphans", || world.account.orphans().is_empty().then_some(()));
    assert_eq!(world.our_images(), []);
    let again = world.run(&["cancel", "pb/node"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(again.stderr.contains("has no running build"), "{again:?}");

    assert!(world.run(&["reconcile", "pb/node"]).stdout.contains("Cancelled"));
    assert_eq!(
        world.account.count("ec2:RunInstances"),
        1,
        "the same inputs are not built again by themselves"
    );
    world.edit(
        "builders/node.yaml",
        "controllerTimer: 1s",
        "controllerTimer: 1s\n  failurePolicy: {backoff: 1s}",
        "policy: sooner",
    );
    assert!(world.run(&["resume", "pb/node"]).status.success());
    wait_for_image(&world);
    assert_eq!(world.account.count("ec2:RunInstances"), 2);
}

#[test]
fn a_template_changed_during_a_build_is_built_after_it() {
    let world = builder_world("");
    let (most, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(live_runs(&world), Ordering::Relaxed);
                std::thread::sleep(SAMPLE);
            }
        });
        let _ended = EndsOnDrop(&over);
        let _agent = held_build(&world);
        let newer = world.edit("packer/node/node.pkr.hcl", "\"1\"", "\"2\"", "policy: second");
        world.wait("the agent to fetch the commit", || fetched(&world, &newer).then_some(()));
        assert_eq!(world.account.count("ec2:RunInstances"), 1);
        world.account.finish_images();
        world.wait("a build of the newer template", || (world.results("node").len() == 2).then_some(()));
        let image = wait_for_image(&world);
        let name = world.account.image("us-east-1", &image)["name"].clone();
        assert!(
            name.as_str().is_some_and(|name| name.starts_with("node-2-")),
            "the newest inputs are active"
        );
        world.wait("the newest image to be published", || {
            (world.amis()["default/node"]["us-east-1"]["x86_64"] == image.as_str()).then_some(())
        });
    });
    assert_eq!(most.load(Ordering::Relaxed), 1, "one live run at a time");
    let mut states: Vec<String> = world.our_images().into_iter().map(|(_, state)| state).collect();
    states.sort();
    assert!(states == ["active", "deprecated"] || states == ["active", "superseded"], "{states:?}");
    assert_eq!(world.account.count("ec2:RunInstances"), 2);
    assert_eq!(world.account.orphans(), Vec::<String>::new());
}

#[test]
fn a_builder_deleted_during_its_build_leaves_its_images_and_nothing_else() {
    let world = builder_world("");
    let other = world.show("builders/node.yaml").expect("a builder");
    let other = other.replace("name: node\n", "name: other\n") + "  suspend: true\n";
    world.push(&[("builders/other.yaml", Some(&other))], "policy: another, suspended");
    let agent = world.agent();
    let image = wait_for_image(&world);
    world.wait("its status file", || world.show("status/default/packerbuilders/node.yaml"));
    agent.kill();

    world.edit("packer/node/node.pkr.hcl", "\"1\"", "\"2\"", "policy: second");
    world.account.hold_images(1);
    let _agent = world.agent();
    wait_for_calls(&world, "ec2:CreateImage", 2);
    world.push(&[("builders/node.yaml", None)], "policy: no more");
    world.wait("the object to be deleted", || world.status("PackerBuilder", "node").is_none().then_some(()));
    assert_eq!(world.account.orphans(), Vec::<String>::new());
    assert_eq!(world.our_images(), [(image, "active".to_owned())]);
    assert_eq!(world.build_processes(), (Vec::new(), Vec::new()));
    assert_eq!(run_folders(&world), []);
    world.wait("its status file to be deleted", || {
        world.show("status/default/packerbuilders/node.yaml").is_none().then_some(())
    });
    assert!(world.amis().get("default/node").is_none(), "{}", world.amis());
    assert!(world.status("PackerBuilder", "other").is_some());
}

/// Ends the sampling thread when it is dropped, even if the test panics.
struct EndsOnDrop<'a>(&'a AtomicBool);

impl Drop for EndsOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns whether a commit is in the agent's clone of the branch.
fn fetched(world: &World, commit: &str) -> bool {
    let history =
        world.git(&world.state().join("clone"), &["log", "--format=%H", "refs/remotes/origin/main"]);
    history.lines().any(|line| line == commit)
}
