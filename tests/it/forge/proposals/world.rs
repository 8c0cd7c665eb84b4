//! One repository on a Git server and on an emulated forge, and a publisher with what it publishes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use jiff::Timestamp;
use opsy::api::git_host::GitHost;
use opsy::api::{CommitId, Owner};
use opsy::git::commit::Edit;
use opsy::git::{Handle, Options};
use opsy::manifest::setters::{Found, Reference};
use opsy::publish::{Batch, Content, Publish, Publisher, Publishing, Rendered};
use opsy::settings::RepoSettings;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::forge::{self, Bed, Pull};
use crate::git::bed::{Bed as GitServer, DEADLINE, Remote};

pub const BRANCH: &str = "opsy/team-a/main";
pub const PULL_REQUEST: &str = r#"{"publish": {"mode": "PullRequest"}}"#;

/// Lets a hook move other branches while a push is in progress.
pub const UNLOCK: &str = "unset GIT_QUARANTINE_PATH GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES";

/// What the publisher publishes.
#[derive(Default)]
pub struct Files {
    pub batch: Mutex<Batch>,
    pub commit: Mutex<Option<CommitId>>,
    pub ami: Mutex<String>,
    pub owner: Mutex<Option<Owner>>,
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
pub struct World<'a> {
    pub server: GitServer,
    pub git: Handle,
    pub pull: Pull<'a>,
    pub files: Arc<Files>,
    pub settings: Arc<Mutex<RepoSettings>>,
    pub publisher: Publisher,
    pub stop: CancellationToken,
}

/// Starts a publisher.
pub fn start(
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
        let client = forge::client(kind, &api, &repository, forge::TOKEN, None);
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
    pub async fn new(bed: &'a Bed, kind: GitHost, settings: &str) -> Self {
        Self::with(bed, kind, settings, |_| {}).await
    }

    /// The agent reads the repository with these options.
    pub async fn with(
        bed: &'a Bed,
        kind: GitHost,
        settings: &str,
        options: impl FnOnce(&mut Options),
    ) -> Self {
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

    /// A world in which the publisher has proposed that `one` is built.
    pub async fn with_pull_request(bed: &'a Bed, kind: GitHost) -> Self {
        let world = Self::new(bed, kind, PULL_REQUEST).await;
        world.put("one", Some("built"));
        world.publish().await;
        world
    }

    /// Stops the publisher and starts another one, which knows nothing of the first.
    pub fn restart(&mut self) {
        self.stop.cancel();
        (self.publisher, self.stop) = start(&self.git, &self.pull, &self.settings, &self.files);
    }

    pub fn set(&self, settings: &str) {
        *self.settings.lock().expect("not poisoned") = serde_json::from_str(settings).expect("settings");
    }

    pub fn name(&self) -> &'static str {
        self.pull.name()
    }

    pub fn remote(&self) -> Remote {
        self.server.remote()
    }

    /// Sets the content of one object's file; `None` while work on it is in progress.
    pub fn put(&self, object: &str, text: Option<&str>) {
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

    pub async fn flush(&self) -> Publishing {
        self.publisher.flush(DEADLINE).await.expect("in time")
    }

    pub async fn publish(&self) {
        let state = self.flush().await;
        assert!(matches!(state, Publishing::Done { .. }), "{}: {state:?}", self.name());
    }

    pub async fn failure(&self) -> (String, String) {
        let state = self.flush().await;
        let (reason, message) = state.failure().unwrap_or_else(|| panic!("{}: {state:?}", self.name()));
        (reason.to_owned(), message.to_owned())
    }

    /// A person commits to the target, and the agent fetches it.
    pub async fn commit(&self, files: &[(&str, Option<&str>)]) {
        self.remote().commit("main", files);
        self.git.fetch().await.expect("a tip");
    }

    /// The pull requests: state and title.
    pub fn pulls(&self) -> Vec<Value> {
        let state = self.pull.state();
        let pulls = state["pulls"].as_array().expect("a list").iter();
        pulls.map(|pull| json!([pull["state"], pull["title"], pull["base"]])).collect()
    }

    pub fn close_by_hand(&self, number: u64, is_merged: bool) {
        let change = json!({ "number": number, "state": "closed", "merged": is_merged });
        self.pull.control("change-pull", change);
    }

    pub fn states(&self) -> Vec<String> {
        self.pulls().iter().map(|pull| pull[0].as_str().expect("a state").to_owned()).collect()
    }

    pub fn proposed(&self, file: &str) -> Option<String> {
        self.remote().file(BRANCH, file)
    }

    /// Loads the tip of the target, with the files of setters.
    pub async fn load(&self) {
        let tip = self.git.fetch().await.expect("a tip");
        *self.files.commit.lock().expect("not poisoned") = Some(tip.commit);
    }

    pub fn set_ami(&self, ami: &str) {
        ami.clone_into(&mut self.files.ami.lock().expect("not poisoned"));
    }
}

pub const KINDS: [GitHost; 3] = [GitHost::GitHub, GitHost::GitLab, GitHost::Gitea];
