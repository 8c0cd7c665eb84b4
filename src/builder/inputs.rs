//! The three inputs of a build, the tags that carry them, the build id, and what makes an image out
//! of date. Pure.
//!
//! Every tag has a format version. One that is absent or of an unknown version compares as equal:
//! adopting images or upgrading Opsy rebuilds nothing by itself.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::images::{self, BuiltFrom, Located, Subject};
use super::spec::{RebuildOn, Spec};
use super::step::Why;
use super::time;
use crate::api::builder::InputsRecord;
use crate::api::{BuildId, RunName};
use crate::aws::ec2::BROUGHT_BY;
use crate::aws::{Image, Tags};
use crate::engine::Run;

/// EC2's limit for a tag's value.
const TAG_VALUE: usize = 256;

/// What a build would be made from now.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted<'a> {
    pub inputs: InputsRecord,
    /// The base image found, where one is asked for.
    pub base: Option<&'a Image>,
    /// Recorded base images, as far as they still exist.
    pub older_bases: &'a [Image],
}

/// The inputs an image's tags record.
pub fn recorded(image: &Located) -> InputsRecord {
    let tag = |name: &str| image.tag(name).map(str::to_owned);
    InputsRecord {
        base_ami: tag(images::BASE).filter(|base| base.starts_with("ami-")),
        template: tag(images::TEMPLATE),
        spec: tag(images::SPEC),
    }
}

/// Why something built then from that is out of date now, if it is.
pub fn out_of_date(
    from: &BuiltFrom,
    built_at: Option<Timestamp>,
    wanted: &Wanted<'_>,
    spec: &Spec,
    now: Timestamp,
) -> Option<Why> {
    expired(built_at, spec, now).or_else(|| moved_on(from, built_at, wanted, &spec.rebuild_on))
}

fn expired(built_at: Option<Timestamp>, spec: &Spec, now: Timestamp) -> Option<Why> {
    let since = expiry(built_at, spec)?;
    (spec.rebuild_on.expired && since <= now).then_some(Why::Expired { since })
}

/// When an image of that age expires, if ever.
pub fn expiry(built_at: Option<Timestamp>, spec: &Spec) -> Option<Timestamp> {
    time::after(built_at?, spec.expires_in?).filter(|_| spec.rebuild_on.expired)
}

/// Why the inputs recorded are no longer those wanted, if so.
pub fn moved_on(
    from: &BuiltFrom,
    built_at: Option<Timestamp>,
    wanted: &Wanted<'_>,
    on: &RebuildOn,
) -> Option<Why> {
    let operator = InputsRecord::default();
    let (recorded, base) = match from {
        BuiltFrom::Inputs(inputs) => (inputs, inputs.base_ami.as_deref()),
        // An adopted image waits for its expiry unless the manifest says otherwise.
        BuiltFrom::Operator { base } => (&operator, base.as_deref().filter(|_| on.written)),
    };
    let newer = || newer_base(base?, built_at, wanted);
    let template = || differs(recorded.template.as_deref(), wanted.inputs.template.as_deref());
    let spec = || differs(recorded.spec.as_deref(), wanted.inputs.spec.as_deref());
    let base_image = || newer().map(|(from, to)| Why::BaseImage { from, to });
    on.base_image
        .then(base_image)
        .flatten()
        .or_else(|| on.template.then(template).flatten().map(|(from, to)| Why::Template { from, to }))
        .or_else(|| on.spec.then(spec).flatten().map(|_| Why::Spec))
}

/// Both values, where they are known, comparable and not the same.
fn differs(recorded: Option<&str>, wanted: Option<&str>) -> Option<(String, String)> {
    let (recorded, wanted) = (recorded?, wanted?);
    let version = |tag: &str| tag.split_once('-').map(|(version, _)| version.to_owned());
    let comparable = version(recorded).is_some_and(|recorded| Some(recorded) == version(wanted));
    (comparable && recorded != wanted).then(|| (recorded.to_owned(), wanted.to_owned()))
}

