//! Comparisons of two trees, and their reports.

mod markdown;
mod removals;

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::report::{Action, Counts, Facts, Report, Revision};
use super::*;
use crate::api::builder::InputsRecord;
use crate::api::words::Trigger;
use crate::api::{Assumption, Kind};
use crate::builder::preview::Intent as Build;
use crate::manifest::{Document, DocumentText, Documents, Problem, Severity};
use crate::refresher::preview::{Group, GroupState, ImageSource, Intent, Wave};

fn key(name: &str) -> Key {
    Key { namespace: "default".to_owned(), name: name.to_owned() }
}

fn object(kind: Kind, name: &str) -> ObjectKey {
    ObjectKey { kind, key: key(name) }
}

fn document(kind: Kind, name: &str, spec: &Value) -> Document {
    let json = DocumentText::from(&json!({ "spec": spec }));
    Document { object: object(kind, name), json, file: format!("{name}.yaml"), line: 1 }
}

fn builder(name: &str, intent: Build) -> builder::Preview {
    builder::Preview {
        key: key(name),
        intent,
        cluster: Some("demo".to_owned()),
        region: Some("us-east-1".to_owned()),
        lanes: vec!["x86_64 in us-east-1".to_owned()],
        images: vec!["ami-1".to_owned()],
        usual: Some(Duration::from_secs(720)),
        owner: None,
        assumed: Vec::new(),
    }
}

fn builds(trigger: Trigger, why: &str) -> Build {
    Build::Build { trigger, why: why.to_owned(), inputs: inputs("v1-new") }
}

/// What a build with this template is made from.
fn inputs(template: &str) -> InputsRecord {
    let (template, spec) = (Some(template.to_owned()), Some("v1-spec".to_owned()));
    InputsRecord { base_ami: Some("ami-9".to_owned()), template, spec }
}

/// A build because of the template.
fn new_template() -> Build {
    builds(Trigger::Template, "the template changed")
}

fn keeps() -> Build {
    Build::Keep { message: "active".to_owned() }
}

fn group(name: &str, wave: Option<&str>, state: GroupState) -> Group {
    Group {
        name: name.to_owned(),
        wave: wave.map(str::to_owned),
        nodes: Some(3),
        current: Some("ami-1".to_owned()),
        state,
    }
}

fn refresher(name: &str, intent: Intent, groups: Vec<Group>) -> refresher::Preview {
    refresher::Preview {
        key: key(name),
        intent,
        target: Some("ami-1".to_owned()),
        source: ImageSource::Builder(key("node")),
        groups,
        waves: Vec::new(),
        closed: None,
        rolls_back: false,
        followed_by: None,
        failed: refresher::FailedImages::default(),
        assumed: Vec::new(),
    }
}

fn up_to_date() -> Intent {
    Intent::Keep { message: "all node groups run ami-1".to_owned() }
}

/// A tree with the builder `node` and the refresher `demo`, which rolls its images out.
fn tree(build: Build, spec: &Value) -> Side {
    let groups = vec![group("web", None, GroupState::OnTarget), group("gpu", None, GroupState::Excluded)];
    let documents = [
        document(Kind::PackerBuilder, "node", spec),
        document(Kind::AMIRefresher, "demo", &json!({ "clusterName": "demo" })),
    ];
    Side {
        set: Arc::new(ObjectSet { documents: documents.into_iter().collect(), ..ObjectSet::default() }),
        builders: [(key("node"), builder("node", build))].into(),
        refreshers: [(key("demo"), refresher("demo", up_to_date(), groups))].into(),
        undeclared: BTreeSet::new(),
    }
}

/// A tree in which nothing happens.
fn calm() -> Side {
    tree(keeps(), &json!({}))
}

fn blank() -> Report {
    let revision =
        |name: &str, digit: &str| Revision { name: name.to_owned(), commit: Some(digit.repeat(40)) };
    let revisions = (revision("main", "a"), revision("topic", "b"));
    Report::new(".".to_owned(), revisions, Facts::Live, Timestamp::UNIX_EPOCH)
}

fn plan(base: &Side, head: &Side) -> Report {
    compare(base, head, blank())
}

fn actions(items: &[report::Item]) -> Vec<(&str, Action)> {
    items.iter().map(|item| (item.object.as_str(), item.action)).collect()
}

