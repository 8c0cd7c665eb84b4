//! Template repositories: how often they are fetched, with which credentials, and what builders wait for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::join_all;
use jiff::Timestamp;
use opsy::api::network::Network;
use opsy::api::{Class, Key};
use opsy::git::address::{Address, AddressRules};
use opsy::git::auth::Credentials;
use opsy::git::github_app::Tokens;
use opsy::git::signatures::Signers;
use opsy::git::templates::sources::{SourceOptions, Sources};
use opsy::git::templates::{TemplateError, TemplateQuery, TemplateSource, Templates};
use opsy::manifest::{ObjectSet, SourceFile};
use opsy::sync::Sync;
use tokio_util::sync::CancellationToken;

use super::bed::{Bed, DEADLINE, http, keygen};
use super::signatures::{public, sign};
use crate::bed::wait_for;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(100);

/// Secrets by their names.
type Secrets = Arc<Mutex<BTreeMap<String, BTreeMap<String, String>>>>;

/// An agent's templates, with a template repository on a server of its own.
struct World {
    own: Bed,
    others: Bed,
    secrets: Secrets,
    woken: Arc<Mutex<Vec<Key>>>,
    builders: Arc<Mutex<Vec<Key>>>,
    sources: Sources,
    templates: Templates,
    _sync: Sync,
}

impl World {
    async fn start(others: Bed, interval: Duration) -> Self {
        Self::start_with(others, interval, AddressRules::default(), None).await
    }

    /// With mirrors, and with signers whose signatures are required.
    async fn start_with(
        others: Bed,
        interval: Duration,
        rules: AddressRules,
        signers: Option<Signers>,
    ) -> Self {
        let own = Bed::guarded("agent:its-own-secret\n");
        own.remote().commit("main", &[("packer/own/own.pkr.hcl", Some("own"))]);
        others
            .remote()
            .commit("main", &[("node/node.pkr.hcl", Some("source")), ("node/x.pkrvars.hcl", Some("x"))]);
        let login = opsy::git::Secret::Value("its-own-secret".to_owned());
        let user = opsy::git::Secret::Value("agent".to_owned());
        let handle = own.handle_with(|options| options.credentials = Some(Credentials::basic(user, login)));
        let (mut sync, outputs) =
            Sync::new(handle, Box::new(|_: &[SourceFile]| ObjectSet::default()), Timestamp::now);
        sync.once().await.expect("synced");
        own.journal();
        let (secrets, woken) = (Secrets::default(), Arc::<Mutex<Vec<Key>>>::default());
        let builders = Arc::<Mutex<Vec<Key>>>::default();
        let tokens = Tokens::new(&Network::default(), Timestamp::now).expect("a client");
        let (known, rung, there) = (secrets.clone(), woken.clone(), builders.clone());
        let sources = Sources::new(SourceOptions {
            folder: own.folder.path().join("sources"),
            rules,
            http: http(),
            interval,
            login: Arc::new(move |_: &Address, secret: Option<Key>| {
                let Some(key) = secret else { return futures::future::ready(Ok(None)).boxed() };
                let found = known.lock().expect("secrets").get(&key.to_string()).cloned();
                let missing =
                    || TemplateError { class: Class::NotFound, message: format!("there is no Secret {key}") };
                let read = found.ok_or_else(missing);
                let read = read
                    .and_then(|values| Ok(Some(Credentials::of_secret(&key.to_string(), &values, &tokens)?)));
                futures::future::ready(read).boxed()
            }),
            hosts: Credentials::default(),
            signers,
            now: Timestamp::now,
            wake: Arc::new(move |key| rung.lock().expect("woken").push(key.clone())),
            exists: Arc::new(move |key| there.lock().expect("builders").contains(key)),
        });
        let templates = outputs.templates.with_sources(sources.clone());
        Self { own, others, secrets, woken, builders, sources, templates, _sync: sync }
    }

    fn builder(&self, name: &str) -> Key {
        let key = Key { namespace: "team".to_owned(), name: name.to_owned() };
        self.builders.lock().expect("builders").push(key.clone());
        key
    }

