//! One Git server per test, with a repository that the test changes while the agent uses it. Git commands and SSH keys of
//! people.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use git2::{Oid, Repository, Signature, Time};
use opsy::api::network::Network;
use opsy::git::Secret;
use opsy::git::address::Address;
use opsy::git::auth::Credentials;
use opsy::git::{Handle, Http, Options};

use crate::bed::Process;

/// Longest wait for anything in these tests.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The author of commits that a test makes, by name and email address.
pub const ANN: (&str, &str) = ("Ann", "ann@test.invalid");

/// A pre-receive hook that refuses commits of Opsy.
pub const FREEZE: &str = "while read -r old new ref; do
  case \"$(git log -1 --format=%s \"$new\")\" in opsy:*) echo 'status is frozen: ask the platform team' >&2; exit 1;; esac
done";

/// A Git server, a bare repository `repo.git` on it, and a directory for clones.
pub struct Bed {
    process: Process,
    pub folder: tempfile::TempDir,
}

impl Bed {
    pub fn start() -> Self {
        Self::launch(None)
    }

    /// A server that requires one of these `user:password` lines.
    pub fn guarded(lines: &str) -> Self {
        Self::launch(Some(lines))
    }

    fn launch(credentials: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a directory");
        let (served, file) = (folder.path().join("served"), folder.path().join("credentials"));
        let mut options = vec![("--root", served.as_path())];
        if let Some(lines) = credentials {
            std::fs::write(&file, lines).expect("written");
            options.push(("--credentials", &file));
        }
        let bed = Self { process: Process::start("git", &["gitbed.py"], &options), folder };
        bed.control("POST", "repository", r#"{"name": "repo.git"}"#);
        bed
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/repo.git", self.process.port())
    }

    pub fn options(&self) -> Options {
        Options {
            address: Address::parse(&self.url()).expect("an address"),
            branch: None,
            path: String::new(),
            folder: self.folder.path().join("clone"),
            credentials: None,
            http: http(),
            history: opsy::git::History::Recent,
            signers: None,
            signing_key: None,
        }
    }

    pub fn handle(&self) -> Handle {
        Handle::start(self.options()).expect("threads")
    }

    pub fn handle_with(&self, change: impl FnOnce(&mut Options)) -> Handle {
        let mut options = self.options();
        change(&mut options);
        Handle::start(options).expect("threads")
    }

    /// The repository as the server keeps it.
    pub fn remote(&self) -> Remote {
        Remote(self.folder.path().join("served/repo.git"))
    }

    /// Another repository of the server.
    pub fn repository(&self, name: &str) -> Remote {
        Remote(self.folder.path().join("served").join(name))
    }

    pub fn away(&self, mode: Option<&str>) {
        let body = serde_json::json!({"away": mode.is_some(), "mode": mode.unwrap_or("503")});
        self.control("POST", "away", &body.to_string());
    }

    /// Creates an empty repository.
    pub fn create(&self, name: &str) {
        self.control("POST", "repository", &serde_json::json!({"name": name}).to_string());
    }

    /// Redirects a name on this server to another address, and returns the URL of that name.
    pub fn redirects(&self, name: &str, to: &str) -> String {
        let body = serde_json::json!({"from": format!("/{name}"), "to": to});
        self.control("POST", "moved", &body.to_string());
        format!("http://127.0.0.1:{}/{name}", self.process.port())
    }

    /// Redirects another name to the repository, and returns its URL. If `private`, only requests that may read the
    /// repository are redirected.
    pub fn moved(&self, name: &str, private: bool) -> String {
        let body = serde_json::json!({"from": format!("/{name}"), "to": "/repo.git", "private": private});
        self.control("POST", "moved", &body.to_string());
        format!("http://127.0.0.1:{}/{name}", self.process.port())
    }

    /// Requests since the last call, as `method path?query`. The request for the refs in use is `ls-refs path?`.
    pub fn journal(&self) -> Vec<String> {
        let answer = self.control("DELETE", "journal", "");
        let entries: Vec<serde_json::Value> = serde_json::from_str(&answer).expect("JSON");
        let line = |entry: &serde_json::Value| {
            let method = entry["command"].as_str().or(entry["method"].as_str()).expect("a method");
            format!("{method} {}?{}", entry["path"], entry["query"]).replace('"', "")
        };
        entries.iter().map(line).collect()
    }

    /// The number of requests and the bytes of their responses since the last call.
    pub fn traffic(&self) -> (usize, u64) {
        let answer = self.control("DELETE", "journal", "");
        let entries: Vec<serde_json::Value> = serde_json::from_str(&answer).expect("JSON");
        (entries.len(), entries.iter().map(|entry| entry["bytes"].as_u64().expect("a number")).sum())
    }

    /// Makes the server speak only the old versions of Git's protocol, or the current one.
    pub fn speak_old(&self, old: bool) {
        let body = serde_json::json!({"version": if old { 0 } else { 2 }});
        self.control("POST", "protocol", &body.to_string());
    }

    /// Makes the server refuse pushes of these users.
    pub fn only_reads(&self, users: &[&str]) {
        self.control("POST", "readers", &serde_json::json!({ "users": users }).to_string());
    }

    /// Users of the requests with credentials since the last call.
    pub fn users(&self) -> Vec<String> {
        let answer = self.control("DELETE", "journal", "");
        let entries: Vec<serde_json::Value> = serde_json::from_str(&answer).expect("JSON");
        entries.iter().filter_map(|entry| Some(entry["user"].as_str()?.to_owned())).collect()
    }

    pub fn allow(&self, lines: &str) {
        std::fs::write(self.folder.path().join("credentials"), lines).expect("written");
    }

    fn control(&self, method: &str, route: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.process.port())).expect("the server is up");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time-out");
        let length = body.len();
        write!(
            stream,
            "{method} /_bed/{route} HTTP/1.0\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("a response");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(" 200 "), "{answer}");
        body.to_owned()
    }
}

