//! Which files of a repository trigger a build, and which do not.

use super::{builder, settings};
use crate::world::{World, fixture, template};

#[test]
fn a_template_at_the_root_is_rebuilt_by_what_it_reads_alone() {
    let world = World::empty();
    let node = builder("node", ".", "", "");
    let refresher = fixture("refreshers/demo.yaml");
    let opsy_yaml = settings("");
    let files = [
        (".opsyignore", "README.md\n"),
        ("README.md", "teh readme\n"),
        ("builders/node.yaml", &node),
        ("node.pkr.hcl", template()),
        ("opsy.yaml", &opsy_yaml),
        ("refreshers/demo.yaml", &refresher),
    ];
    world.push(&files.map(|(path, text)| (path, Some(text))), "policy: first");
    let first = world.once();
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let image = world.active_image().expect("one active image");
    world.account.clear_journal();

    let node = node.replace("controllerTimer: 1s", "controllerTimer: 2s");
    let refresher = refresher.replace("controllerTimer: 10s", "controllerTimer: 11s");
    let opsy_yaml = opsy_yaml.replace("concurrentBuilds: 9", "concurrentBuilds: 8");
    let files = [
        ("README.md", "the readme\n"),
        ("builders/node.yaml", &node),
        ("opsy.yaml", &opsy_yaml),
        ("refreshers/demo.yaml", &refresher),
    ];
    world.push(&files.map(|(path, text)| (path, Some(text))), "policy: a typo, a timer, a limit");
    let second = world.once();
    assert_eq!(second.status.code(), Some(0), "{second:?}");
    assert_eq!(world.account.writes(), Vec::<String>::new(), "no build, no rollout");
    assert_eq!(world.active_image(), Some(image));
}