    fn query(&self, branch: Option<&str>, secret: Option<&str>) -> TemplateQuery {
        let source = TemplateSource {
            repository: Some(self.others.url()),
            branch: branch.map(str::to_owned),
            secret: secret.map(str::to_owned),
        };
        TemplateQuery { template: "node".to_owned(), source: Some(source), ..TemplateQuery::default() }
    }

    fn secret(&self, name: &str, user: &str, token: &str) {
        let values =
            [("username", user), ("token", token)].map(|(key, value)| (key.to_owned(), value.to_owned()));
        self.secrets.lock().expect("secrets").insert(format!("team/{name}"), values.into());
    }

    async fn fails(&self, query: &TemplateQuery, builder: &Key) -> TemplateError {
        self.templates.resolve(query, builder).await.expect_err("it cannot be resolved")
    }
}

fn fetches(journal: &[String]) -> usize {
    journal.iter().filter(|line| line.starts_with("POST") && line.contains("git-upload-pack")).count()
}

fn looks(journal: &[String]) -> usize {
    journal.iter().filter(|line| line.contains("info/refs") || line.starts_with("ls-refs")).count()
}

#[tokio::test]
async fn fifty_builders_of_one_repository_cost_one_fetch_an_interval_and_none_of_the_agents_credentials() {
    let world = World::start(Bed::start(), LONG).await;
    let builders: Vec<Key> = (0..50).map(|number| world.builder(&format!("b{number}"))).collect();
    let query = world.query(None, None);
    let all = join_all(builders.iter().map(|builder| world.templates.resolve(&query, builder))).await;
    let first = all[0].clone().expect("resolved");
    assert!(all.iter().all(|resolved| resolved.as_ref() == Ok(&first)));
    let journal = world.others.journal();
    // A fetch without history takes two requests: the server first returns where the history ends.
    assert_eq!((looks(&journal), fetches(&journal)), (1, 2), "{journal:?}");
    let files = world.templates.files(&query, &builders[7], &first.commit).await.expect("files");
    assert_eq!(
        files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
        ["node/node.pkr.hcl", "node/x.pkrvars.hcl"]
    );
    assert_eq!(world.others.journal(), Vec::<String>::new(), "the clone has them");
    assert_eq!(world.own.journal(), Vec::<String>::new(), "the agent's own repository is not concerned");
    // The next poll sees a push with one fetch, and wakes the builders that use the branch.
    let tip = world.others.remote().commit("main", &[("node/node.pkr.hcl", Some("other"))]);
    world.sources.fetch_now(&[world.others.url()], None).await;
    assert_eq!(world.others.users(), Vec::<String>::new(), "no credentials were sent");
    assert_eq!(world.woken.lock().expect("woken").len(), 50);
    let second = world.templates.resolve(&query, &builders[0]).await.expect("resolved");
    assert_eq!(second.commit.as_str(), tip);
    assert_ne!(second.tag, first.tag);
    let (described, url) = world.templates.describe(&second.commit, "").await.expect("described");
    assert_eq!((described.author.as_str(), url), ("Ann", world.others.url()));
}

