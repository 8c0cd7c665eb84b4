//! Fetching: the requests to the remote, and every failure.

use opsy::api::Class;
use opsy::git::Secret;
use opsy::git::address::Address;
use opsy::git::auth::Credentials;
use opsy::git::{GitError, Handle, Options};

use super::bed::{Bed, Remote, token};

const LS_REFS: &str = "ls-refs /repo.git/git-upload-pack?";
const ALL_REFS: &str = "GET /repo.git/info/refs?service=git-upload-pack";

#[tokio::test]
async fn a_poll_without_change_is_one_request_and_no_fetch() {
    let bed = Bed::start();
    let first = bed.remote().commit("main", &[("a.yaml", Some("1"))]);
    let git = bed.handle();
    let tip = git.fetch().await.expect("a tip");
    assert_eq!((tip.commit.as_str(), tip.branch.as_str(), tip.fetched), (first.as_str(), "main", true));
    bed.journal();
    assert!(!git.fetch().await.expect("a tip").fetched);
    assert_eq!(bed.journal(), [LS_REFS]);
    let second = bed.remote().commit("main", &[("a.yaml", Some("2"))]);
    let tip = git.fetch().await.expect("a tip");
    assert_eq!((tip.commit.as_str(), tip.fetched), (second.as_str(), true));
    assert_eq!(bed.journal(), [LS_REFS, ALL_REFS, "POST /repo.git/git-upload-pack?"]);
    let listing = git.list(&tip.commit).await.expect("a listing");
    let id = listing.get("a.yaml").expect("the file").id.clone();
    let blobs = git.read(vec![("a.yaml".to_owned(), id)]).await.expect("blobs");
    assert_eq!(blobs[0].content, b"2");
}

#[tokio::test]
async fn a_clone_is_kept_between_processes() {
    let bed = Bed::start();
    bed.remote().commit("main", &[("a.yaml", Some("1"))]);
    bed.handle().fetch().await.expect("a tip");
    bed.journal();
    let git = bed.handle();
    let tip = git.fetch().await.expect("a tip");
    assert_eq!(bed.journal(), [LS_REFS]);
    assert!(git.list(&tip.commit).await.expect("a listing").get("a.yaml").is_some());
}

#[tokio::test]
async fn repositories_without_the_branch() {
    let bed = Bed::start();
    let empty = bed.handle().fetch().await.expect_err("empty");
    assert!(matches!(empty, GitError::Empty { .. }), "{empty}");
    assert_eq!(empty.class(), Class::NotFound);
    bed.remote().commit("trunk", &[("a", Some("1"))]);
    assert_eq!(bed.handle().fetch().await.expect("the only branch").branch, "trunk");
    let missing = bed.handle_with(|options| options.branch = Some("release".to_owned()));
    let missing = missing.fetch().await.expect_err("missing").to_string();
    assert!(missing.contains("no branch \"release\"") && missing.contains("trunk"), "{missing}");
    bed.remote().commit("other", &[("a", Some("1"))]);
    let unclear = bed.handle().fetch().await.expect_err("two branches, no default");
    assert!(matches!(unclear, GitError::NoDefaultBranch { .. }), "{unclear}");
}

#[tokio::test]
async fn addresses_without_a_repository() {
    let bed = Bed::start();
    let elsewhere = |text: &str| {
        let address = Address::parse(text).expect("an address");
        bed.handle_with(|options| options.address = address)
    };
    let gone = elsewhere(&bed.url().replace("repo.git", "gone.git")).fetch().await.expect_err("404");
    assert!(matches!(gone, GitError::NoRepository { .. }), "{gone}");
    let folder = bed.folder.path().to_str().expect("UTF-8");
    for place in [folder.to_owned(), format!("{folder}/no/such/folder")] {
        let none = elsewhere(&place).fetch().await.expect_err("no repository");
        assert!(matches!(none, GitError::NoRepository { .. }), "{none:?}");
    }
}

