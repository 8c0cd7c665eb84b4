//! Tables: what a spec means, and which image is chosen.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::{AMIRefresher, ImageId, Owner};
use crate::aws::eks::MaxUnavailable;
use crate::aws::{Image, ImageState};
use crate::refresher::choose::{TargetChoice, choose, kept};
use crate::refresher::held::FailedImages;
use crate::refresher::images::Eligibility;
use crate::refresher::memory::Memory;
use crate::refresher::observed::SourceImages;
use crate::refresher::report;
use crate::refresher::spec::{self, Paused, Source, Spec};
use crate::refresher::target::Target;

pub fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().expect("a time")
}

pub fn owner() -> Owner {
    Owner::parse("team").expect("an owner")
}

pub fn object(spec: Value) -> AMIRefresher {
    let mut whole = json!({ "region": "us-east-1", "clusterName": "demo" });
    let fields = spec.as_object().expect("fields").clone();
    whole.as_object_mut().expect("fields").extend(fields);
    let mut object = AMIRefresher::new("nodes", serde_json::from_value(whole).expect("it decodes"));
    object.metadata.namespace = Some("default".to_owned());
    object
}

pub fn parsed(fields: Value) -> Spec {
    spec::parse(&object(fields)).expect("valid")
}

pub fn id(number: u32) -> ImageId {
    ImageId::parse(format!("ami-{number:08x}")).expect("hex")
}

