//! Publishing by pull request: a real Git server, and the emulated forges, which show its branches. Tests assert on what
//! Git and the forge hold afterwards.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use jiff::Timestamp;
use opsy::api::git_host::GitHost;
use opsy::api::{CommitId, Owner, reasons};
use opsy::git::address::Address;
use opsy::git::commit::Edit;
use opsy::git::{Handle, Options};
use opsy::manifest::setters::{Found, Reference};
use opsy::publish::{Batch, Content, Publish, Publisher, Publishing, Rendered};
use opsy::settings::RepoSettings;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Bed, Pull};
use crate::git::bed::{Bed as GitServer, DEADLINE, Remote};

const BRANCH: &str = "opsy/team-a/main";
const PULL_REQUEST: &str = r#"{"publish": {"mode": "PullRequest"}}"#;

/// Lets a hook move other branches while a push is in progress.
const UNLOCK: &str = "unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES";

/// What the publisher publishes.
#[derive(Default)]
struct Files {
    batch: Mutex<Batch>,
    commit: Mutex<Option<CommitId>>,
    ami: Mutex<String>,
    owner: Mutex<Option<Owner>>,
}

impl Content for Files {
    fn render(&self) -> Batch {
        self.batch.lock().expect("not poisoned").clone()
    }
    fn published(&self) {}
    fn forget(&self) {}
    fn owner(&self) -> Option<Owner> {
        let owner = self.owner.lock().expect("not poisoned").clone();
        Some(owner.unwrap_or_else(|| Owner::parse("team-a").expect("an owner")))
    }
    fn commit(&self) -> Option<CommitId> {
        self.commit.lock().expect("not poisoned").clone()
    }
    fn find(&self, reference: &Reference) -> Found {
        match reference.builder.name.as_str() {
            "node" => match self.ami.lock().expect("not poisoned").as_str() {
                "" => Found::Pending,
                ami => Found::Value(ami.to_owned()),
            },
            _ => reference.find(None),
        }
    }
    fn refusal(&self, path: &str, _is_ignored: bool) -> Option<String> {
        path.starts_with("packer/").then(|| "is an input of PackerBuilder/default/node".to_owned())
    }
}

/// One repository on a Git server and on a forge, and a publisher.
struct World<'a> {
    server: GitServer,
    git: Handle,
    pull: Pull<'a>,
    files: Arc<Files>,
    settings: Arc<Mutex<RepoSettings>>,
    publisher: Publisher,
    stop: CancellationToken,
}

/// Starts a publisher.
fn start(
    git: &Handle,
    pull: &Pull<'_>,
    settings: &Arc<Mutex<RepoSettings>>,
    files: &Arc<Files>,
) -> (Publisher, CancellationToken) {
    let settings = Arc::clone(settings);
    let known = Arc::new(move || Some(settings.lock().expect("not poisoned").clone()));
    let (publish, publisher) = Publish::new(git.clone(), known, files.clone(), Timestamp::now);
    let (kind, api, repository) = (pull.kind, pull.api(), pull.repository.clone());
    let publish = publish.with_forge(Arc::new(move || {
        let client = super::client(kind, &api, &repository, super::TOKEN, None);
        async { Ok(client) }.boxed()
    }));
    let stop = CancellationToken::new();
    tokio::spawn(publish.run(stop.clone()));
    (publisher, stop)
}

