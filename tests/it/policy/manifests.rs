//! Broken files and mass deletions: they are reported with their lines, and valid objects are not affected.

use std::fs;

use super::{builder, push_node, settings};
use crate::world::{Outcome, World, template};

/// Broken files: path, content, and a part of the reported problem.
fn broken() -> [(&'static str, String, &'static str); 5] {
    let good = |name: &str| builder(name, "packer/node", "", "");
    [
        (
            "builders/duration.yaml",
            good("duration").replace("30d", "30 parsecs"),
            "builders/duration.yaml:11: ",
        ),
        (
            "builders/tabs.yaml",
            good("tabs").replace("  name: tabs", "\tname: tabs"),
            "builders/tabs.yaml:4: ",
        ),
        ("builders/twin.yaml", good("spare"), "builders/twin.yaml:1: "),
        (
            "builders/type.yaml",
            good("type").replace("dir: packer/node", "dir: [packer, node]"),
            "builders/type.yaml:13: ",
        ),
        ("builders/unknown.yaml", good("unknown").replace("amiFilters", "amiFilter"), "did you mean"),
    ]
}

fn conditions(world: &World, names: &[&str]) -> Vec<Option<String>> {
    let ready = |name: &&str| world.condition("PackerBuilder", name, "Ready").map(|[ready, ..]| ready);
    names.iter().map(ready).collect()
}

#[test]
fn broken_files_are_named_and_stop_nothing_else() {
    let world = World::empty();
    push_node(&world, "");
    let spare = builder("spare", "packer/node", "", "");
    let other = builder("other", "packer/node", "", "");
    world.push(
        &[("builders/spare.yaml", Some(&spare)), ("builders/other.yaml", Some(&other))],
        "policy: two more",
    );
    let first = world.once();
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let status_of_other = "status/default/packerbuilders/other.yaml";

    let broken = broken();
    let mut files: Vec<_> = broken.iter().map(|(path, text, _)| (*path, Some(text.as_str()))).collect();
    let newer = template().replace("default = \"1\"", "default = \"2\"");
    files.push(("packer/node/node.pkr.hcl", Some(&newer)));
    files.push(("builders/other.yaml", None));
    world.push(&files, "policy: broken");
    let second = world.once();
    assert_eq!(second.status.code(), Some(2), "{second:?}");
    for (path, _, said) in &broken {
        assert!(
            second.stderr.lines().any(|line| line.contains(path) && line.contains(said)),
            "{path}: {}",
            second.stderr
        );
    }
    assert!(world.show(status_of_other).is_some() && world.amis().get("default/other").is_some());
    assert!(
        second.stderr.contains("nothing is pruned: 2 objects kept although not in Git"),
        "{}",
        second.stderr
    );
    assert_eq!(world.history("node").len(), 2, "the newer template was built");

    let mended: Vec<_> = broken.iter().map(|(path, ..)| (*path, None)).collect();
    world.push(&mended, "policy: fixed");
    let third = world.once();
    assert_eq!(third.status.code(), Some(0), "{third:?}");
    assert_eq!(
        conditions(&world, &["node", "spare", "other"]),
        [Some("True".to_owned()), Some("True".to_owned()), None]
    );
    assert_eq!((world.show(status_of_other), world.amis().get("default/other")), (None, None));
}

#[test]
fn a_sweeping_deletion_waits_for_leave() {
    let world = World::empty();
    let names = ["a", "b", "c", "d"];
    let texts: Vec<_> = names
        .iter()
        .map(|name| (format!("builders/{name}.yaml"), builder(name, "packer/node", "", "  suspend: true\n")))
        .collect();
    let mut files: Vec<_> = texts.iter().map(|(path, text)| (path.as_str(), Some(text.as_str()))).collect();
    let opsy_yaml = settings("");
    files.extend([("opsy.yaml", Some(opsy_yaml.as_str())), ("packer/node/node.pkr.hcl", Some(template()))]);
    world.push(&files, "policy: first");
    let waiting = |outcome: &Outcome| assert_eq!(outcome.status.code(), Some(3), "{outcome:?}");
    waiting(&world.once());

    let gone: Vec<_> = texts[..3].iter().map(|(path, _)| (path.as_str(), None)).collect();
    world.push(&gone, "policy: three go");
    let most = world.once();
    waiting(&most);
    assert!(
        most.stderr.contains("3 objects of 4 kept") && most.stderr.contains("prune.allowMass: true"),
        "{}",
        most.stderr
    );
    world.push(&[(texts[3].0.as_str(), None)], "policy: the last goes");
    let all = world.once();
    waiting(&all);
    assert!(all.stderr.contains("no manifest is left in Git"), "{}", all.stderr);
    let suspended = Some("False".to_owned());
    assert_eq!(
        conditions(&world, &names),
        [suspended.clone(), suspended.clone(), suspended.clone(), suspended]
    );

    let leave = format!("{opsy_yaml}prune: {{allowMass: true}}\n");
    world.push(&[("opsy.yaml", Some(&leave))], "policy: it is meant");
    let last = world.once();
    assert_eq!(last.status.code(), Some(0), "{last:?}");
    assert_eq!(conditions(&world, &names), [None, None, None, None]);
    let files = world.git(&world.remote(), &["ls-tree", "-r", "--name-only", "main"]);
    assert!(!files.contains("status/packer"), "{files}");
    assert!(fs::read_dir(world.state()).is_ok());
}
