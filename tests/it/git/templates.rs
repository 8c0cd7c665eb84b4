//! Templates of a synced commit, read as files.

use jiff::Timestamp;
use opsy::api::{Class, Key};
use opsy::git::templates::TemplateQuery;
use opsy::manifest::{ObjectSet, SourceFile};
use opsy::sync::{Outputs, Sync};

use super::bed::{Bed, Remote};

async fn synced(bed: &Bed) -> (Sync, Outputs) {
    let (mut sync, outputs) =
        Sync::new(bed.handle(), Box::new(|_: &[SourceFile]| ObjectSet::default()), Timestamp::now);
    sync.once().await.expect("synced");
    (sync, outputs)
}

fn query(template: &str) -> TemplateQuery {
    TemplateQuery { template: template.to_owned(), ..TemplateQuery::default() }
}

fn key() -> Key {
    Key { namespace: "default".to_owned(), name: "node".to_owned() }
}

fn repository(remote: &Remote) {
    remote.commit(
        "main",
        &[
            ("packer/node/node.pkr.hcl", Some("source")),
            ("packer/node/setup.sh", Some("echo")),
            ("shared/motd", Some("welcome")),
            ("status/x.yaml", Some("s")),
        ],
    );
    remote.link("main", "packer/node/motd", "../../shared/motd");
}

#[tokio::test]
async fn files_come_with_their_content() {
    let bed = Bed::start();
    repository(&bed.remote());
    let (mut sync, outputs) = synced(&bed).await;
    let templates = outputs.templates;
    let resolved = templates.resolve(&query("packer/node/"), &key()).await.expect("resolved");
    let files = templates.files(&query("packer/node/"), &key(), &resolved.commit).await.expect("files");
    let text = |content: &[u8]| String::from_utf8_lossy(content).into_owned();
    let files: Vec<_> = files.iter().map(|file| (file.path.as_str(), text(&file.content))).collect();
    assert_eq!(
        files,
        [
            ("packer/node/motd", "welcome".to_owned()),
            ("packer/node/node.pkr.hcl", "source".to_owned()),
            ("packer/node/setup.sh", "echo".to_owned()),
        ]
    );
    let whole = TemplateQuery { whole: true, ..query("packer/node") };
    assert_eq!(templates.resolve(&whole, &key()).await.expect("resolved").tag, resolved.tag);
    let all = templates.files(&whole, &key(), &resolved.commit).await.expect("files");
    assert_eq!(all.iter().map(|file| file.path.as_str()).collect::<Vec<_>>().len(), 4, "all but the status");
    // A build keeps the commit with which it started, whatever is pushed meanwhile.
    bed.remote().commit("main", &[("packer/node/node.pkr.hcl", Some("other")), ("shared/motd", Some("bye"))]);
    sync.once().await.expect("synced");
    let old =
        templates.files(&query("packer/node/node.pkr.hcl"), &key(), &resolved.commit).await.expect("files");
    let template = old.iter().find(|file| file.path == "packer/node/node.pkr.hcl").expect("the template");
    assert_eq!((template.content.as_slice(), old.len()), (&b"source"[..], 3), "its directory is included");
    assert_ne!(templates.resolve(&query("packer/node"), &key()).await.expect("resolved").tag, resolved.tag);
}

#[tokio::test]
async fn a_missing_template_is_a_mistake_and_an_unread_repository_is_not() {
    let bed = Bed::start();
    repository(&bed.remote());
    let (sync, outputs) =
        Sync::new(bed.handle(), Box::new(|_: &[SourceFile]| ObjectSet::default()), Timestamp::now);
    let early = outputs.templates.resolve(&query("packer/node"), &key()).await.expect_err("too early");
    assert_eq!(early.class, Class::TRANSIENT);
    let mut sync = sync;
    sync.once().await.expect("synced");
    let missing = outputs.templates.resolve(&query("packer/nod"), &key()).await.expect_err("missing");
    assert_eq!((missing.class, missing.message.contains("packer/nod")), (Class::Invalid, true));
}

