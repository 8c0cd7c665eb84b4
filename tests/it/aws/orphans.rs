//! Resources that a killed Packer leaves are found and deleted, and no others are.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opsy::api::tags as tag;
use opsy::api::{BuildId, Owner};
use opsy::aws::{Announced, Orphans, Tags};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use super::{edge, image, region, sdk, tags, text};
use crate::bed::{Account, bed, wait_for};
use crate::packers::Packer;

/// A build takes a second or two, and longer on a busy machine.
const BUILD: Duration = Duration::from_secs(60);

/// Kills a Packer build with all its child processes while its image is pending, and returns what it announced.
fn kill_a_build(account: &Account, seed: &Value, tags: &Tags) -> Announced {
    account.fault(json!({ "kind": "image-pending", "seconds": 3600 }));
    let folder = tempfile::tempdir().expect("a temporary directory");
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/aws/node.pkr.hcl");
    let variables = json!({
        "endpoint": bed().endpoint,
        "source_ami": seed["base_images"]["v20260801"],
        "ami_name": "killed",
        "tags": tags,
    });
    let var_file = folder.path().join("vars.json");
    std::fs::write(&var_file, variables.to_string()).expect("a file");
    let mut packer = Command::new("packer")
        .args(["build", "-machine-readable", "-var-file"])
        .args([&var_file, &template])
        .envs(account.env())
        .env("AWS_ACCESS_KEY_ID", account.packers_key())
        .env("HOME", folder.path())
        .env("CHECKPOINT_DISABLE", "1")
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("packer starts");
    let mut pipe = packer.stdout.take().expect("piped");
    let said = Arc::new(Mutex::new(String::new()));
    let reader = std::thread::spawn({
        let said = Arc::clone(&said);
        move || {
            let mut buffer = [0; 4096];
            while let Ok(1..) = pipe.read(&mut buffer).inspect(|read| {
                said.lock().expect("no panic").push_str(&String::from_utf8_lossy(&buffer[..*read]));
            }) {}
        }
    });
    let look = || said.lock().expect("no panic").contains("AMI: ami-").then_some(());
    wait_for("the image in the output of Packer", BUILD, look);
    kill_process_group(Pid::from_child(&packer), Signal::KILL).expect("killed");
    packer.wait().expect("the exit status");
    reader.join().expect("the pipe is closed");
    let said = said.lock().expect("no panic");
    let after = |label: &str| -> Vec<String> {
        let tail = said.split(label).skip(1).filter_map(|rest| rest.split_whitespace().next());
        tail.map(str::to_owned).collect()
    };
    Announced {
        instances: after("Instance ID: "),
        security_groups: after("security group for this instance: "),
        key_pairs: after("temporary keypair: "),
        images: after("AMI: "),
        ..Announced::default()
    }
}

fn mine(build: &str) -> (Owner, BuildId) {
    (Owner::parse("me").expect("an owner"), BuildId::of(&[build]))
}

/// Runs under the policies in `deploy/iam`, including the one for a Packer that tags images late.
#[tokio::test]
async fn what_a_killed_build_left_is_found_and_swept() {
    let (account, seed) = Account::seeded();
    let (agent, build) = Packer::Old.policies();
    let agent = [agent, &["optional/agent-packer-1.6-images.json"]].concat();
    account.restrict(&seed, &agent, build);
    let (owner, build) = mine("killed");
    let marks = tags(&[(tag::BUILD, build.as_str()), (tag::OWNER, owner.as_str())]);
    kill_and_sweep(&account, &seed, &marks).await;
}

/// A template that sets no tags needs more rights than those policies give.
#[tokio::test]
async fn what_a_template_does_not_tag_is_found_by_what_packer_announced() {
    let (account, seed) = Account::seeded();
    let left = kill_and_sweep(&account, &seed, &tags(&[])).await;
    edge(&account).await.sweep(region(), &left).await.expect("deleted resources are not an error");
}

/// Kills a build, sweeps its orphans, and returns what there was to sweep.
async fn kill_and_sweep(account: &Account, seed: &Value, marks: &Tags) -> Orphans {
    let aws = edge(account).await;
    let (owner, build) = mine("killed");
    let before = account.state();
    let announced = &kill_a_build(account, seed, marks);
    assert_ne!(account.state()["leftovers"], before["leftovers"], "the build was killed in time");
    let left = aws.orphans(region(), &owner, &build, announced).await.expect("orphans");
    assert_eq!(left.instances, announced.instances);
    assert_eq!(left.key_pairs, announced.key_pairs);
    assert_eq!(left.security_groups.len(), 1);
    assert_eq!(left.images.iter().map(ToString::to_string).collect::<Vec<_>>(), announced.images);

    let nothing = Announced::default();
    let other = BuildId::of(&["another"]);
    assert!(aws.orphans(region(), &owner, &other, &nothing).await.expect("none").is_empty());
    let you = Owner::parse("you").expect("an owner");
    assert!(aws.orphans(region(), &you, &build, &nothing).await.expect("none").is_empty());

    // A security group is in use until its instance is terminated: a second sweep may be needed.
    for _ in 0..2 {
        let left = aws.orphans(region(), &owner, &build, announced).await.expect("orphans");
        aws.sweep(region(), &left).await.expect("swept");
    }
    let after = aws.orphans(region(), &owner, &build, announced).await.expect("orphans");
    assert!(after.is_empty(), "{after:?}");
    let after = account.state();
    assert_eq!(after["leftovers"], before["leftovers"]);
    assert_eq!(after["snapshots"], before["snapshots"]);
    assert_eq!(after["images"], before["images"]);
    left
}

