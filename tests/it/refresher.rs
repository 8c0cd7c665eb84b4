//! The refresher against the emulated AWS. The tests call the real `reconcile` and assert on the node groups, launch
//! templates and journal afterwards.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use opsy::api::builder::LaneImage;
use opsy::api::network::Network;
use opsy::api::{AMIRefresher, AMIRefresherStatus, CommitId, Owner};
use opsy::engine::{ObjectHealth, Pass};
use opsy::manifest::ObjectSet;
use opsy::probe::Probes;
use opsy::refresher::{Context, reconcile};
use opsy::settings::RepoSettings;
use opsy::sync::Synced;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::aws::edge_at;
use crate::bed::Account;

/// Number of reconciles within which a rollout of three groups must end.
const PASSES: usize = 120;

thread_local! {
    /// How far this test's clock is ahead. Each test has its own thread.
    static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

pub fn now() -> Timestamp {
    Timestamp::now() + AHEAD.with(Cell::get)
}

/// One refresher in a seeded account, and the images of the builder that it may use.
pub struct Rolling {
    pub account: Account,
    pub seed: Value,
    pub context: Context,
    pub object: AMIRefresher,
    built: Arc<Mutex<Option<Vec<LaneImage>>>>,
}

impl Rolling {
    pub async fn new(spec: Value) -> Self {
        Self::with(spec, RepoSettings::default()).await
    }

    async fn with(spec: Value, settings: RepoSettings) -> Self {
        AHEAD.with(|ahead| ahead.set(Duration::ZERO));
        let (account, seed) = Account::seeded();
        let mut whole = json!({ "region": "us-east-1", "clusterName": "demo" });
        whole.as_object_mut().expect("fields").extend(spec.as_object().expect("fields").clone());
        let mut object = AMIRefresher::new("nodes", serde_json::from_value(whole).expect("a spec"));
        object.metadata.namespace = Some("default".to_owned());
        let synced = Synced {
            commit: CommitId::parse("0123456789abcdef0123456789abcdef01234567").expect("an id"),
            set: Arc::new(ObjectSet { settings, ..ObjectSet::default() }),
            status_files: Arc::default(),
            difference: None,
        };
        let built: Arc<Mutex<Option<Vec<LaneImage>>>> = Arc::default();
        let looked = built.clone();
        let context = Context {
            aws: edge_at(&account, now).await,
            builder_images: Arc::new(move |_| looked.lock().expect("no panic").clone()),
            undeclared: Arc::new(|_| None),
            synced: watch::channel(Some(Arc::new(synced))).1,
            owner: Owner::parse("team").expect("an owner"),
            clusters: Arc::default(),
            now,
            nodes: None,
            probes: Probes::new(&Network::default(), Arc::default()).expect("a client"),
        };
        Self { account, seed, context, object, built }
    }

    /// The seeded base image of August.
    pub fn image(&self) -> String {
        self.seed["base_images"]["v20260801"].as_str().expect("an id").to_owned()
    }

    /// Restarts the agent, which keeps its status and loses all cached responses.
    pub async fn restart(&mut self) {
        self.context.aws = edge_at(&self.account, now).await;
    }

    pub async fn pass(&mut self) -> Pass<AMIRefresherStatus> {
        let pass = reconcile(Arc::new(self.object.clone()), &self.context).await;
        self.object.status = Some(pass.status.clone());
        pass
    }

    /// Advances the clocks of AWS and of the refresher.
    pub fn step(&self, seconds: u64) {
        self.account.post("clock", json!({ "advance": seconds }));
        AHEAD.with(|ahead| ahead.set(ahead.get() + Duration::from_secs(seconds)));
    }

    /// Reconciles until nothing is in progress; the clocks advance by the time that each reconcile requests.
    pub async fn rest(&mut self) -> Pass<AMIRefresherStatus> {
        for _ in 0..PASSES {
            let pass = self.pass().await;
            if pass.health != ObjectHealth::Busy && pass.health != ObjectHealth::Failing {
                return pass;
            }
            self.step(pass.look.as_secs().max(1));
        }
        panic!("the refresher does not settle: {:#?}", self.object.status);
    }

    /// Image type and image of each managed group, as AWS has them.
    fn groups(&self) -> Vec<(String, String, String)> {
        let state = self.account.state();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let groups = state["node_groups"].as_array().expect("node groups");
        let mut groups: Vec<_> = groups
            .iter()
            .map(|group| (text(&group["name"]), text(&group["ami_type"]), text(&group["release_version"])))
            .collect();
        groups.sort();
        groups
    }

    pub fn on(&self, image: &str) -> BTreeSet<String> {
        let on = self.groups().into_iter().filter(|(_, kind, release)| kind == "CUSTOM" && release == image);
        on.map(|(name, _, _)| name).collect()
    }

    pub fn writes(&self) -> Vec<String> {
        self.account.writes()
    }

    pub fn versions_of_ours(&self) -> usize {
        self.account.state().to_string().matches("opsy team ").count()
    }
}

pub fn reason(pass: &Pass<AMIRefresherStatus>) -> (String, String) {
    let conditions = pass.status.conditions.clone().unwrap_or_default();
    let ready = conditions.into_iter().find(|c| c.r#type == "Ready").expect("Ready");
    (ready.reason.unwrap_or_default(), ready.message.unwrap_or_default())
}

pub fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn every_eligible_group_is_moved_and_the_others_are_named() {
    let mut rolling = Rolling::new(json!({})).await;
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());
    let pass = rolling.rest().await;
    let (why, message) = reason(&pass);
    assert_eq!((pass.health, why.as_str()), (ObjectHealth::Settled, "UpToDate"), "{message}");
    assert!(message.contains("legacy has no launch template of its own"), "{message}");
    assert_eq!(rolling.on(&image), names(&["batch", "system", "web"]));
    assert_eq!(rolling.account.count("ec2:CreateLaunchTemplateVersion"), 3);
    assert_eq!(rolling.account.count("eks:UpdateNodegroupVersion"), 3);
    assert_eq!(rolling.versions_of_ours(), 3);

    rolling.account.clear_journal();
    let again = rolling.pass().await;
    assert_eq!((again.status, again.notes), (pass.status, Vec::new()));
    assert_eq!(rolling.account.calls().len(), 0, "the cached responses are used");
}

#[tokio::test]
async fn reconcile_at_asks_everything_anew_once() {
    let mut rolling = Rolling::new(json!({})).await;
    rolling.object.spec.ami = Some(rolling.image());
    rolling.rest().await;
    rolling.account.clear_journal();
    let asked = [("ami.opsy.dev/reconcileAt".to_owned(), "now".to_owned())];
    rolling.object.metadata.annotations = Some(asked.into());
    let pass = rolling.pass().await;
    assert_eq!(pass.status.last_handled_reconcile_at.as_deref(), Some("now"));
    assert_eq!(rolling.account.count("eks:ListNodegroups"), 1, "{:?}", rolling.account.calls());
    rolling.account.clear_journal();
    let again = rolling.pass().await;
    assert_eq!(again.status, pass.status);
    assert_eq!(rolling.account.calls().len(), 0, "the request was handled already");
}

#[tokio::test]
async fn versions_never_pile_up() {
    let mut rolling = Rolling::new(json!({ "nodeGroups": { "include": ["web"] } })).await;
    let (old, new) = (rolling.seed["initial_image"].as_str().expect("an id").to_owned(), rolling.image());
    for image in [&new, &old, &new, &old] {
        rolling.object.spec.ami = Some(image.clone());
        let pass = rolling.rest().await;
        assert_eq!(reason(&pass).0, "UpToDate", "{:?}", reason(&pass));
        assert!(rolling.on(image).contains("web"));
        assert!(
            rolling.versions_of_ours() <= 4,
            "only the version in force, the previous one and the newest three are kept: {}",
            rolling.versions_of_ours()
        );
    }
}

#[tokio::test]
async fn a_builders_image_is_taken_from_its_lane_here() {
    let mut rolling = Rolling::new(json!({ "amiFrom": { "packerBuilder": "base" } })).await;
    let pass = rolling.pass().await;
    assert_eq!(reason(&pass).0, "NoEligibleImage");
    let tags = json!({
        "brought-to-you-by": "opsy-the-ami-operator", "status": "active", "cluster-name": "demo",
        "opsy.dev/owner": "team", "opsy.dev/builder": "default/base",
    });
    let made = rolling.account.post("image", json!({ "name": "base-1", "tags": tags }));
    let (image, foreign) = (made["id"].as_str().expect("an id").to_owned(), rolling.image());
    let lane = |region: &str, id: &str| LaneImage {
        region: region.to_owned(),
        architecture: "x86_64".to_owned(),
        id: id.to_owned(),
        ..LaneImage::default()
    };
    // A status may come from Git, where anyone who can push can write it.
    *rolling.built.lock().expect("no panic") = Some(vec![lane("us-east-1", &foreign)]);
    let pass = rolling.pass().await;
    let (reason_given, message) = reason(&pass);
    assert_eq!(reason_given, "NoEligibleImage", "{message}");
    assert!(message.contains("does not have the tags of PackerBuilder default/base"), "{message}");
    *rolling.built.lock().expect("no panic") =
        Some(vec![lane("eu-west-1", "ami-0000000000000000f"), lane("us-east-1", &image)]);
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    assert_eq!(pass.status.target_ami, Some(image.clone()));
    assert_eq!(rolling.on(&image).len(), 3);
}

#[tokio::test]
async fn filters_find_the_newest_image_of_each_architecture() {
    let mut rolling = Rolling::new(json!({ "amiFilters": [
        { "name": "name", "values": ["amazon-eks-node-al2023-*"] },
        { "name": "owner-id", "values": ["602401143452"] },
    ] }))
    .await;
    let image = rolling.image();
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    assert_eq!(rolling.on(&image).len(), 3, "x86_64 groups get the x86_64 image");
    let target = pass.status.target_ami.expect("a target");
    assert_eq!(target.split(',').count(), 2, "{target}");
}

#[tokio::test]
async fn a_busy_group_is_waited_for_and_no_version_is_made() {
    let mut rolling = Rolling::new(json!({ "nodeGroups": { "include": ["web"] } })).await;
    rolling.object.spec.ami = Some(rolling.image());
    rolling.account.post("node-group", json!({ "name": "web", "status": "UPDATING" }));
    for _ in 0..5 {
        assert_eq!(reason(&rolling.pass().await).0, "WaitingForNodeGroup");
    }
    assert_eq!(rolling.writes(), Vec::<String>::new());
    rolling.account.post("node-group", json!({ "name": "web", "status": "ACTIVE" }));
    rolling.restart().await;
    assert_eq!(rolling.rest().await.health, ObjectHealth::Settled);
}

#[tokio::test]
async fn lost_answers_and_throttling_cost_nothing_twice() {
    let mut rolling = Rolling::new(json!({ "refreshConfig": { "maxUnavailable": 2 } })).await;
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());
    for operation in ["CreateLaunchTemplateVersion", "UpdateNodegroupVersion", "UpdateNodegroupConfig"] {
        // More often than the SDK retries, so that the refresher itself must find out what was done.
        rolling.account.fault(json!({ "kind": "lost", "operation": operation, "count": 4 }));
    }
    rolling.account.fault(json!({ "kind": "throttle", "service": "eks", "skip": 3, "count": 3 }));
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    assert_eq!(rolling.on(&image).len(), 3);
    assert_eq!(rolling.versions_of_ours(), 3, "one version per group");
    let state = rolling.account.state();
    let updates = state["updates"].as_array().expect("updates").len();
    assert_eq!(updates, 6, "one configuration update and one version update per group: {}", state["updates"]);
}

