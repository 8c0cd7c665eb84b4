//! Tables: which groups can be moved, what prevents a rollout, what is remembered.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;

use super::tables::{arm, id, image, now, object, owner, parsed, target};
use crate::api::words::NodeGroupKind;
use crate::api::{AMIRefresherStatus, Class, Key, Owner, Seen, TemplateId};
use crate::aws::{Image, LaunchTemplateVersion, ManagedNodegroup, TemplateVersion};
use crate::refresher::memory::{GroupEntry, GroupUpdate, Memory, Origin, Rollout, Starting, write_rollout};
use crate::refresher::node_checks::NodeChecks;
use crate::refresher::node_group::NodeGroup;
use crate::refresher::observed::{Account, FreshGroups, MissingFact, Need, Observed, SourceImages};
use crate::refresher::plan::{PlanInput, plan};
use crate::refresher::refusal::{Refusal, RefusalKind};
use crate::refresher::report;
use crate::refresher::spec::{self, Spec};
use crate::refresher::step::Plan;
use crate::refresher::survey::{GroupDrift, survey};

/// A node group with `CUSTOM` on version 3 of its template.
pub fn nodegroup(change: fn(&mut ManagedNodegroup)) -> NodeGroup {
    let mut seen = ManagedNodegroup {
        name: "web".to_owned(),
        status: "ACTIVE".to_owned(),
        ami_type: "CUSTOM".to_owned(),
        release_version: Some(id(1).to_string()),
        launch_template: Some(TemplateVersion { template: template(), version: "3".to_owned() }),
        max_unavailable: Some(1),
        ..ManagedNodegroup::default()
    };
    change(&mut seen);
    NodeGroup::managed(&seen, true)
}

pub fn template() -> TemplateId {
    TemplateId::parse("lt-00000001").expect("an id")
}

/// Everything that can be read if these images exist and the template has only this version, which names `in_force`.
pub fn seen(images: &[Image], number: i64, in_force: Option<&str>) -> Observed {
    let version = LaunchTemplateVersion {
        number,
        image: in_force.map(str::to_owned),
        ..LaunchTemplateVersion::default()
    };
    let mut seen = unseen();
    seen.images = (1..5).map(|number| (id(number), Seen::Is(None))).collect();
    seen.images.extend(images.iter().map(|image| (image.id.clone(), Seen::Is(Some(image.clone())))));
    seen.templates.insert(template(), Seen::Is(vec![version].into()));
    seen
}

pub fn unseen() -> Observed {
    let unknown = || Seen::Unknown(Class::TRANSIENT, "not read".to_owned());
    Observed {
        fresh_groups: FreshGroups::All,
        fresh_templates: [template()].into(),
        fresh_source_images: true,
        ..Observed::first(Seen::Is(Account::Allowed), unknown(), Seen::Is(SourceImages::Named))
    }
}

fn input<'a>(spec: &'a Spec, owner: &'a Owner, memory: &'a Memory, observed: &'a Observed) -> PlanInput<'a> {
    PlanInput { spec, owner, memory, observed, now: now(), retry_requested: false, retried: None }
}

#[test]
fn groups_are_compared_with_the_target_without_further_reads() {
    let spec = parsed(json!({ "exclude": ["web"] }));
    let excluded = [nodegroup(|_| {})];
    assert_eq!(survey(&spec, Some(&target(&[2])), None, &excluded).groups[0].1, GroupDrift::Excluded);
    let unsupported = |why: &str| GroupDrift::Unsupported(why.to_owned());
    let spec = parsed(json!({}));
    for (group, verdict) in [
        (nodegroup(|_| {}), GroupDrift::Drifted(None)),
        (nodegroup(|seen| seen.release_version = Some("ami-00000002".to_owned())), GroupDrift::Current),
        (nodegroup(|seen| seen.release_version = None), GroupDrift::Drifted(None)),
        (
            nodegroup(|seen| seen.launch_template = None),
            unsupported("has no launch template of its own: recreate the group with one"),
        ),
        (
            nodegroup(|seen| {
                seen.ami_type = "AL2023_x86_64_STANDARD".to_owned();
                seen.release_version = Some("1.31.2-20260601".to_owned());
            }),
            unsupported(
                "uses an image type of AWS (AL2023_x86_64_STANDARD): recreate the group with a launch template that \
                 names an image",
            ),
        ),
        (
            nodegroup(|seen| seen.status = "DELETING".to_owned()),
            GroupDrift::Unusable("is being deleted".to_owned()),
        ),
        (
            nodegroup(|seen| {
                seen.status = "CREATE_FAILED".to_owned();
                seen.health = vec!["NodeCreationFailure: no nodes".to_owned()];
            }),
            GroupDrift::Unusable("CREATE_FAILED: NodeCreationFailure: no nodes".to_owned()),
        ),
        (nodegroup(|seen| seen.status = "CREATING".to_owned()), GroupDrift::Drifted(None)),
    ] {
        let groups = [group];
        assert_eq!(survey(&spec, Some(&target(&[2])), None, &groups).groups[0].1, verdict, "{:?}", groups[0]);
    }
}

