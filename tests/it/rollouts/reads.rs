//! What a rollout reads from EKS and EC2: it grows with the groups that move, not with the groups of the cluster. Every
//! call is in the journal of the emulated AWS; the clock of the test also ages the responses that the edge shares.

use std::collections::BTreeMap;
use std::sync::Arc;

use opsy::api::AMIRefresher;
use opsy::engine::ObjectHealth;
use opsy::refresher::reconcile;
use serde_json::{Value, json};

use crate::refresher::{Rolling, reason};

/// How long an update takes, in emulated seconds: longer than any response is shared.
const UPDATE: u64 = 300;
/// The interval of the refresher, in seconds, at which groups are read that do not move.
const INTERVAL: u64 = 600;
/// The calls of one move beside those that wait for its update, with some room.
const PER_MOVE: usize = 20;
/// How often a group is described while it is moved: at the start every 2 s, later every 20 s.
const WAITING: usize = 40;
/// The emulated clock also runs by itself, so a shared response may have expired once more, or once less.
const ROOM: usize = 3;

/// Reads of the whole cluster that a rollout of this duration may make however many groups move: one at its start, one
/// after its end, and one per interval in between.
fn whole(elapsed: u64) -> usize {
    2 + usize::try_from(elapsed / INTERVAL).expect("a short rollout")
}

/// Calls by operation.
type Calls = BTreeMap<String, usize>;

/// A cluster with this many groups on the target, and with these groups on another image.
async fn cluster(spec: Value, idle: usize, drifted: &[&str]) -> Rolling {
    let mut rolling = Rolling::new(spec).await;
    rolling.account.post("settings", json!({ "nodegroup_update_seconds": UPDATE }));
    for name in ["system", "web", "batch", "legacy"] {
        rolling.account.delete("node-group", json!({ "name": name }));
    }
    let (target, old) = (rolling.image(), rolling.seed["initial_image"].clone());
    let add = |name: &str, image: &Value| {
        rolling.account.post("new-node-group", json!({ "name": name, "image": image }));
    };
    (0..idle).for_each(|number| add(&format!("idle-{number:02}"), &json!(target)));
    drifted.iter().for_each(|name| add(name, &old));
    rolling.object.spec.ami = Some(target);
    rolling.account.clear_journal();
    rolling
}

/// Reconciles until nothing is in progress, and returns how many seconds that took.
async fn rest(rolling: &mut Rolling) -> u64 {
    let mut elapsed = 0;
    for _ in 0..600 {
        let pass = rolling.pass().await;
        if pass.health == ObjectHealth::Settled {
            return elapsed;
        }
        assert_eq!(pass.health, ObjectHealth::Busy, "{:?}", reason(&pass));
        let look = pass.look.as_secs().max(1);
        rolling.step(look);
        elapsed += look;
    }
    panic!("it does not settle: {:#?}", rolling.object.status);
}

fn calls(rolling: &Rolling) -> Calls {
    let mut calls = Calls::new();
    rolling.account.calls().into_iter().for_each(|name| *calls.entry(name).or_default() += 1);
    calls
}

/// How often each group was described.
fn described(rolling: &Rolling) -> Calls {
    let journal = rolling.account.journal();
    let describes = journal.iter().filter(|entry| entry["operation"] == "DescribeNodegroup");
    let mut described = Calls::new();
    for name in describes.filter_map(|entry| entry["params"]["nodegroupName"].as_str()) {
        *described.entry(name.to_owned()).or_default() += 1;
    }
    described
}

/// How often the groups with this prefix were described, at most.
fn most(rolling: &Rolling, prefix: &str) -> usize {
    described(rolling)
        .into_iter()
        .filter(|(name, _)| name.starts_with(prefix))
        .map(|(_, count)| count)
        .max()
        .unwrap_or(0)
}

fn reads(calls: &Calls) -> usize {
    let is_read = |name: &&String| [":Describe", ":List"].iter().any(|read| name.contains(read));
    calls.iter().filter(|(name, _)| is_read(name)).map(|(_, count)| count).sum()
}

/// What a rollout read, beside the groups that it moved.
#[derive(Debug)]
struct Cost {
    groups: usize,
    moved: usize,
    whole: usize,
    reads: usize,
}