#[track_caller]
fn expect(report: &Report, because: &[(&str, Action)], anyway: &[(&str, Action)]) {
    assert_eq!((actions(&report.because).as_slice(), actions(&report.anyway).as_slice()), (because, anyway));
}

/// A tree that is the other one without a document.
fn without(side: &Side, kind: Kind, name: &str) -> Side {
    let mut set = ObjectSet::clone(&side.set);
    set.documents.remove(&object(kind, name));
    let mut left = Side { set: Arc::new(set), ..side.clone() };
    match kind {
        Kind::PackerBuilder => drop(left.builders.remove(&key(name))),
        Kind::AMIRefresher => drop(left.refreshers.remove(&key(name))),
    }
    left
}

/// The refresher of the tree decides this.
fn decides(mut side: Side, intent: Intent) -> Side {
    side.refreshers.get_mut(&key("demo")).expect("a refresher").intent = intent;
    side
}

fn denied() -> String {
    "ec2:DescribeImages: UnauthorizedOperation".to_owned()
}

fn problem(file: &str, message: &str) -> Problem {
    Problem { file: file.to_owned(), line: Some(3), message: message.to_owned(), severity: Severity::Error }
}

#[test]
fn a_build_by_the_change_is_followed_by_the_rollout_of_its_image() {
    let report = plan(&calm(), &tree(new_template(), &json!({})));
    expect(&report, &[("pb/node", Action::Build), ("ar/demo", Action::Rollout)], &[]);
    let rollout = &report.because[1];
    let groups: Vec<_> =
        rollout.groups.iter().map(|group| (group.name.as_str(), group.to.as_str())).collect();
    assert_eq!(groups, [("web", "the new image of pb/node")]);
    assert_eq!(report.changes, Counts { builds: 1, node_groups: 1, pruned: 0 });
    assert!(!report.has_errors());
    assert_eq!(report.because[0].what, "builds an image for x86_64 in us-east-1");
    assert_eq!(rollout.what, "1 node group rolls (3 nodes), after the build");
    assert_eq!(rollout.details, ["excluded: gpu"]);
    let text = render::text(&report);
    let line = "the template changed; replaces ami-1; the last build took 12 min";
    assert!(text.contains(line), "{text}");
    let compared = "topic (bbbbbbbbbbbb) merged into main (aaaaaaaaaaaa); AWS read at 00:00 UTC";
    assert_eq!(text.lines().nth(1), Some(compared));
}

#[test]
fn what_the_base_would_do_as_well_is_kept_apart() {
    let why = || "the image expired at 1970-01-01T00:00:00Z".to_owned();
    let expired = |spec| {
        let build = Build::Build { trigger: Trigger::Expired, why: why(), inputs: inputs("v1-old") };
        tree(build, &spec)
    };
    let both = [("pb/node", Action::Build), ("ar/demo", Action::Rollout)];
    let report = plan(&expired(json!({})), &expired(json!({})));
    expect(&report, &[], &both);
    assert_eq!(report.changes, Counts::default());
    // A change of a field without an effect is applied, and the build is still not because of it.
    let report = plan(&expired(json!({})), &expired(json!({ "timeOuts": 1 })));
    expect(&report, &[("pb/node", Action::Apply)], &both);
    assert_eq!(report.because[0].fields, ["spec.timeOuts"]);
    // Another reason is another build.
    let report = plan(&expired(json!({})), &tree(new_template(), &json!({})));
    assert_eq!(actions(&report.because), both);
}

/// A change is not hidden because the base is due for a build from other inputs, in the same words.
#[test]
fn a_build_from_other_inputs_is_another_build() {
    let pending = |template| Build::Build {
        trigger: Trigger::BaseImage,
        why: "the base image ami-9 is newer than ami-8".to_owned(),
        inputs: inputs(template),
    };
    let report = plan(&tree(pending("v1-old"), &json!({})), &tree(pending("v1-new"), &json!({})));
    expect(&report, &[("pb/node", Action::Build), ("ar/demo", Action::Rollout)], &[]);
    let why =
        "the template changed; due without this change as well: the base image ami-9 is newer than ami-8";
    assert_eq!(report.because[0].why, why);
    let why = "the new image of pb/node; due without this change as well, with other images";
    assert_eq!(report.because[1].why, why);
}