#[test]
fn a_group_is_moved_only_where_the_facts_allow() {
    let spec = parsed(json!({}));
    let groups = [nodegroup(|_| {})];
    let verdict = |wanted: &[u32], seen: &Observed| {
        let target = target(wanted);
        let survey = survey(&spec, Some(&target), None, &groups)
            .with_images(&spec, &target, seen)
            .expect("all is known");
        survey.groups[0].1.clone()
    };
    let unfit = |why: &str| GroupDrift::Unsupported(why.to_owned());
    let (one, two, three) = (image(1, 9, &[]), image(2, 1, &[]), arm(image(3, 1, &[])));
    let own = Some("ami-00000001");
    let all = [one, two.clone(), three.clone()];
    assert_eq!(verdict(&[2], &seen(&all, 3, own)), GroupDrift::Drifted(Some(id(2))));
    assert_eq!(verdict(&[2, 3], &seen(&all, 3, own)), GroupDrift::Drifted(Some(id(2))));
    assert_eq!(verdict(&[3], &seen(&all, 3, own)), unfit("runs x86_64, but the target has no image for it"));
    let gone = [two, three];
    let undetermined = unfit(
        "its image no longer exists and its instance types do not determine its architecture: exclude the group, or \
         list it by name in nodeGroups.include if the image fits",
    );
    assert_eq!(verdict(&[2], &seen(&gone, 3, own)), undetermined, "a single image is no reason to guess");
    assert_eq!(verdict(&[2, 3], &seen(&gone, 3, own)), undetermined);
    assert_eq!(verdict(&[4], &seen(&all, 3, own)), GroupDrift::Drifted(None), "the target does not exist");
    assert_eq!(
        verdict(&[2], &seen(&all, 2, own)),
        unfit("version 3 of its launch template lt-00000001 no longer exists")
    );
    assert_eq!(verdict(&[2], &seen(&all, 3, None)), unfit("its launch template names no image"));
    let parameter = Some("resolve:ssm:/nodes/image");
    let why = "its launch template takes the image from resolve:ssm:/nodes/image, which managed node groups do not \
               support";
    assert_eq!(verdict(&[2], &seen(&all, 3, parameter)), unfit(why));
    let mut no_template = seen(&all, 3, own);
    no_template.templates.insert(template(), Seen::Unknown(Class::NotFound, "no such template".to_owned()));
    assert_eq!(verdict(&[2], &no_template), unfit("its launch template lt-00000001 no longer exists"));
}

#[test]
fn missing_facts_are_requested_and_unreadable_ones_stop_the_plan() {
    let spec = parsed(json!({ "ami": "ami-00000002" }));
    let groups = [nodegroup(|_| {})];
    let target = target(&[2]);
    let missing =
        |seen: &Observed| survey(&spec, Some(&target), None, &groups).with_images(&spec, &target, seen).err();
    let mut seen = unseen();
    assert_eq!(missing(&seen), Some(MissingFact::NotRead(Need::Images([id(1), id(2)].into()))));
    seen.images =
        [image(1, 9, &[]), image(2, 1, &[])].map(|image| (image.id.clone(), Seen::Is(Some(image)))).into();
    assert_eq!(missing(&seen), Some(MissingFact::NotRead(Need::Template(template()))));
    seen.templates.insert(template(), Seen::Unknown(Class::Denied, "ec2:Describe…".to_owned()));
    assert_eq!(missing(&seen), Some(MissingFact::Unreadable(Class::Denied, "ec2:Describe…".to_owned())));
}