#[tokio::test]
async fn an_image_that_became_a_result_is_never_swept() {
    let (account, seed) = Account::seeded();
    let aws = edge(&account).await;
    let (owner, build) = mine("done");
    let id = text(&seed["initial_image"]);
    let mut marks = tags(&[(tag::BUILD, build.as_str()), (tag::OWNER, owner.as_str())]);
    marks.insert(tag::STATUS.to_owned(), "active".to_owned());
    let images = aws.images_by_id(region(), &[image(&seed["initial_image"])]).await.expect("images");
    let all = [vec![id.clone()], images[0].snapshots.clone()].concat();
    assert_eq!(all.len(), 2, "an image and its snapshot");
    aws.tag(region(), &all, &marks).await.expect("tagged");
    let announced = Announced { images: vec![id], ..Announced::default() };
    let left = aws.orphans(region(), &owner, &build, &announced).await.expect("orphans");
    assert!(left.is_empty(), "{left:?}");
    let found = aws.images_of_build(region(), &build).await.expect("images");
    assert_eq!(found.len(), 1);
}

#[tokio::test]
async fn announced_things_of_others_are_not_touched() {
    let (account, seed) = Account::seeded();
    let aws = edge(&account).await;
    let state = account.state();
    let instance = state["instances"].as_array().and_then(|all| all.first()).map(|i| text(&i["id"]));
    let announced = Announced {
        instances: instance.into_iter().collect(),
        security_groups: vec!["default".to_owned()],
        key_pairs: vec!["admin".to_owned()],
        images: vec![text(&seed["initial_image"]), text(&seed["base_images"]["v20260801"])],
        volumes: vec!["vol-00000000000000bad".to_owned()],
        ..Announced::default()
    };
    assert_eq!(announced.instances.len(), 1, "the node groups have nodes: {state}");
    sdk(&account).await.create_key_pair().key_name("admin").send().await.expect("a key pair");
    let (owner, build) = mine("x");
    let left = aws.orphans(region(), &owner, &build, &announced).await.expect("orphans");
    assert!(left.is_empty(), "{left:?}");
}

/// A template may set any tag, including those of the build.
#[tokio::test]
async fn what_was_there_before_the_run_stays_whatever_its_tags_say() {
    let (account, seed) = Account::seeded();
    let aws = edge(&account).await;
    let (owner, build) = mine("late");
    let marks = tags(&[(tag::BUILD, build.as_str()), (tag::OWNER, owner.as_str())]);
    let state = account.state();
    let first = |kind: &str| text(&state[kind].as_array().and_then(|all| all.first()).expect("one")["id"]);
    let made = sdk(&account).await.create_volume().availability_zone("us-east-1a").size(1).send().await;
    let volume = made.expect("a volume").volume_id.expect("an id");
    let all = vec![text(&seed["initial_image"]), first("snapshots"), first("instances"), volume];
    aws.tag(region(), &all, &marks).await.expect("tagged");

    let began = |since: jiff::Timestamp| Announced { since: Some(since), ..Announced::default() };
    let later = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(10);
    let left = aws.orphans(region(), &owner, &build, &began(later)).await.expect("orphans");
    assert!(left.is_empty(), "{left:?}");
    let earlier = began(jiff::Timestamp::UNIX_EPOCH);
    let left = aws.orphans(region(), &owner, &build, &earlier).await.expect("orphans");
    assert_eq!((left.instances.len(), left.volumes.len()), (1, 1), "{left:?}");
}

/// A script may print the ID of its base image, of which others have copies, too.
#[tokio::test]
async fn a_copy_is_swept_only_where_its_source_is_not_older_than_the_run() {
    let (account, seed) = Account::seeded();
    let aws = edge(&account).await;
    let (owner, build) = mine("copies");
    let made = |wanted: Value| text(&account.post("image", wanted)["id"]);
    let base = text(&seed["base_images"]["v20260801"]);
    let marks = json!({ tag::BUILD: build.as_str(), tag::OWNER: owner.as_str() });
    let result = made(json!({ "name": "result", "tags": marks }));
    let theirs = made(json!({ "name": "theirs", "tags": { "Name": "golden" } }));
    let copy =
        |name: &str, of: &str| made(json!({ "name": name, "source_image": of, "tags": { "Name": name } }));
    let (others, own) = (copy("others", &base), copy("own", &result));
    let of_theirs = copy("of-theirs", &theirs);
    let since = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(60);
    let announced = Announced {
        images: vec![base, result.clone(), theirs.clone()],
        artifacts: vec![theirs, of_theirs.clone()],
        since: Some(since),
        home: Some(region().clone()),
        ..Announced::default()
    };
    let left = aws.orphans(region(), &owner, &build, &announced).await.expect("orphans");
    let images: Vec<String> = left.images.iter().chain(&left.partly).map(ToString::to_string).collect();
    let expected = std::collections::BTreeSet::from([&own, &result]);
    assert_eq!(
        images.iter().collect::<std::collections::BTreeSet<_>>(),
        expected,
        "not {others} or {of_theirs}"
    );
}