#[test]
fn a_build_that_the_change_prevents_is_said() {
    let report = plan(&tree(new_template(), &json!({})), &calm());
    expect(&report, &[("ar/demo", Action::Apply), ("pb/node", Action::Apply)], &[]);
    let node = &report.because[1];
    assert_eq!(node.what, "no longer builds");
    let why = "without this change: builds an image for x86_64 in us-east-1 (the template changed)";
    assert_eq!((node.why.as_str(), report.because[0].what.as_str()), (why, "no longer rolls out"));

    let suspended = Build::Wait { message: "suspended: nothing new is built".to_owned() };
    let report = plan(&tree(new_template(), &json!({})), &tree(suspended, &json!({ "suspend": true })));
    let node = &report.because[1];
    assert_eq!(node.what, "updated, no longer builds");
    assert!(node.why.starts_with("changed: spec.suspend; suspended: nothing new is built; "), "{}", node.why);
}

#[test]
fn what_could_not_be_read_is_never_reported_as_unchanged() {
    let unknown = || tree(Build::Unknown { message: denied() }, &json!({}));
    let report = plan(&unknown(), &unknown());
    expect(&report, &[], &[]);
    // The refresher follows the builder.
    assert_eq!(actions(&report.unknown), [("ar/demo", Action::Unknown), ("pb/node", Action::Unknown)]);
    assert_eq!(report.unchanged, Vec::<String>::new());
    assert!(report.has_errors());
    assert_eq!(render::headline(&report), "the effect on 2 objects is unknown");
    let markdown = render::markdown(&report, None);
    for text in ["> - **Could not be planned:** ar/demo, pb/node", "UnauthorizedOperation"] {
        assert!(markdown.contains(text), "{markdown}");
    }
    // What is known beside it is said as well.
    let report = plan(&unknown(), &tree(new_template(), &json!({})));
    expect(&report, &[("pb/node", Action::Build), ("ar/demo", Action::Rollout)], &[]);
    assert!(report.because[0].why.ends_with("what would happen without this change is unknown"));
}

#[test]
fn a_refresher_whose_groups_are_not_known_is_unknown_after_a_build() {
    let unread = |build| {
        let mut side = decides(tree(build, &json!({})), Intent::Unknown { message: denied() });
        side.refreshers.get_mut(&key("demo")).expect("a refresher").groups.clear();
        side
    };
    let report = plan(&unread(keeps()), &unread(new_template()));
    expect(&report, &[("pb/node", Action::Build)], &[]);
    assert_eq!(actions(&report.unknown), [("ar/demo", Action::Unknown)]);
    assert_eq!(render::headline(&report), "1 build, the effect on 1 object is unknown");
    // One of several groups.
    let mut head = tree(new_template(), &json!({}));
    let groups = &mut head.refreshers.get_mut(&key("demo")).expect("a refresher").groups;
    groups.push(group("api", None, GroupState::Unreadable(denied())));
    let report = plan(&calm(), &head);
    assert!(report.because[1].why.contains("api could not be read: ec2"), "{:?}", report.because);
}

#[test]
fn a_failed_image_does_not_hide_the_rollout_of_a_repaired_one() {
    let failed = |until_next_image| Intent::Stalled { message: "web failed".to_owned(), until_next_image };
    let base = || decides(calm(), failed(true));
    expect(&plan(&base(), &base()), &[], &[("ar/demo", Action::NeedsAttention)]);
    let head = decides(tree(new_template(), &json!({})), failed(true));
    let report = plan(&base(), &head);
    expect(&report, &[("pb/node", Action::Build), ("ar/demo", Action::Rollout)], &[]);
    // What another image does not solve stays.
    let blocked = decides(tree(new_template(), &json!({})), failed(false));
    let report = plan(&decides(calm(), failed(false)), &blocked);
    expect(&report, &[("pb/node", Action::Build)], &[("ar/demo", Action::NeedsAttention)]);
}

#[test]
fn an_object_that_the_change_breaks_is_an_error() {
    let broken = Build::Stalled { message: "packer/nod does not exist".to_owned() };
    let report = plan(&calm(), &tree(broken, &json!({ "builder": { "dir": "packer/nod" } })));
    expect(&report, &[("pb/node", Action::NeedsAttention)], &[]);
    assert!(report.has_errors());
    assert_eq!(render::headline(&report), "1 object needs attention");
    // It is repaired.
    let broken = || tree(Build::Stalled { message: "no such directory".to_owned() }, &json!({}));
    let report = plan(&broken(), &calm());
    assert_eq!(report.because[0].what, "no longer needs attention");
    assert!(!report.has_errors());
}