/// An image of this agent, created this many days ago, with further tags. An empty value removes a tag.
pub fn image(number: u32, days: i64, tags: &[(&str, &str)]) -> Image {
    let mut all: BTreeMap<String, String> = [
        ("brought-to-you-by", "opsy-the-ami-operator"),
        ("cluster-name", "demo"),
        ("status", "active"),
        ("opsy.dev/owner", "team"),
        ("opsy.dev/builder", "default/base"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    all.extend(tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    all.retain(|_, value| !value.is_empty());
    Image {
        id: id(number),
        name: format!("node-{number}"),
        owner_id: "111111111111".to_owned(),
        architecture: "x86_64".to_owned(),
        state: ImageState::Available,
        state_reason: None,
        created: Some(now() - jiff::SignedDuration::from_hours(24 * days)),
        deprecated: None,
        tags: all,
        snapshots: Vec::new(),
        source: None,
        machine: crate::aws::Machine::default(),
    }
}

pub fn arm(mut image: Image) -> Image {
    image.architecture = "arm64".to_owned();
    image
}

fn chosen(fields: Value, found: &SourceImages) -> TargetChoice {
    choose(&parsed(fields), &Memory::default(), found, &owner(), now())
}

pub fn target(numbers: &[u32]) -> Target {
    Target::of(numbers.iter().map(|number| id(*number))).expect("an image")
}

fn nothing(choice: TargetChoice) -> String {
    match choice {
        TargetChoice::NoneEligible { why, .. } => why,
        TargetChoice::Chosen(target) => panic!("{target} is chosen"),
    }
}

#[test]
fn every_problem_of_a_spec_is_named_with_its_field() {
    let bad = object(json!({
        "region": "Frankfurt", "clusterName": " ", "ami": "node-image",
        "exclude": ["ok", "[broken"], "expiresIn": "soon", "controllerTimer": "5m",
        "timeOuts": { "controllerTimer": "6m" },
        "refreshConfig": { "maxUnavailable": -1, "maxUnavailablePercentage": 120 },
    }));
    let problems = spec::parse(&bad).expect_err("not valid");
    let fields: BTreeSet<&str> = problems.iter().map(|(path, _)| path.as_str()).collect();
    let expected = [
        "spec.region",
        "spec.clusterName",
        "spec.ami",
        "spec.exclude[1]",
        "spec.expiresIn",
        "spec.controllerTimer",
        "spec.refreshConfig.maxUnavailable",
        "spec.refreshConfig.maxUnavailablePercentage",
    ];
    assert_eq!(fields, expected.into(), "{problems:#?}");
    let pass = report::invalid(&bad, &problems, now());
    assert!(pass.status.conditions.iter().flatten().any(|c| c.r#type == "Stalled" && c.status == "True"));
}

#[test]
fn filters_and_a_builder_must_be_complete() {
    for (fields, path) in [
        (json!({ "amiFilters": [{ "values": ["x"] }] }), "spec.amiFilters[0].name"),
        (json!({ "amiFilters": [{ "name": "name" }] }), "spec.amiFilters[0].values"),
        (json!({ "amiFrom": {} }), "spec.amiFrom.packerBuilder"),
    ] {
        let problems = spec::parse(&object(fields)).expect_err("not valid");
        assert_eq!(problems.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), [path]);
    }
}

#[test]
fn unset_fields_have_defaults() {
    let plain = parsed(json!({}));
    assert_eq!(plain.source, Source::Cluster);
    assert_eq!((plain.timer.as_secs(), plain.expires_in), (600, None));
    assert_eq!(
        (plain.update.force, plain.update.max_unavailable, plain.policy.max_parallel()),
        (false, None, 1)
    );
    assert_eq!(plain.paused, None);
    assert!(!plain.scope.excludes("any"));
}

#[test]
fn the_operators_spellings_mean_the_same() {
    let direct = parsed(json!({ "expiresIn": "30d", "controllerTimer": "5m" }));
    let nested = parsed(json!({ "timeOuts": { "expiresIn": "30d", "controllerTimer": "5m" } }));
    assert_eq!((direct.expires_in, direct.timer), (nested.expires_in, nested.timer));
    assert_eq!(direct.expires_in.map(|limit| limit.as_secs()), Some(30 * 86_400));
    let unset = parsed(json!({
        "ami": "", "timeOuts": { "expiresIn": "", "controllerTimer": "" },
        "refreshConfig": { "maxUnavailable": 0, "maxUnavailablePercentage": 40 },
    }));
    assert_eq!((unset.source, unset.expires_in, unset.timer.as_secs()), (Source::Cluster, None, 600));
    assert_eq!(unset.update.max_unavailable, Some(MaxUnavailable { count: None, percentage: Some(40) }));
    let all = parsed(json!({ "refreshConfig": { "waitForCompletion": false } }));
    assert_eq!(all.policy.max_parallel(), usize::MAX);
}

#[test]
fn globs_include_and_exclude() {
    let scope =
        parsed(json!({ "nodeGroups": { "include": ["web-*", "db"] }, "exclude": ["*-canary"] })).scope;
    for (name, excluded) in
        [("web-1", false), ("db", false), ("db-2", true), ("web-canary", true), ("cron", true)]
    {
        assert_eq!(scope.excludes(name), excluded, "{name}");
    }
}

#[test]
fn paused_by_spec_or_by_annotation() {
    assert_eq!(parsed(json!({ "refreshConfig": { "enable": false } })).paused, Some(Paused::Disabled));
    assert_eq!(parsed(json!({ "suspend": true })).paused, Some(Paused::Suspended));
    let mut annotated = object(json!({}));
    annotated.metadata.annotations = Some([("ami.opsy.dev/suspend".to_owned(), "true".to_owned())].into());
    assert_eq!(spec::parse(&annotated).expect("valid").paused, Some(Paused::Suspended));
}

#[test]
fn a_lookup_always_has_owners() {
    let owners = |filters: Value| match parsed(json!({ "amiFilters": filters })).source {
        Source::Filters(query) => (query.owners, query.filters.len()),
        other => panic!("{other:?}"),
    };
    let name = json!({ "name": "name", "values": ["node-*"] });
    assert_eq!(owners(json!([name])), (vec!["amazon".to_owned(), "self".to_owned()], 1));
    let account = json!({ "name": "owner-id", "values": ["602401143452"] });
    assert_eq!(owners(json!([name, account])), (vec!["602401143452".to_owned()], 1));
}

#[test]
fn an_image_must_be_eligible() {
    let month = parsed(json!({ "expiresIn": "30d" }));
    let with = |change: fn(&mut Image)| {
        let mut changed = image(1, 1, &[]);
        change(&mut changed);
        changed
    };
    for (image, why) in [
        (image(1, 1, &[]), ""),
        (image(1, 29, &[]), ""),
        (image(1, 31, &[]), "ami-00000001 is older than expiresIn"),
        (
            image(1, 1, &[("create-timestamp", "2026-04-01T00:00:00Z")]),
            "ami-00000001 is older than expiresIn",
        ),
        (image(1, 1, &[("status", "deprecated")]), "ami-00000001 has tag status=deprecated, not active"),
        (image(1, 1, &[("status", "")]), "ami-00000001 has tag status=(none), not active"),
        (image(1, 1, &[("status", ""), ("brought-to-you-by", "")]), ""),
        (with(|image| image.state = ImageState::Pending), "ami-00000001 is pending"),
        (
            with(|image| {
                (image.state, image.state_reason) = (ImageState::Failed, Some("no space".to_owned()))
            }),
            "ami-00000001 is failed (no space)",
        ),
        (with(|image| image.deprecated = Some(now())), "ami-00000001 is deprecated"),
        (with(|image| image.deprecated = Some(Timestamp::MAX)), ""),
        (with(|image| image.created = None), "the age of ami-00000001 is unknown"),
    ] {
        let rules = Eligibility { spec: &month, failed: &FailedImages::default(), holds: true, now: now() };
        assert_eq!(rules.check(&image).err().unwrap_or_default(), why, "{image:?}");
    }
}

#[test]
fn the_newest_eligible_image_of_each_architecture_is_chosen() {
    let filters = || json!({ "amiFilters": [{ "name": "name", "values": ["node-*"] }] });
    let found = SourceImages::Filtered(vec![
        image(1, 9, &[]),
        image(2, 3, &[]),
        image(3, 1, &[("status", "superseded")]),
    ]);
    assert_eq!(chosen(filters(), &found), TargetChoice::Chosen(target(&[2])));
    let both = SourceImages::Filtered(vec![image(1, 9, &[]), arm(image(2, 3, &[])), arm(image(4, 5, &[]))]);
    assert_eq!(chosen(filters(), &both), TargetChoice::Chosen(target(&[1, 2])));
    let none = nothing(chosen(filters(), &SourceImages::Filtered(Vec::new())));
    assert_eq!(
        none,
        "amiFilters match no image owned by amazon or self (to search other owners, add an owner-id filter)"
    );
    let unfit =
        SourceImages::Filtered((1..6).map(|number| image(number, 1, &[("status", "failed")])).collect());
    assert!(nothing(chosen(filters(), &unfit)).ends_with("; and 2 more"));
}

#[test]
fn an_image_named_by_ami_needs_no_check() {
    let filters = json!([{ "name": "name", "values": ["x"] }]);
    let named = json!({ "ami": "ami-00000007", "amiFilters": filters, "expiresIn": "1d" });
    assert_eq!(chosen(named, &SourceImages::Named), TargetChoice::Chosen(target(&[7])));
}

#[test]
fn a_builder_names_its_image_and_a_missing_builder_keeps_the_last_target() {
    let from = || json!({ "amiFrom": { "packerBuilder": "base" } });
    let built =
        SourceImages::Built(vec![(id(1), Some(image(1, 1, &[]))), (id(2), Some(arm(image(2, 1, &[]))))]);
    assert_eq!(chosen(from(), &built), TargetChoice::Chosen(target(&[1, 2])));
    assert_eq!(
        nothing(chosen(from(), &SourceImages::Built(Vec::new()))),
        "PackerBuilder default/base has no image in us-east-1 yet"
    );
    assert_eq!(
        nothing(chosen(from(), &SourceImages::Built(vec![(id(1), None)]))),
        "ami-00000001 no longer exists or is no longer shared with this account"
    );
    let others: [&[(&str, &str)]; 3] = [
        &[("brought-to-you-by", ""), ("opsy.dev/builder", ""), ("status", "")],
        &[("opsy.dev/builder", "default/other")],
        &[("brought-to-you-by", "")],
    ];
    for tags in others {
        let named = SourceImages::Built(vec![(id(1), Some(image(1, 1, tags)))]);
        let why = nothing(chosen(from(), &named));
        assert_eq!(why, "ami-00000001 does not have the tags of PackerBuilder default/base", "{tags:?}");
    }
    let operators = image(1, 1, &[("opsy.dev/builder", ""), ("opsy.dev/owner", ""), ("created-by", "base")]);
    assert_eq!(
        chosen(from(), &SourceImages::Built(vec![(id(1), Some(operators))])),
        TargetChoice::Chosen(target(&[1]))
    );
    assert_eq!(
        nothing(chosen(from(), &SourceImages::NoBuilder)),
        "PackerBuilder default/base does not exist"
    );
    let memory = Memory { target: Some(target(&[5])), ..Memory::default() };
    let kept = choose(&parsed(from()), &memory, &SourceImages::NoBuilder, &owner(), now());
    assert_eq!(kept, TargetChoice::Chosen(target(&[5])));
}

#[test]
fn without_a_source_the_clusters_newest_active_image_counts() {
    let tagged = |images: Vec<Image>, recorded: &[u32]| SourceImages::Tagged {
        images,
        recorded: recorded.iter().map(|number| id(*number)).collect(),
    };
    let images = vec![
        image(1, 9, &[]),
        image(2, 5, &[("opsy.dev/owner", ""), ("opsy.dev/builder", "default/base")]),
        image(3, 1, &[("cluster-name", "other")]),
        image(4, 1, &[("opsy.dev/owner", "rival")]),
        image(5, 1, &[("brought-to-you-by", "")]),
    ];
    assert_eq!(chosen(json!({}), &tagged(images, &[1, 2, 3, 4, 5])), TargetChoice::Chosen(target(&[2])));
    let rival = tagged(vec![image(4, 1, &[("opsy.dev/owner", "rival")])], &[4]);
    assert_eq!(
        nothing(chosen(json!({}), &rival)),
        "ami-00000004 belongs to another owner: only an agent with --agent-id rival rolls it out"
    );
    let several = vec![image(1, 1, &[]), image(2, 2, &[("opsy.dev/builder", "default/gpu")])];
    let why = nothing(chosen(json!({}), &tagged(several, &[1, 2])));
    assert!(why.ends_with("default/base, default/gpu; choose one with amiFrom"), "{why}");
    // Images of the operator name their builder without its namespace.
    let operators = &[("opsy.dev/owner", ""), ("opsy.dev/builder", ""), ("created-by", "base")];
    assert_eq!(
        chosen(json!({}), &tagged(vec![image(6, 1, operators)], &[6])),
        TargetChoice::Chosen(target(&[6]))
    );
}

#[test]
fn tags_that_no_builder_of_the_namespace_vouches_for_choose_nothing() {
    let tagged = |recorded: &[u32]| SourceImages::Tagged {
        images: vec![image(1, 9, &[]), image(2, 1, &[]), image(3, 1, &[("opsy.dev/builder", "tenant/base")])],
        recorded: recorded.iter().map(|number| id(*number)).collect(),
    };
    assert_eq!(
        chosen(json!({}), &tagged(&[1, 3])),
        TargetChoice::Chosen(target(&[1])),
        "the newer image was tagged by a stranger"
    );
    let why = nothing(chosen(json!({}), &tagged(&[3])));
    assert!(
        why.starts_with("ami-00000001 is tagged for cluster demo as PackerBuilder default/base, but no"),
        "{why}"
    );
    let expired = json!({ "expiresIn": "7d" });
    assert!(nothing(chosen(expired, &tagged(&[1, 3]))).contains("older than expiresIn"));
    let memory = Memory { target: Some(target(&[1])), ..Memory::default() };
    let kept = choose(&parsed(json!({})), &memory, &tagged(&[]), &owner(), now());
    assert_eq!(kept, TargetChoice::Chosen(target(&[1])), "its builder no longer exists, but nodes run it");
}

#[test]
fn groups_stay_on_a_held_image_instead_of_an_older_one() {
    let found = SourceImages::Filtered(vec![image(1, 9, &[]), image(2, 3, &[])]);
    let mut fields = json!({ "amiFilters": [{ "name": "name", "values": ["node-*"] }] });
    fields["held"] = json!([{ "ami": id(2).to_string(), "reason": "slow" }]);
    assert_eq!(chosen(fields.clone(), &found), TargetChoice::Chosen(target(&[1])));
    let (spec, memory) = (parsed(fields), Memory::default());
    assert_eq!(kept(&spec, &memory, &found, &owner(), now()), [id(2)]);
    let newer = SourceImages::Filtered(vec![image(2, 3, &[]), image(3, 1, &[])]);
    assert_eq!(kept(&spec, &memory, &newer, &owner(), now()), [], "a newer image replaces it");
}