#[tokio::test]
async fn credentials_are_asked_for_checked_and_rotated() {
    let bed = Bed::guarded("*:first\nann:secret\n");
    bed.remote().commit("main", &[("a", Some("1"))]);
    let none = bed.handle().fetch().await.expect_err("none set");
    assert!(matches!(none, GitError::Unauthenticated { .. }), "{none}");
    assert_eq!(none.class(), Class::Denied);
    let wrong = bed.handle_with(|options| options.credentials = Some(token("hunter2")));
    bed.journal();
    let wrong = wrong.fetch().await.expect_err("wrong");
    assert!(matches!(wrong, GitError::Rejected { .. }) && !wrong.to_string().contains("hunter2"), "{wrong}");
    assert_eq!(bed.journal().len(), 2, "one challenge and one attempt, without a retry");
    let value = |text: &str| Secret::Value(text.to_owned());
    let basic = Credentials::basic(value("ann"), value("secret"));
    bed.handle_with(|options| options.credentials = Some(basic)).fetch().await.expect("user and password");
    let file = bed.folder.path().join("token");
    std::fs::write(&file, "first\n").expect("written");
    let git =
        bed.handle_with(|options| options.credentials = Some(Credentials::token(Secret::File(file.clone()))));
    git.fetch().await.expect("the token");
    bed.allow("*:second\n");
    git.fetch().await.expect_err("rotated on the server");
    std::fs::write(&file, "second\n").expect("written");
    git.fetch().await.expect("rotated here");
    std::fs::remove_file(&file).expect("removed");
    let gone = git.fetch().await.expect_err("no file");
    assert!(matches!(&gone, GitError::Credentials(why) if why.contains("token")), "{gone}");
}

#[tokio::test]
async fn the_remote_goes_away_and_comes_back() {
    let bed = Bed::start();
    bed.remote().commit("main", &[("a", Some("1"))]);
    let git = bed.handle();
    let tip = git.fetch().await.expect("a tip");
    for mode in ["503", "refuse"] {
        bed.away(Some(mode));
        let away = git.fetch().await.expect_err("away");
        assert!(matches!(away, GitError::Unreachable { .. }), "{mode}: {away:?}");
        assert_eq!(away.class(), Class::TRANSIENT);
        git.list(&tip.commit).await.expect("reads need no remote");
    }
    bed.away(None);
    git.fetch().await.expect("back");
    let nobody = Address::parse("http://127.0.0.1:9/repo.git").expect("an address");
    let nobody =
        bed.handle_with(|options| options.address = nobody).fetch().await.expect_err("nothing listens");
    assert!(matches!(nobody, GitError::Unreachable { .. }), "{nobody:?}");
}

#[tokio::test]
async fn a_rewritten_branch_is_followed() {
    let bed = Bed::start();
    bed.remote().commit("main", &[("a", Some("1"))]);
    let git = bed.handle();
    let before = git.fetch().await.expect("a tip");
    let rewritten = bed.remote().rewrite("main", &[("b", Some("2"))]);
    let after = git.fetch().await.expect("a tip");
    assert_eq!(after.commit.as_str(), rewritten);
    assert!(git.list(&after.commit).await.expect("a listing").get("b").is_some());
    git.list(&before.commit).await.expect("a build of the old commit still reads its files");
}

#[tokio::test]
async fn a_damaged_clone_is_made_anew() {
    let bed = Bed::start();
    let commit = bed.remote().commit("main", &[("a", Some("1"))]);
    bed.handle().fetch().await.expect("a tip");
    let clone = bed.folder.path().join("clone");
    std::fs::write(clone.join("HEAD"), "nonsense").expect("written");
    assert_eq!(bed.handle().fetch().await.expect("a new clone").commit.as_str(), commit);
    // Objects are deleted while an agent runs.
    let git = bed.handle();
    let tip = git.fetch().await.expect("a tip");
    std::fs::remove_dir_all(clone.join("objects")).expect("removed");
    std::fs::create_dir_all(clone.join("objects/pack")).expect("made");
    assert!(bed.handle().fetch().await.is_ok(), "fetched again");
    assert!(git.list(&tip.commit).await.is_ok());
    std::fs::remove_dir_all(&clone).expect("removed");
    let git = bed.handle();
    let tip = git.fetch().await.expect("a tip");
    let listing = git.list(&tip.commit).await.expect("a listing");
    std::fs::remove_dir_all(&clone).expect("removed while running");
    let id = listing.get("a").expect("the file").id.clone();
    assert_eq!(git.read(vec![("a".to_owned(), id)]).await.expect("blobs")[0].content, b"1");
}