impl Drop for World<'_> {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl<'a> World<'a> {
    async fn new(bed: &'a Bed, kind: GitHost, settings: &str) -> Self {
        Self::with(bed, kind, settings, |_| {}).await
    }

    /// The agent reads the repository with these options.
    async fn with(bed: &'a Bed, kind: GitHost, settings: &str, options: impl FnOnce(&mut Options)) -> Self {
        let server = GitServer::start();
        server.remote().commit("main", &[("a.yaml", Some("1"))]);
        static WORLDS: AtomicUsize = AtomicUsize::new(0);
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let repository = format!("platform/{}-{number}", kind.name().to_lowercase());
        let git = server.remote().path().to_owned();
        bed.control("repository", json!({ "repository": repository, "git": git }));
        let pull = Pull { bed, kind, repository, number: 0, head: String::new() };
        let git = server.handle_with(options);
        git.fetch().await.expect("a tip");
        let settings = serde_json::from_str(settings).expect("settings");
        let (settings, files) = (Arc::new(Mutex::new(settings)), Arc::new(Files::default()));
        let (publisher, stop) = start(&git, &pull, &settings, &files);
        Self { server, git, pull, files, settings, publisher, stop }
    }

    /// Stops the publisher and starts another one, which knows nothing of the first.
    fn restart(&mut self) {
        self.stop.cancel();
        (self.publisher, self.stop) = start(&self.git, &self.pull, &self.settings, &self.files);
    }

    fn set(&self, settings: &str) {
        *self.settings.lock().expect("not poisoned") = serde_json::from_str(settings).expect("settings");
    }

    fn name(&self) -> &'static str {
        self.pull.name()
    }

    fn remote(&self) -> Remote {
        self.server.remote()
    }

    /// Sets the content of one object's file; `None` while work on it is in progress.
    fn put(&self, object: &str, text: Option<&str>) {
        let mut batch = self.files.batch.lock().expect("not poisoned");
        batch.files.retain(|file| file.resource.as_deref() != Some(object));
        batch.is_incomplete = text.is_none();
        batch.files.extend(text.map(|text| Rendered {
            path: format!("{object}.yaml"),
            edit: Edit::Put(text.as_bytes().to_vec()),
            resource: Some(object.to_owned()),
            summary: Some(format!("{object} is {text}")),
            trailers: Vec::new(),
            version: None,
        }));
    }

    async fn flush(&self) -> Publishing {
        self.publisher.flush(DEADLINE).await.expect("in time")
    }

    async fn publish(&self) {
        let state = self.flush().await;
        assert!(matches!(state, Publishing::Done { .. }), "{}: {state:?}", self.name());
    }

    async fn failure(&self) -> (String, String) {
        let state = self.flush().await;
        let (reason, message) = state.failure().unwrap_or_else(|| panic!("{}: {state:?}", self.name()));
        (reason.to_owned(), message.to_owned())
    }

    /// A person commits to the target, and the agent fetches it.
    async fn commit(&self, files: &[(&str, Option<&str>)]) {
        self.remote().commit("main", files);
        self.git.fetch().await.expect("a tip");
    }

    /// The pull requests: state and title.
    fn pulls(&self) -> Vec<Value> {
        let state = self.pull.state();
        let pulls = state["pulls"].as_array().expect("a list").iter();
        pulls.map(|pull| json!([pull["state"], pull["title"], pull["base"]])).collect()
    }

    fn close_by_hand(&self, number: u64, is_merged: bool) {
        let change = json!({ "number": number, "state": "closed", "merged": is_merged });
        self.pull.control("change-pull", change);
    }

    fn states(&self) -> Vec<String> {
        self.pulls().iter().map(|pull| pull[0].as_str().expect("a state").to_owned()).collect()
    }

    fn proposed(&self, file: &str) -> Option<String> {
        self.remote().file(BRANCH, file)
    }

    /// Loads the tip of the target, with the files of setters.
    async fn load(&self) {
        let tip = self.git.fetch().await.expect("a tip");
        *self.files.commit.lock().expect("not poisoned") = Some(tip.commit);
    }

    fn set_ami(&self, ami: &str) {
        ami.clone_into(&mut self.files.ami.lock().expect("not poisoned"));
    }
}

const KINDS: [GitHost; 3] = [GitHost::GitHub, GitHost::GitLab, GitHost::Gitea];

#[tokio::test]
async fn one_pull_request_is_opened_updated_rebuilt_and_closed() {
    let bed = Bed::start();
    for kind in KINDS {
        let world = World::new(&bed, kind, PULL_REQUEST).await;
        world.put("one", Some("built"));
        world.publish().await;
        assert_eq!(world.pulls(), [json!(["open", "opsy: one is built", "main"])], "{}", world.name());
        assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("built"));
        assert_eq!(world.remote().log("main"), ["by hand"], "the target is left to people");
        let text = world.pull.shown(1)["body"].as_str().expect("a text").to_owned();
        assert!(text.contains("- `one`: `one is built`\n"), "{}: {text}", world.name());
        assert!(
            world
                .remote()
                .message(BRANCH)
                .ends_with("Opsy-Resource: one\nOpsy-Source: main\nOpsy-Owner: team-a\n")
        );

        bed.requests();
        world.server.journal();
        world.put("two", Some("new"));
        world.publish().await;
        let title = "opsy: update status of 2 objects";
        assert_eq!(world.pulls(), [json!(["open", title, "main"])], "{}", world.name());
        assert_eq!(world.remote().log(BRANCH), ["opsy: two is new", "opsy: one is built", "by hand"]);

        world.commit(&[("README.md", Some("news"))]).await;
        world.publish().await;
        assert_eq!(world.remote().log(BRANCH), [title, "by hand", "by hand"], "{}", world.name());
        assert_eq!(world.proposed("README.md").as_deref(), Some("news"));
        assert_eq!(world.pulls(), [json!(["open", title, "main"])], "{}", world.name());

        world.commit(&[("status/one.yaml", Some("built")), ("status/two.yaml", Some("new"))]).await;
        world.publish().await;
        assert_eq!(world.pulls(), [json!(["closed", title, "main"])], "{}", world.name());
        assert_eq!(world.remote().tip(BRANCH), None, "{}: its branch is deleted", world.name());
        let comments = world.pull.shown(1)["comments"].to_string();
        assert!(comments.contains("Nothing differs from the target branch"), "{comments}");
        bed.requests();
        world.publish().await;
        assert_eq!(bed.requests(), [], "{}: nothing is left to ask", world.name());
    }
}