/// The client of clones, without proxies.
pub fn http() -> Http {
    Http::new(&Network::default())
}

pub fn token(value: &str) -> Credentials {
    Credentials::token(Secret::Value(value.to_owned()))
}

/// Creates an OpenSSH key in this file, and returns the file. `kind` is its type, with further options of ssh-keygen.
pub fn keygen(file: impl Into<PathBuf>, kind: &str, passphrase: &str) -> PathBuf {
    let file = file.into();
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-C", "test", "-N", passphrase, "-f"]).arg(&file).arg("-t").args(kind.split(' '));
    assert!(keygen.status().expect("ssh-keygen starts").success());
    file
}

/// The fingerprint of an OpenSSH key.
pub fn fingerprint(key: &Path) -> String {
    let shown = Command::new("ssh-keygen").arg("-lf").arg(key).output().expect("ssh-keygen starts");
    let shown = String::from_utf8(shown.stdout).expect("text");
    shown.split_whitespace().nth(1).expect("a fingerprint").to_owned()
}

/// `git` in a directory without the configuration of this machine. Commits are by this name and email address.
pub fn git_of(folder: &Path, (name, email): (&str, &str)) -> Command {
    let mut git = Command::new("git");
    git.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{who}_NAME"), name).env(format!("GIT_{who}_EMAIL"), email);
    }
    git
}

/// Asserts that Git accepts the signature of a commit. The file has the allowed signers.
pub fn assert_git_verifies(repository: &Path, commit: &str, signers: &Path) {
    let signers = format!("gpg.ssh.allowedSignersFile={}", signers.display());
    printed(git_of(repository, ANN).args(["-c", "gpg.format=ssh", "-c", &signers, "verify-commit", commit]));
}