#[tokio::test]
async fn a_clone_belongs_to_one_address() {
    let bed = Bed::start();
    bed.remote().commit("main", &[("a", Some("1"))]);
    bed.handle().fetch().await.expect("a tip");
    let other = Remote::init(&bed.folder.path().join("other.git"));
    let commit = other.commit("main", &[("b", Some("2"))]);
    let address = Address::parse(other.path().to_str().expect("UTF-8")).expect("a path");
    let git = bed.handle_with(|options| options.address = address);
    let tip = git.fetch().await.expect("a local repository");
    assert_eq!((tip.commit.as_str(), tip.branch.as_str()), (commit.as_str(), "main"));
    let foreign = bed.handle_with(|options| options.folder = options.folder.with_file_name("served"));
    let foreign = foreign.fetch().await.expect_err("not ours");
    assert!(matches!(foreign, GitError::ForeignDirectory { .. }), "{foreign}");
    assert!(bed.remote().tip("main").is_some(), "nothing was removed");
}

#[tokio::test]
async fn a_clone_folder_that_cannot_be_made() {
    let bed = Bed::start();
    bed.remote().commit("main", &[("a", Some("1"))]);
    let file = bed.folder.path().join("file");
    std::fs::write(&file, "in the way").expect("written");
    let git = bed.handle_with(|options| options.folder = file.join("clone"));
    let error = git.fetch().await.expect_err("no directory");
    assert!(matches!(error, GitError::CloneDirectory { .. }), "{error:?}");
}

#[tokio::test]
async fn the_path_must_lie_inside() {
    let bed = Bed::start();
    let escape = Options { path: "../x".to_owned(), ..bed.options() };
    assert!(matches!(Handle::start(escape), Err(GitError::Path { .. })));
}

#[tokio::test]
async fn a_commit_of_status_alone_is_described_by_the_last_commit_of_a_person() {
    let bed = Bed::start();
    let remote = bed.remote();
    let person = remote.commit("main", &[("a.yaml", Some("1")), ("deep/status/x", Some("0"))]);
    remote.commit("main", &[("deep/status/x", Some("1"))]);
    let own = remote.commit("main", &[("deep/status/y", Some("1"))]);
    let git = bed.handle();
    let id = |commit: &str| opsy::api::CommitId::parse(commit).expect("an id");
    git.fetch().await.expect("a tip");
    let described = git.describe(&id(&own), "deep/status").await.expect("a commit");
    assert_eq!(described.id, id(&person));
    let both = remote.commit("main", &[("deep/status/y", Some("2")), ("deep/b", Some("1"))]);
    git.fetch().await.expect("a tip");
    let described = git.describe(&id(&both), "deep/status").await.expect("a commit");
    assert_eq!(described.id, id(&both), "it changed more than status");
    let described = git.describe(&id(&own), "").await.expect("a commit");
    assert_eq!(described.id, id(&own), "without a status path, every commit counts");
}

#[tokio::test]
async fn a_template_repository_that_sends_too_much_is_given_up_and_fetched_when_there_is_room() {
    let bed = Bed::start();
    let noise: String = (0..5000u32).map(|number| opsy::api::ids::digest(&[&number.to_string()])).collect();
    bed.remote().commit("main", &[("large", Some(&noise))]);
    let git = bed.handle_with(|options| options.history = opsy::git::History::Tips);
    let error = git.fetch_branches(vec![None], None, Some(10_000)).await.expect_err("too much");
    assert!(matches!(error, GitError::TooLarge { limit: 10_000, .. }), "{error}");
    let tips = git.fetch_branches(vec![None], None, Some(10_000_000)).await.expect("fetched");
    assert!(tips[0].is_ok(), "{tips:?}");
}