#[tokio::test]
async fn a_repository_on_this_machine_has_the_same_branch() {
    let bed = Bed::start();
    let origin = GitServer::start();
    origin.remote().commit("main", &[("a.yaml", Some("1"))]);
    let path = origin.remote().path().to_owned();
    let local = |options: &mut Options| {
        options.address = Address::parse(&path.display().to_string()).expect("an address");
    };
    let world = World::with(&bed, GitHost::Gitea, PULL_REQUEST, local).await;
    bed.control("repository", json!({ "repository": world.pull.repository, "git": path }));
    world.put("one", Some("built"));
    world.publish().await;
    origin.remote().commit("main", &[("README.md", Some("news"))]);
    world.git.fetch().await.expect("a tip");
    world.publish().await;
    assert_eq!(origin.remote().log(BRANCH), ["opsy: one is built", "by hand", "by hand"]);
    let theirs = origin.remote().commit(BRANCH, &[("x", Some("y"))]);
    world.put("one", Some("rebuilt"));
    assert_eq!(world.failure().await.0, reasons::BRANCH_NOT_OWN);
    assert_eq!(origin.remote().tip(BRANCH), Some(theirs));
    origin.remote().delete(BRANCH);
    world.publish().await;
    origin.remote().commit("main", &[("status/one.yaml", Some("rebuilt"))]);
    world.git.fetch().await.expect("a tip");
    world.publish().await;
    assert_eq!(origin.remote().tip(BRANCH), None);
}

#[tokio::test]
async fn what_a_person_merges_is_not_proposed_again() {
    let bed = Bed::start();
    for kind in KINDS {
        let world = World::new(&bed, kind, PULL_REQUEST).await;
        // By a fast-forward.
        world.put("one", Some("built"));
        world.publish().await;
        world.remote().reset("main", &world.remote().tip(BRANCH).expect("the branch"));
        world.close_by_hand(1, true);
        world.git.fetch().await.expect("a tip");
        world.publish().await;
        assert_eq!(world.pulls().len(), 1, "{}: {:?}", world.name(), world.pulls());
        assert_eq!(world.remote().tip(BRANCH), None, "{}", world.name());
        // By a squash: the commit of the branch is not in the target.
        world.put("one", Some("rebuilt"));
        world.publish().await;
        world.close_by_hand(2, true);
        world.commit(&[("status/one.yaml", Some("rebuilt"))]).await;
        world.put("two", Some("built"));
        world.publish().await;
        let due = [("closed", "one is built"), ("closed", "one is rebuilt"), ("open", "two is built")];
        let due = due.map(|(state, what)| json!([state, format!("opsy: {what}"), "main"]));
        assert_eq!(world.pulls(), due, "{}", world.name());
        let log = world.remote().log(BRANCH);
        assert_eq!(
            log,
            ["opsy: two is built", "by hand", "opsy: one is built", "by hand"],
            "{}",
            world.name()
        );
    }
}

#[tokio::test]
async fn what_a_person_closes_is_not_proposed_again() {
    let bed = Bed::start();
    for kind in KINDS {
        let world = World::new(&bed, kind, PULL_REQUEST).await;
        world.put("one", Some("built"));
        world.publish().await;
        world.close_by_hand(1, false);
        world.commit(&[("README.md", Some("news"))]).await;
        world.publish().await;
        assert_eq!(world.pulls(), [json!(["closed", "opsy: one is built", "main"])], "{}", world.name());
        world.put("one", Some("rebuilt"));
        world.publish().await;
        let due = [("closed", "built"), ("open", "rebuilt")];
        let due = due.map(|(state, what)| json!([state, format!("opsy: one is {what}"), "main"]));
        assert_eq!(world.pulls(), due, "{}", world.name());
    }
}

