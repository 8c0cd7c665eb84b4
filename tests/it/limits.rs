//! Limits of one commit. The test pushes small commits that expand to more than a machine can hold, and large files, to
//! the branch of a running agent. The agent's memory stays small, the last good commit stays in force, the problem is
//! reported, and the next good commit is applied.

use git2::{ObjectType, Oid, Repository, Signature};

use crate::processes::memory_kb;
use crate::world::{World, fixtures};

/// Half of the memory limit in the chart.
const MOST_MEMORY_KB: u64 = 256 * 1024;
const MANIFEST: &str = "builders/node.yaml";

/// A remote that is changed without a checkout, since a checkout of these commits fits on no disk.
struct Remote {
    repo: Repository,
}

impl Remote {
    fn of(world: &World) -> Self {
        Self { repo: Repository::open_bare(world.remote()).expect("the remote") }
    }

    /// Commits a tree on top of the tip, as a push does. The agent may push at the same time.
    fn push(&self, tree: Oid) -> String {
        let tree = self.repo.find_tree(tree).expect("a tree");
        let who = Signature::now("Somebody", "somebody@example.com").expect("a signature");
        loop {
            let tip = self.tip();
            let commit =
                self.repo.commit(None, &who, &who, "policy: one more", &tree, &[&tip]).expect("a commit");
            let main = self.repo.find_reference("refs/heads/main").expect("the branch");
            if main.target() == Some(tip.id()) && self.moved(commit, tip.id()) {
                return commit.to_string();
            }
        }
    }

    fn moved(&self, to: Oid, from: Oid) -> bool {
        self.repo.reference_matching("refs/heads/main", to, true, from, "push").is_ok()
    }

    fn tip(&self) -> git2::Commit<'_> {
        self.repo
            .find_branch("main", git2::BranchType::Local)
            .expect("a branch")
            .get()
            .peel_to_commit()
            .expect("a tip")
    }

    /// The tip's tree with these entries added or replaced.
    fn with(&self, entries: &[(&str, Oid, i32)]) -> Oid {
        self.put(self.tip().tree().expect("a tree").id(), entries)
    }

    fn put(&self, tree: Oid, entries: &[(&str, Oid, i32)]) -> Oid {
        entries.iter().fold(tree, |tree, (path, id, mode)| self.put_one(Some(tree), path, *id, *mode))
    }

    fn put_one(&self, tree: Option<Oid>, path: &str, id: Oid, mode: i32) -> Oid {
        let tree = tree.map(|tree| self.repo.find_tree(tree).expect("a tree"));
        let mut builder = self.repo.treebuilder(tree.as_ref()).expect("a builder");
        match path.split_once('/') {
            Some((folder, rest)) => {
                let below = builder.get(folder).expect("read").map(|entry| entry.id());
                builder.insert(folder, self.put_one(below, rest, id, mode), 0o040_000).expect("a directory");
            }
            None => drop(builder.insert(path, id, mode).expect("an entry")),
        }
        builder.write().expect("a tree")
    }

    fn blob(&self, content: &[u8]) -> Oid {
        self.repo.blob(content).expect("a blob")
    }
}

/// A dozen tree objects that expand to 10^10 paths.
fn tree_bomb(remote: &Remote) -> Oid {
    let leaf = remote.put_one(None, "f", remote.blob(b"x"), 0o100_644);
    (0..10).fold(leaf, |tree, _| {
        let mut content = Vec::new();
        for name in 0..10 {
            content.extend([format!("40000 d{name}\0").as_bytes(), tree.as_bytes()].concat());
        }
        remote.repo.odb().and_then(|odb| odb.write(ObjectType::Tree, &content)).expect("a tree")
    })
}

/// Thirty directories, each with two links to the next: 2^30 files, with chains of links below the limit.
fn link_bomb(remote: &Remote, tree: Oid) -> Oid {
    let tree = remote.put_one(Some(tree), "packer/node/l30/f", remote.blob(b"x"), 0o100_644);
    let links = (0..30).flat_map(|n| ["a", "b"].map(|name| (n, name)));
    links.fold(tree, |tree, (n, name)| {
        let target = remote.blob(format!("../l{}", n + 1).as_bytes());
        remote.put_one(Some(tree), &format!("packer/node/l{n}/{name}"), target, 0o120_000)
    })
}