async fn cost(idle: usize, moved: usize, at_once: bool) -> Cost {
    let drifted: Vec<String> = (0..moved).map(|number| format!("drifted-{number}")).collect();
    let drifted: Vec<&str> = drifted.iter().map(String::as_str).collect();
    let spec = json!({ "refreshConfig": { "waitForCompletion": !at_once } });
    let mut rolling = cluster(spec, idle, &drifted).await;
    let whole = whole(rest(&mut rolling).await);
    assert_eq!(rolling.account.count("eks:UpdateNodegroupVersion"), moved);
    let idle_reads = most(&rolling, "idle");
    assert!(idle_reads <= whole, "an idle group is described {idle_reads} times: {:?}", described(&rolling));
    let calls = calls(&rolling);
    assert!(calls["eks:ListNodegroups"] <= whole, "{calls:?}");
    let waiting = most(&rolling, "drifted");
    assert!(waiting <= WAITING + whole, "{:?}", described(&rolling));
    let polls: usize = drifted.iter().filter_map(|name| described(&rolling).get(*name).copied()).sum();
    Cost { groups: idle + moved, moved, whole, reads: reads(&calls) - polls }
}

#[tokio::test]
async fn groups_that_do_not_move_are_read_as_often_however_many_move() {
    for at_once in [false, true] {
        let few = cost(2, 2, at_once).await;
        let many = cost(38, 2, at_once).await;
        let more = cost(34, 6, at_once).await;
        let further = many.groups - few.groups;
        assert!(many.reads <= few.reads + many.whole * further + ROOM, "{at_once}: {few:?}, {many:?}");
        let passes = more.whole.saturating_sub(many.whole) * more.groups;
        let moves = PER_MOVE * (more.moved - many.moved);
        assert!(more.reads <= many.reads + passes + moves + ROOM, "{at_once}: {many:?}, {more:?}");
    }
}

/// An update of an hour: only what is awaited is read, and all groups at the interval of the refresher at most.
#[tokio::test]
async fn waiting_reads_the_groups_that_are_updated() {
    const HOUR: u64 = 3600;
    for (denied, degraded) in [(false, false), (true, false), (true, true)] {
        let spec = json!({ "refreshConfig": { "waitForCompletion": false }, "exclude": ["idle-0[0-4]"] });
        let mut rolling = cluster(spec, 20, &["drifted-0", "drifted-1"]).await;
        rolling.account.post("settings", json!({ "nodegroup_update_seconds": HOUR }));
        if denied {
            let of = json!({ "nodegroupName": "^idle-1" });
            rolling.account.fault(json!({ "kind": "deny", "operation": "DescribeNodegroup", "params": of }));
        }
        if degraded {
            rolling.account.post("node-group", json!({ "name": "drifted-1", "status": "DEGRADED" }));
        }
        let moving = if degraded { 1 } else { 2 };
        while rolling.account.count("eks:UpdateNodegroupVersion") < moving {
            assert_eq!(rolling.pass().await.health, ObjectHealth::Busy);
        }
        // The first intervals are short, so that small groups are not delayed.
        rolling.step(120);
        rolling.pass().await;
        rolling.account.clear_journal();
        let (mut waited, mut passes) = (0, 0);
        while waited < 1800 {
            let pass = rolling.pass().await;
            assert_eq!(pass.health, ObjectHealth::Busy, "{:?}", reason(&pass));
            rolling.step(pass.look.as_secs());
            (waited, passes) = (waited + pass.look.as_secs(), passes + 1);
        }
        let calls = calls(&rolling);
        let whole = usize::try_from(waited.div_ceil(INTERVAL)).expect("half an hour");
        assert!(most(&rolling, "idle") <= whole, "denied {denied}: {:?}", described(&rolling));
        assert_eq!(most(&rolling, "idle-00"), 0, "excluded");
        let count = |name: &str| calls.get(name).copied().unwrap_or(0);
        assert!(count("eks:ListNodegroups") <= whole, "denied {denied}: {calls:?}");
        assert_eq!(count("ec2:DescribeLaunchTemplateVersions"), 0, "denied {denied}: {calls:?}");
        assert_eq!((count("eks:DescribeUpdate"), count("eks:ListUpdates")), (0, 0));
        assert!(most(&rolling, "drifted") <= passes, "{:?}", described(&rolling));
    }
}

