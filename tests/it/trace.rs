//! `opsy trace` with AWS: images, instances and nodes that no status knows, by which calls, and what is left of the answer
//! if a call is denied.

use std::fs;

use serde_json::{Value, json};

use crate::world::{Outcome, World, run};

/// An image that was built and rolled out, and credentials that may only read.
struct Traced {
    world: World,
    image: String,
    key: String,
}

impl Traced {
    fn new() -> Self {
        let world = World::new();
        let outcome = world.once();
        assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
        // The agent that built the image is forgotten.
        fs::create_dir(world.root().join("elsewhere")).expect("a directory");
        let (image, key) = (world.active_image().expect("an image"), world.key_with("plan.json"));
        Self { world, image, key }
    }

    fn trace(&self, args: &[&str]) -> Outcome {
        self.world.account.clear_journal();
        let mut opsy = self.world.opsy();
        opsy.arg("trace").args(args).env("AWS_ACCESS_KEY_ID", &self.key);
        let outcome = run(opsy);
        assert_eq!(self.world.account.writes(), Vec::<String>::new(), "{outcome:?}");
        outcome
    }

    /// Traces with the state directory of an agent that has no objects.
    fn elsewhere(&self, args: &[&str]) -> Outcome {
        self.trace(&[args, &["--state", "elsewhere"]].concat())
    }

    fn calls(&self) -> Vec<String> {
        self.world.account.calls()
    }

    /// A running instance of the image, whose name no other one has.
    fn instance(&self) -> [String; 2] {
        let state = self.world.account.state();
        let running = |one: &&Value| one["image"] == *self.image && one["state"] == "running";
        let instances: Vec<&Value> =
            state["instances"].as_array().expect("a list").iter().filter(running).collect();
        let is_alone =
            |one: &&&Value| instances.iter().filter(|other| other["name"] == one["name"]).count() == 1;
        let found = instances.iter().find(is_alone).expect("an instance");
        ["id", "name"].map(|field| found[field].as_str().expect("a string").to_owned())
    }
}

/// Asserts the exit code, and that the output has these lines.
fn assert_shows(outcome: &Outcome, code: i32, lines: &[&str]) {
    assert_eq!(outcome.status.code(), Some(code), "{outcome:?}");
    for line in lines {
        assert!(outcome.stdout.contains(line), "{line}: {outcome:?}");
    }
}

#[test]
fn an_image_that_no_status_knows_is_traced_by_its_tags_with_one_read() {
    let traced = Traced::new();
    let image = traced.image.as_str();
    let run = traced.world.status("PackerBuilder", "node").expect("a status")["history"][0].clone();
    let [build, commit] = ["id", "commit"].map(|field| run[field].as_str().expect("a string"));
    let base = traced.world.account.image("us-east-1", image)["tags"]["base-ami"].clone();
    let base = base.as_str().expect("the base image");

    let known = traced.trace(&[image]);
    let line =
        format!("built by PackerBuilder/default/node\n│   └── build {build}  Succeeded  reason Missing  ");
    assert_shows(&known, 0, &[&line, "rolled out by AMIRefresher/default/demo"]);
    assert!(!known.stdout.contains("according to its tags"), "{known:?}");
    assert_eq!(traced.calls(), Vec::<String>::new(), "status knows the build");

    let remote = traced.world.remote();
    let forgotten = traced.elsewhere(&[image, "--clone", remote.to_str().expect("UTF-8")]);
    let lines = [
        "\n├── EC2: ".to_owned(),
        format!("  us-east-1  account {}  available  created ", traced.world.account.id),
        "\n├── according to its tags: built by PackerBuilder/default/node  owner test  status active\n"
            .to_owned(),
        format!("\n│   └── according to its tags: build {build}  20"),
        format!("\n│       └── according to its tags: commit {} of ", &commit[..12]),
        "  policy: first  by Platform Team\n".to_owned(),
        format!("\n├── according to its tags: base image {base}\n"),
    ];
    assert_shows(&forgotten, 0, &lines.each_ref().map(String::as_str));
    assert_eq!(traced.calls(), ["ec2:DescribeImages"]);

    let clone = remote.to_str().expect("UTF-8");
    let json = traced.elsewhere(&[image, "--output", "json", "--clone", clone]).stdout;
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let by_tags = &json["ec2"]["byTags"];
    assert_eq!([&by_tags["build"], &by_tags["commit"], &by_tags["baseImage"]], [build, commit, base]);
    assert_eq!(
        [&by_tags["author"], &by_tags["subject"]],
        ["Platform Team", "policy: first"],
        "beside the commit that they describe"
    );
    let of_status = ["builder", "build", "author", "subject"].map(|field| &json[field]);
    assert_eq!(of_status, [&Value::Null; 4], "status does not know it");

    let offline = traced.elsewhere(&[image, "--offline"]);
    assert_shows(
        &offline,
        1,
        &["no builder records it among its active images", "EC2 was not asked (--offline)"],
    );
    assert_eq!(
        (offline.stderr, traced.calls()),
        (format!("opsy: the builder of {image} is unknown\n"), vec![])
    );
}