/// A directory with `count` symbolic links that share one blob.
fn links(remote: &Remote, target: &[u8], count: usize) -> Oid {
    let blob = remote.blob(target);
    let mut builder = remote.repo.treebuilder(None).expect("a builder");
    for n in 0..count {
        builder.insert(format!("{n:06}"), blob, 0o120_000).expect("an entry");
    }
    builder.write().expect("a tree")
}

/// Forty different files of 12 MiB.
fn large_files(remote: &Remote) -> Oid {
    let content = |n: usize| format!("# CRD bundle {n}\n") + &"a: bcdefghijklmnop\n".repeat((12 << 20) / 19);
    let entries: Vec<_> =
        (0..40).map(|n| (format!("crds/{n}.yaml"), remote.blob(content(n).as_bytes()))).collect();
    let entries: Vec<_> = entries.iter().map(|(path, id)| (path.as_str(), *id, 0o100_644)).collect();
    remote.with(&entries)
}

/// Returns whether the builder is suspended, as declared in the last good commit.
fn is_suspended(world: &World) -> Option<bool> {
    world.condition("PackerBuilder", "node", "Ready")?;
    Some(world.condition("PackerBuilder", "node", "Suspended").is_some_and(|[status, ..]| status == "True"))
}

#[test]
fn no_commit_takes_the_agents_memory_or_its_last_good_commit() {
    let world = World::served(None);
    world.push_folder(&fixtures().join("repo"), "policy: first");
    let agent = world.agent();
    let image = world.wait("an image", || world.active_image());
    let remote = Remote::of(&world);
    let good = world.show(MANIFEST).expect("a manifest");
    let suspended = good.replace("spec:\n", "spec:\n  suspend: true\n");
    let text = |suspend: bool| remote.blob(if suspend { &suspended } else { &good }.as_bytes());
    let manifest = |suspend| (MANIFEST, text(suspend), 0o100_644);
    // Nothing of a bad commit is applied, not even its valid manifests: the last good commit stays in force.
    let bad: [(&str, &str, &dyn Fn() -> Oid); 5] = [
        ("RepositoryUnreadable", "has more than 250000 files and directories", &|| {
            remote.with(&[("bomb", tree_bomb(&remote), 0o040_000)])
        }),
        ("RepositoryUnreadable", "bytes of paths and link targets", &|| {
            remote.with(&[("links", links(&remote, &[0xff; 4096], 100_000), 0o040_000)])
        }),
        ("RepositoryUnreadable", "is a symbolic link whose target has more than 4096 bytes", &|| {
            remote.with(&[("links", links(&remote, &vec![b'x'; 256 << 20], 1000), 0o040_000)])
        }),
        ("RepositoryUnreadable", "has YAML files of", &|| {
            let blob = remote.blob("a: b\n".repeat((1 << 20) / 5).as_bytes());
            let paths: Vec<String> = (0..80).map(|n| format!("crds/{n}.yaml")).collect();
            remote.with(&paths.iter().map(|path| (path.as_str(), blob, 0o100_644)).collect::<Vec<_>>())
        }),
        ("ManifestBroken", "crds/0.yaml:1: has more than 1048576 bytes", &|| large_files(&remote)),
    ];
    let start = remote.tip().tree().expect("a tree").id();
    let mut suspend = true;
    for (reason, words, tree) in bad {
        remote.push(tree());
        let said = world.wait(words, || world.saved_condition(reason));
        assert!(said.contains(words), "{said}");
        assert_eq!((is_suspended(&world), world.active_image().as_ref()), (Some(!suspend), Some(&image)));
        remote.push(remote.put(start, &[manifest(suspend)]));
        world.wait("the next good commit", || (is_suspended(&world) == Some(suspend)).then_some(()));
        world.wait("the end of the condition", || world.saved_condition(reason).is_none().then_some(()));
        suspend = !suspend;
    }
    remote.push(remote.put(link_bomb(&remote, start), &[manifest(false)]));
    let [_, reason, said] =
        world.wait("the condition Stalled", || world.condition("PackerBuilder", "node", "Stalled"));
    assert!(reason == "TemplateInvalid" && said.contains("at most 100000 files"), "{reason}: {said}");
    remote.push(start);
    world.wait("the builder to be ready", || {
        let [ready, ..] = world.condition("PackerBuilder", "node", "Ready")?;
        (ready == "True" && world.active_image().as_ref() == Some(&image)).then_some(())
    });
    let peak = memory_kb(agent.id(), "VmHWM");
    assert!(peak < MOST_MEMORY_KB, "{peak} kB");
    assert_eq!(world.account.count("ec2:RunInstances"), 1, "nothing was built from these commits");
}
