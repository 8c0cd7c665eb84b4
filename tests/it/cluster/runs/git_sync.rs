//! Builds whose pod fetches the repository with git-sync: from which servers, with which Secrets, and how failures are
//! reported.

use opsy::api::CommitId;
use opsy::engine::{Failure, GitSyncRun, RunRequest, RunState, Runs};

use super::node::Relay;
use super::pods::{BUILT, Builds};
use super::world::numbered;
use crate::git::bed::{Bed as GitServer, Remote};
use crate::git::ssh::Server as SshServer;
use crate::world::template;

const TEMPLATE: &str = "packer/node.pkr.hcl";
const BROKEN: &str = "build {\n";

/// The repository and commit that a pod fetches, and the Secret that it uses.
struct Source {
    repository: String,
    commit: String,
    secret: Option<&'static str>,
}

impl Source {
    fn public(repository: &str, commit: &str) -> Self {
        Self { repository: repository.to_owned(), commit: commit.to_owned(), secret: None }
    }

    fn request(&self, builds: &Builds) -> RunRequest {
        let mut request = builds.request();
        request.files = std::sync::Arc::default();
        request.facts.commit = CommitId::parse(self.commit.clone()).expect("a commit");
        request.pod.git_sync = Some(GitSyncRun {
            image: "localhost/git-sync:bed".into(),
            container: "git-sync".into(),
            secret: self.secret.map(str::to_owned),
            user: None,
            repository: self.repository.clone(),
        });
        request
    }

    /// Builds from it, and returns the final state.
    async fn ended(&self, builds: &Builds) -> RunState {
        builds.world.start(&self.request(builds)).await.expect("it starts");
        builds.world.ended(BUILT, &builds.builder).await.state
    }

    async fn builds(&self, builds: &Builds) {
        let state = self.ended(builds).await;
        assert!(matches!(state, RunState::Succeeded(_)), "{state:?}");
    }

    /// Why its build did not start.
    async fn refused(&self, builds: &Builds) -> String {
        match self.ended(builds).await {
            RunState::Failed(Failure::NotStarted(words)) => words,
            state => panic!("{state:?}"),
        }
    }
}

/// The URL at which pods reach the repository of the server.
fn reached(server: &GitServer) -> String {
    let url = server.url();
    let (address, name) = url.rsplit_once('/').expect("a server and a name");
    format!("{}/{name}", Relay::to(address).url)
}

/// The `address:port` at which pods reach a server.
fn reached_by_ssh(server: &SshServer) -> String {
    let relay = Relay::to(&format!("http://127.0.0.1:{}", server.port));
    relay.url.strip_prefix("http://").expect("an address").to_owned()
}

/// Creates a Secret with the client key that the server accepts and with this line of known_hosts.
async fn ssh_secret(builds: &Builds, server: &SshServer, key: &str, host: String) {
    let private = std::fs::read_to_string(server.at("client")).expect("a key");
    builds.secret("git", vec![(key.to_owned(), private), ("known_hosts".to_owned(), host)]).await;
}

