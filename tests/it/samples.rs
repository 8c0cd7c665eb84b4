//! The sample manifests of the operator, unchanged. Their template repositories are mirrored on this machine, and the
//! manifests become images and a rollout.

use serde_json::{Value, json};

use crate::chat::{Chat, TOKEN};
use crate::git::bed::{ANN, Bed as GitServer, git_of, printed};
use crate::packers::Packer;
use crate::world::{DEADLINE, World, copy, fixtures, run_within};

pub const REGION: &str = "us-west-2";
/// Each builder, the directory or repository of its template, and a line that its template writes.
pub const BUILDERS: [(&str, &str, &str); 3] = [
    ("packer-builder-local", "generic-fips", "fips mode on ami-"),
    ("packer-builder-remote", "custom-amis", "set up for 1.30"),
    ("packer-builder-cis-lvl2-al-2023", "al2023-cis-lvl2", "hardened"),
];
pub const CHANNEL: &str = "C055ZJPM2QN";

/// The samples' repositories on servers of this machine: one requires credentials, the other is public.
pub struct Mirrors {
    pub private: GitServer,
    public: GitServer,
}

impl Mirrors {
    pub fn start() -> Self {
        let mirrors = Self { private: GitServer::guarded("ann:t0ken-of-ann\n"), public: GitServer::start() };
        serve(&mirrors.private, "ibeify/eks-node-group-ami-refresh", "node-group-ami-refresh");
        serve(&mirrors.public, "aws-samples/amazon-eks-custom-amis.git", "custom-amis");
        mirrors
    }

    /// The value of `--git-rewrite`. `reach` maps the address of a server of this machine, `http://127.0.0.1:PORT`, to the
    /// address at which clients reach it.
    pub fn rewrites(&self, reach: impl Fn(&str) -> String) -> String {
        let at = |server: &GitServer, name: &str| {
            let url = server.url();
            let root = reach(url.strip_suffix("/repo.git").expect("a server and its repository"));
            format!("https://github.com/{name}/={root}/{name}/")
        };
        [at(&self.private, "ibeify"), at(&self.public, "aws-samples")].join(",")
    }
}

/// Serves a directory of the fixtures as a repository of this name.
fn serve(server: &GitServer, name: &str, fixture: &str) {
    server.create(name);
    let clone = tempfile::tempdir().expect("a directory");
    let path = server.folder.path().join("served").join(name);
    let git = |args: &[&str]| printed(git_of(clone.path(), ANN).args(args));
    git(&["init", "--quiet", "--initial-branch=main"]);
    copy(&fixtures().join("samples").join(fixture), clone.path());
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--message", "templates"]);
    git(&["push", "--quiet", path.to_str().expect("UTF-8"), "main"]);
}

/// A chat server with the channel of the samples.
pub fn chat() -> Chat {
    let chat = Chat::start();
    chat.control("channels", json!({"id": CHANNEL}));
    chat
}

/// Creates the cluster of the refresher, and returns the newest base image that the samples select.
pub fn seed(world: &World) -> String {
    let cluster = json!({"region": REGION, "cluster": "ibeify-gitops", "kubernetes": "1.30"});
    world.account.post("seed", cluster);
    let newest = json!({"region": REGION, "kubernetes": "1.30", "version": "20261101", "created": "2026-11-20T00:00:00Z"});
    world.account.post("base-image", newest)["id"].as_str().expect("an id").to_owned()
}

/// The active image of a builder, as the agent publishes it.
pub fn image(amis: &Value, namespace: &str, builder: &str) -> Option<String> {
    amis[format!("{namespace}/{builder}")][REGION]["x86_64"].as_str().map(str::to_owned)
}

/// Asserts that each builder has an active image, built from its template.
pub fn assert_images(state: &Value, amis: &Value, namespace: &str) {
    for (name, layout, _) in BUILDERS {
        let id = image(amis, namespace, name).unwrap_or_else(|| panic!("{name}: {amis:#}"));
        let image =
            state["images"].as_array().expect("images").iter().find(|image| image["id"] == id.as_str());
        let tags = &image.unwrap_or_else(|| panic!("{name}: {id}"))["tags"];
        assert_eq!((&tags["layout"], &tags["status"]), (&json!(layout), &json!("active")), "{tags:#}");
        assert!(tags["packer-repo"].as_str().expect("a tag").starts_with("https://github.com/"), "{tags:#}");
    }
}