#[test]
fn an_instance_and_a_node_without_a_cluster_lead_to_their_image() {
    let traced = Traced::new();
    let [instance, name] = traced.instance();
    let image = format!("└── {}  active in us-east-1/x86_64\n", traced.image);
    let by_id = traced.trace(&[&instance]);
    assert_shows(
        &by_id,
        0,
        &[&format!("instance {instance}  us-east-1  running\n"), &image, "rolled out by"],
    );
    assert_eq!(traced.calls(), ["ec2:DescribeInstances"], "status knows the build");
    let by_name = traced.trace(&[&format!("node/{name}")]);
    assert_shows(&by_name, 0, &[&format!("node {name}  instance {instance}\n"), &image]);
    let forgotten = traced.elsewhere(&[&instance]);
    assert_shows(&forgotten, 0, &["according to its tags: built by PackerBuilder/default/node"]);
    assert_eq!(traced.calls(), ["ec2:DescribeInstances", "ec2:DescribeImages"]);

    for (args, words) in [
        (
            &["i-0ffffffffffffffff"][..],
            "EC2 in us-east-1 has no instance i-0ffffffffffffffff; name another region",
        ),
        (&[&instance, "--region", "eu-west-1"], "EC2 in eu-west-1 has no instance "),
        (&["node/nowhere"], "was not found without a cluster: EC2 in us-east-1 has no instance nowhere"),
        (&[&instance, "--offline"], "EC2 was not asked (--offline)"),
    ] {
        let missing = traced.trace(args);
        assert_eq!((missing.status.code(), missing.stdout.as_str()), (Some(1), ""), "{missing:?}");
        assert!(missing.stderr.contains(words), "{words}: {missing:?}");
    }
}

#[test]
fn a_call_that_fails_is_a_line_and_what_is_not_known_is_said() {
    let traced = Traced::new();
    let image = traced.image.as_str();
    for (id, line) in [
        ("ami-0ffffffffffffffff", "EC2 in us-east-1 has no image ami-0ffffffffffffffff"),
        (traced.world.seed["initial_image"].as_str().expect("an image"), "EC2: "),
    ] {
        let unknown = traced.trace(&[id]);
        assert_shows(&unknown, 1, &[line, "no builder records it"]);
        assert_eq!(unknown.stderr, format!("opsy: the builder of {id} is unknown\n"));
    }
    let elsewhere = traced.elsewhere(&[image, "--region", "eu-west-1"]);
    assert_shows(&elsewhere, 1, &["EC2 in eu-west-1 has no image", "name another region with --region"]);

    // The history of the builder has moved on.
    let file = traced.world.state().join("objects/PackerBuilder/default/node.json");
    let mut stored: Value = serde_json::from_slice(&fs::read(&file).expect("a file")).expect("JSON");
    stored["status"]["history"] = json!([]);
    fs::write(&file, stored.to_string()).expect("written");
    let denied = json!({"service": "ec2", "operation": "DescribeImages", "kind": "error",
                        "code": "UnauthorizedOperation", "status": 403, "lasting": 1800});
    assert_shows(
        &traced.trace(&[image]),
        0,
        &["built by PackerBuilder/default/node\n├── ", "according to its tags: built by"],
    );
    traced.world.account.fault(denied);
    let lines = [
        "active in us-east-1/x86_64\n",
        "built by PackerBuilder/default/node\n",
        "rolled out by AMIRefresher/default/demo",
        "EC2 in us-east-1 was not read: ec2:DescribeImages: UnauthorizedOperation",
        "(permission needed: ec2:DescribeImages)",
    ];
    assert_shows(&traced.trace(&[image]), 0, &lines);
    assert_shows(&traced.elsewhere(&[image]), 1, &[lines[3]]);
    let machine = traced.elsewhere(&[&traced.instance()[0]]);
    assert_shows(&machine, 1, &["  us-east-1  running\n└── ", lines[3]]);
}

#[test]
fn the_tags_answer_where_no_status_can_be_read() {
    let traced = Traced::new();
    let nowhere = ["--kubeconfig", "/nonexistent", &traced.image];
    assert_shows(
        &traced.trace(&nowhere),
        0,
        &["status was not read: ", "according to its tags: built by PackerBuilder/default/node"],
    );
    assert!(!traced.trace(&nowhere).stdout.contains("no refresher uses it"), "that is unknown");
}
