//! Commits and pushes: rival commits, refusals, and files that are never touched.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use opsy::api::Class;
use opsy::git::address::Address;
use opsy::git::commit::{Author, Change, Edit, Outcome};
use opsy::git::{GitError, Handle};

use super::bed::{Bed, Remote, token};

pub fn change(branch: &str, edits: &[(&str, Edit)]) -> Change {
    Change {
        branch: branch.to_owned(),
        edits: edits
            .iter()
            .map(|(path, edit)| ((*path).to_owned(), edit.clone()))
            .collect::<BTreeMap<_, _>>(),
        versions: BTreeMap::new(),
        settled: Arc::default(),
        message: Arc::new(|paths| format!("opsy: {}", paths.join(" "))),
        author: Author { name: "Opsy".to_owned(), email: "opsy@test.invalid".to_owned() },
        time: "2026-01-02T03:04:05Z".parse().expect("a time"),
    }
}

fn put(text: &str) -> Edit {
    Edit::Put(text.as_bytes().to_vec())
}

/// An edit that runs `act` between the fetch and the push.
fn meanwhile(text: &'static str, act: impl FnMut(u32) + Send + 'static) -> Edit {
    let calls = AtomicU32::new(0);
    let act = std::sync::Mutex::new(act);
    Edit::Merge(Arc::new(move |_| {
        (act.lock().expect("not poisoned"))(calls.fetch_add(1, Ordering::Relaxed));
        Ok(text.as_bytes().to_vec())
    }))
}