#[test]
fn objects_that_stay_are_named_in_one_line() {
    let report = plan(&calm(), &calm());
    expect(&report, &[], &[]);
    assert_eq!(report.unchanged, ["pb/node", "ar/demo"]);
    assert!(!report.has_changes() && !report.has_errors());
    assert!(render::text(&report).contains("No change: pb/node, ar/demo"));
}

#[test]
fn waves_are_shown_with_what_ends_them_and_the_groups_that_change_theirs() {
    let mut head = calm();
    let wave = |name: &str, soak, needs_approval| Wave {
        name: name.to_owned(),
        soak,
        needs_approval,
        max_parallel: None,
    };
    let preview = head.refreshers.get_mut(&key("demo")).expect("a refresher");
    preview.waves = vec![wave("canary", 1800, false), wave("prod", 0, true)];
    preview.groups = vec![
        group("gpu", Some("prod"), GroupState::OnTarget),
        group("web", Some("prod"), GroupState::OnTarget),
    ];
    let mut set = ObjectSet::clone(&head.set);
    set.documents.insert(document(Kind::AMIRefresher, "demo", &json!({ "rollout": {} })));
    head.set = Arc::new(set);
    let report = plan(&calm(), &head);
    expect(&report, &[("ar/demo", Action::Apply)], &[]);
    let details = [
        "wave prod: gpu, web; requires approval",
        "gpu is no longer excluded",
        "web moves from no wave to wave prod",
    ];
    assert_eq!(report.because[0].details, details);
    assert_eq!(render::headline(&report), "no build, no rollout; 1 object updated");
}

#[test]
fn a_closed_window_is_in_the_line_of_the_rollout() {
    let closed = "waits for the window 0 2 * * 6, which opens at 2026-12-05T02:00:00Z";
    let mut head = tree(new_template(), &json!({}));
    head.refreshers.get_mut(&key("demo")).expect("a refresher").closed = Some(closed.to_owned());
    let report = plan(&calm(), &head);
    assert_eq!(report.because[1].why, format!("the new image of pb/node; {closed}"));
}

#[test]
fn a_paused_refresher_shows_its_drift() {
    let paused = || Intent::Paused { message: "it is suspended".to_owned() };
    let groups = || vec![group("web", None, GroupState::Drifted(Some("ami-2".to_owned())))];
    let with = |intent| {
        let mut side = calm();
        side.refreshers = [(key("demo"), refresher("demo", intent, groups()))].into();
        side
    };
    let report = plan(&with(paused()), &with(paused()));
    expect(&report, &[], &[]);
    assert_eq!(actions(&report.drift), [("ar/demo", Action::Drift)]);
    // The change pauses a rollout that is due, or lets it go on.
    let due = || with(Intent::Move { message: "rolling out ami-2 to 1 node group".to_owned() });
    let report = plan(&due(), &with(paused()));
    expect(&report, &[("ar/demo", Action::Apply)], &[]);
    let item = &report.because[0];
    assert_eq!(item.what, "no longer rolls out");
    assert!(item.why.starts_with("no node group is moved: it is suspended; without this change: "));
    expect(&plan(&with(paused()), &due()), &[("ar/demo", Action::Rollout)], &[]);
    // A build does not move its groups either.
    let mut head = tree(new_template(), &json!({}));
    head.refreshers = with(paused()).refreshers;
    expect(&plan(&with(paused()), &head), &[("pb/node", Action::Build)], &[]);
}

#[test]
fn without_aws_a_change_of_what_is_assumed_is_unknown() {
    let assuming = |about: &str| {
        let mut side = calm();
        let assumed = Assumption { what: "the base image", about: about.to_owned() };
        side.builders.get_mut(&key("node")).expect("a builder").assumed = vec![assumed];
        side
    };
    let report = plan(&assuming("a"), &assuming("a"));
    assert_eq!((report.unknown.len(), &report.assumed), (0, &vec!["the base image".to_owned()]));
    let report = plan(&assuming("a"), &assuming("b"));
    assert_eq!(actions(&report.unknown), [("ar/demo", Action::Unknown), ("pb/node", Action::Unknown)]);
    let why = "its manifest changes, and the base image can only be read from AWS";
    assert_eq!(report.unknown[1].why, why);
}
