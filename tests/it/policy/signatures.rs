//! Signed commits, with the whole agent: commits without a trusted signature are held back, and its own are signed.

use std::fs;
use std::path::Path;

use super::{RETRY_SOON, assert_nowhere, builder, builds, settings, wait_for_node};
use crate::git::bed::{assert_git_verifies, keygen};
use crate::world::{World, run, template};

const PASSPHRASE: &str = "pp-5up3r-s3cr3t-key";

/// A line of Git's allowed signers file.
fn signer(key: &Path) -> String {
    let public = fs::read_to_string(key.with_extension("pub")).expect("a public key");
    format!("someone@example.com {public}")
}

/// Pushes files in a signed commit.
fn push_signed(world: &World, key: &Path, files: &[(String, String)]) -> String {
    world.push_with("policy: first", |dir| {
        for (path, text) in files {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        world.git(dir, &["add", "--all"]);
        let key = key.display().to_string();
        for (name, value) in [("commit.gpgsign", "true"), ("gpg.format", "ssh"), ("user.signingkey", &key)] {
            world.git(dir, &["config", name, value]);
        }
    })
}

#[test]
fn a_commit_that_nobody_trusted_signed_is_held_back() {
    let world = World::served(None);
    let person = keygen(world.root().join("person"), "ed25519", "");
    let ours = keygen(world.root().join("ours"), "ed25519", PASSPHRASE);
    let (signers, passphrase) = (world.root().join("signers"), world.root().join("passphrase"));
    fs::create_dir(&signers).expect("a directory");
    fs::write(signers.join("people"), signer(&person)).expect("written");
    fs::write(&passphrase, "another").expect("written");
    let opsy = || {
        let mut opsy = world.opsy();
        opsy.env("OPSY_VERIFY", &signers).env("OPSY_SIGNING_KEY", &ours);
        opsy.env("OPSY_SIGNING_KEY_PASSPHRASE_FILE", &passphrase);
        opsy
    };
    let files = [
        ("opsy.yaml", settings("")),
        ("builders/node.yaml", builder("node", "packer/node", "", RETRY_SOON)),
        ("packer/node/node.pkr.hcl", template().to_owned()),
    ];
    push_signed(&world, &person, &files.map(|(path, text)| (path.to_owned(), text)));
    let mut wrong = opsy();
    wrong.args(["run", "--once"]);
    let wrong = run(wrong);
    assert!(wrong.stderr.contains("the passphrase in") && wrong.status.code() == Some(1), "{wrong:?}");

    fs::write(&passphrase, PASSPHRASE).expect("written");
    let agent = world.start(opsy());
    let image = wait_for_node(&world);
    world.wait("its status in Git", || world.amis().get("default/node").map(|_| ()));
    let allowed = world.root().join("allowed");
    fs::write(&allowed, signer(&ours)).expect("written");
    assert_git_verifies(&world.remote(), "main", &allowed);

    let newer = "default = \"2\"";
    let bad = world.edit("packer/node/node.pkr.hcl", "default = \"1\"", newer, "policy: without a signature");
    let said = world.wait("the commit to be held back", || world.saved_condition("CommitNotVerified"));
    for part in [&*bad, "Platform Team <platform@example.com>", "it has no signature", "opsy accept"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let shown = world.run(&["status", "--output", "text"]).stdout;
    assert!(shown.contains("CommitNotVerified") && shown.contains(&bad), "{shown}");
    assert!(agent.stop().success());
    let top = world.log().first().cloned();
    assert_eq!(
        (top.as_deref(), builds(&world)),
        (Some("policy: without a signature"), 1),
        "nothing is pushed or built"
    );

    // The clone is deleted, as with a pod: the agent's state is stored elsewhere.
    fs::remove_dir_all(world.state().join("clone")).expect("the clone");
    let log = world.root().join("second.log");
    let agent = world.start_logged(opsy(), &log);
    world.wait("the commit to be held back again", || {
        fs::read_to_string(&log).ok()?.contains(&bad).then_some(())
    });
    assert_eq!((world.active_image(), builds(&world)), (Some(image.clone()), 1));
    assert!(world.run(&["accept", &bad]).status.success());
    let newest = world.wait("the newer image", || world.active_image().filter(|active| *active != image));
    world.wait("its status in Git", || {
        (world.amis()["default/node"]["us-east-1"]["x86_64"] == newest.as_str()).then_some(())
    });
    world.wait("the end of the hold", || world.saved_condition("CommitNotVerified").is_none().then_some(()));
    assert!(agent.stop().success());
    assert_git_verifies(&world.remote(), "main", &allowed);
    fs::remove_file(&passphrase).expect("the passphrase");
    assert_nowhere(&world, PASSPHRASE);
}

/// Builds run as the user of the agent, so a template could declare objects that no commit declares.
#[test]
fn what_was_parsed_of_signed_manifests_is_not_saved_on_one_machine() {
    let world = World::served(None);
    let [person, ours] = ["person", "ours"].map(|name| keygen(world.root().join(name), "ed25519", ""));
    let signers = world.root().join("signers");
    fs::write(&signers, signer(&person)).expect("written");
    // More than are parsed again at each start.
    let names = (0..120).map(|number| format!("b{number}"));
    let suspended = |name: String| {
        let manifest = builder(&name, "packer/node", "", RETRY_SOON);
        (format!("builders/{name}.yaml"), manifest.replace("spec:\n", "spec:\n  suspend: true\n"))
    };
    let files: Vec<_> = names.map(suspended).chain([("opsy.yaml".to_owned(), settings(""))]).collect();
    push_signed(&world, &person, &files);
    for (is_verified, is_saved) in [(true, false), (false, true)] {
        let mut opsy = world.opsy();
        opsy.args(["run", "--once"]);
        if is_verified {
            opsy.env("OPSY_VERIFY", &signers).env("OPSY_SIGNING_KEY", &ours);
        }
        let outcome = run(opsy);
        assert_eq!(outcome.status.code(), Some(3), "they are suspended: {outcome:?}");
        assert_eq!(world.state().join("manifests.cache").exists(), is_saved, "{outcome:?}");
    }
}
