//! Layouts of public template repositories, reduced in size. Each directory of `fixtures/layouts` is one, with builders
//! as its user would write them. They build without edits; the tests assert on the images in AWS.
//!
//! | directory | used by, for example | special features |
//! |---|---|---|
//! | `modules` | hashicorp/terraform-aws-consul | JSON, scripts by `{{template_dir}}`, images of one architecture |
//! | `eks-ami` | awslabs/amazon-eks-ami | JSON named by its file, scripts in `../shared`, two variables files |
//! | `stack` | buildkite/elastic-ci-stack-for-aws | paths relative to the template, an image built from another one |
//! | `capi` | kubernetes-sigs/image-builder | JSON below the working directory, variables files, regions |
//! | `appliance` | Graylog2/graylog2-images | JSON, scripts relative to the template's directory, many regions |
//! | `four-builds` | codemonauts/aws-baseimage | four build blocks, two regions |
//! | `nat` | images of NAT gateways | one build for two architectures |
//! | `runner` | github-aws-runners | `templatefile` above the template's directory, data "http" |
//! | `workers` | gruntwork's and other EKS workers | data "amazon-ami", `${path.root}/..`, post-processors, a secret |
//! | `two-stages` | supabase/postgres | templates at the root named by their files, variables files in `args` |
//! | `root-data` | aws-samples/amazon-eks-custom-amis | everything at the root, data source, dynamic blocks |
//! | `root-flavors` | aws/amazon-ecs-ami | many templates at the root, a build of four sources |
//! | `root-clouds` | spacelift-io/spacelift-worker-image | other clouds' templates, regions, encryption, deprecation |
//!
//! Packer 1.6 supports neither data sources nor `required_plugins`: such layouts need the current Packer.
//! Not covered: provisioning over SSH (see `example.rs`), Ansible and third-party plugins.

use serde_json::Value;

use crate::packers::Packer;
use crate::world::{DEADLINE, Outcome, World, copy, fixtures, run_within};

/// Regions and architectures, with one image for each pair.
type Lanes = &'static [(&'static str, &'static str)];

/// A builder of a layout, and the expected results.
struct Builder {
    folder: &'static str,
    name: &'static str,
    /// Region and architecture of each active image; empty if the template makes several images for one lane.
    lanes: Lanes,
    /// Lines that its scripts write.
    ran: &'static [&'static str],
}

const HERE: Lanes = &[("us-east-1", "x86_64")];
/// All regions in which the layouts make images.
const REGIONS: [&str; 5] = ["ap-southeast-2", "eu-central-1", "eu-west-1", "us-east-1", "us-west-2"];
/// Builders whose base image is the image of another builder: they find it in the second run at the latest.
const SECOND: [&str; 2] = ["ci-stack", "stage2"];

const fn builder(
    folder: &'static str,
    name: &'static str,
    lanes: Lanes,
    ran: &'static [&'static str],
) -> Builder {
    Builder { folder, name, lanes, ran }
}

/// Builders whose templates are in subdirectories: they all fit into one repository.
const IN_FOLDERS: [Builder; 9] = [
    builder("modules", "registry", HERE, &["registry 1.9.2 for al2023-ami"]),
    builder("modules", "registry-all", &[], &["registry 1.9.2 for hardened-ami", "registry set up"]),
    builder("eks-ami", "eks-node", HERE, &["kubernetes 1.31.9, maxPods\": 58", "cleaned"]),
    builder("stack", "ci-base", HERE, &["installed base", "cleaned ci"]),
    builder("stack", "ci-stack", HERE, &["installed stack", "cleaned ci"]),
    builder(
        "capi",
        "capi",
        &[("eu-west-1", "x86_64"), ("us-east-1", "x86_64")],
        &["played name: node with containerd=1.7.27"],
    ),
    builder(
        "appliance",
        "appliance",
        &[
            ("ap-southeast-2", "x86_64"),
            ("eu-central-1", "x86_64"),
            ("eu-west-1", "x86_64"),
            ("us-east-1", "x86_64"),
            ("us-west-2", "x86_64"),
        ],
        &["appliance installed", "appliance cleaned"],
    ),
    builder(
        "four-builds",
        "machine-web",
        &[("eu-central-1", "x86_64"), ("us-east-1", "x86_64")],
        &["played web"],
    ),
    builder(
        "nat",
        "nat",
        &[("us-east-1", "arm64"), ("us-east-1", "x86_64")],
        &["nat on arm64", "nat on x86_64"],
    ),
];

/// As above, with data sources or `required_plugins`.
const IN_FOLDERS_MODERN: [Builder; 3] = [
    builder("runner", "runner", HERE, &["runner installed for runner", "runner started"]),
    builder("workers", "workers", HERE, &["configured with a token of 19", "manifest written"]),
    builder("four-builds", "machine-all", &[], &["played bastion"]),
];

