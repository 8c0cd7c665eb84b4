//! SSH with a real sshd: fetch and push with a deploy key, and the message of every failure.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use opsy::git::Secret;
use opsy::git::address::Address;
use opsy::git::auth::Credentials;
use opsy::git::commit::Edit;
use opsy::git::{GitError, Handle, Options};

use super::bed::{ANN, DEADLINE, Remote, fingerprint, git_of, http, keygen, printed};
use super::history;
use super::push::change;
use crate::bed::wait_for;

/// An sshd in the foreground with its own host keys, which accepts one client key.
pub struct Server {
    child: Child,
    folder: tempfile::TempDir,
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The system's sshd, or the one that the bed has unpacked, with its libraries.
fn sshd() -> Command {
    let usual = Path::new("/usr/sbin/sshd");
    if usual.exists() {
        return Command::new(usual);
    }
    let cache = std::env::var_os("OPSY_CACHE").expect("OPSY_CACHE, as tests/bed/bin/prerequisites needs it");
    let unpacked = PathBuf::from(cache).join("sshd/usr");
    let mut command = Command::new(unpacked.join("sbin/sshd"));
    command
        .env("LD_LIBRARY_PATH", unpacked.join("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH)));
    command
}

impl Server {
    /// Starts a server with host keys of these kinds. The key `client` may log in.
    pub fn start(kinds: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let at = |name: &str| folder.path().join(name);
        keygen(at("client"), "ed25519", "");
        fs::copy(at("client.pub"), at("authorized_keys")).expect("copied");
        let mut config = String::new();
        for kind in kinds {
            keygen(at(&format!("host_{kind}")), kind, "");
            config += &format!("HostKey {}\n", at(&format!("host_{kind}")).display());
        }
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        config += &format!(
            "ListenAddress 127.0.0.1:{port}\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n\
             PasswordAuthentication no\nAuthorizedKeysFile {}\n",
            at("authorized_keys").display()
        );
        fs::write(at("config"), config).expect("written");
        fs::create_dir_all("/run/sshd").ok();
        let child = sshd()
            .args(["-D", "-e", "-f"])
            .arg(at("config"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("log")).expect("a log"))
            .spawn()
            .expect("sshd starts");
        wait_for("sshd", DEADLINE, || TcpStream::connect(("127.0.0.1", port)).ok());
        Remote::init(&at("repo.git"));
        Self { child, folder, port }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn remote(&self) -> Remote {
        Remote::at(&self.at("repo.git"))
    }

    /// The line of known_hosts for a host key.
    fn line(&self, kind: &str) -> String {
        self.line_at(kind, &format!("[127.0.0.1]:{}", self.port))
    }

    /// As `line`, for a server that is reached at another address.
    pub fn line_at(&self, kind: &str, place: &str) -> String {
        let key = fs::read_to_string(self.at(&format!("host_{kind}.pub"))).expect("a host key");
        format!("{place} {key}")
    }

    fn address(&self) -> Address {
        Address::parse(&self.url_at(&format!("127.0.0.1:{}", self.port))).expect("an address")
    }

    pub fn url_at(&self, place: &str) -> String {
        let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
        format!("ssh://{user}@{place}{}", self.at("repo.git").display())
    }

    fn handle(&self, credentials: Credentials) -> Handle {
        Handle::start(Options {
            address: self.address(),
            branch: Some("main".to_owned()),
            path: String::new(),
            folder: tempfile::tempdir_in(self.folder.path()).expect("a directory").keep().join("clone"),
            credentials: Some(credentials),
            http: http(),
            history: opsy::git::History::Recent,
            signers: None,
            signing_key: None,
        })
        .expect("threads")
    }

    /// The key that may log in, and a known_hosts file with these lines.
    fn credentials(&self, known_hosts: &str) -> Credentials {
        let key = (Secret::File(self.at("client")), None);
        Credentials {
            key: Some(key),
            known_hosts: vec![Secret::Value(known_hosts.to_owned())],
            ..Credentials::default()
        }
    }

    async fn refused(&self, credentials: Credentials) -> String {
        let error = self.handle(credentials).fetch().await.expect_err("refused");
        assert!(!matches!(error, GitError::Unreachable { .. }), "no outage: {error}");
        error.to_string()
    }
}

#[tokio::test]
async fn fetch_and_push_use_a_deploy_key() {
    let server = Server::start(&["ed25519", "ecdsa", "rsa"]);
    let first = server.remote().commit("main", &[("a.yaml", Some("a"))]);
    let git = server.handle(server.credentials(&server.line("ed25519")));
    assert_eq!(git.fetch().await.expect("fetched").commit.as_str(), first);
    let change = change("main", &[("status/a.yaml", Edit::Put(b"b".to_vec()))]);
    git.commit(&change).await.expect("pushed");
    assert_ne!(server.remote().tip("main").as_deref(), Some(first.as_str()));
}

#[tokio::test]
async fn the_history_is_cut_and_fetched_when_it_is_needed() {
    let server = Server::start(&["ed25519"]);
    let remote = server.remote();
    let add = |count| history::add(&remote, "main", count, |number| format!("{}.hcl", number % 20));
    let first = add(600);
    let git = server.handle(server.credentials(&server.line("ed25519")));
    let tip = git.fetch().await.expect("fetched");
    assert_eq!(tip.commit.as_str(), first);
    let clone = git.options().folder.clone();
    assert!(clone.join("shallow").exists());
    for count in [1, 120] {
        let next = add(count);
        let fetched = git.fetch().await.expect("fetched");
        assert_eq!(fetched.commit.as_str(), next);
        assert!(git.follows(&fetched.commit, &tip.commit).await.expect("known"));
    }
    git.commit(&change("main", &[("status/a.yaml", Edit::Put(b"b".to_vec()))])).await.expect("pushed");
    printed(git_of(&clone, ANN).args(["fsck", "--connectivity-only"]));
}

#[tokio::test]
async fn any_of_the_hosts_keys_will_do_and_the_known_one_is_asked_for() {
    let server = Server::start(&["ed25519", "ecdsa", "rsa"]);
    server.remote().commit("main", &[("a.yaml", Some("a"))]);
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let git = server.handle(server.credentials(&server.line(kind)));
        git.fetch().await.unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
}

#[tokio::test]
async fn a_host_that_is_not_known_or_has_changed_is_refused_with_its_fingerprint() {
    let server = Server::start(&["ed25519"]);
    server.remote().commit("main", &[("a.yaml", Some("a"))]);
    let print = &fingerprint(&server.at("host_ed25519.pub"));
    let unknown = server.refused(server.credentials("")).await;
    assert!(unknown.contains("is not in known_hosts") && unknown.contains(print), "{unknown}");
    keygen(server.at("other"), "ed25519", "");
    let other = fs::read_to_string(server.at("other.pub")).expect("a key");
    let changed = server.refused(server.credentials(&format!("[127.0.0.1]:{} {other}", server.port))).await;
    assert!(changed.contains("has changed") && changed.contains(print), "{changed}");
    let none = Credentials { known_hosts: Vec::new(), ..server.credentials("") };
    let none = server.refused(none).await;
    assert!(none.contains("is not in known_hosts"), "{none}");
}

#[tokio::test]
async fn a_key_that_is_refused_or_cannot_be_used_says_why() {
    let server = Server::start(&["ed25519"]);
    server.remote().commit("main", &[("a.yaml", Some("a"))]);
    let line = server.line("ed25519");
    keygen(server.at("stranger"), "ed25519", "");
    keygen(server.at("locked"), "ed25519", "right");
    let with = |key: &str, passphrase: Option<&str>| Credentials {
        key: Some((Secret::File(server.at(key)), passphrase.map(|words| Secret::Value(words.to_owned())))),
        ..server.credentials(&line)
    };
    let stranger = server.refused(with("stranger", None)).await;
    assert!(stranger.contains("refuses the credentials") && stranger.contains("SSH key"), "{stranger}");
    let locked = server.refused(with("locked", None)).await;
    assert!(locked.contains("has a passphrase, but none is set"), "{locked}");
    let wrong = server.refused(with("locked", Some("wr0ng"))).await;
    assert!(wrong.contains("the passphrase is wrong") && !wrong.contains("wr0ng"), "{wrong}");
    let public = server.refused(with("client.pub", None)).await;
    assert!(public.contains(".pub"), "{public}");
    let missing = server.refused(with("nowhere", None)).await;
    assert!(missing.contains("nowhere"), "{missing}");
    let none = |ssh_agent: bool| Credentials { key: None, ssh_agent, ..server.credentials(&line) };
    let asked = server.refused(none(true)).await;
    assert!(asked.contains("SSH agent"), "{asked}");
    // Template repositories are not read with the identity of the person who started the agent.
    let unasked = server.refused(none(false)).await;
    assert!(unasked.contains("no SSH key is set") && unasked.contains("spec.gitSync.secret"), "{unasked}");
    // The right passphrase works, once the server accepts the key.
    let public = fs::read_to_string(server.at("locked.pub")).expect("a key");
    fs::write(server.at("authorized_keys"), public).expect("written");
    fs::set_permissions(server.at("authorized_keys"), fs::Permissions::from_mode(0o600)).expect("closed");
    server.handle(with("locked", Some("right"))).fetch().await.expect("fetched");
}