/// Is the base image found newer than the recorded one? Where the recorded one no longer exists its
/// date is unknown; it was the newest when the build started, so what appeared later is newer.
fn newer_base(recorded: &str, built_at: Option<Timestamp>, wanted: &Wanted<'_>) -> Option<(String, String)> {
    let found = wanted.base.filter(|found| found.id.as_str() != recorded)?;
    let known = wanted.older_bases.iter().find(|image| image.id.as_str() == recorded);
    let than = match known {
        Some(image) => image.created,
        None => built_at,
    };
    (found.created? > than?).then(|| (recorded.to_owned(), found.id.to_string()))
}

/// The id of the next build. The run before it is part of it, so that the same inputs built again
/// are another build; what is read back is always the same, so that a repeated start is none.
pub fn build_id(subject: &Subject, inputs: &InputsRecord, previous: Option<&str>) -> BuildId {
    let key = subject.key.to_string();
    let text = |field: &'_ Option<String>| field.clone().unwrap_or_default();
    let (base, template, spec) = (text(&inputs.base_ami), text(&inputs.template), text(&inputs.spec));
    BuildId::of(&[subject.owner.as_str(), &key, &base, &template, &spec, previous.unwrap_or_default()])
}

/// Name of the run of a build, by which an engine tells whose it is.
pub fn run_name(builder: &str, build: &BuildId) -> RunName {
    RunName::of(builder, build)
}

/// The tags Packer's template may put on everything a build makes, by which it is found again.
pub fn build_tags(subject: &Subject, build: &BuildId) -> Tags {
    let mut tags = Tags::from([
        (images::BUILD.to_owned(), build.to_string()),
        (images::OWNER.to_owned(), subject.owner.to_string()),
        (images::BUILDER.to_owned(), subject.key.to_string()),
    ]);
    tags.extend(subject.cluster.clone().map(|cluster| (images::CLUSTER.to_owned(), cluster)));
    tags
}

/// All tags of a finished image: the operator's contract and ours. They depend on the run alone, so
/// that setting them twice is setting them once.
pub fn image_tags(subject: &Subject, run: &Run, status: &str) -> Tags {
    let facts = &run.facts;
    let made = time::to_second(run.ended_at.unwrap_or(facts.created_at));
    let mut tags = build_tags(subject, &facts.build);
    let own = [
        (BROUGHT_BY.0, BROUGHT_BY.1.to_owned()),
        (images::CREATED_BY.0, images::CREATED_BY.1.to_owned()),
        (images::REPO, subject.repo.clone()),
        (images::REPO_BRANCH, subject.branch.clone()),
        (images::JOB, run.name.to_string()),
        (images::BUILD_ID, facts.build.to_string()),
        (images::CREATED, made.to_string()),
        (images::COMMIT, facts.commit.to_string()),
        (images::STATUS, status.to_owned()),
    ];
    tags.extend(own.map(|(name, value)| (name.to_owned(), value)));
    let inputs = [
        (images::BASE, &facts.inputs.base_ami),
        (images::TEMPLATE, &facts.inputs.template),
        (images::SPEC, &facts.inputs.spec),
    ];
    tags.extend(inputs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))));
    tags.into_iter().map(|(name, value)| (name, value.chars().take(TAG_VALUE).collect())).collect()
}

/// The environment of a run, without secrets.
pub fn environment(subject: &Subject, build: &BuildId, debug: bool) -> BTreeMap<String, String> {
    let tags = serde_json::to_string(&build_tags(subject, build)).expect("a map of texts is JSON");
    let mut env = BTreeMap::from([("PKR_VAR_opsy_build_tags".to_owned(), tags)]);
    env.extend(debug.then(|| ("PACKER_LOG".to_owned(), "1".to_owned())));
    env
}
