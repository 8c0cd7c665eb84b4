//! Tests of the builder's pure parts: tables per rule, and a property-based simulation. This file contains what they
//! share.

mod adoption;
mod bases;
mod guards;
mod harvests;
mod lanes;
mod lasted;
mod plans;
mod previews;
mod reports;
mod results;
mod simulation;
mod specs;
mod starts;
mod sweep_reports;
mod sweeps;
mod trust;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use opsy_runner::request::Progress;

use super::base::Base;
use super::fleet::FleetView;
use super::located::Located;
use super::observe::{Observed, Resolved};
use super::plan;
use super::spec::{self, Spec};
use super::step::{Plan, Step};
use super::subject::Subject;
use crate::api::builder::{
    BuilderRun, BuilderTimeOuts, InputsRecord, LaneImage, PackerBuilder, PackerBuilderSpec,
    PackerBuilderStatus, RunRecord,
};
use crate::api::filters::AmiFilter;
use crate::api::tags;
use crate::api::time;
use crate::api::words::RunResult;
use crate::api::{BuildId, Class, CommitId, ImageId, Key, Owner, Region, RunName, Seen};
use crate::aws::{Image, ImageState, Tags};
use crate::engine::{Artifact, ReportDetails, Run, RunFacts, RunState};

const HOUR: Duration = Duration::from_secs(3600);
const TEMPLATE: &str = "v1-aaaa";
const ACCOUNT: &str = "123456789012";

fn start_of_time() -> Timestamp {
    "2026-10-01T00:00:00Z".parse().expect("a date written by hand")
}

fn at_hour(hour: u64) -> Timestamp {
    time::after(start_of_time(), HOUR * u32::try_from(hour).expect("few hours")).expect("within years")
}

fn home() -> Region {
    Region::parse("us-east-1").expect("a region written by hand")
}

fn image_id(number: u32) -> ImageId {
    ImageId::parse(format!("ami-{number:08x}")).expect("eight hex digits")
}

fn key() -> Key {
    Key { namespace: "default".into(), name: "node".into() }
}

fn subject() -> Subject {
    Subject {
        key: key(),
        owner: Owner::parse("agent-1").expect("an owner written by hand"),
        cluster: Some("demo".into()),
        repo: "https://git.example/platform.git".into(),
        branch: "main".into(),
    }
}

/// A typical builder.
fn object() -> PackerBuilder {
    let filter =
        |name: &str, value: &str| AmiFilter { name: Some(name.into()), values: Some(vec![value.into()]) };
    let spec = PackerBuilderSpec {
        region: Some("us-east-1".into()),
        cluster_name: Some("demo".into()),
        ami_filters: Some(vec![filter("name", "amazon-eks-node-*"), filter("owner-id", "602401143452")]),
        time_outs: Some(BuilderTimeOuts { expires_in: Some("30d".into()), ..BuilderTimeOuts::default() }),
        builder: Some(BuilderRun { dir: Some("packer/node".into()), ..BuilderRun::default() }),
        ..PackerBuilderSpec::default()
    };
    let mut object = PackerBuilder::new("node", spec);
    object.metadata.namespace = Some("default".into());
    object
}

fn valid() -> Spec {
    spec::parse(&object()).expect("the example is valid")
}

fn image(number: u32, created: Timestamp) -> Image {
    Image {
        id: image_id(number),
        name: format!("image-{number}"),
        owner_id: ACCOUNT.into(),
        architecture: "x86_64".into(),
        state: ImageState::Available,
        state_reason: None,
        created: Some(created),
        deprecated: None,
        tags: Tags::new(),
        snapshots: vec![format!("snap-{number:08x}")],
        source: None,
        machine: crate::aws::Machine::default(),
    }
}

fn resolved(tag: String) -> Resolved {
    Resolved { commit: commit(), url: "https://git.example/platform.git".into(), tag }
}

fn located(image: Image) -> Located {
    Located { region: home(), image }
}

/// The desired inputs in `observed()`.
fn wanted() -> InputsRecord {
    InputsRecord {
        base_ami: Some(image_id(0xba5e).to_string()),
        template: Some(TEMPLATE.into()),
        spec: Some(valid().tag),
    }
}

/// An active image of the builder with the desired inputs.
fn active(number: u32, created: Timestamp) -> Located {
    let mut image = image(number, created);
    let inputs = wanted();
    let tags = [
        (tags::OWNER, "agent-1".to_owned()),
        (tags::BUILDER, "default/node".to_owned()),
        (tags::CLUSTER, "demo".to_owned()),
        (tags::STATUS, tags::ACTIVE.to_owned()),
        (tags::BUILD, format!("{number:016x}")),
        (tags::JOB, format!("node-{number:016x}")),
        (tags::CREATED, created.to_string()),
        (tags::BASE, inputs.base_ami.unwrap_or_default()),
        (tags::TEMPLATE, inputs.template.unwrap_or_default()),
        (tags::SPEC, inputs.spec.unwrap_or_default()),
    ];
    image.tags = tags.map(|(name, value)| (name.to_owned(), value)).into();
    located(image)
}