#[tokio::test]
async fn a_denied_call_names_the_permission() {
    let mut rolling = Rolling::new(json!({})).await;
    rolling.object.spec.ami = Some(rolling.image());
    rolling.account.fault(json!({ "kind": "deny", "operation": "CreateLaunchTemplateVersion" }));
    let mut pass = rolling.pass().await;
    for _ in 0..30 {
        if pass.health == ObjectHealth::Failing {
            break;
        }
        pass = rolling.pass().await;
    }
    let (why, message) = reason(&pass);
    assert_eq!((pass.health, why.as_str()), (ObjectHealth::Failing, "AwsDenied"));
    assert!(message.contains("ec2:CreateLaunchTemplateVersion"), "{message}");
    rolling.account.clear_faults();
    let asked = [("ami.opsy.dev/reconcileAt".to_owned(), "now".to_owned())];
    rolling.object.metadata.annotations = Some(asked.into());
    rolling.pass().await;
    assert_eq!(rolling.rest().await.health, ObjectHealth::Settled, "a person asks to try again");
}

#[tokio::test]
async fn a_group_deleted_half_way_is_left_out() {
    let mut rolling = Rolling::new(json!({})).await;
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());
    while rolling.account.count("eks:UpdateNodegroupVersion") == 0 {
        assert_eq!(rolling.pass().await.health, ObjectHealth::Busy);
    }
    rolling.account.delete("node-group", json!({ "name": "batch" }));
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    assert_eq!(rolling.on(&image), names(&["system", "web"]));
}