#[tokio::test]
async fn files_beyond_all_measure_are_refused() {
    let bed = Bed::start();
    let big = "x".repeat(17 * 1024 * 1024);
    let files: Vec<(String, String)> =
        (0..4).map(|n| (format!("packer/big/{n}.bin"), format!("{n}{big}"))).collect();
    let mut files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), Some(text.as_str()))).collect();
    files.push(("packer/big/big.pkr.hcl", Some("source")));
    bed.remote().commit("main", &files);
    let (_sync, outputs) = synced(&bed).await;
    let resolved = outputs.templates.resolve(&query("packer/big"), &key()).await.expect("resolved");
    let error =
        outputs.templates.files(&query("packer/big"), &key(), &resolved.commit).await.expect_err("too much");
    assert_eq!(error.class, Class::Invalid);
    assert!(error.message.contains("packer/big/"), "{}", error.message);
}

#[tokio::test]
async fn the_agents_own_repository() {
    let bed = Bed::guarded("*:hunter2\n");
    repository(&bed.remote());
    let git = bed.handle_with(|options| options.credentials = Some(super::bed::token("hunter2")));
    let (mut sync, outputs) =
        Sync::new(git, Box::new(|_: &[SourceFile]| ObjectSet::default()), Timestamp::now);
    sync.once().await.expect("synced");
    assert_eq!(outputs.templates.own(), (bed.url(), "main".to_owned()));
    assert!(outputs.templates.is_own(bed.url().trim_end_matches(".git")));
    assert!(!outputs.templates.is_own("https://github.com/org/repo"));
}

#[tokio::test]
async fn what_a_commit_cannot_give_is_named_where_a_build_needs_it() {
    let bed = Bed::start();
    let remote = bed.remote();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12345\n";
    remote.commit(
        "main",
        &[
            (".opsyignore", Some("*.md\n")),
            ("README.md", Some("teh")),
            ("packer/lfs/agent.rpm", Some(pointer)),
            ("packer/lfs/x.pkr.hcl", Some("source")),
            ("packer/node/node.pkr.hcl", Some("source")),
            ("packer/odd/x.pkr.hcl", Some("source")),
        ],
    );
    remote.submodule("main", "plugins/x");
    remote.link("main", "docs/latest", "/usr/share/doc");
    let blob = remote.repo().blob(b"odd").expect("a blob");
    for path in [b"packer/odd/a\xff", b"packer/odd/a\xfe"] {
        remote.put("main", path, blob, 0o100_644);
    }
    let (mut sync, outputs) = synced(&bed).await;
    let templates = outputs.templates;
    let commit = sync.once().await.expect("synced").commit.clone();
    for (template, named) in [
        ("packer/lfs", "packer/lfs/agent.rpm is a Git LFS pointer"),
        ("packer/odd", "the name of packer/odd/a\\xfe is not UTF-8"),
        ("packer/lfs/", "packer/lfs/agent.rpm is a Git LFS pointer"),
    ] {
        let error = templates.resolve(&query(template), &key()).await.expect_err(template);
        assert_eq!(error.class, Class::Invalid, "{template}: a person must act");
        assert!(error.message.contains(named), "{template}: {error}");
        let files = templates.files(&query(template), &key(), &commit).await;
        assert_eq!(files.expect_err("nothing is started").message, error.message);
    }
    let whole = TemplateQuery { whole: true, ..query("packer/node") };
    let resolved = templates.resolve(&whole, &key()).await.expect("files of other builds do not matter");
    let files = templates.files(&whole, &key(), &resolved.commit).await.expect("files");
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        [".opsyignore", "packer/lfs/x.pkr.hcl", "packer/node/node.pkr.hcl", "packer/odd/x.pkr.hcl"]
    );

    remote.commit("main", &[("README.md", Some("the"))]);
    let before = resolved.tag;
    assert_ne!(sync.once().await.expect("synced").commit, commit);
    let resolved = templates.resolve(&whole, &key()).await.expect("resolved");
    assert_eq!(resolved.tag, before, "an ignored file is not an input of any build");
    let commit = resolved.commit;
    remote.commit("main", &[(".opsyignore", Some("docs/\n"))]);
    assert_ne!(sync.once().await.expect("synced").commit, commit);
}