#[test]
fn what_prevents_a_rollout_is_the_reason() {
    let object = object(json!({ "ami": "ami-00000002" }));
    let spec = spec::parse(&object).expect("valid");
    let reason = |seen: &Observed| {
        let (owner, memory) = (owner(), Memory::default());
        let input = input(&spec, &owner, &memory, seen);
        let pass = report::planned(&object, input, plan(input));
        let conditions = pass.status.conditions.unwrap_or_default();
        conditions.into_iter().find_map(|c| c.reason.filter(|_| c.r#type == "Ready")).expect("a reason")
    };
    let groups = |class| Observed { groups: Seen::Unknown(class, "why".to_owned()), ..unseen() };
    assert_eq!(reason(&groups(Class::NotFound)), "ClusterNotFound");
    assert_eq!(reason(&groups(Class::Denied)), "AwsDenied");
    assert_eq!(reason(&groups(Class::TRANSIENT)), "AwsUnavailable");
    assert_eq!(reason(&Observed { groups: Seen::Is(Vec::new()), ..unseen() }), "NoNodeGroups");
    let plain = nodegroup(|seen| seen.launch_template = None);
    assert_eq!(reason(&Observed { groups: Seen::Is(vec![plain]), ..unseen() }), "NoNodeGroups");
    let other = Account::Other { account: "1".to_owned(), allowed: vec!["2".to_owned()] };
    assert_eq!(reason(&Observed { account: Seen::Is(other), ..unseen() }), "AccountNotAllowed");
    assert_eq!(
        reason(&Observed { account: Seen::Is(Account::NotSynced), ..unseen() }),
        "WaitingForRepository"
    );
    let gone =
        Observed { groups: Seen::Is(vec![nodegroup(|_| {})]), ..seen(&[image(1, 9, &[])], 3, Some("ami-1")) };
    assert_eq!(reason(&gone), "NoEligibleImage");
}

#[test]
fn an_unsupported_group_does_not_affect_the_others_and_is_reported_once() {
    let object = object(json!({ "ami": "ami-00000001" }));
    let plain = nodegroup(|seen| {
        seen.name = "legacy".to_owned();
        seen.launch_template = None;
    });
    let seen = Observed { groups: Seen::Is(vec![plain, nodegroup(|_| {})]), ..unseen() };
    let spec = spec::parse(&object).expect("valid");
    let (owner, memory) = (owner(), Memory::default());
    let input = input(&spec, &owner, &memory, &seen);
    let decided = plan(input);
    assert!(matches!(decided, Plan::Done { .. }), "{decided:?}");
    let first = report::planned(&object, input, decided.clone());
    assert_eq!(first.notes.len(), 1);
    assert!(first.notes[0].warning && first.notes[0].message.starts_with("legacy has no launch template"));
    let mut later = object.clone();
    later.status = Some(first.status.clone());
    let again = report::planned(&later, input, decided);
    assert_eq!((again.notes.len(), again.status), (0, first.status));
}

fn time() -> impl Strategy<Value = Timestamp> {
    (0..2_000_000_000_i64).prop_map(|second| Timestamp::from_second(second).expect("in range"))
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let kind =
        prop_oneof![Just(RefusalKind::Denied), Just(RefusalKind::NotNow), Just(RefusalKind::Uncertain)];
    (kind, "[ -~]{1,40}", time(), time()).prop_map(|(kind, message, since, last)| Refusal {
        kind,
        message,
        since,
        last,
    })
}

fn nodes() -> impl Strategy<Value = NodeChecks> {
    let counts = (prop::option::of(0..9_u32), prop::option::of(0..9_u32));
    let times = || prop::option::of(time());
    let found = (prop::collection::vec("[ -~]{1,40}", 0..3), prop::option::of("[ -~]{1,40}"));
    (counts, found, times(), times(), times(), times()).prop_map(
        |((total, left), (preflight, blocked_by), preflight_at, left_since, counted_at, updated_at)| {
            NodeChecks {
                total,
                preflight,
                preflight_at,
                left,
                left_since,
                counted_at,
                blocked_by,
                updated_at,
            }
        },
    )
}

fn entry() -> impl Strategy<Value = GroupEntry> {
    let facts =
        (0..9_u32, 1..99_i64, 0..5_u32, prop::option::of(1..99_i64), prop::option::of("[a-z0-9-]{1,8}"));
    let course = (
        prop::option::of("[ -~]{1,40}"),
        prop::collection::vec(time(), 0..3),
        time(),
        prop::option::of(time()),
    );
    let events = (
        prop::option::of((1..99_i64, time()).prop_map(|(version, at)| Starting { version, at })),
        prop::option::of(refusal()),
        prop::option::of(time()),
        prop::collection::vec(time(), 0..3),
        prop::option::of("[ -~]{1,40}"),
    );
    (facts, course, events, nodes()).prop_map(
        |(
            (image, version, attempt, new_version, update),
            (failure, moved_at, started, finished),
            (starting, refusal, overdue, undone_at, undone_by),
            nodes,
        )| GroupEntry {
            kind: if image % 3 == 0 { NodeGroupKind::SelfManaged } else { NodeGroupKind::Managed },
            image: id(image),
            wave: (image % 2 == 1).then(|| "canary".to_owned()),
            previous: TemplateVersion { template: template(), version: version.to_string() },
            previous_image: (image % 2 == 0).then(|| id(image + 1)),
            origin: (version % 3 == 0).then(|| Origin {
                version: (version + 1).to_string(),
                image: (image % 4 == 0).then(|| id(image + 2)),
            }),
            attempt,
            new_version,
            update: GroupUpdate { id: update, starting, overdue },
            failure,
            refusal,
            nodes,
            moved_at,
            undone_at,
            undone_by,
            started,
            finished,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        groups in prop::collection::btree_map("[a-z]{1,6}", entry(), 0..4),
        images in prop::collection::vec(0..9_u32, 1..3),
        started in time(),
        finished in prop::option::of(time()),
    ) {
        let key = Key { namespace: "default".to_owned(), name: "nodes".to_owned() };
        let begun = Rollout::begin(&key, target(&images), "config".to_owned(), None, started);
        let rollout = Rollout { groups, finished, ..begun };
        let status = AMIRefresherStatus { rollout: Some(write_rollout(&rollout)), ..AMIRefresherStatus::default() };
        let text = serde_json::to_string(&status).expect("JSON");
        let read = Memory::read(Some(&serde_json::from_str(&text).expect("a status")));
        prop_assert_eq!(read.rollout, Some(rollout));
    }
}