/// Runs a command, asserts that it succeeds, and returns its output.
pub fn printed(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A bare repository to which others push.
#[derive(Clone)]
pub struct Remote(PathBuf);

impl Remote {
    pub fn init(path: &Path) -> Self {
        Repository::init_bare(path).expect("a repository").set_head("refs/heads/main").expect("a head");
        Self(path.to_owned())
    }

    /// An existing repository.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn repo(&self) -> Repository {
        Repository::open_bare(&self.0).expect("the repository")
    }

    /// Adds a commit with these files to a branch; `None` removes a file.
    pub fn commit(&self, branch: &str, files: &[(&str, Option<&str>)]) -> String {
        let tip = self.tip(branch).map(|id| Oid::from_str(&id).expect("an id"));
        self.commit_on(tip, branch, files)
    }

    /// Replaces a branch by a single commit without history.
    pub fn rewrite(&self, branch: &str, files: &[(&str, Option<&str>)]) -> String {
        self.commit_on(None, branch, files)
    }

    fn commit_on(&self, parent: Option<Oid>, branch: &str, files: &[(&str, Option<&str>)]) -> String {
        let repo = self.repo();
        let parent = parent.map(|id| repo.find_commit(id).expect("the parent"));
        let mut index = git2::Index::new().expect("an index");
        if let Some(parent) = &parent {
            index.read_tree(&parent.tree().expect("its tree")).expect("read");
        }
        for (path, content) in files {
            match content {
                Some(content) => {
                    let blob = repo.blob(content.as_bytes()).expect("a blob");
                    index.add(&entry(path, blob)).expect("added");
                }
                None => index.remove(path.as_ref(), 0).expect("removed"),
            }
        }
        let tree = repo.find_tree(index.write_tree_to(&repo).expect("a tree")).expect("the tree");
        let author = Signature::new(ANN.0, ANN.1, &Time::new(1_700_000_000, 0)).expect("a signature");
        let parents: Vec<_> = parent.iter().collect();
        let commit = repo.commit(None, &author, &author, "by hand", &tree, &parents).expect("a commit");
        repo.reference(&format!("refs/heads/{branch}"), commit, true, "by hand").expect("a branch");
        commit.to_string()
    }

    /// Adds refs of pull requests to a commit.
    pub fn add_pull_requests(&self, count: usize, commit: &str) {
        let line = |number| format!("{commit} refs/pull/{number:06}/head\n");
        let lines: String = (0..count).map(line).collect();
        let head = "# pack-refs with: peeled fully-peeled sorted \n";
        std::fs::write(self.0.join("packed-refs"), format!("{head}{lines}")).expect("written");
    }

    /// Moves a branch to any commit.
    pub fn reset(&self, branch: &str, commit: &str) {
        let id = Oid::from_str(commit).expect("an id");
        self.repo().reference(&format!("refs/heads/{branch}"), id, true, "reset").expect("a branch");
    }

    /// Adds a symbolic link in a commit of its own.
    pub fn link(&self, branch: &str, path: &str, target: &str) {
        let blob = self.repo().blob(target.as_bytes()).expect("a blob");
        self.put(branch, path, blob, 0o120_000);
    }

    /// Adds a submodule in a commit of its own.
    pub fn submodule(&self, branch: &str, path: &str) {
        self.put(branch, path, Oid::from_bytes(&[7; 20]).expect("an id"), 0o160_000);
    }

    /// Adds an object in a commit of its own, at a path of any bytes.
    pub fn put(&self, branch: &str, path: impl AsRef<[u8]>, id: Oid, mode: u32) {
        let repo = self.repo();
        let tip = self.tip(branch).map(|id| Oid::from_str(&id).expect("an id")).expect("the branch");
        let tip = repo.find_commit(tip).expect("a commit");
        let mut index = git2::Index::new().expect("an index");
        index.read_tree(&tip.tree().expect("its tree")).expect("read");
        let added = git2::IndexEntry { mode, path: path.as_ref().to_vec(), ..entry("", id) };
        index.add(&added).expect("added");
        let tree = repo.find_tree(index.write_tree_to(&repo).expect("a tree")).expect("the tree");
        let author = tip.author();
        let name = format!("refs/heads/{branch}");
        repo.commit(Some(&name), &author, &author, "an entry", &tree, &[&tip]).expect("a commit");
    }

    pub fn delete(&self, branch: &str) {
        let repo = self.repo();
        let mut reference = repo.find_reference(&format!("refs/heads/{branch}")).expect("the branch");
        reference.delete().expect("deleted");
    }

    pub fn tip(&self, branch: &str) -> Option<String> {
        self.repo().refname_to_id(&format!("refs/heads/{branch}")).ok().map(|id| id.to_string())
    }

    /// Subjects on a branch, newest first.
    pub fn log(&self, branch: &str) -> Vec<String> {
        let repo = self.repo();
        let mut walk = repo.revwalk().expect("a walk");
        walk.simplify_first_parent().expect("a linear walk");
        walk.push_ref(&format!("refs/heads/{branch}")).expect("the branch");
        let subject =
            |id: Oid| repo.find_commit(id).expect("a commit").summary().expect("UTF-8").map(str::to_owned);
        walk.map(|id| subject(id.expect("an id")).unwrap_or_default()).collect()
    }

    /// The whole message of a branch's tip.
    pub fn message(&self, branch: &str) -> String {
        let repo = self.repo();
        let tip = repo.find_branch(branch, git2::BranchType::Local).expect("the branch");
        tip.get().peel_to_commit().expect("a commit").message().expect("UTF-8").to_owned()
    }

    pub fn file(&self, branch: &str, path: &str) -> Option<String> {
        let repo = self.repo();
        let object = repo.revparse_single(&format!("refs/heads/{branch}:{path}")).ok()?;
        Some(String::from_utf8_lossy(object.as_blob().expect("a file").content()).into_owned())
    }

    /// Installs a hook: a shell script.
    pub fn hook(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.join("hooks").join(name);
        std::fs::create_dir_all(path.parent().expect("hooks")).expect("a directory");
        // Written to another file and renamed: a script that is open for writing cannot be executed.
        let new = path.with_extension("new");
        std::fs::write(&new, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).expect("executable");
        std::fs::rename(&new, &path).expect("in place");
    }

    pub fn unhook(&self, name: &str) {
        std::fs::remove_file(self.0.join("hooks").join(name)).expect("the hook was there");
    }
}

fn entry(path: &str, id: Oid) -> git2::IndexEntry {
    let zero = git2::IndexTime::new(0, 0);
    git2::IndexEntry {
        ctime: zero,
        mtime: zero,
        dev: 0,
        ino: 0,
        mode: 0o100_644,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path: path.as_bytes().to_vec(),
    }
}