/// Two refreshers share a cluster, each with groups of its own.
#[tokio::test]
async fn two_refreshers_of_a_cluster_do_not_read_each_others_groups() {
    let mut reads_of = BTreeMap::new();
    for idle in [4, 30] {
        let spec = json!({ "nodeGroups": { "include": ["drifted-a", "idle-*"] } });
        let mut rolling = cluster(spec, idle, &["drifted-a", "drifted-b"]).await;
        let mut other: AMIRefresher = rolling.object.clone();
        other.metadata.name = Some("other".to_owned());
        other.spec.node_groups =
            Some(serde_json::from_value(json!({ "include": ["drifted-b"] })).expect("node groups"));
        let mut elapsed = 0;
        for _ in 0..200 {
            let pass = rolling.pass().await;
            let second = reconcile(Arc::new(other.clone()), &rolling.context).await;
            other.status = Some(second.status.clone());
            if [pass.health, second.health] == [ObjectHealth::Settled, ObjectHealth::Settled] {
                break;
            }
            let look = pass.look.min(second.look).as_secs().max(1);
            rolling.step(look);
            elapsed += look;
        }
        assert_eq!(rolling.account.count("eks:UpdateNodegroupVersion"), 2);
        assert!(most(&rolling, "idle") <= whole(elapsed), "{:?}", described(&rolling));
        reads_of.insert(idle, (reads(&calls(&rolling)), whole(elapsed)));
    }
    let ((few, _), (many, whole)) = (reads_of[&4], reads_of[&30]);
    assert!(many <= few + whole * 26 + ROOM, "{reads_of:?}");
}

/// With many versions of its own, each move deletes one: only the groups on the same template can use it.
#[tokio::test]
async fn deleting_versions_does_not_read_every_group() {
    let mut rolling = cluster(json!({}), 20, &["drifted-0", "drifted-1"]).await;
    let (old, new) = (rolling.seed["initial_image"].as_str().expect("an id").to_owned(), rolling.image());
    rolling.object.spec.exclude = Some(vec!["idle-*".to_owned()]);
    for image in [&new, &old, &new, &old] {
        rolling.object.spec.ami = Some(image.clone());
        rest(&mut rolling).await;
    }
    rolling.account.clear_journal();
    rolling.object.spec.ami = Some(new);
    rest(&mut rolling).await;
    let calls = calls(&rolling);
    assert_eq!(calls["ec2:DeleteLaunchTemplateVersions"], 2, "{calls:?}");
    assert!(most(&rolling, "idle") <= 1, "{:?}", described(&rolling));
}

/// The history of a group is read once: what has ended does not change.
#[tokio::test]
async fn updates_that_ended_are_described_once() {
    const PAST: usize = 30;
    let mut rolling = cluster(json!({}), 0, &["drifted-0"]).await;
    past_updates(&rolling, PAST).await;
    rolling.account.clear_journal();
    // The start is lost for so long that EKS may have forgotten its token, three times.
    rolling.account.fault(json!({
        "kind": "error", "operation": "UpdateNodegroupVersion", "code": "ServerException", "status": 500,
        "message": "try again",
    }));
    for _ in 0..60 {
        if rolling.account.count("eks:ListUpdates") == 3 {
            break;
        }
        let pass = rolling.pass().await;
        rolling.step(pass.look.as_secs().max(300));
    }
    assert_eq!(rolling.account.count("eks:ListUpdates"), 3);
    let calls = calls(&rolling);
    assert!(calls["eks:DescribeUpdate"] <= PAST, "{calls:?}");
    rolling.account.clear_faults();
    let asked = [("ami.opsy.dev/reconcileAt".to_owned(), "now".to_owned())];
    rolling.object.metadata.annotations = Some(asked.into());
    rolling.pass().await;
    assert_eq!(rolling.rest().await.health, ObjectHealth::Settled);
}

/// Updates of the group by other writers, which have ended.
async fn past_updates(rolling: &Rolling, count: usize) {
    use opsy::api::{ClientToken, Region};
    use opsy::aws::eks::MaxUnavailable;
    let region = Region::parse("us-east-1").expect("a region");
    for number in 0..count {
        let max = MaxUnavailable { count: Some(if number % 2 == 0 { 2 } else { 1 }), percentage: None };
        let token = ClientToken::of(&["past", &number.to_string()]);
        let update = rolling.context.aws.update_config(&region, "demo", "drifted-0", max, None, &token);
        update.await.expect("an update");
        rolling.step(60);
    }
}
