//! Commit signatures: which commits are accepted, and how the agent signs its own. SSH keys and signatures are made by
//! OpenSSH and Git, as people make them, and those of OpenPGP by the library.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use git2::Oid;
use jiff::Timestamp;
use opsy::api::status::LastSynced;
use opsy::api::{Class, CommitId};
use opsy::git::commit::{Author, Change, Edit, Outcome};
use opsy::git::signatures::{Range, Refusal, Signers, SigningKey};
use opsy::git::{GitError, Handle};
use opsy::manifest::Reader;
use opsy::sync::{Accepts, Hold, Outputs, Sync};
use pgp::composed::{ArmorOptions, DetachedSignature, KeyType, SecretKeyParamsBuilder, SignedSecretKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::types::Password;
use rsa::rand_core::OsRng;

use super::bed::{ANN, Bed, Remote, assert_git_verifies, fingerprint, git_of, keygen, printed};
use super::sync::status_files;
use crate::bed::wait_for;

/// A repository whose commits must be signed, and the keys of people.
struct Desk {
    bed: Bed,
    keys: tempfile::TempDir,
}

impl Desk {
    /// Starts without a trusted signer.
    fn new() -> Self {
        Self { bed: Bed::start(), keys: tempfile::tempdir().expect("a directory") }
    }

    fn signers(&self) -> PathBuf {
        self.keys.path().join("signers")
    }

    /// Creates a key with OpenSSH.
    fn key(&self, name: &str, kind: &str) -> PathBuf {
        keygen(self.keys.path().join(name), kind, "")
    }

    /// Creates keys until the library can read one: it cannot read one of 256 ECDSA keys.
    fn usable_key(&self, name: &str, kind: &str) -> PathBuf {
        for attempt in 0..5 {
            let file = self.key(&format!("{name}-{attempt}"), kind);
            if signing(&file).sign(b"").is_ok() {
                return file;
            }
        }
        panic!("no {name} key can be used")
    }

    /// Creates an Ed25519 key that is trusted.
    fn trusted(&self, name: &str) -> PathBuf {
        let key = self.key(name, "ed25519");
        self.trust(&format!("{name}@test.invalid {}", public(&key)));
        key
    }

    fn trust(&self, text: &str) {
        let before = fs::read_to_string(self.signers()).unwrap_or_default();
        fs::write(self.signers(), format!("{before}{text}\n")).expect("written");
    }

    fn remote(&self) -> Remote {
        self.bed.remote()
    }

    /// Commits a file and signs the commit, as Git does.
    fn commit(&self, key: &Path, text: &str) -> String {
        let unsigned = self.remote().commit("main", &[("a.yaml", Some(text))]);
        self.sign(key, &unsigned)
    }

    fn sign(&self, key: &Path, commit: &str) -> String {
        sign(&self.remote(), key, commit)
    }

    /// Merges two commits as a forge does, with its own key.
    fn merge(&self, key: &Path, ours: &str, theirs: &str) -> String {
        let repo = self.remote().repo();
        let find = |id: &str| repo.find_commit(Oid::from_str(id).expect("an id")).expect("a commit");
        let (ours, theirs) = (find(ours), find(theirs));
        let author = ours.author();
        let tree = theirs.tree().expect("a tree");
        let merge = repo.commit(None, &author, &author, "merge", &tree, &[&ours, &theirs]).expect("a commit");
        self.sign(key, &merge.to_string())
    }

    fn handle(&self, key: Option<SigningKey>) -> Handle {
        self.bed.handle_with(|options| {
            options.signers = Some(Signers { files: vec![self.signers()], own: key.clone() });
            options.signing_key = key;
        })
    }

    /// A sync that continues from the state of another one, with a request to accept a commit.
    fn sync(&self, last: Option<LastSynced>, accepted: Option<&str>) -> (Sync, Outputs) {
        self.sync_by(self.handle(None), last, accepted)
    }

    fn sync_by(&self, handle: Handle, last: Option<LastSynced>, accepted: Option<&str>) -> (Sync, Outputs) {
        let reader = Reader::default();
        let (mut sync, outputs) = Sync::new(handle, Box::new(reader), Timestamp::now);
        let accepted = accepted.map(id);
        let accepts = Accepts {
            pending: Box::new(move || Box::pin(std::future::ready(accepted.clone()))),
            remove: Box::new(|_| Box::pin(std::future::ready(true))),
        };
        sync.continue_from(last, accepts);
        (sync, outputs)
    }
}

fn id(commit: &str) -> CommitId {
    CommitId::parse(commit).expect("a commit")
}

fn git(folder: &Path, args: &[&str]) -> String {
    printed(git_of(folder, ANN).args(args)).trim().to_owned()
}

/// Replaces the tip by the same commit with a signature.
pub fn sign(remote: &Remote, key: &Path, commit: &str) -> String {
    let parents = git(remote.path(), &["log", "-1", "--format=%P", commit]);
    let mut args = vec!["-c", "gpg.format=ssh", "-c"];
    let signing = format!("user.signingkey={}", key.display());
    let tree = format!("{commit}^{{tree}}");
    args.extend([&signing, "commit-tree", "-S", "-m", "signed", &tree]);
    parents.split_whitespace().for_each(|parent| args.extend(["-p", parent]));
    let signed = git(remote.path(), &args);
    remote.reset("main", &signed);
    signed
}

pub fn public(key: &Path) -> String {
    fs::read_to_string(key.with_extension("pub")).expect("a public key").trim().to_owned()
}

fn signing(file: &Path) -> SigningKey {
    SigningKey { file: file.to_owned(), passphrase_file: None, agent_socket: None }
}

/// The refused commit, its author, and the reason.
fn refused<T: std::fmt::Debug>(result: Result<T, GitError>) -> (String, String, Refusal) {
    let error = result.expect_err("refused");
    assert!(error.class() == Class::Invalid && error.is_about_a_commit(), "{error}");
    match error {
        GitError::Unverified { commit, author, why } => (commit.as_str().to_owned(), author, why),
        error => panic!("{error}"),
    }
}

/// Asserts that the tip is held back and the last good commit stays in force; returns the message.
async fn held(sync: &mut Sync, outputs: &Outputs, good: &str) -> String {
    assert_eq!(sync.once().await.expect("the last good commit").commit.as_str(), good);
    let state = outputs.state.borrow();
    assert_eq!(state.held, Some(Hold::Unverified));
    state.error.clone().expect("an error").1
}

#[tokio::test]
async fn a_signed_history_is_followed() {
    let desk = Desk::new();
    let (ann, forge) = (desk.trusted("ann"), desk.trusted("forge"));
    desk.remote().commit("main", &[("a.yaml", Some("# before anybody signed"))]);
    let first = desk.commit(&ann, "# 1");
    let (mut sync, outputs) = desk.sync(None, None);
    assert_eq!(sync.once().await.expect("synced").commit.as_str(), first, "the tip is signed");
    let ours = desk.commit(&ann, "# 2");
    desk.remote().reset("main", &first);
    let theirs = desk.commit(&ann, "# 3");
    let merge = desk.merge(&forge, &ours, &theirs);
    assert_eq!(sync.once().await.expect("synced").commit.as_str(), merge);
    let last = outputs.state.borrow().last.clone().expect("a commit");
    assert_eq!(
        (last.commit.as_str(), last.verified.as_ref().map(CommitId::as_str)),
        (&*merge, Some(&*merge))
    );

    let stranger = desk.key("stranger", "ed25519");
    let side = desk.commit(&stranger, "# 4");
    desk.remote().reset("main", &merge);
    let mine = desk.commit(&ann, "# 5");
    desk.merge(&forge, &mine, &side);
    let message = held(&mut sync, &outputs, &merge).await;
    let unknown = format!("{side} by Ann <ann@test.invalid>");
    assert!(message.contains(&unknown), "what was merged is verified, too: {message}");
}

#[tokio::test]
async fn an_unsigned_commit_in_the_middle_is_refused_until_the_branch_is_fixed() {
    let desk = Desk::new();
    let ann = desk.trusted("ann");
    let good = desk.commit(&ann, "# 1");
    let (mut sync, outputs) = desk.sync(None, None);
    sync.once().await.expect("synced");
    let bad = desk.remote().commit("main", &[("a.yaml", Some("# 2"))]);
    desk.commit(&ann, "# 3");
    let words = held(&mut sync, &outputs, &good).await;
    for part in [&*bad, "Ann <ann@test.invalid>", "it has no signature", &format!("`opsy accept {bad}`")] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let in_force = |outputs: &Outputs| outputs.synced.borrow().as_ref().map(|synced| synced.commit.clone());
    assert_eq!(in_force(&outputs), Some(id(&good)));

    // After a restart, with a new clone, it is the same.
    let last = outputs.state.borrow().last.clone();
    fs::remove_dir_all(&desk.bed.options().folder).expect("the clone");
    let (mut sync, outputs) = desk.sync(last, None);
    assert_eq!(sync.once().await.expect("the last good commit").commit.as_str(), good);
    assert_eq!((in_force(&outputs), outputs.state.borrow().held), (Some(id(&good)), Some(Hold::Unverified)));
    assert!(held(&mut sync, &outputs, &good).await.contains(&bad));

    desk.remote().reset("main", &good);
    assert_eq!(sync.once().await.expect("synced").commit.as_str(), good);
    assert_eq!(outputs.state.borrow().held, None);
    let next = desk.commit(&ann, "# 4");
    assert_eq!(sync.once().await.expect("synced").commit.as_str(), next);
}

#[tokio::test]
async fn a_person_accepts_a_commit_without_a_signature_and_nothing_after_it() {
    let desk = Desk::new();
    let ann = desk.trusted("ann");
    desk.commit(&ann, "# 1");
    let (mut sync, outputs) = desk.sync(None, None);
    sync.once().await.expect("synced");
    let last = outputs.state.borrow().last.clone();
    let bad = desk.remote().commit("main", &[("a.yaml", Some("# 2"))]);
    let worse = desk.remote().commit("main", &[("a.yaml", Some("# 3"))]);
    let (mut sync, outputs) = desk.sync(last, Some(&bad));
    sync.once().await.expect("the last good commit");
    let words = outputs.state.borrow().error.clone().expect("an error").1;
    assert!(words.contains(&worse) && !words.contains(&bad), "{words}");
    let last = outputs.state.borrow().last.clone();
    let (mut sync, outputs) = desk.sync(last, Some(&worse));
    assert_eq!(sync.once().await.expect("synced").commit.as_str(), worse);
    assert_eq!(outputs.state.borrow().held, None);
}

#[tokio::test]
async fn the_first_tip_must_be_signed() {
    let desk = Desk::new();
    let ann = desk.trusted("ann");
    let bare = desk.remote().commit("main", &[("a.yaml", Some("# 1"))]);
    let (mut sync, outputs) = desk.sync(None, None);
    assert_eq!(refused(sync.once().await), (bare, "Ann <ann@test.invalid>".to_owned(), Refusal::Unsigned));
    assert!(outputs.synced.borrow().is_none(), "nothing is in force");
    let signed = desk.commit(&ann, "# 2");
    assert_eq!(sync.once().await.expect("synced").commit.as_str(), signed);
}

#[tokio::test]
async fn the_key_of_an_attacker_and_a_copied_signature_are_refused() {
    let desk = Desk::new();
    let (ann, attacker) = (desk.trusted("ann"), desk.key("attacker", "ed25519"));
    let good = desk.commit(&ann, "# 1");
    let (mut sync, outputs) = desk.sync(None, None);
    sync.once().await.expect("synced");
    let theirs = desk.commit(&attacker, "# 2");
    let message = held(&mut sync, &outputs, &good).await;
    let why = Refusal::Unknown { key: fingerprint(&attacker) }.to_string();
    assert!(message.contains(&theirs) && message.contains(&why), "{message}");

    // The signature of a good commit, on another one.
    let repo = desk.remote().repo();
    let (signature, _) =
        repo.extract_signature(&Oid::from_str(&good).expect("an id"), None).expect("a signature");
    let (_, content) =
        repo.extract_signature(&Oid::from_str(&theirs).expect("an id"), None).expect("a content");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let forged =
        repo.commit_signed(&text(&content), text(&signature).trim_end(), None).expect("a commit").to_string();
    desk.remote().reset("main", &forged);
    let message = held(&mut sync, &outputs, &good).await;
    assert!(message.contains(&forged) && message.contains("is not valid for its content"), "{message}");
}

#[tokio::test]
async fn signers_are_read_again_and_one_who_left_is_not_asked_for_the_past() {
    let desk = Desk::new();
    let (ann, bob) = (desk.trusted("ann"), desk.key("bob", "ed25519"));
    let by_ann = desk.commit(&ann, "# 1");
    let (mut sync, outputs) = desk.sync(None, None);
    sync.once().await.expect("synced");
    let by_bob = desk.commit(&bob, "# 2");
    held(&mut sync, &outputs, &by_ann).await;
    desk.trust(&format!("bob@test.invalid {}", public(&bob)));
    assert_eq!(sync.once().await.expect("synced").commit.as_str(), by_bob);

    fs::write(desk.signers(), format!("ann@test.invalid {}\n", public(&ann))).expect("written");
    let last = outputs.state.borrow().last.clone();
    let (mut sync, outputs) = desk.sync(last, None);
    assert_eq!(sync.once().await.expect("synced").commit.as_str(), by_bob);
    desk.commit(&bob, "# 3");
    held(&mut sync, &outputs, &by_bob).await;

    fs::write(desk.signers(), "ann@test.invalid\n").expect("written");
    let error = sync.once().await.expect_err("no signers");
    assert!(matches!(&error, GitError::Signers(words) if words.contains("line 1 has no key")), "{error}");
    assert_eq!(outputs.synced.borrow().as_ref().map(|synced| synced.commit.clone()), Some(id(&by_bob)));
}

/// An OpenPGP key, and its armored public part.
fn openpgp(name: &str) -> (SignedSecretKey, String) {
    let mut params = SecretKeyParamsBuilder::default();
    params.key_type(KeyType::Ed25519Legacy).can_certify(true).can_sign(true).primary_user_id(name.into());
    let key = params.build().expect("parameters").generate(OsRng).expect("a key");
    let public = key.to_public_key().to_armored_string(ArmorOptions::default()).expect("an armor");
    (key, public)
}

#[tokio::test]
async fn openpgp_signatures_are_followed() {
    let desk = Desk::new();
    let ((ann, public), (stranger, _)) =
        (openpgp("Ann <ann@test.invalid>"), openpgp("Ann <ann@test.invalid>"));
    desk.trust(&public);
    let commit = |key: &SignedSecretKey, text: &str| {
        let remote = desk.remote();
        let (repo, unsigned) = (remote.repo(), remote.commit("main", &[("a.yaml", Some(text))]));
        let raw = git(remote.path(), &["cat-file", "commit", &unsigned]) + "\n";
        let signature = DetachedSignature::sign_binary_data(
            OsRng,
            &key.primary_key,
            &Password::empty(),
            HashAlgorithm::Sha256,
            raw.as_bytes(),
        );
        let armored =
            signature.expect("a signature").to_armored_string(ArmorOptions::default()).expect("an armor");
        let signed = repo.commit_signed(&raw, armored.trim_end(), None).expect("a commit").to_string();
        remote.reset("main", &signed);
        signed
    };
    let first = commit(&ann, "# 1");
    let (mut sync, outputs) = desk.sync(None, None);
    assert_eq!(sync.once().await.expect("synced").commit.as_str(), first);
    let second = commit(&ann, "# 2");
    assert_eq!(sync.once().await.expect("synced").commit.as_str(), second);
    let third = commit(&stranger, "# 3");
    assert!(held(&mut sync, &outputs, &second).await.contains(&third));
}

/// A status file, as the agent commits it.
fn change(branch: &str, text: &str) -> Change {
    Change {
        branch: branch.to_owned(),
        edits: BTreeMap::from([("status/a.yaml".to_owned(), Edit::Put(text.as_bytes().to_vec()))]),
        versions: BTreeMap::new(),
        settled: Arc::default(),
        message: Arc::new(|_| "opsy: built\n\nOpsy-Image: ami-1\n".to_owned()),
        author: Author { name: "Opsy".to_owned(), email: "opsy@test.invalid".to_owned() },
        time: Timestamp::now(),
    }
}

fn pushed(outcome: Outcome) -> String {
    match outcome {
        Outcome::Pushed { commit, .. } => commit.as_str().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn our_own_commits_are_signed_and_accepted() {
    let desk = Desk::new();
    let (ann, ours) = (desk.trusted("ann"), desk.key("opsy", "ed25519"));
    let first = desk.commit(&ann, "# 1");
    let handle = desk.handle(Some(signing(&ours)));
    let (mut sync, outputs) = desk.sync_by(handle.clone(), None, None);
    sync.once().await.expect("synced");
    let one = pushed(handle.commit(&change("main", "1")).await.expect("pushed"));
    let two = pushed(handle.commit(&change("main", "2")).await.expect("pushed"));
    let remote = desk.remote();
    let allowed = desk.keys.path().join("allowed");
    fs::write(&allowed, format!("opsy@test.invalid {}\n", public(&ours))).expect("written");
    for commit in [&one, &two] {
        assert_git_verifies(remote.path(), commit, &allowed);
    }
    assert!(remote.message("main").starts_with("opsy: built\n\nOpsy-Image: ami-1\n"));
    assert_eq!(sync.once().await.expect("synced").commit.as_str(), first, "our own commits change nothing");
    let last = outputs.state.borrow().last.clone().expect("a commit");
    assert_eq!((last.commit.as_str(), last.verified.as_ref().map(CommitId::as_str)), (&*first, Some(&*two)));

    // The key is replaced: what the old one signed was verified.
    fs::remove_file(&ours).expect("the key");
    fs::remove_file(ours.with_extension("pub")).expect("the key");
    desk.key("opsy", "ed25519");
    let three = pushed(handle.commit(&change("main", "3")).await.expect("pushed"));
    let (mut sync, outputs) = desk.sync_by(handle.clone(), Some(last), None);
    assert_eq!(sync.once().await.expect("synced").commit.as_str(), three);
    assert_eq!(outputs.state.borrow().held, None);
}

#[tokio::test]
async fn nothing_is_added_to_a_tip_that_is_not_verified() {
    let desk = Desk::new();
    let (ann, ours) = (desk.trusted("ann"), desk.key("opsy", "ed25519"));
    desk.commit(&ann, "# 1");
    let without_key = desk.handle(None);
    let (mut sync, _outputs) = desk.sync_by(without_key.clone(), None, None);
    sync.once().await.expect("synced");
    let error = without_key.commit(&change("main", "1")).await.expect_err("refused");
    assert!(matches!(&error, GitError::Unsigned { branch } if branch == "main"), "{error}");
    pushed(without_key.commit(&change("opsy-status", "1")).await.expect("a branch of its own"));

    let handle = desk.handle(Some(signing(&ours)));
    let (mut sync, _outputs) = desk.sync_by(handle.clone(), None, None);
    sync.once().await.expect("synced");
    let bad = desk.remote().commit("main", &[("a.yaml", Some("# 2"))]);
    assert_eq!(refused(handle.commit(&change("main", "1")).await).0, bad);
    assert_eq!(desk.remote().tip("main"), Some(bad));
}

#[tokio::test]
async fn the_status_of_an_unsigned_branch_is_not_read() {
    let desk = Desk::new();
    let (ann, ours) = (desk.trusted("ann"), desk.key("opsy", "ed25519"));
    let settings = "publish: {branch: opsy-status}\n";
    let unsigned = desk.remote().commit("main", &[("opsy.yaml", Some(settings))]);
    desk.sign(&ann, &unsigned);
    desk.remote().commit("opsy-status", &[("status/a.yaml", Some("forged"))]);
    let handle = desk.handle(Some(signing(&ours)));
    let (mut sync, _outputs) = desk.sync_by(handle.clone(), None, None);
    assert_eq!(status_files(&sync.once().await.expect("synced")), []);
    let forged = desk.remote().tip("opsy-status").expect("a tip");
    let error = handle.commit(&change("opsy-status", "ours")).await.expect_err("nothing forged is signed");
    let words = error.to_string();
    assert!(words.contains(&forged) && words.contains("delete the branch"), "{words}");
    desk.remote()
        .repo()
        .find_reference("refs/heads/opsy-status")
        .and_then(|mut branch| branch.delete())
        .expect("deleted");
    pushed(handle.commit(&change("opsy-status", "ours")).await.expect("pushed"));
    let (mut sync, _outputs) = desk.sync_by(handle, None, None);
    assert_eq!(status_files(&sync.once().await.expect("synced")), [("a.yaml", "ours")]);
}

#[tokio::test]
async fn too_many_commits_are_refused_without_reading_them() {
    let desk = Desk::new();
    let ann = desk.trusted("ann");
    let first = desk.commit(&ann, "# 1");
    let path = desk.bed.folder.path().join("long.git");
    let repo =
        git2::build::RepoBuilder::new().bare(true).clone(&desk.remote().path().display().to_string(), &path);
    let repo = repo.expect("a clone");
    let base = repo.find_commit(Oid::from_str(&first).expect("an id")).expect("a commit");
    let (author, tree) = (base.author(), base.tree().expect("a tree"));
    let mut tip = base.clone();
    for _ in 0..=10_000 {
        let next = repo.commit(None, &author, &author, "m", &tree, &[&tip]).expect("a commit");
        tip = repo.find_commit(next).expect("a commit");
    }
    repo.reference("refs/heads/main", tip.id(), true, "long").expect("a branch");
    let handle = desk.bed.handle_with(|options| {
        options.address =
            opsy::git::address::Address::parse(&path.display().to_string()).expect("an address");
        options.folder = desk.bed.folder.path().join("long-clone");
    });
    handle.fetch().await.expect("fetched");
    let signers = Signers { files: vec![desk.signers()], own: None };
    let range = Range { tip: id(&tip.id().to_string()), since: vec![id(&first)], now: Timestamp::now() };
    let (commit, _, why) = refused(handle.verify(&range, &signers).await);
    assert_eq!((commit, why), (tip.id().to_string(), Refusal::TooMany { limit: 10_000 }));
}

/// Commits with this signing key, as the agent does.
async fn signed_by(desk: &Desk, key: SigningKey) -> Result<Outcome, GitError> {
    let handle = desk.bed.handle_with(|options| options.signing_key = Some(key));
    handle.fetch().await.expect("a tip");
    handle.commit(&change("main", &format!("{:?}", Timestamp::now()))).await
}

#[tokio::test]
async fn git_accepts_what_any_kind_of_key_signs() {
    let desk = Desk::new();
    desk.remote().commit("main", &[("a.yaml", Some("# 1"))]);
    for (name, kind) in
        [("ed25519", "ed25519"), ("p256", "ecdsa -b 256"), ("p384", "ecdsa -b 384"), ("rsa", "rsa -b 2048")]
    {
        let file = desk.usable_key(name, kind);
        let commit = pushed(signed_by(&desk, signing(&file)).await.expect(name));
        fs::write(desk.signers(), format!("opsy@test.invalid {}\n", public(&file))).expect("written");
        assert_git_verifies(desk.remote().path(), &commit, &desk.signers());
        let handle = desk.handle(None);
        handle.fetch().await.expect("a tip");
        let range = Range { tip: id(&commit), since: Vec::new(), now: Timestamp::now() };
        let signers = Signers { files: vec![desk.signers()], own: None };
        handle.verify(&range, &signers).await.expect(name);
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_explained_and_stays_secret() {
    let desk = Desk::new();
    desk.remote().commit("main", &[("a.yaml", Some("# 1"))]);
    let folder = desk.keys.path();
    let locked = keygen(folder.join("locked"), "ed25519", "right-5up3r");
    let (right, wrong) = (folder.join("right"), folder.join("wrong"));
    fs::write(&right, "right-5up3r\n").expect("written");
    fs::write(&wrong, "wrong-5up3r\n").expect("written");
    let with = |file: &Path, passphrase: &Path| SigningKey {
        file: file.to_owned(),
        passphrase_file: Some(passphrase.to_owned()),
        agent_socket: None,
    };
    pushed(signed_by(&desk, with(&locked, &right)).await.expect("signed"));
    let pem = keygen(folder.join("pem"), "rsa -b 2048 -m PEM", "");
    let weak = keygen(folder.join("weak"), "rsa -b 1024", "");
    let nonsense = folder.join("nonsense");
    fs::write(
        &nonsense,
        "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n",
    )
    .expect("written");
    for (key, words) in [
        (with(&locked, &wrong), "the passphrase in"),
        (with(&locked, &folder.join("nowhere")), "--signing-key-passphrase-file"),
        (signing(&locked), "is encrypted; set --signing-key-passphrase-file to the file of its passphrase"),
        (signing(&folder.join("nowhere")), "cannot be read: No such file"),
        (signing(&locked.with_extension("pub")), "is a public key, but SSH_AUTH_SOCK names no SSH agent"),
        (signing(&pem), "convert a copy of it with `ssh-keygen -p -f FILE`"),
        (signing(&weak), "RSA key of 1024 bits"),
        (signing(&nonsense), "is not a valid OpenSSH private key"),
        (signing(&right), "is not an OpenSSH private key"),
    ] {
        let error = signed_by(&desk, key).await.expect_err(words);
        let said = format!("{error} {error:?}");
        assert!(matches!(error, GitError::SigningKey(_)) && said.contains(words), "{said}");
        assert!(!said.contains("5up3r") && !said.contains("c2Vj"), "{said}");
    }
    assert_eq!(desk.remote().log("main").len(), 2);
}

/// An SSH agent of OpenSSH.
struct SshAgent {
    child: std::process::Child,
    socket: PathBuf,
}

impl SshAgent {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("agent");
        let child = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn();
        let agent = Self { child: child.expect("ssh-agent starts"), socket };
        wait_for("the SSH agent to listen", Duration::from_secs(20), || agent.socket.exists().then_some(()));
        agent
    }

    fn add(&self, key: &Path) {
        let added = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket).status();
        assert!(added.expect("ssh-add starts").success());
    }

    /// A signing key of which only the public part is in a file.
    fn key(&self, public: &Path) -> SigningKey {
        SigningKey { file: public.to_owned(), passphrase_file: None, agent_socket: Some(self.socket.clone()) }
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[tokio::test]
async fn an_ssh_agent_signs_what_git_accepts() {
    let desk = Desk::new();
    desk.remote().commit("main", &[("a.yaml", Some("# 1"))]);
    let agent = SshAgent::start(desk.keys.path());
    desk.trusted("another");
    let allowed = desk.keys.path().join("allowed");
    for (name, kind) in [("ed25519", "ed25519"), ("p256", "ecdsa -b 256"), ("rsa", "rsa")] {
        let private = desk.key(name, kind);
        let file = private.with_extension("pub");
        let refused = signed_by(&desk, agent.key(&file)).await.expect_err("not in the agent").to_string();
        assert!(refused.contains("is refused by the SSH agent") && refused.contains("SHA256:"), "{refused}");
        agent.add(&private);
        fs::remove_file(&private).expect("only the agent has it");
        let commit = pushed(signed_by(&desk, agent.key(&file)).await.expect(name));
        fs::write(&allowed, format!("opsy@test.invalid {}\n", public(&private))).expect("written");
        assert_git_verifies(desk.remote().path(), &commit, &allowed);
        let handle = desk.handle(None);
        handle.fetch().await.expect("a tip");
        let range = Range { tip: id(&commit), since: Vec::new(), now: Timestamp::now() };
        let signers = Signers { files: vec![desk.signers()], own: Some(agent.key(&file)) };
        handle.verify(&range, &signers).await.expect(name);
    }
    let (file, socket) = (desk.keys.path().join("ed25519.pub"), agent.socket.clone());
    drop(agent);
    let key = SigningKey { file, passphrase_file: None, agent_socket: Some(socket) };
    let away = signed_by(&desk, key).await.expect_err("no agent").to_string();
    assert!(away.contains("SSH_AUTH_SOCK") && away.contains("cannot be used"), "{away}");
}