#[tokio::test]
async fn what_a_person_closes_is_not_pushed_again_after_its_branch_was_deleted() {
    let bed = Bed::start();
    for kind in KINDS {
        let mut world = World::new(&bed, kind, PULL_REQUEST).await;
        world.put("one", Some("built"));
        world.publish().await;
        world.close_by_hand(1, false);
        world.remote().delete(BRANCH);
        for is_new in [false, false, true] {
            world.commit(&[("README.md", Some("news"))]).await;
            if is_new {
                world.restart();
            }
            world.publish().await;
            assert_eq!(world.remote().tip(BRANCH), None, "{}", world.name());
        }
        assert_eq!(world.states(), ["closed"], "{}", world.name());
        // A person changes their mind. The others need the branch for it.
        if kind == GitHost::GitLab {
            world.pull.control("change-pull", json!({ "number": 1, "state": "open" }));
            world.commit(&[("README.md", Some("more"))]).await;
            world.publish().await;
            assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("built"), "it is kept up to date");
            world.close_by_hand(1, false);
        }
        world.put("one", Some("rebuilt"));
        world.publish().await;
        assert_eq!(world.states(), ["closed", "open"], "{}", world.name());
        assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("rebuilt"), "{}", world.name());
    }
}

#[tokio::test]
async fn a_pull_request_without_its_branch_is_closed_when_nothing_differs() {
    let bed = Bed::start();
    for kind in KINDS {
        let world = World::new(&bed, kind, PULL_REQUEST).await;
        world.put("one", Some("built"));
        world.publish().await;
        world.remote().delete(BRANCH);
        world.commit(&[("status/one.yaml", Some("built"))]).await;
        world.publish().await;
        assert_eq!(world.states(), ["closed"], "{}", world.name());
        // From now on, commits to the target cost no request to the forge.
        bed.requests();
        world.commit(&[("README.md", Some("news"))]).await;
        world.publish().await;
        assert_eq!(bed.requests(), [], "{}", world.name());
    }
}

const RELEASE: &str = r#"{"publish": {"mode": "PullRequest", "branch": "release"}}"#;

