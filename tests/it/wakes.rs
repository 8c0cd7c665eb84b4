//! A commit wakes the objects that it concerns, and only those: one agent, and one change of every kind of input.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::faults::settles;
use crate::git::bed::Bed as GitServer;
use crate::world::{DEADLINE, World, template};

/// If no reconcile has begun for this long after the last one, none is enqueued: they are enqueued together.
const QUIET: Duration = Duration::from_millis(1500);

/// A builder that never builds, so that a reconcile begins only because of a wakeup.
fn suspended(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: {{name: {name}}}\nspec:\n  suspend: true\n  \
         region: us-east-1\n  timeOuts: {{controllerTimer: 1h, expiresIn: 30d}}\n  {spec}\n"
    )
}

const REFRESHER: &str = "\
apiVersion: ami.opsy.dev/v1alpha1
kind: AMIRefresher
metadata: {name: nodes}
spec: {region: us-east-1, clusterName: demo, suspend: true, timeOuts: {controllerTimer: 1h}}
";

/// The names in the log of the objects that were reconciled since an offset.
fn reconciled(world: &World, since: usize) -> BTreeSet<String> {
    let log = fs::read_to_string(world.agent_log()).unwrap_or_default();
    let lines = log[since..].lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let begun = lines.filter(|line| line["message"] == "a reconcile begins");
    let name = |line: Value| line["object"].as_str()?.rsplit('/').next().map(str::to_owned);
    begun.filter_map(name).collect()
}

/// Waits until `marker` is reconciled, and then until nothing is enqueued any more. Returns the others.
fn woken(world: &World, since: usize, marker: &str) -> BTreeSet<String> {
    let mut names = world.wait(&format!("a reconcile of {marker}"), || {
        Some(reconciled(world, since)).filter(|names| names.contains(marker))
    });
    let length = || fs::metadata(world.agent_log()).map_or(0, |file| file.len());
    let (start, mut last) = (Instant::now(), (Instant::now(), length()));
    while last.0.elapsed() < QUIET {
        assert!(start.elapsed() < DEADLINE, "the agent is never quiet");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(50));
        if length() != last.1 {
            last = (Instant::now(), length());
        }
    }
    names.extend(reconciled(world, since));
    names.remove(marker);
    names
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

struct Scene {
    world: World,
    /// The number of changes so far. Each also changes the manifest of `marker`, which shows when it is loaded.
    changes: u32,
}

impl Scene {
    /// Pushes a change and returns the objects that it wakes.
    fn push(&mut self, files: &[(&str, Option<&str>)]) -> BTreeSet<String> {
        self.changes += 1;
        let since = fs::read(self.world.agent_log()).map_or(0, |log| log.len());
        let marker = suspended(
            "marker",
            &format!("clusterName: c{}\n  builder: {{dir: packer/marker}}", self.changes),
        );
        let mut all = vec![("builders/marker.yaml", Some(marker.as_str()))];
        all.extend_from_slice(files);
        self.world.push(&all, "policy: change");
        woken(&self.world, since, "marker")
    }
}