fn known(server: &SshServer, place: &str) -> String {
    let (address, port) = place.rsplit_once(':').expect("a port");
    server.line_at("ed25519", &format!("[{address}]:{port}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_of_a_secret_opens_a_private_repository() {
    // Keys as the operator reads them, as git-sync does, and as the agent does.
    let forms: [(&str, &[(&str, &str)]); 4] = [
        ("reader", &[("username", "reader"), ("token", "git-password")]),
        ("reader", &[("GITSYNC_USERNAME", "reader"), ("GITSYNC_PASSWORD", "git-password")]),
        ("reader", &[("username", "reader"), ("password", "git-password")]),
        ("x-access-token", &[("token", "git-password")]),
    ];
    let server = GitServer::guarded("");
    let commit = server.remote().commit("main", &[(TEMPLATE, Some(template()))]);
    let repository = reached(&server);
    for (user, keys) in forms {
        let Some(builds) = Builds::new().await else { return };
        server.allow(&format!("{user}:git-password"));
        builds.secret("git", keys.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()).await;
        Source { secret: Some("git"), ..Source::public(&repository, &commit) }.builds(&builds).await;
        assert!(server.users().iter().all(|name| name == user), "{keys:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_repository_is_built_with_its_submodules() {
    let Some(builds) = Builds::new().await else { return };
    let server = GitServer::start();
    let shared = Remote::init(&server.folder.path().join("served/shared.git"));
    let part = shared.commit("main", &[("node.pkr.hcl", Some(template()))]);
    let modules = "[submodule \"packer\"]\n\tpath = packer\n\turl = ../shared.git\n";
    server.remote().commit("main", &[(".gitmodules", Some(modules))]);
    server.remote().put("main", "packer", part.parse().expect("an id"), 0o160_000);
    let tip = server.remote().tip("main").expect("a tip");
    Source::public(&reached(&server), &tip).builds(&builds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_that_moved_on_does_not_change_what_is_built() {
    let Some(builds) = Builds::new().await else { return };
    let server = GitServer::start();
    let commit = server.remote().commit("main", &[(TEMPLATE, Some(template()))]);
    server.remote().commit("main", &[(TEMPLATE, Some(BROKEN))]);
    Source::public(&reached(&server), &commit).builds(&builds).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_said_in_the_words_of_git() {
    let Some(builds) = Builds::new().await else { return };
    let server = GitServer::guarded("reader:git-password");
    let commit = server.remote().commit("main", &[(TEMPLATE, Some(template()))]);
    builds.secret("git", vec![("username".into(), "reader".into()), ("token".into(), "wr0ng".into())]).await;
    let source = Source { secret: Some("git"), ..Source::public(&reached(&server), &commit) };
    let words = source.refused(&builds).await;
    assert!(words.contains("Authentication failed") && !words.contains("wr0ng"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_key_fetches_over_ssh_in_a_restricted_namespace() {
    let server = SshServer::start(&["ed25519"]);
    let commit = server.remote().commit("main", &[(TEMPLATE, Some(template()))]);
    let place = reached_by_ssh(&server);
    for key in ["ssh", "ssh-privatekey"] {
        let Some(builds) = Builds::new().await else { return };
        let namespace = &builds.world.place;
        let restricted = "pod-security.kubernetes.io/enforce=restricted";
        namespace.kubectl(&["label", "namespace", &namespace.namespace, restricted], "");
        ssh_secret(&builds, &server, key, known(&server, &place)).await;
        let repository = server.url_at(&place);
        Source { secret: Some("git"), ..Source::public(&repository, &commit) }.builds(&builds).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_not_known_gets_nothing_and_a_missing_secret_is_named() {
    let Some(builds) = Builds::new().await else { return };
    let server = SshServer::start(&["ed25519"]);
    let commit = server.remote().commit("main", &[(TEMPLATE, Some(template()))]);
    let place = reached_by_ssh(&server);
    let source = Source { secret: Some("git"), ..Source::public(&server.url_at(&place), &commit) };
    builds.world.start(&source.request(&builds)).await.expect("it starts");
    let named = |state: &RunState| matches!(state, RunState::Pending(Some(words)) if words.contains("secret \"git\" not found"));
    builds.world.until("the Secret's name", BUILT, &builds.builder, named).await;
    ssh_secret(&builds, &server, "ssh", server.line_at("ed25519", "git.example")).await;
    let state = builds.world.ended(BUILT, &builds.builder).await.state;
    let RunState::Failed(Failure::NotStarted(words)) = &state else { panic!("{state:?}") };
    assert!(words.contains("Host key verification failed"), "{words}");
}

/// This sshd does not pass on `GIT_PROTOCOL`, and Git's older protocol sends only the tips of branches.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_sends_only_tips_is_explained_and_its_new_tip_is_built() {
    let Some(builds) = Builds::new().await else { return };
    let server = SshServer::start(&["ed25519"]);
    let commit = server.remote().commit("main", &[(TEMPLATE, Some(BROKEN))]);
    let tip = server.remote().commit("main", &[(TEMPLATE, Some(template()))]);
    let place = reached_by_ssh(&server);
    ssh_secret(&builds, &server, "ssh", known(&server, &place)).await;
    let source =
        |commit: &str| Source { secret: Some("git"), ..Source::public(&server.url_at(&place), commit) };
    let words = source(&commit).refused(&builds).await;
    assert!(words.contains("unadvertised object") && words.contains("the branch has moved on"), "{words}");
    let first = builds.request().name;
    builds.world.runs.forget(&first).await.expect("it is forgotten");
    let RunRequest { name, facts, .. } = numbered(&builds.builder, "", 2);
    let mut next = RunRequest { name, ..source(&tip).request(&builds) };
    next.facts.build = facts.build;
    builds.world.start(&next).await.expect("it starts");
    let state = builds.world.ended(BUILT, &builds.builder).await.state;
    assert!(matches!(state, RunState::Succeeded(_)), "{state:?}");
}