fn tagged(mut image: Located, name: &str, value: &str) -> Located {
    image.image.tags.insert(name.into(), value.into());
    image
}

/// The observation of a new builder: nothing is built, nothing runs, and everything can be read.
fn observed() -> Observed {
    let base = image(0xba5e, start_of_time());
    Observed {
        subject: subject(),
        generation: Some(1),
        now: at_hour(1),
        spec: Ok(valid()),
        status: PackerBuilderStatus::default(),
        deleting: false,
        undeclared: None,
        suspended: false,
        cancel: None,
        complete: true,
        runs: Seen::Is(Vec::new()),
        images: Seen::Is(Vec::new()),
        base: Seen::Is(Base { found: Some(base), ..Base::default() }),
        template: Seen::Is(resolved(TEMPLATE.into())),
        accounts: None,
        account: Some(Seen::Is(ACCOUNT.into())),
        lasted: None,
        live: Seen::Is(0),
        last_slot_is_reserved: false,
        concurrent_builds: 4,
        withheld: BTreeSet::new(),
        fleet: FleetView { builders: 1, ..FleetView::default() },
        allow_mass_build: false,
        ending: false,
    }
}

/// The observation of a settled builder: one good active image, which status names.
fn settled() -> Observed {
    let image = active(1, at_hour(0));
    let mut observed = observed();
    observed.status.images = Some(vec![image.record()]);
    observed.images = Seen::Is(vec![image]);
    observed
}

fn commit() -> CommitId {
    CommitId::parse("0123456789abcdef0123456789abcdef01234567").expect("forty hex digits")
}

fn run(number: u64, state: RunState) -> Run {
    let build = BuildId::parse(format!("{number:016x}")).expect("sixteen hex digits");
    let ended = state.ended();
    Run {
        id: format!("uid-{number}"),
        name: RunName::parse(format!("node-{build}")).expect("a label"),
        facts: RunFacts {
            builder: key(),
            build,
            region: home(),
            inputs: wanted(),
            why: "Missing".into(),
            commit: commit(),
            created_at: at_hour(0),
            owner: None,
        },
        state,
        started_at: Some(at_hour(0)),
        ended_at: ended.then(|| at_hour(1)),
        resources: Vec::new(),
        details: ReportDetails::default(),
    }
}

fn running() -> RunState {
    RunState::Running(Progress::default())
}

fn succeeded(images: &[u32]) -> RunState {
    RunState::Succeeded(images.iter().map(|id| artifact(&home(), *id)).collect())
}

fn artifact(region: &Region, number: u32) -> Artifact {
    Artifact { region: region.clone(), image: image_id(number), build: format!("amazon-ebs.{number}") }
}

/// The image of a run as Packer leaves it: available, without tags of Opsy.
fn raw(number: u32) -> Located {
    located(image(number, at_hour(1)))
}

fn record(number: u64, result: RunResult, ended: Timestamp) -> RunRecord {
    RunRecord {
        id: format!("{number:016x}"),
        result: result.to_string(),
        inputs: Some(wanted()),
        ended_at: Some(ended),
        errors: Some(vec!["it broke".into()]),
        ..RunRecord::default()
    }
}

fn unknown<T>() -> Seen<T> {
    Seen::Unknown(Class::TRANSIENT, "ec2:DescribeImages: no answer".into())
}

/// The step that is planned for an observation.
fn step(observed: &Observed) -> Step {
    match plan::plan(observed, observed.now) {
        Plan::Act { step, .. } => step,
        other => panic!("expected a step, planned {other:?}"),
    }
}

/// A plan in one line, for tables.
fn describe(plan: &Plan) -> String {
    match plan {
        Plan::Done { images, .. } => {
            format!(
                "done {}",
                images.iter().map(|image| image.image.id.to_string()).collect::<Vec<_>>().join(" ")
            )
        }
        Plan::Wait { on, .. } => format!("wait {}", variant_name(on)),
        Plan::Stalled { why, .. } => format!("stalled {}", variant_name(why)),
        Plan::Act { step: Step::Start { request, .. }, .. } => format!("start {}", request.facts.why),
        Plan::Act { step, .. } => format!("do {}", variant_name(step)),
    }
}

fn planned(observed: &Observed) -> String {
    describe(&plan::plan(observed, observed.now))
}

/// The name of a variant.
fn variant_name(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}").chars().take_while(|c| c.is_alphanumeric()).collect()
}

fn lane_image(image: &Located) -> LaneImage {
    image.record()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// An observation with a change.
fn altered(base: Observed, change: impl FnOnce(&mut Observed)) -> Observed {
    let mut observed = base;
    change(&mut observed);
    observed
}

fn spec_of(observed: &mut Observed) -> &mut Spec {
    observed.spec.as_mut().expect("valid")
}

fn images_of(observed: &mut Observed) -> &mut Vec<Located> {
    match &mut observed.images {
        Seen::Is(images) => images,
        Seen::Unknown(..) => panic!("the images are known here"),
    }
}