#[test]
fn each_kind_of_change_wakes_the_objects_that_it_concerns_and_no_others() {
    let templates = GitServer::guarded("reader:right\n");
    templates.remote().commit("main", &[("node/node.pkr.hcl", Some(template())), ("README.md", Some("1"))]);
    let world = World::empty();
    let secret = world.root().join("secrets/default/templates");
    fs::create_dir_all(&secret).expect("a directory");
    fs::write(secret.join("username"), "reader").expect("written");
    fs::write(secret.join("token"), "wrong").expect("written");
    let elsewhere =
        format!("gitSync: {{secret: templates}}\n  builder: {{repoURL: {}, dir: node}}", templates.url());
    let settings = "agentID: test\npublish: {enabled: false}\n";
    let alone = suspended("alone", "builder: {dir: packer/alone}");
    let files = [
        ("opsy.yaml", settings.to_owned()),
        ("builders/alone.yaml", alone.clone()),
        (
            "builders/sharing.yaml",
            suspended("sharing", "builder: {dir: packer/sharing, inputs: [\"shared/*.sh\"]}"),
        ),
        ("builders/elsewhere.yaml", suspended("elsewhere", &elsewhere)),
        ("refreshers/nodes.yaml", REFRESHER.to_owned()),
        ("packer/alone/node.pkr.hcl", template().to_owned()),
        ("packer/marker/node.pkr.hcl", template().to_owned()),
        ("packer/sharing/node.pkr.hcl", template().to_owned()),
        ("shared/setup.sh", "true\n".to_owned()),
        ("README.md", "1\n".to_owned()),
    ];
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, Some(text.as_str()))).collect();
    world.push(&files, "policy: first");
    let mut opsy = world.opsy();
    opsy.env("OPSY_LOG", "info,opsy::engine::drive=debug").env("OPSY_SECRETS", world.root().join("secrets"));
    let _agent = world.start(opsy);
    let mut scene = Scene { world, changes: 0 };
    scene.world.wait("the first reconciles", || (reconciled(&scene.world, 0).len() == 4).then_some(()));
    assert_eq!(scene.push(&[]), names(&["nodes"]), "a new builder may be what a refresher waits for");

    assert_eq!(scene.push(&[]), names(&[]));
    assert_eq!(scene.push(&[("README.md", Some("2\n"))]), names(&[]), "a file of no template");
    let changed = alone.replace("30d", "31d");
    assert_eq!(scene.push(&[("builders/alone.yaml", Some(&changed))]), names(&["alone"]), "a document");
    let comment = format!("# By the platform team.\n{changed}");
    assert_eq!(scene.push(&[("builders/alone.yaml", Some(&comment))]), names(&[]), "a comment");
    let newer = template().replace("default = \"1\"", "default = \"2\"");
    assert_eq!(scene.push(&[("packer/alone/node.pkr.hcl", Some(&newer))]), names(&["alone"]), "a template");
    assert_eq!(scene.push(&[("packer/alone/notes.md", Some("1\n"))]), names(&["alone"]), "a file beside it");
    assert_eq!(scene.push(&[("shared/setup.sh", Some("false\n"))]), names(&["sharing"]), "a shared script");
    assert_eq!(
        scene.push(&[("shared/other.sh", Some("true\n"))]),
        names(&["sharing"]),
        "a new shared script"
    );
    assert_eq!(
        scene.push(&[(".opsyignore", Some("docs/\n"))]),
        names(&[]),
        "no template has the ignored files"
    );
    assert_eq!(
        scene.push(&[(".opsyignore", Some("docs/\npacker/alone/notes.md\n"))]),
        names(&["alone"]),
        "a file of a template is ignored"
    );
    let all = names(&["alone", "elsewhere", "nodes", "sharing"]);
    let limits = format!("{settings}limits: {{concurrentBuilds: 9}}\n");
    assert_eq!(scene.push(&[("opsy.yaml", Some(&limits))]), all, "the settings");
    assert_eq!(
        scene.push(&[("builders/alone.yaml", Some("a: [\n"))]),
        names(&["alone", "nodes"]),
        "a broken manifest, and a builder less"
    );
    assert_eq!(scene.push(&[("builders/alone.yaml", Some(&comment))]), all, "all files are valid again");

    // The Secret of a template repository, and the repository itself.
    let length = |world: &World| fs::read(world.agent_log()).map_or(0, |log| log.len());
    let since = length(&scene.world);
    fs::write(secret.join("token"), "right").expect("written");
    assert_eq!(woken(&scene.world, since, "elsewhere"), names(&[]), "credentials that work");
    let since = length(&scene.world);
    templates.remote().commit("main", &[("README.md", Some("2"))]);
    let fetched =
        || fs::read_to_string(scene.world.agent_log()).is_ok_and(|log| log[since..].contains("fetched"));
    scene.world.wait("the commit of the template repository", || fetched().then_some(()));
    assert_eq!(scene.push(&[]), names(&[]), "a file of no template");
    let since = length(&scene.world);
    templates.remote().commit("main", &[("node/node.pkr.hcl", Some(&newer))]);
    assert_eq!(woken(&scene.world, since, "elsewhere"), names(&[]), "a template of another repository");
}

#[test]
fn a_newer_base_image_is_built_on_by_the_builders_that_it_matches() {
    let world = World::new();
    world.account.post("base-image", json!({ "version": "20260801", "kubernetes": "1.32" }));
    let node = world.show("builders/node.yaml").expect("the builder");
    let next = node.replace("name: node", "name: next").replace("standard-1.31-*", "standard-1.32-*");
    world.push(
        &[("builders/next.yaml", Some(&next)), ("refreshers/demo.yaml", None)],
        "policy: two versions of Kubernetes",
    );
    settles(&world);
    world.account.post("base-image", json!({ "version": "20260901", "kubernetes": "1.32" }));
    settles(&world);
    let why = |name: &str| world.history(name).into_iter().map(|(why, _)| why).collect::<Vec<_>>();
    assert_eq!(
        (why("node"), why("next")),
        (vec!["Missing".to_owned()], vec!["BaseImage".to_owned(), "Missing".to_owned()])
    );
}