#[tokio::test]
async fn different_secrets_for_one_address_are_never_mixed() {
    let world = World::start(Bed::guarded("ann:a\nbob:b\n"), SHORT).await;
    let (ann, bob, eve) = (world.builder("ann"), world.builder("bob"), world.builder("eve"));
    world.secret("ann", "ann", "a");
    world.secret("bob", "bob", "wr0ng");
    let of = |secret: &str| world.query(None, Some(secret));
    world.templates.resolve(&of("ann"), &ann).await.expect("resolved");
    assert!(world.others.users().iter().all(|user| user == "ann"));
    let refused = world.fails(&of("bob"), &bob).await;
    assert_eq!(refused.class, Class::Denied, "{refused}");
    assert!(
        refused.message.contains("refuses the credentials") && !refused.message.contains("wr0ng"),
        "{refused}"
    );
    assert!(world.others.users().iter().all(|user| user == "bob"));
    // Without a Secret there is no access, even if others have fetched the repository already.
    let unknown = world.fails(&world.query(None, None), &eve).await;
    assert!(unknown.message.contains("requires credentials"), "{unknown}");
    let missing = world.fails(&of("nowhere"), &eve).await;
    assert!(missing.message.contains("no Secret team/nowhere"), "{missing}");
    world.secrets.lock().expect("secrets").insert("team/empty".into(), BTreeMap::new());
    let empty = world.fails(&of("empty"), &eve).await;
    assert!(empty.message.contains("Secret team/empty has neither `token`"), "{empty}");
    // The Secret is rotated, and read again for the next fetch.
    world.secret("bob", "bob", "b");
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = world.templates.resolve(&of("bob"), &bob).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_repository_that_cannot_be_read_says_why_and_wakes_its_builders_when_it_can() {
    let world = World::start(Bed::start(), SHORT).await;
    let (builder, other) = (world.builder("node"), world.builder("other"));
    let missing = world.fails(&world.query(Some("release"), None), &other).await;
    assert!(missing.message.contains("has no branch \"release\", only main"), "{missing}");
    world
        .templates
        .resolve(&world.query(None, None), &builder)
        .await
        .expect("one branch does not affect another");
    let nowhere = TemplateQuery { template: "web".to_owned(), ..world.query(None, None) };
    let folder = world.fails(&nowhere, &builder).await;
    assert_eq!(folder.class, Class::Invalid, "{folder}");
    assert!(folder.message.contains("web"), "{folder}");
    world.others.away(Some("503"));
    world.sources.fetch_now(&[], None).await;
    let away = world.fails(&world.query(None, None), &builder).await;
    assert_eq!(away.class, Class::TRANSIENT, "{away}");
    let stop = CancellationToken::new();
    let following = tokio::spawn(world.sources.clone().follow(stop.clone()));
    world.woken.lock().expect("woken").clear();
    world.others.away(None);
    let woken = world.woken.clone();
    let back = tokio::task::spawn_blocking(move || {
        wait_for("a wakeup", DEADLINE, || {
            woken.lock().expect("woken").contains(&builder).then(|| builder.clone())
        })
    });
    let builder = back.await.expect("woken");
    world.templates.resolve(&world.query(None, None), &builder).await.expect("it is back");
    // A rewritten branch is followed: only the tip counts.
    let tip = world.others.remote().rewrite("main", &[("node/node.pkr.hcl", Some("rewritten"))]);
    world.sources.fetch_now(&[], None).await;
    let resolved = world.templates.resolve(&world.query(None, None), &builder).await.expect("resolved");
    assert_eq!(resolved.commit.as_str(), tip);
    // Clones that no builder uses are removed.
    world.builders.lock().expect("builders").clear();
    let folder = world.own.folder.path().join("sources");
    let gone = tokio::task::spawn_blocking(move || {
        wait_for("an empty directory", DEADLINE, || {
            std::fs::read_dir(&folder).ok()?.next().is_none().then_some(())
        })
    });
    gone.await.expect("removed");
    stop.cancel();
    following.await.expect("ended");
}

#[tokio::test]
async fn a_path_of_the_agents_machine_is_no_template_repository() {
    let world = World::start(Bed::start(), LONG).await;
    let builder = world.builder("node");
    for path in ["/etc", "../x", "file:///srv/r.git", "x"] {
        let source = TemplateSource { repository: Some(path.to_owned()), branch: None, secret: None };
        let query = TemplateQuery { source: Some(source), ..world.query(None, None) };
        let refused = world.fails(&query, &builder).await;
        assert_eq!(refused.class, Class::Invalid, "{refused}");
        assert!(refused.message.contains("directory of the agent's machine"), "{refused}");
    }
}

#[tokio::test]
async fn another_branch_of_the_agents_own_repository_is_a_source() {
    let world = World::start(Bed::start(), SHORT).await;
    let builder = world.builder("node");
    world.own.remote().commit("next", &[("packer/own/own.pkr.hcl", Some("next"))]);
    let query = |branch: &str| TemplateQuery {
        template: "packer/own".to_owned(),
        source: Some(TemplateSource { repository: None, branch: Some(branch.to_owned()), secret: None }),
        ..TemplateQuery::default()
    };
    let main = world.templates.resolve(&query("main"), &builder).await.expect("resolved");
    let next = world.templates.resolve(&query("next"), &builder).await.expect("resolved");
    assert_ne!(main.tag, next.tag);
    let missing = world.fails(&query("nowhere"), &builder).await;
    assert!(missing.message.contains("nowhere"), "{missing}");
}

#[tokio::test]
async fn the_tip_of_a_template_repository_must_be_signed_where_signatures_are_required() {
    let keys = tempfile::tempdir().expect("a directory");
    let ann = keygen(keys.path().join("ann"), "ed25519", "");
    let signers = keys.path().join("signers");
    std::fs::write(&signers, format!("ann@test.invalid {}\n", public(&ann))).expect("written");
    let signers = Signers { files: vec![signers], own: None };
    let world = World::start_with(Bed::start(), LONG, AddressRules::default(), Some(signers)).await;
    let builder = world.builder("node");
    let query = world.query(None, None);
    let unsigned = world.others.remote().tip("main").expect("a tip");
    let refused = world.fails(&query, &builder).await;
    assert_eq!(refused.class, Class::Invalid, "{refused}");
    for part in [&*unsigned, "Ann <ann@test.invalid>", "of the template repository", "it has no signature"] {
        assert!(refused.message.contains(part), "{part}: {refused}");
    }
    assert!(!refused.message.contains("opsy accept"), "{refused}");
    let signed = sign(&world.others.remote(), &ann, &unsigned);
    world.sources.fetch_now(&[], None).await;
    assert_eq!(world.woken.lock().expect("woken").len(), 1);
    let resolved = world.templates.resolve(&query, &builder).await.expect("resolved");
    assert_eq!(resolved.commit.as_str(), signed);
    let next = world.others.remote().commit("main", &[("node/node.pkr.hcl", Some("unsigned"))]);
    world.sources.fetch_now(&[], None).await;
    let refused = world.fails(&query, &builder).await;
    assert!(refused.message.contains(&next), "{refused}");

    // The tip of another branch of the agent's own repository must be signed, too.
    let own = world.own.remote().commit("next", &[("packer/own/own.pkr.hcl", Some("next"))]);
    let query = TemplateQuery {
        template: "packer/own".to_owned(),
        source: Some(TemplateSource { repository: None, branch: Some("next".to_owned()), secret: None }),
        ..TemplateQuery::default()
    };
    let refused = world.fails(&query, &builder).await;
    assert!(refused.message.contains(&own) && refused.message.contains("it has no signature"), "{refused}");
}

#[tokio::test]
async fn an_empty_repository_a_redirect_to_another_host_and_credentials_in_an_address_are_explained() {
    let world = World::start(Bed::start(), LONG).await;
    let builder = world.builder("node");
    let at = |url: String| {
        let source = TemplateSource { repository: Some(url), branch: None, secret: None };
        TemplateQuery { source: Some(source), ..world.query(None, None) }
    };
    let empty = world.others.url().replace("repo.git", "empty.git");
    world.others.create("empty.git");
    let refused = world.fails(&at(empty), &builder).await;
    assert!(refused.message.contains("has no commit yet"), "{refused}");
    let elsewhere = Bed::start();
    let moved = world.others.redirects("moved", &elsewhere.url().replace("127.0.0.1", "localhost"));
    let refused = world.fails(&at(moved), &builder).await;
    assert!(refused.message.contains("redirects to another server"), "{refused}");
    assert_eq!(elsewhere.users(), Vec::<String>::new());
    let with_token = world.others.url().replace("http://", "http://ann:hunter2@");
    let refused = world.fails(&at(with_token), &builder).await;
    assert!(refused.message.contains("must not contain credentials"), "{refused}");
    assert!(!refused.message.contains("hunter2"), "{refused}");
}

#[tokio::test]
async fn a_pod_is_told_the_address_of_the_mirror() {
    let others = Bed::start();
    let mirror = others.url();
    let rules = [format!("https://git.example/fleet={mirror}")];
    let rules = AddressRules::new(false, &rules).expect("a mapping");
    let world = World::start_with(others, LONG, rules, None).await;
    let builder = world.builder("node");
    let mut query = world.query(None, None);
    query.source.as_mut().expect("a repository").repository = Some("https://git.example/fleet".to_owned());
    let resolved = world.templates.resolve(&query, &builder).await.expect("resolved");
    assert_eq!(resolved.url, mirror);
}
