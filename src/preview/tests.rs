//! Comparisons of two trees, and their reports.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::report::{Action, Counts, Facts, Report, Revision};
use super::*;
use crate::api::Kind;
use crate::api::words::Trigger;
use crate::builder::preview::Intent as Build;
use crate::manifest::{Document, DocumentText, Problem, Severity};
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
    Build::Build { trigger, why: why.to_owned() }
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
    }
}

/// A tree in which nothing happens.
fn calm() -> Side {
    tree(keeps(), &json!({}))
}

fn blank() -> Report {
    let revision =
        |name: &str, digit: &str| Revision { name: name.to_owned(), commit: Some(digit.repeat(40)) };
    Report {
        version: 1,
        target: ".".to_owned(),
        base: revision("main", "a"),
        head: revision("topic", "b"),
        facts: Facts::Live,
        planned_at: Timestamp::UNIX_EPOCH,
        changes: Counts::default(),
        problems: Vec::new(),
        because: Vec::new(),
        anyway: Vec::new(),
        drift: Vec::new(),
        unchanged: Vec::new(),
    }
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

#[test]
fn a_build_by_the_change_is_followed_by_the_rollout_of_its_image() {
    let head = tree(builds(Trigger::Template, "the template changed"), &json!({}));
    let report = plan(&calm(), &head);
    expect(&report, &[("pb/node", Action::Build), ("ar/demo", Action::Rollout)], &[]);
    let rollout = &report.because[1];
    let groups: Vec<_> =
        rollout.groups.iter().map(|group| (group.name.as_str(), group.to.as_str())).collect();
    assert_eq!(groups, [("web", "the new image of pb/node")]);
    assert_eq!(report.changes, Counts { builds: 1, node_groups: 1, pruned: 0 });
}

#[test]
fn what_the_base_would_do_as_well_is_kept_apart() {
    let expired = |spec| tree(builds(Trigger::Expired, "the image expired at 1970-01-01T00:00:00Z"), &spec);
    let both = [("pb/node", Action::Build), ("ar/demo", Action::Rollout)];
    let report = plan(&expired(json!({})), &expired(json!({})));
    expect(&report, &[], &both);
    assert!(report.changes.is_zero());
    // A change of a field without an effect is applied, and the build is still not because of it.
    let report = plan(&expired(json!({})), &expired(json!({ "timeOuts": 1 })));
    expect(&report, &[("pb/node", Action::Apply)], &both);
    assert_eq!(report.because[0].fields, ["spec.timeOuts"]);
    // Another reason is another build.
    let report =
        plan(&expired(json!({})), &tree(builds(Trigger::Template, "the template changed"), &json!({})));
    assert_eq!(actions(&report.because)[0], ("pb/node", Action::Build));
}

#[test]
fn objects_that_stay_are_named_in_one_line() {
    let report = plan(&calm(), &calm());
    expect(&report, &[], &[]);
    assert_eq!(report.unchanged, ["pb/node", "ar/demo"]);
    assert!(!report.has_changes());
    assert!(render::text(&report).contains("No change: pb/node, ar/demo"));
}

#[test]
fn a_deletion_comes_first_and_says_what_stays() {
    let mut head = calm();
    let mut set = ObjectSet::clone(&head.set);
    set.documents.remove(&object(Kind::PackerBuilder, "node"));
    head.set = Arc::new(set);
    head.builders.clear();
    let report = plan(&calm(), &head);
    expect(&report, &[("pb/node", Action::Prune)], &[]);
    assert_eq!(report.because[0].details, ["its images are kept"]);
    assert_eq!(report.changes.pruned, 1);
    let text = render::markdown(&report, None);
    let (alert, table) =
        (text.find("[!WARNING]").expect("a warning"), text.find("| object |").expect("a table"));
    assert!(alert < table, "{text}");
}

#[test]
fn while_a_manifest_is_invalid_its_object_stays_and_nothing_is_pruned() {
    let message = "is not YAML".to_owned();
    let problem = Problem { file: "node.yaml".to_owned(), line: Some(3), message, severity: Severity::Error };
    let set = ObjectSet { problems: vec![problem], ..ObjectSet::default() };
    let report = plan(&calm(), &Side { set: Arc::new(set), ..Side::default() });
    let expected = [("ar/demo", Action::KeptAlthoughRemoved), ("pb/node", Action::NeedsAttention)];
    expect(&report, &expected, &[]);
    assert_eq!(report.because[1].what, "stays as it is");
    assert!(report.has_errors() && !report.problems[0].is_old);
    assert!(render::headline(&report).starts_with("1 error"));
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
    preview.groups = vec![group("web", Some("prod"), GroupState::OnTarget)];
    let mut set = ObjectSet::clone(&head.set);
    set.documents.insert(document(Kind::AMIRefresher, "demo", &json!({ "rollout": {} })));
    head.set = Arc::new(set);
    let report = plan(&calm(), &head);
    expect(&report, &[("ar/demo", Action::Apply)], &[]);
    let details = ["wave prod: web; starts when it is approved", "web: no wave → prod"];
    assert_eq!(report.because[0].details, details);
    assert_eq!(render::headline(&report), "no build, no rollout; 1 object updated");
}

#[test]
fn a_paused_refresher_shows_its_drift() {
    let paused = Intent::Paused { message: "disabled".to_owned() };
    let groups = vec![group("web", None, GroupState::Drifted(Some("ami-2".to_owned())))];
    let mut side = calm();
    side.refreshers = [(key("demo"), refresher("demo", paused, groups))].into();
    let report = plan(&side, &side);
    expect(&report, &[], &[]);
    assert_eq!(actions(&report.drift), [("ar/demo", Action::Drift)]);
}

#[test]
fn text_of_others_has_no_meaning_in_markdown() {
    let hostile =
        "`a` <img src=x> @team #1 [l](https://evil.example) **b** www.evil.example\n> [!NOTE]\n| c ```";
    let report = plan(&calm(), &tree(builds(Trigger::Template, hostile), &json!({})));
    let text = render::markdown(&report, Some("javascript:alert(1)"));
    let outside = outside_fences(&text);
    for forbidden in
        ["<img", "@team", "](https://evil", "https://evil", "www.evil", "**b**", "\n> [!NOTE]", "javascript"]
    {
        assert!(!outside.contains(forbidden), "{forbidden} in {outside}");
    }
    assert_eq!(fences(&text) % 2, 0, "{text}");
}

fn fences(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("```")).count()
}

/// Lines that Markdown interprets.
fn outside_fences(text: &str) -> String {
    let parts = text.split("\n```");
    parts.step_by(2).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_long_report_is_cut_at_whole_parts() {
    let names: Vec<String> = (0..3000).map(|number| format!("builder-{number:04}")).collect();
    let documents = names.iter().map(|name| document(Kind::PackerBuilder, name, &json!({})));
    let set = Arc::new(ObjectSet { documents: documents.collect(), ..ObjectSet::default() });
    let base = Side { set, ..Side::default() };
    let build = |name: &String| (key(name), builder(name, builds(Trigger::Template, &"x".repeat(2000))));
    let head = Side { builders: names.iter().map(build).collect(), ..base.clone() };
    let report = plan(&base, &head);
    assert_eq!(report.changes.builds, 3000);
    let text = render::markdown(&report, Some("https://ci.example.com/run/1"));
    assert!(text.len() <= render::LIMIT, "{}", text.len());
    assert!(text.ends_with("are cut.\n") && text.contains("[full output](https://ci.example.com/run/1)"));
    assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
    assert_eq!(fences(&text) % 2, 0);
}