const TWO_STAGES: [Builder; 2] = [
    builder("two-stages", "stage1", HERE, &["stage 1"]),
    builder("two-stages", "stage2", HERE, &["stage 2 of 17.4.1"]),
];

const ROOT_DATA: [Builder; 2] = [
    builder("root-data", "eks-x86-64", HERE, &["updated x86_64", "cleaned x86_64"]),
    builder("root-data", "eks-arm64", &[("us-east-1", "arm64")], &["updated arm64", "cleaned arm64"]),
];

const ROOT_FLAVORS: [Builder; 3] = [
    builder(
        "root-flavors",
        "ecs",
        &[("us-east-1", "arm64"), ("us-east-1", "x86_64")],
        &["agent for al2023", "agent for al2023arm"],
    ),
    builder("root-flavors", "ecs-gpu", HERE, &["agent for al2023gpu", "driver"]),
    builder("root-flavors", "ecs-all", &[], &["agent for al2023neu"]),
];

const ROOT_CLOUDS: [Builder; 1] = [builder(
    "root-clouds",
    "worker",
    &[("eu-west-1", "x86_64"), ("us-east-1", "x86_64"), ("us-west-2", "x86_64")],
    &["made directories", "updated"],
)];

#[test]
fn layouts_in_folders_build_with_packer_1_6() {
    build(Packer::Old, &IN_FOLDERS.each_ref());
}

#[test]
fn layouts_in_folders_build_with_a_current_packer() {
    let all: Vec<&Builder> = IN_FOLDERS.iter().chain(&IN_FOLDERS_MODERN).collect();
    build(Packer::Current, &all);
}

#[test]
fn two_stages_named_as_files_at_the_root_build_one_on_the_other() {
    for packer in Packer::BOTH {
        let world = build(packer, &TWO_STAGES.each_ref());
        let amis = world.amis();
        let id = |name: &str| image_id(&amis, name, "us-east-1", "x86_64");
        let stage2 = world.account.image("us-east-1", &id("stage2"));
        assert_eq!(stage2["tags"]["base-ami"], id("stage1"), "{packer:?}");
    }
}

#[test]
fn everything_at_the_root_builds() {
    build(Packer::Current, &ROOT_DATA.each_ref());
}

#[test]
fn a_choice_of_flavors_at_the_root_builds_and_all_of_them_are_refused() {
    build(Packer::Current, &ROOT_FLAVORS.each_ref());
}

#[test]
fn a_template_beside_those_of_other_clouds_builds() {
    let world = build(Packer::Current, &ROOT_CLOUDS.each_ref());
    for region in ["eu-west-1", "us-east-1", "us-west-2"] {
        let id = image_id(&world.amis(), "worker", region, "x86_64");
        let deprecated = world.account.image(region, &id)["deprecation_time"].clone();
        assert!(deprecated.is_string(), "{region}: {deprecated}");
    }
}

/// Runs the agent on these builders in one repository, and asserts on the results.
fn build(packer: Packer, builders: &[&Builder]) -> World {
    let mut world = World::empty();
    world.build_with(packer);
    // These templates do not pass on Opsy's tags, for which the agent needs this policy of `deploy/iam`.
    world.allow("agent-untagged-templates");
    push(&world, builders);
    let refuses = builders.iter().any(|builder| builder.lanes.is_empty());
    let mut outcome = once(&world);
    let missing = |builder: &&&Builder| !builder.lanes.is_empty() && lanes(&world, builder.name).is_empty();
    let missing: Vec<&str> = builders.iter().filter(missing).map(|builder| builder.name).collect();
    if !missing.is_empty() {
        let told = shown(&world, builders);
        assert!(missing.iter().all(|name| SECOND.contains(name)), "{packer:?}: {missing:?}\n{told}");
        let first = world.amis();
        outcome = once(&world);
        let (second, others) = (world.amis(), builders.iter().filter(|b| !missing.contains(&b.name)));
        for key in others.map(|builder| format!("default/{}", builder.name)) {
            assert_eq!(second[&key], first[&key], "{packer:?}: {key} is not built again");
        }
    }
    let told = shown(&world, builders);
    assert_eq!(outcome.status.code(), Some(if refuses { 2 } else { 0 }), "{packer:?}: {told}");
    let ran = std::fs::read_to_string(world.root().join("record")).unwrap_or_default();
    for builder in builders {
        for line in builder.ran {
            assert!(ran.lines().any(|ran| ran.trim_end() == *line), "{packer:?}: {line:?} in {ran}\n{told}");
        }
        match builder.lanes {
            [] => assert_refused(&world, builder),
            _ => assert_built(&world, builder, &told),
        }
    }
    world
}

