//! The example repository, as users are told to keep it: pointed at the emulated AWS by variables alone,
//! provisioned for real over SSH.

use std::path::Path;

use crate::bed::bed;
use crate::world::{World, run};

#[test]
fn the_example_repository_builds_provisions_and_rolls_out() {
    let world = World::empty();
    world.push_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("example-repo"), "policy: the example");
    let mut opsy = world.opsy();
    opsy.args(["run", "--once"])
        .env("PKR_VAR_ssh_host", "127.0.0.1")
        .env("PKR_VAR_ssh_port", bed().ssh_port.to_string())
        .env("PKR_VAR_ssh_username", &bed().ssh_user);
    let outcome = run(opsy);
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    let image = world.active_image().expect("one active image");
    for name in ["system", "web", "batch"] {
        assert_eq!(world.group(name)["release_version"], image.as_str(), "{name}");
    }
    assert_eq!(world.amis()["default/eks-node"]["us-east-1"]["x86_64"], image.as_str());
    assert_eq!(world.leftovers(), Vec::<String>::new());
}