#[tokio::test]
async fn a_pull_request_that_is_not_wanted_any_more_is_closed_and_its_branch_deleted() {
    let bed = Bed::start();
    let other = Owner::parse("team-b").expect("an owner");
    for kind in KINDS {
        for is_restarted in [false, true] {
            for (settings, open) in [
                (r#"{"publish": {"mode": "Commit"}}"#, None),
                (r#"{"publish": {"mode": "PullRequest", "enabled": false}}"#, None),
                (RELEASE, Some("opsy/team-a/release")),
                (PULL_REQUEST, Some("opsy/team-b/main")),
            ] {
                // Nobody knows the owner before the restart. All forges close in the same way.
                let is_unknown = is_restarted && settings == PULL_REQUEST;
                if is_unknown || kind != GitHost::Gitea && (is_restarted || settings != RELEASE) {
                    continue;
                }
                let mut world = World::new(&bed, kind, PULL_REQUEST).await;
                world.remote().commit("release", &[("b", Some("1"))]);
                world.put("one", Some("built"));
                world.publish().await;
                assert!(world.remote().tip(BRANCH).is_some(), "{}", world.name());
                world.set(settings);
                if settings == PULL_REQUEST {
                    *world.files.owner.lock().expect("not poisoned") = Some(other.clone());
                }
                if is_restarted {
                    world.restart();
                }
                world.flush().await;
                let context = format!("{} {settings} {is_restarted}", world.name());
                let states = world.states();
                assert_eq!(states, ["closed", "open"][..1 + usize::from(open.is_some())], "{context}");
                assert_eq!(world.remote().tip(BRANCH), None, "{context}");
                assert!(open.is_none_or(|open| world.remote().tip(open).is_some()), "{context}");
                if open.is_none() {
                    bed.requests();
                    world.server.journal();
                    world.flush().await;
                    assert_eq!((bed.requests(), world.server.journal()), Default::default(), "{context}");
                }
                // The same change can be due again.
                open.into_iter().for_each(|_| world.close_by_hand(2, true));
                if world.remote().file("main", "status/one.yaml").is_some() {
                    world.commit(&[("status/one.yaml", None)]).await;
                }
                *world.files.owner.lock().expect("not poisoned") = None;
                world.set(PULL_REQUEST);
                world.publish().await;
                assert_eq!(world.states().last().map(String::as_str), Some("open"), "{context}");
                assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("built"), "{context}");
            }
        }
    }
}

#[tokio::test]
async fn branches_of_others_stay_when_the_mode_changes() {
    let bed = Bed::start();
    let mut world = World::new(&bed, GitHost::Gitea, PULL_REQUEST).await;
    world.put("one", Some("built"));
    world.publish().await;
    let repo = world.remote().repo();
    let base = repo.revparse_single("main").expect("the target").peel_to_commit().expect("a commit");
    let opsy = git2::Signature::now("Opsy", "opsy@users.noreply.local").expect("a signature");
    // An agent with the same owner reads another branch, and a person has another name.
    for (name, source) in [("dev", "dev"), ("by-hand", "main")] {
        let author = if source == "dev" { opsy.clone() } else { base.author().to_owned() };
        let message = format!("x\n\nOpsy-Source: {source}\nOpsy-Owner: team-a\n");
        let reference = format!("refs/heads/opsy/team-a/{name}");
        let tree = base.tree().expect("a tree");
        repo.commit(Some(&reference), &author, &opsy, &message, &tree, &[&base]).expect("a commit");
    }
    let theirs = world.remote().commit(BRANCH, &[("status/one.yaml", Some("mine"))]);
    world.set(r#"{"publish": {"mode": "Commit"}}"#);
    world.restart();
    world.publish().await;
    assert_eq!(world.remote().tip(BRANCH), Some(theirs));
    assert_eq!(world.states(), ["open"]);
    assert!(world.remote().tip("opsy/team-a/dev").is_some());
    assert!(world.remote().tip("opsy/team-a/by-hand").is_some());
}

#[tokio::test]
async fn a_copy_of_the_branch_and_its_pull_request_stay_when_the_mode_changes() {
    let bed = Bed::start();
    for kind in KINDS {
        let mut world = World::new(&bed, kind, PULL_REQUEST).await;
        world.put("one", Some("built"));
        world.publish().await;
        let tip = world.remote().tip(BRANCH).expect("the branch");
        let copies = ["opsy/team-a/backup", "opsy/team-a/mine"];
        copies.iter().for_each(|copy| world.remote().reset(copy, &tip));
        let body = world.pull.shown(1)["body"].clone();
        let pull = json!({ "repository": world.pull.repository, "branch": copies[1], "body": body });
        bed.control("pull", pull);
        world.set(r#"{"publish": {"mode": "Commit"}}"#);
        world.restart();
        world.publish().await;
        assert_eq!(world.states(), ["closed", "open"], "{}", world.name());
        assert_eq!(world.remote().tip(BRANCH), None, "{}", world.name());
        for copy in copies {
            assert_eq!(world.remote().tip(copy).as_ref(), Some(&tip), "{}: {copy}", world.name());
        }
    }
}

/// The names of the branch that is read and of the one that is published to can be any.
#[tokio::test]
async fn a_branch_that_is_read_or_published_to_is_never_deleted() {
    let bed = Bed::start();
    let mut world = World::new(&bed, GitHost::Gitea, PULL_REQUEST).await;
    world.put("one", Some("built"));
    world.publish().await;
    world.set(r#"{"publish": {"branch": "opsy/team-a/main"}}"#);
    world.restart();
    world.publish().await;
    assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("built"));
}

#[tokio::test]
async fn a_lasting_error_of_the_forge_is_not_retried_for_what_is_not_wanted_any_more() {
    let bed = Bed::start();
    let mut world = World::new(&bed, GitHost::Gitea, PULL_REQUEST).await;
    world.put("one", Some("built"));
    world.publish().await;
    bed.control("tokens", json!({ "token": super::TOKEN, "state": "revoked" }));
    world.set(r#"{"publish": {"mode": "Commit"}}"#);
    world.publish().await;
    bed.requests();
    world.publish().await;
    assert_eq!(bed.requests(), []);
    assert_eq!(world.states(), ["open"]);
    // Comments are not needed to close it.
    bed.control("tokens", json!({ "token": super::TOKEN, "state": "ok" }));
    bed.control("faults", json!({ "kind": "status", "status": 403, "method": "POST", "count": 1 }));
    world.restart();
    world.publish().await;
    assert_eq!((world.states(), world.remote().tip(BRANCH)), (vec!["closed".to_owned()], None));
}

/// The list from before the push shows the pull request open.
#[tokio::test]
async fn another_pull_request_is_opened_if_a_person_merges_or_closes_it_during_the_push() {
    let bed = Bed::start();
    for (kind, is_merged) in [(GitHost::GitHub, true), (GitHost::GitLab, true), (GitHost::Gitea, false)] {
        let world = World::new(&bed, kind, PULL_REQUEST).await;
        world.put("one", Some("built"));
        world.publish().await;
        let change = json!({ "repository": world.pull.repository, "number": 1, "state": "closed", "merged": is_merged });
        let url = format!("{}/_bed/change-pull", bed.process.text("url"));
        let curl = format!("curl --silent --fail --noproxy '*' --output /dev/null --data '{change}' {url}");
        world.remote().hook("pre-receive", &format!("{UNLOCK}\n{curl} || exit 1"));
        world.put("one", Some("rebuilt"));
        world.publish().await;
        let due = [("closed", "built"), ("open", "rebuilt")];
        let due = due.map(|(state, what)| json!([state, format!("opsy: one is {what}"), "main"]));
        assert_eq!(world.pulls(), due, "{}", world.name());
    }
}

#[tokio::test]
async fn a_push_that_is_retried_costs_no_request_to_the_forge() {
    let bed = Bed::start();
    let world = World::new(&bed, GitHost::Gitea, PULL_REQUEST).await;
    world.remote().hook("pre-receive", "exit 1");
    world.put("one", Some("built"));
    world.failure().await;
    assert_ne!(bed.requests(), [], "the first one asks whether the change was declined");
    world.failure().await;
    assert_eq!(bed.requests(), []);
}

#[tokio::test]
async fn an_open_pull_request_is_pushed_to_while_the_forge_fails() {
    let bed = Bed::start();
    let world = World::new(&bed, GitHost::Gitea, PULL_REQUEST).await;
    world.put("one", Some("built"));
    world.publish().await;
    bed.control("tokens", json!({ "token": super::TOKEN, "state": "revoked" }));
    world.put("one", Some("rebuilt"));
    for _ in 0..2 {
        assert_eq!(world.failure().await.0, reasons::PULL_REQUEST_FAILED);
        assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("rebuilt"));
    }
    bed.control("tokens", json!({ "token": super::TOKEN, "state": "ok" }));
    world.publish().await;
    assert_eq!(world.pulls(), [json!(["open", "opsy: one is rebuilt", "main"])]);
}

#[tokio::test]
async fn a_branch_with_commits_of_others_is_left_alone_and_named() {
    let bed = Bed::start();
    for kind in KINDS {
        let world = World::new(&bed, kind, PULL_REQUEST).await;
        world.put("one", Some("built"));
        world.publish().await;
        let theirs = world.remote().commit(BRANCH, &[("status/one.yaml", Some("mine"))]);
        world.put("one", Some("rebuilt"));
        world.commit(&[("README.md", Some("news"))]).await;
        let pulls = world.pulls();
        let (reason, message) = world.failure().await;
        assert_eq!(reason, reasons::BRANCH_NOT_OWN, "{message}");
        assert!(
            message.contains(BRANCH) && message.contains(&theirs) && message.contains("Ann"),
            "{message}"
        );
        assert_eq!(world.remote().tip(BRANCH), Some(theirs), "{}", world.name());
        assert_eq!(world.pulls(), pulls, "{}", world.name());
        // A commit of this agent that a person amended is one of that person, too.
        let own = world.remote().repo();
        let tip = own.revparse_single(BRANCH).expect("the branch").peel_to_commit().expect("a commit");
        let author = git2::Signature::now("Opsy", "opsy@users.noreply.local").expect("a signature");
        let base = tip.parent(0).and_then(|own| own.parent(0)).expect("the target");
        let message = "opsy: one is built\n\nOpsy-Owner: team-a\n";
        let amended =
            own.commit(None, &author, &tip.committer(), message, &tip.tree().expect("a tree"), &[&base]);
        world.remote().reset(BRANCH, &amended.expect("a commit").to_string());
        assert_eq!(world.failure().await.0, reasons::BRANCH_NOT_OWN, "{}", world.name());
        world.remote().delete(BRANCH);
        world.publish().await;
        assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("rebuilt"), "{}", world.name());
    }
}

#[tokio::test]
async fn a_commit_that_is_pushed_meanwhile_is_not_replaced() {
    let bed = Bed::start();
    let world = World::new(&bed, GitHost::Gitea, PULL_REQUEST).await;
    world.put("one", Some("built"));
    world.publish().await;
    // The hook runs after the fetch and before the branch is moved: it moves the branch first.
    world.commit(&[("README.md", Some("news"))]).await;
    let theirs = world.remote().commit("other", &[("x", Some("y"))]);
    world.remote().hook("pre-receive", &format!("{UNLOCK}\ngit update-ref refs/heads/{BRANCH} {theirs}"));
    let (reason, message) = world.failure().await;
    assert_eq!(reason, reasons::BRANCH_NOT_OWN, "{message}");
    assert_eq!(world.remote().tip(BRANCH), Some(theirs));
}

#[tokio::test]
async fn an_error_of_the_forge_is_reported_and_survived() {
    let bed = Bed::start();
    for kind in KINDS {
        let world = World::new(&bed, kind, PULL_REQUEST).await;
        world.put("one", Some("built"));
        bed.control("tokens", json!({ "token": super::TOKEN, "state": "revoked" }));
        let (reason, message) = world.failure().await;
        assert_eq!(reason, reasons::PULL_REQUEST_FAILED, "{}: {message}", world.name());
        assert!(message.contains("HTTP 401") && message.contains(world.name()), "{message}");
        assert_eq!(world.proposed("status/one.yaml"), None, "{}: it may have been declined", world.name());
        bed.control("tokens", json!({ "token": super::TOKEN, "state": "ok" }));
        bed.control("faults", json!({ "kind": "status", "status": 500, "method": "POST", "count": 1 }));
        assert_eq!(world.failure().await.0, reasons::PULL_REQUEST_FAILED, "{}", world.name());
        let tip = world.remote().tip(BRANCH);
        world.publish().await;
        assert_eq!(world.pulls(), [json!(["open", "opsy: one is built", "main"])], "{}", world.name());
        assert_eq!(world.remote().tip(BRANCH), tip, "{}: what was pushed stays", world.name());
        // The deletion fails halfway: the pull request is not left behind.
        world.commit(&[("status/one.yaml", Some("built"))]).await;
        bed.control("faults", json!({ "kind": "status", "status": 500, "method": "GET", "count": 3 }));
        assert_eq!(world.failure().await.0, reasons::PULL_REQUEST_FAILED, "{}", world.name());
        world.publish().await;
        assert_eq!(world.pulls(), [json!(["closed", "opsy: one is built", "main"])], "{}", world.name());
        assert_eq!(world.remote().tip(BRANCH), None, "{}", world.name());
    }
}

#[tokio::test]
async fn a_target_that_does_not_exist_and_a_refused_push_are_named() {
    let bed = Bed::start();
    let settings = r#"{"publish": {"mode": "PullRequest", "branch": "release"}}"#;
    let world = World::new(&bed, GitHost::GitHub, settings).await;
    world.put("one", Some("built"));
    let (reason, message) = world.failure().await;
    assert_eq!(reason, reasons::PUSH_FAILED, "{message}");
    assert!(message.contains("branch release does not exist"), "{message}");
    world.remote().commit("release", &[("b", Some("1"))]);
    world.remote().hook("pre-receive", "echo 'no branches of robots' >&2; exit 1");
    let (reason, message) = world.failure().await;
    assert_eq!(reason, reasons::PUSH_REFUSED, "{message}");
    assert!(message.contains("no branches of robots"), "{message}");
    world.remote().unhook("pre-receive");
    world.publish().await;
    assert_eq!(world.pulls(), [json!(["open", "opsy: one is built", "release"])]);
    assert_eq!(world.remote().file("opsy/team-a/release", "status/one.yaml").as_deref(), Some("built"));
}

#[tokio::test]
async fn work_in_progress_takes_nothing_out_of_the_pull_request() {
    let bed = Bed::start();
    let settings = r#"{"publish": {"mode": "PullRequest"}, "setters": {"paths": ["infra/**"]}}"#;
    let world = World::new(&bed, GitHost::GitLab, settings).await;
    world.remote().commit("main", &[("infra/prod.tfvars", Some(TFVARS))]);
    world.load().await;
    world.set_ami("ami-2");
    world.put("one", Some("built"));
    world.put("two", Some("built"));
    world.publish().await;
    world.put("two", None);
    world.set_ami("");
    world.commit(&[("README.md", Some("news"))]).await;
    world.publish().await;
    assert_eq!(world.remote().log(BRANCH).len(), 4, "it is rebuilt");
    assert_eq!(world.proposed("infra/prod.tfvars"), Some(TFVARS.replace("ami-1", "ami-2")));
    assert_eq!(world.proposed("status/two.yaml").as_deref(), Some("built"));
    // The same file, changed in the target: that is where it starts from.
    world.commit(&[("status/two.yaml", Some("by hand"))]).await;
    world.publish().await;
    assert_eq!(world.proposed("status/two.yaml").as_deref(), Some("by hand"));
    assert_eq!(world.proposed("status/one.yaml").as_deref(), Some("built"));
}

const TFVARS: &str =
    "# nodes\r\nname   = \"x\"\r\nami_id =  \"ami-1\"   # {\"$opsy\": \"node:us-east-1:x86_64\"}\r\n";
const JSON: &str = "{\"eks\":\t{ \"ami\" : \"ami-1\", \"n\": 1.0 }}";
const SETTERS: &str = r#"{"setters": {"paths": ["infra/**", "packer/**"],
    "json": [{"path": "infra/x.tfvars.json", "pointer": "/eks/ami", "value": "node:us-east-1:x86_64"}]},
    "publish": {"mode": "MODE"}}"#;