/// Pushes the layouts of these builders as one repository, including executable files.
fn push(world: &World, builders: &[&Builder]) {
    let dir = tempfile::tempdir_in(world.root()).expect("a temporary directory");
    let (remote, dir) = (world.remote(), dir.path());
    world.git(dir, &["clone", "--quiet", remote.to_str().expect("UTF-8"), "."]);
    world.git(dir, &["checkout", "--quiet", "-B", "main"]);
    for builder in builders {
        copy(&fixtures().join("layouts").join(builder.folder), dir);
    }
    let settings = "agentID: test\nlimits: {concurrentBuilds: 4}\npublish: {quietPeriod: 100ms}\n";
    std::fs::write(dir.join("opsy.yaml"), settings).expect("opsy.yaml");
    world.git(dir, &["add", "--all"]);
    world.git(dir, &["commit", "--quiet", "--message", "policy: first"]);
    world.git(dir, &["push", "--quiet", "origin", "main"]);
}

fn once(world: &World) -> Outcome {
    let mut opsy = world.opsy();
    opsy.args(["run", "--once"])
        .env("PKR_VAR_record", world.root().join("record"))
        .env("OPSY_BUILD_AWS_ACCESS_KEY_ID", world.account.unrestricted_key());
    // A dozen builds, four at a time.
    run_within(DEADLINE * 3, opsy)
}

/// Region and architecture of a builder's images in `amis.json`, sorted.
fn lanes(world: &World, name: &str) -> Vec<(String, String)> {
    let amis = world.amis();
    let regions = amis[format!("default/{name}")].as_object().cloned().unwrap_or_default();
    let lanes = regions.iter().flat_map(|(region, images)| {
        let of = images.as_object().into_iter().flatten();
        of.map(move |(architecture, _)| (region.clone(), architecture.clone()))
    });
    lanes.collect()
}

/// The image of a lane in `amis.json`.
fn image_id(amis: &Value, builder: &str, region: &str, architecture: &str) -> String {
    let id = amis[format!("default/{builder}")][region][architecture].as_str();
    id.unwrap_or_else(|| panic!("{builder} has no {architecture} image in {region}: {amis:#}")).to_owned()
}

fn assert_built(world: &World, builder: &Builder, told: &str) {
    let name = builder.name;
    let expected: Vec<(String, String)> =
        builder.lanes.iter().map(|(region, arch)| ((*region).to_owned(), (*arch).to_owned())).collect();
    assert_eq!(lanes(world, name), expected, "{name}: {told}");
    for (region, architecture) in builder.lanes {
        let image = world.account.image(region, &image_id(&world.amis(), name, region, architecture));
        let told = |what: &str| format!("{what} of {name} in {region}: {image:#}");
        assert_eq!(image["state"], "available", "{}", told("the image"));
        assert_eq!(image["architecture"], *architecture, "{}", told("the architecture"));
        for (tag, value) in [
            ("layout", builder.folder),
            ("status", "active"),
            ("opsy.dev/builder", &format!("default/{name}")),
        ] {
            assert_eq!(image["tags"][tag], value, "{}", told(tag));
        }
        assert_eq!(world.account.orphans_in(region), Vec::<String>::new(), "{name} in {region}");
    }
}

/// Asserts that no image of the builder is active or left behind, and that the message says how to select one.
fn assert_refused(world: &World, builder: &Builder) {
    let name = builder.name;
    let [ready, reason, message] = world.condition("PackerBuilder", name, "Ready").expect("a status");
    assert!(ready == "False" && message.contains("-only"), "{name}: {reason}: {message}");
    assert_eq!(lanes(world, name), [], "{name}");
    let counting = world.amis().to_string();
    for region in REGIONS {
        let state = world.account.state_in(region);
        let images = state["images"].as_array().into_iter().flatten();
        let left: Vec<&Value> = images
            .filter(|image| image["tags"]["layout"] == builder.folder)
            .filter(|image| !counting.contains(&image["id"].to_string()))
            .collect();
        assert!(left.is_empty(), "{name} in {region}: {left:#?}");
        assert_eq!(world.account.orphans_in(region), Vec::<String>::new(), "{name} in {region}");
    }
}

/// The condition Ready of each builder, for the message of a failed test.
fn shown(world: &World, builders: &[&Builder]) -> String {
    let ready = |builder: &&Builder| {
        let words = world.condition("PackerBuilder", builder.name, "Ready").unwrap_or_default();
        format!("{}: {}", builder.name, words.join(" "))
    };
    builders.iter().map(ready).collect::<Vec<_>>().join("\n")
}
