//! People push to the branch while Opsy publishes: both histories are kept.

use super::push_node;
use crate::world::World;

/// A hook of the server. For each line in the file `rivals`, another person's commit is added to the branch just before
/// a commit of Opsy.
const RIVAL: &str = "read -r old new ref
case \"$(git log -1 --format=%s \"$new\")\" in opsy:*) ;; *) exit 0;; esac
unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
[ -s rivals ] || exit 0
sed -i 1d rivals
export GIT_AUTHOR_NAME=Rival GIT_AUTHOR_EMAIL=r@example.com GIT_COMMITTER_NAME=Rival GIT_COMMITTER_EMAIL=r@example.com
rival=$(git commit-tree -p \"$old\" -m \"rival $(wc -l <rivals)\" \"$old^{tree}\")
git update-ref \"$ref\" \"$rival\" \"$old\"";

/// Subjects of commits that are not Opsy's, oldest first.
fn theirs(world: &World) -> Vec<String> {
    let log = world.log().into_iter().rev();
    log.filter(|subject| !subject.starts_with("opsy: ")).collect()
}

/// Asserts that the branch only ever moved forward.
fn assert_never_forced(world: &World) {
    let moves = world.git(&world.remote(), &["log", "--walk-reflogs", "--format=%H", "main"]);
    let moves: Vec<&str> = moves.lines().collect();
    assert!(moves.len() > 5, "the moves of the branch are recorded: {moves:?}");
    for pair in moves.windows(2) {
        world.git(&world.remote(), &["merge-base", "--is-ancestor", pair[1], pair[0]]);
    }
}

fn has_rivals(world: &World, count: usize) {
    std::fs::write(world.remote().join("rivals"), "one\n".repeat(count)).expect("a file");
}

#[test]
fn rivals_on_the_branch_lose_nothing_and_hold_up_nothing() {
    let world = World::served(None);
    let server = world.server.as_ref().expect("a server");
    world.git(&world.remote(), &["config", "core.logAllRefUpdates", "always"]);
    server.remote().hook("pre-receive", RIVAL);
    push_node(&world, "");
    has_rivals(&world, 3);
    let once = world.once();
    assert_eq!(once.status.code(), Some(0), "{once:?}");
    let image = world.active_image().expect("an image");
    assert_eq!(world.amis()["default/node"]["us-east-1"]["x86_64"], image.as_str());
    let mut expected = vec!["policy: first", "rival 2", "rival 1", "rival 0"];
    assert_eq!(theirs(&world), expected);

    // More rivals than Opsy's attempts: it gives up, and tries again later.
    has_rivals(&world, 6);
    let agent = world.agent();
    world.edit("packer/node/node.pkr.hcl", "default = \"1\"", "default = \"2\"", "policy: second");
    let told = world.wait("the condition Published=False", || world.saved_condition("PushFailed"));
    assert!(told.contains("was changed by others"), "{told}");
    assert_eq!(world.condition("PackerBuilder", "node", "Published"), None, "the repository reports it");
    let newer = world.wait("the next image", || world.active_image().filter(|active| *active != image));
    world.wait("the builder to be ready", || {
        let [ready, _, message] = world.condition("PackerBuilder", "node", "Ready")?;
        (ready == "True" && message.contains(&newer)).then_some(())
    });
    assert!(agent.stop().success(), "it publishes before it ends");
    assert_eq!(world.amis()["default/node"]["us-east-1"]["x86_64"], newer.as_str());
    expected.extend(["policy: second", "rival 5", "rival 4", "rival 3", "rival 2", "rival 1", "rival 0"]);
    assert_eq!(theirs(&world), expected);
    assert_never_forced(&world);
    assert_eq!(world.account.count("ec2:RunInstances"), 2);
}