#[tokio::test]
async fn setters_reach_the_branch_in_both_modes() {
    let bed = Bed::start();
    for (mode, branch) in [("Commit", "main"), ("PullRequest", BRANCH)] {
        let world = World::new(&bed, GitHost::GitHub, &SETTERS.replace("MODE", mode)).await;
        let files = [("infra/prod.tfvars", TFVARS), ("infra/x.tfvars.json", JSON), ("other.tfvars", TFVARS)];
        world.remote().commit("main", &files.map(|(path, text)| (path, Some(text))));
        let script = world.remote().repo().blob(TFVARS.as_bytes()).expect("a blob");
        world.remote().put("main", "infra/run.hcl", script, 0o100_755);
        world.load().await;
        world.set_ami("ami-2");
        world.publish().await;
        let file = |path: &str| world.remote().file(branch, path).unwrap_or_default();
        assert_eq!(file("infra/prod.tfvars"), TFVARS.replace("ami-1", "ami-2"), "{mode}");
        assert_eq!(file("infra/x.tfvars.json"), JSON.replace("ami-1", "ami-2"), "{mode}");
        assert_eq!(file("other.tfvars"), TFVARS, "{mode}: it may not be edited");
        let repo = world.remote().repo();
        let tree = repo.revparse_single(branch).expect("a tip").peel_to_tree().expect("a tree");
        let run = tree.get_path("infra/run.hcl".as_ref()).expect("a file");
        assert_eq!(run.filemode(), 0o100_755, "{mode}: it stays executable");
        // Nothing follows from the agent's own commit.
        world.load().await;
        let (tip, pulls) = (world.remote().tip(branch), world.pulls());
        world.publish().await;
        assert_eq!((world.remote().tip(branch), world.pulls()), (tip, pulls), "{mode}");
        // A new image is one more commit.
        world.set_ami("ami-3");
        world.put("one", Some("built"));
        world.publish().await;
        assert_eq!(file("infra/prod.tfvars"), TFVARS.replace("ami-1", "ami-3"), "{mode}");
        assert_eq!(world.remote().log(branch)[0], "opsy: one is built", "{mode}");
    }
}