/// The images of the groups that have a launch template. The filters of the refresher select the newest base image.
pub fn releases(state: &Value) -> [String; 3] {
    let groups = state["node_groups"].as_array().expect("node groups");
    ["system", "web", "batch"].map(|name| {
        let group = groups.iter().find(|group| group["name"] == name).expect("a group");
        group["release_version"].as_str().unwrap_or_default().to_owned()
    })
}

#[test]
fn the_samples_of_the_operator_become_images_and_a_rollout() {
    let (mirrors, chat) = (Mirrors::start(), chat());
    let mut world = World::empty();
    world.build_with(Packer::Current);
    let newest = seed(&world);
    world.push_folder(&fixtures().join("samples/manifests"), "policy: the samples");
    let key = world.account.unrestricted_key();
    let rewrites = mirrors.rewrites(str::to_owned);
    let once = || {
        let mut opsy = world.opsy();
        opsy.args(["run", "--once"])
            .env("OPSY_GIT_REWRITE", &rewrites)
            .env("OPSY_SLACK_API", format!("{}/api/", chat.url))
            .env("AWS_ACCESS_KEY_ID", &key)
            .env("PKR_VAR_record", world.root().join("record"))
            .env("OPSY_BUILD_AWS_ACCESS_KEY_ID", &key)
            .env("OPSY_SECRET_DEFAULT_AWS_CREDS__AWS_ACCESS_KEY_ID", &key)
            .env("OPSY_SECRET_DEFAULT_AWS_CREDS__AWS_SECRET_ACCESS_KEY", "emulated")
            .env("OPSY_SECRET_DEFAULT_GIT_SYNC__USERNAME", "ann")
            .env("OPSY_SECRET_DEFAULT_GIT_SYNC__TOKEN", "t0ken-of-ann")
            .env("OPSY_SECRET_DEFAULT_SLACK_TOKEN__TOKEN", TOKEN);
        run_within(DEADLINE * 2, opsy)
    };
    let outcome = once();
    let conditions = BUILDERS.map(|(name, ..)| world.condition("PackerBuilder", name, "Ready"));
    assert_eq!(outcome.status.code(), Some(0), "{conditions:#?} {outcome:#?}");

    let state = world.account.state_in(REGION);
    let ran = std::fs::read_to_string(world.root().join("record")).expect("what the builds wrote");
    assert_images(&state, &world.amis(), "default");
    for (.., line) in BUILDERS {
        assert!(ran.contains(line), "{line} in {ran}");
    }
    assert!(ran.contains(&newest), "built from the newest base image: {ran}");
    assert_eq!(releases(&state), [(); 3].map(|()| newest.clone()), "{:#}", state["node_groups"]);
    assert_eq!(chat.messages(CHANNEL).len(), 1, "Slack is notified of the builder that asks for it");
    let secrets = ["t0ken-of-ann", TOKEN];
    assert!(secrets.iter().all(|secret| !outcome.stderr.contains(secret)), "{outcome:#?}");

    // A commit to the template repository alone rebuilds the image that it affects, and is named in the history. The other
    // repository is unreachable: its builder reports that and keeps its image.
    let before = world.amis();
    let template = fixtures().join("samples/node-group-ami-refresh/packer/generic-fips/generic.pkr.hcl");
    let template = std::fs::read_to_string(template).expect("a template") + "# stricter\n";
    let repository = mirrors.private.repository("ibeify/eks-node-group-ami-refresh");
    let commit = repository.commit("main", &[("packer/generic-fips/generic.pkr.hcl", Some(&template))]);
    mirrors.public.away(Some("503"));
    let outcome = once();
    assert_eq!(outcome.status.code(), Some(2), "one of them needs attention: {outcome:#?}");
    let after = world.amis();
    let changed =
        BUILDERS.map(|(name, ..)| image(&before, "default", name) != image(&after, "default", name));
    assert_eq!(changed, [true, false, false], "{before:#} {after:#}");
    let [_, _, why] =
        world.condition("PackerBuilder", "packer-builder-remote", "Ready").expect("a condition");
    assert!(why.contains("503") && why.contains("amazon-eks-custom-amis"), "{why}");
    let history = world.git(&world.remote(), &["log", "--format=%B", "main"]);
    assert!(history.contains(&format!("Opsy-Template-Commit: {commit}")), "{history}");
}