#[tokio::test]
async fn dying_at_any_point_moves_each_group_once() {
    for point in 0..9 {
        let mut rolling = Rolling::new(json!({ "nodeGroups": { "include": ["batch", "web"] } })).await;
        let image = rolling.image();
        rolling.object.spec.ami = Some(image.clone());
        for _ in 0..point {
            let pass = rolling.pass().await;
            rolling.step(pass.look.as_secs());
        }
        let before = rolling.object.status.clone();
        rolling.pass().await;
        rolling.object.status = before;
        rolling.restart().await;
        let pass = rolling.rest().await;
        assert_eq!(pass.health, ObjectHealth::Settled, "{point}: {:?}", reason(&pass));
        assert_eq!(rolling.on(&image), names(&["batch", "web"]), "{point}");
        let updates = rolling.account.state()["updates"].as_array().map(Vec::len);
        assert_eq!((updates, rolling.versions_of_ours()), (Some(2), 2), "{point}");
    }
}

#[tokio::test]
async fn another_account_than_allowed_is_not_touched() {
    let settings =
        RepoSettings { accounts: Some(vec!["999999999999".to_owned()]), ..RepoSettings::default() };
    let mut rolling = Rolling::with(json!({}), settings).await;
    rolling.object.spec.ami = Some(rolling.image());
    let pass = rolling.rest().await;
    assert_eq!(reason(&pass).0, "AccountNotAllowed");
    assert_eq!(rolling.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_named() {
    let mut rolling = Rolling::new(json!({ "clusterName": "nowhere" })).await;
    rolling.object.spec.ami = Some(rolling.image());
    let pass = rolling.rest().await;
    assert_eq!(
        reason(&pass),
        ("ClusterNotFound".into(), "EKS cluster nowhere does not exist in us-east-1".into())
    );
}