#[tokio::test]
async fn a_setter_with_an_error_changes_nothing_and_is_named() {
    let bed = Bed::start();
    let world = World::new(&bed, GitHost::GitHub, &SETTERS.replace("MODE", "Commit")).await;
    let wrong = TFVARS.replace("node:", "gone:") + &TFVARS.replace("nodes", "more");
    let template = "ami = \"ami-1\" # {\"$opsy\": \"node:us-east-1:x86_64\"}\n";
    world.remote().commit(
        "main",
        &[
            ("infra/good.tfvars", Some(TFVARS)),
            ("infra/wrong.tfvars", Some(&wrong)),
            ("packer/node.pkrvars.hcl", Some(template)),
        ],
    );
    world.load().await;
    world.set_ami("ami-2");
    world.put("one", Some("built"));
    let (reason, message) = world.failure().await;
    assert_eq!(reason, reasons::SETTER_INVALID, "{message}");
    for due in [
        "infra/x.tfvars.json:1: is not a file",
        "infra/wrong.tfvars:3: PackerBuilder default/gone is not declared in the repository",
        "packer/node.pkrvars.hcl:1: is an input of PackerBuilder/default/node",
    ] {
        assert!(message.contains(due), "{due}: {message}");
    }
    let file = |path: &str| world.remote().file("main", path);
    assert_eq!(file("infra/wrong.tfvars"), Some(wrong), "the other value in it neither");
    assert_eq!(file("packer/node.pkrvars.hcl").as_deref(), Some(template));
    assert_eq!(file("infra/good.tfvars"), Some(TFVARS.replace("ami-1", "ami-2")));
    assert_eq!(file("status/one.yaml").as_deref(), Some("built"), "status is published all the same");
    // What is published next does not wait for the correction, which ends the condition.
    world.put("one", Some("rebuilt"));
    world.publisher.wake();
    let state = world.publisher.state();
    assert!(!state.borrow().is_up_to_date());
    world.flush().await;
    assert_eq!(file("status/one.yaml").as_deref(), Some("rebuilt"));
    let good = [
        ("infra/wrong.tfvars", None),
        ("packer/node.pkrvars.hcl", None),
        ("infra/x.tfvars.json", Some(JSON)),
    ];
    world.remote().commit("main", &good);
    world.load().await;
    world.publish().await;
}