async fn pushed(git: &Handle, change: &Change) -> Vec<String> {
    match git.commit(change).await.expect("pushed") {
        Outcome::Pushed { paths, .. } => paths,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn only_our_files_change() {
    let bed = Bed::start();
    let remote = bed.remote();
    let theirs = remote.commit("main", &[("a.yaml", Some("1")), ("status/old.yaml", Some("old"))]);
    let git = bed.handle();
    let ours = change("main", &[("status/new.yaml", put("new")), ("status/old.yaml", Edit::Remove)]);
    assert_eq!(pushed(&git, &ours).await, ["status/new.yaml", "status/old.yaml"]);
    assert_eq!(remote.log("main"), ["opsy: status/new.yaml status/old.yaml", "by hand"]);
    assert_eq!(remote.file("main", "a.yaml").as_deref(), Some("1"));
    assert_eq!(remote.file("main", "status/new.yaml").as_deref(), Some("new"));
    assert_eq!(remote.file("main", "status/old.yaml"), None);
    let repo = remote.repo();
    let tip = repo.revparse_single("main").expect("the tip").peel_to_commit().expect("a commit");
    assert_eq!(tip.parent_id(0).expect("a parent").to_string(), theirs);
    assert_eq!((tip.author().name(), tip.time().seconds()), (Ok("Opsy"), 1_767_323_045));
    // The agent knows its own push: the next poll fetches nothing, and the same change makes no commit.
    bed.journal();
    assert!(!git.fetch().await.expect("a tip").fetched);
    assert_eq!(git.commit(&ours).await, Ok(Outcome::Unchanged));
    let journal = bed.journal();
    assert!(journal.iter().all(|request| request == "ls-refs /repo.git/git-upload-pack?"), "{journal:?}");
    assert_eq!(git.differs(&ours).await, Ok(false));
    assert!(bed.journal().is_empty(), "only the clone was read");
}

#[tokio::test]
async fn a_rival_commit_in_between_is_kept() {
    let bed = Bed::start();
    let remote = bed.remote();
    remote.commit("main", &[("a.yaml", Some("1"))]);
    let rival = remote.clone();
    let act = move |call| {
        if call == 0 {
            rival.commit("main", &[("a.yaml", Some("2"))]);
        }
    };
    let ours = change("main", &[("status/x", meanwhile("ours", act))]);
    assert_eq!(pushed(&bed.handle(), &ours).await, ["status/x"]);
    assert_eq!(remote.log("main"), ["opsy: status/x", "by hand", "by hand"]);
    assert_eq!(remote.file("main", "a.yaml").as_deref(), Some("2"));
}

#[tokio::test]
async fn a_rival_inside_the_servers_own_push_is_kept() {
    let bed = Bed::start();
    let remote = bed.remote();
    remote.commit("main", &[("a.yaml", Some("1"))]);
    // The server has received the objects and not yet updated the branch: the rival's update comes first.
    remote.hook(
        "pre-receive",
        "unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES\n\
         test -e raced && exit 0; touch raced\n\
         export GIT_AUTHOR_NAME=r GIT_AUTHOR_EMAIL=r GIT_COMMITTER_NAME=r GIT_COMMITTER_EMAIL=r\n\
         git update-ref refs/heads/main $(git commit-tree -p main -m rival main^{tree})",
    );
    assert_eq!(pushed(&bed.handle(), &change("main", &[("status/x", put("1"))])).await, ["status/x"]);
    assert_eq!(remote.log("main"), ["opsy: status/x", "rival", "by hand"]);
}

#[tokio::test]
async fn a_branch_reset_in_between_is_not_brought_back() {
    let bed = Bed::start();
    let remote = bed.remote();
    let first = remote.commit("main", &[("a.yaml", Some("1"))]);
    remote.commit("main", &[("secret.yaml", Some("pushed by mistake"))]);
    let rival = remote.clone();
    let ours = change(
        "main",
        &[(
            "status/x",
            meanwhile("ours", move |call| {
                if call == 0 {
                    rival.reset("main", &first);
                }
            }),
        )],
    );
    pushed(&bed.handle(), &ours).await;
    assert_eq!(remote.log("main"), ["opsy: status/x", "by hand"]);
    assert_eq!(remote.file("main", "secret.yaml"), None);
}

#[tokio::test]
async fn rivals_without_end_are_given_up() {
    let bed = Bed::start();
    let remote = bed.remote();
    remote.commit("main", &[("a.yaml", Some("0"))]);
    let rival = remote.clone();
    let act = move |call: u32| drop(rival.commit("main", &[("a.yaml", Some(&call.to_string()))]));
    let lost = bed.handle().commit(&change("main", &[("status/x", meanwhile("ours", act))])).await;
    let lost = lost.expect_err("given up");
    assert_eq!(lost.class(), Class::Conflict, "{lost}");
    assert!(remote.log("main").iter().all(|subject| subject == "by hand"), "nothing was forced");
}

#[tokio::test]
async fn many_agents_on_one_branch_all_land() {
    const AGENTS: usize = 4;
    let bed = Bed::start();
    let remote = bed.remote();
    remote.commit("main", &[("a.yaml", Some("1"))]);
    let agent = |number: usize| {
        let git = bed.handle_with(|options| options.folder.set_file_name(format!("clone{number}")));
        let ours = change("main", &[(format!("status/{number}").as_str(), put("done"))]);
        async move {
            loop {
                match git.commit(&ours).await {
                    Ok(outcome) => break assert!(matches!(outcome, Outcome::Pushed { .. }), "{outcome:?}"),
                    Err(error) => assert_eq!(error.class(), Class::Conflict, "{error}"),
                }
            }
        }
    };
    futures::future::join_all((0..AGENTS).map(agent)).await;
    assert_eq!(remote.log("main").len(), AGENTS + 1);
    assert!((0..AGENTS).all(|number| remote.file("main", &format!("status/{number}")).is_some()));
}

#[tokio::test]
async fn the_message_of_a_refusing_hook_is_reported() {
    let bed = Bed::start();
    let remote = bed.remote();
    remote.commit("main", &[("a.yaml", Some("1"))]);
    remote.hook("pre-receive", "echo 'main is frozen until Monday' >&2; exit 1");
    let git = bed.handle();
    let ours = change("main", &[("status/x", put("1"))]);
    let Ok(Outcome::Rejected { message }) = git.commit(&ours).await else { panic!("not refused") };
    assert!(
        message.contains("pre-receive hook declined") && message.contains("main is frozen until Monday"),
        "{message}"
    );
    assert_eq!(remote.log("main"), ["by hand"]);
    remote.unhook("pre-receive");
    remote.hook("update", "echo 'no status here' >&2; exit 1");
    let Ok(Outcome::Rejected { message }) = git.commit(&ours).await else { panic!("not refused") };
    assert!(message.contains("hook declined") && message.contains("no status here"), "{message}");
    remote.unhook("update");
    assert_eq!(pushed(&git, &ours).await, ["status/x"]);
}

#[tokio::test]
async fn another_branch_starts_without_history() {
    let bed = Bed::start();
    let remote = bed.remote();
    remote.commit("main", &[("a.yaml", Some("1"))]);
    let git = bed.handle();
    let first = change("opsy-status", &[("status/x", put("1"))]);
    pushed(&git, &first).await;
    assert_eq!(remote.log("opsy-status"), ["opsy: status/x"]);
    assert_eq!(remote.file("opsy-status", "a.yaml"), None);
    assert_eq!(remote.log("main"), ["by hand"]);
    pushed(&git, &change("opsy-status", &[("status/x", put("2"))])).await;
    assert_eq!(remote.log("opsy-status").len(), 2);
    remote.delete("opsy-status");
    pushed(&git, &change("opsy-status", &[("status/x", put("2"))])).await;
    assert_eq!(remote.log("opsy-status").len(), 1, "the branch was deleted, so it starts without history");
}

#[tokio::test]
async fn the_read_branch_is_never_invented() {
    let bed = Bed::start();
    let remote = bed.remote();
    remote.commit("main", &[("a.yaml", Some("1"))]);
    remote.commit("other", &[("a.yaml", Some("1"))]);
    let git = bed.handle_with(|options| options.branch = Some("main".to_owned()));
    git.fetch().await.expect("a tip");
    remote.delete("main");
    let error = git.commit(&change("main", &[("status/x", put("1"))])).await.expect_err("gone");
    assert!(matches!(error, GitError::NoBranch { .. }), "{error}");
    assert_eq!(remote.tip("main"), None);
}

#[tokio::test]
async fn merged_files_keep_what_others_wrote() {
    let bed = Bed::start();
    let remote = bed.remote();
    remote.commit("main", &[("status/amis.json", Some("theirs"))]);
    let merge = Edit::Merge(Arc::new(|found: Option<&[u8]>| {
        let mut text = String::from_utf8_lossy(found.unwrap_or_default()).into_owned();
        if !text.contains("ours") {
            text.push_str("+ours");
        }
        Ok(text.into_bytes())
    }));
    let git = bed.handle();
    let ours = change("main", &[("status/amis.json", merge)]);
    pushed(&git, &ours).await;
    assert_eq!(remote.file("main", "status/amis.json").as_deref(), Some("theirs+ours"));
    assert_eq!(git.commit(&ours).await, Ok(Outcome::Unchanged));
    let broken = Edit::Merge(Arc::new(|_| Err("is not JSON".to_owned())));
    let error = git.commit(&change("main", &[("status/amis.json", broken)])).await.expect_err("broken");
    assert_eq!(error.to_string(), "status/amis.json: is not JSON");
}

#[tokio::test]
async fn what_stands_in_the_way_is_left_alone() {
    let bed = Bed::start();
    bed.remote().commit("main", &[("status", Some("a file"))]);
    let git = bed.handle();
    let error = git.commit(&change("main", &[("status/x", put("1"))])).await.expect_err("in the way");
    assert_eq!(error.class(), Class::Invalid, "{error}");
    let error = git.commit(&change("main", &[("../x", put("1"))])).await.expect_err("outside");
    assert_eq!(error.class(), Class::Invalid, "{error}");
    assert_eq!(bed.remote().file("main", "status").as_deref(), Some("a file"));

    let remote = bed.remote();
    remote.commit("main", &[("state/x/README.md", Some("a folder"))]);
    git.fetch().await.expect("a tip");
    let merge = change("main", &[("state/x", Edit::Merge(Arc::new(|_| Ok(b"1".to_vec()))))]);
    bed.journal();
    let in_the_way = "state/x: is a directory, but Opsy writes a file there: remove it";
    assert_eq!(git.differs(&merge).await.expect_err("a directory").to_string(), in_the_way);
    assert!(bed.journal().is_empty(), "the clone is kept");
    assert_eq!(git.commit(&merge).await.expect_err("a directory").to_string(), in_the_way);
}

#[tokio::test]
async fn pushing_needs_credentials_too() {
    let bed = Bed::guarded("*:good\n");
    bed.remote().commit("main", &[("a.yaml", Some("1"))]);
    let git = bed.handle_with(|options| options.credentials = Some(token("good")));
    pushed(&git, &change("main", &[("status/x", put("1"))])).await;
    bed.allow("*:other\n");
    let error = git.commit(&change("main", &[("status/x", put("2"))])).await.expect_err("refused");
    assert_eq!(error.class(), Class::Denied, "{error}");
}

#[tokio::test]
async fn a_remote_that_is_away_is_no_refusal() {
    let bed = Bed::start();
    bed.remote().commit("main", &[("a.yaml", Some("1"))]);
    let git = bed.handle();
    git.fetch().await.expect("a tip");
    bed.away(Some("refuse"));
    let error = git.commit(&change("main", &[("status/x", put("1"))])).await.expect_err("away");
    assert_eq!(error.class(), Class::TRANSIENT, "{error}");
    bed.away(None);
    pushed(&git, &change("main", &[("status/x", put("1"))])).await;
}

#[tokio::test]
async fn local_repositories() {
    let folder = tempfile::tempdir().expect("a directory");
    let remote = Remote::init(&folder.path().join("bare.git"));
    remote.commit("main", &[("a.yaml", Some("1"))]);
    let bed = Bed::start();
    let local = |path: &std::path::Path| {
        let address = Address::parse(path.to_str().expect("UTF-8")).expect("a path");
        bed.handle_with(|options| options.address = address)
    };
    let ours = change("main", &[("status/x", put("1"))]);
    pushed(&local(remote.path()), &ours).await;
    assert_eq!(remote.log("main"), ["opsy: status/x", "by hand"]);
    let rival = remote.clone();
    let act = move |call| {
        if call == 0 {
            rival.commit("main", &[("a.yaml", Some("2"))]);
        }
    };
    pushed(&local(remote.path()), &change("main", &[("status/y", meanwhile("ours", act))])).await;
    assert_eq!(remote.log("main"), ["opsy: status/y", "by hand", "opsy: status/x", "by hand"]);
    pushed(&local(remote.path()), &change("opsy-status", &[("status/x", put("1"))])).await;
    assert_eq!(remote.log("opsy-status"), ["opsy: status/x"]);
    let refs = remote.repo().references_glob("refs/opsy/*").expect("refs").count();
    assert_eq!(refs, 0, "no refs of Opsy are left");
    let work = git2::Repository::init(folder.path().join("work")).expect("a work tree");
    Remote::at(work.path()).commit("main", &[("a.yaml", Some("1"))]);
    let git = local(work.workdir().expect("a work tree"));
    git.fetch().await.expect("can be read");
    let error = git.commit(&ours).await.expect_err("cannot be pushed into");
    assert!(matches!(error, GitError::NotBare { .. }), "{error}");
}
