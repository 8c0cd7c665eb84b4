//! The three inputs of a build, the tags that carry them, the build id, and what makes an image out
//! of date. Pure.
//!
//! Every tag has a format version. One that is absent or of an unknown version compares as equal:
//! adopting images or upgrading Opsy rebuilds nothing by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::images::{self, BuiltFrom, Located, Subject};
use super::spec::{RebuildOn, Spec, TAG_VALUE};
use super::step::Why;
use super::time;
use crate::api::builder::{BaseImage, InputsRecord};
use crate::api::{BuildId, RunName};
use crate::aws::ec2::BROUGHT_BY;
use crate::aws::{Image, Tags};
use crate::engine::Run;

/// What a build would be made from now.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted<'a> {
    pub inputs: InputsRecord,
    /// The base image found, where one is asked for.
    pub base: Option<&'a Image>,
    /// Recorded base images, as far as they still exist.
    pub older_bases: &'a [Image],
    /// The base image as status has it, which may not exist any more.
    pub remembered: Option<&'a BaseImage>,
}

/// An image that was deprecated this soon would be so again: building it again does not help.
const SHORT_LIFE: Duration = Duration::from_secs(3600);

/// The inputs an image's tags record.
pub fn recorded(image: &Located) -> InputsRecord {
    let tag = |name: &str| image.tag(name).map(str::to_owned);
    InputsRecord {
        base_ami: asked_base(image).map(str::to_owned),
        template: tag(images::TEMPLATE),
        spec: tag(images::SPEC),
    }
}

/// The base image that was asked for when an image was built; its tags name the one it was made from.
pub fn asked_base(image: &Located) -> Option<&str> {
    let is_id = |base: &&str| base.starts_with("ami-");
    image.tag(images::BASE_ASKED).or_else(|| image.tag(images::BASE)).filter(is_id)
}

/// Why an image built from that is out of date now, if it is.
pub fn out_of_date(
    image: &Located,
    from: &BuiltFrom,
    wanted: &Wanted<'_>,
    spec: &Spec,
    now: Timestamp,
) -> Option<Why> {
    let by_age = expires(image, spec).filter(|since| *since <= now).map(|since| Why::Expired { since });
    let by_ec2 = deprecation(image, spec).filter(|since| *since <= now);
    by_age
        .or_else(|| by_ec2.map(|since| Why::Deprecated { since }))
        .or_else(|| moved_on(from, image.built_at(), wanted, &spec.rebuild_on))
}

/// When an image is out of date by itself, if ever: by its age, or when EC2 deprecates it.
pub fn expiry(image: &Located, spec: &Spec) -> Option<Timestamp> {
    expires(image, spec).into_iter().chain(deprecation(image, spec)).min()
}

fn expires(image: &Located, spec: &Spec) -> Option<Timestamp> {
    time::after(image.built_at()?, spec.expires_in?).filter(|_| spec.rebuild_on.expired)
}

/// When EC2 deprecates the image, where a build after it gives one that lives longer.
fn deprecation(image: &Located, spec: &Spec) -> Option<Timestamp> {
    let at = image.image.deprecated.filter(|_| spec.rebuild_on.expired)?;
    let lived = image.image.created.is_none_or(|created| time::until(created, at) > SHORT_LIFE);
    lived.then_some(at)
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

/// Is the base image found newer than the recorded one, or of another architecture? Where the recorded one
/// no longer exists its date is the one that status remembers. If that is lost, too: it was the newest when
/// the build started, so what appeared later is newer.
fn newer_base(recorded: &str, built_at: Option<Timestamp>, wanted: &Wanted<'_>) -> Option<(String, String)> {
    let found = wanted.base.filter(|found| found.id.as_str() != recorded)?;
    let known = wanted.older_bases.iter().find(|image| image.id.as_str() == recorded);
    let remembered = wanted.remembered.filter(|base| base.id == recorded).and_then(|base| base.created);
    let than = known.map_or_else(|| remembered.or(built_at), |image| image.created);
    let another = known.is_some_and(|image| image.architecture != found.architecture);
    (another || found.created? > than?).then(|| (recorded.to_owned(), found.id.to_string()))
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

/// All tags of a finished image: the operator's contract and ours. They depend on the run and on the base
/// image that EC2 names, so that setting them twice is setting them once.
pub fn image_tags(subject: &Subject, run: &Run, base: Option<&str>, status: &str) -> Tags {
    let facts = &run.facts;
    let made = time::to_second(run.ended_at.unwrap_or(facts.created_at));
    let mut tags = build_tags(subject, &facts.build);
    let own = [
        (BROUGHT_BY.0, BROUGHT_BY.1.to_owned()),
        (images::CREATED_BY, subject.key.name.clone()),
        (images::REPO, subject.repo.clone()),
        (images::REPO_BRANCH, subject.branch.clone()),
        (images::JOB, run.name.to_string()),
        (images::BUILD_ID, facts.build.to_string()),
        (images::CREATED, made.to_string()),
        (images::COMMIT, facts.commit.to_string()),
        (images::STATUS, status.to_owned()),
    ];
    tags.extend(own.map(|(name, value)| (name.to_owned(), value)));
    let asked = facts.inputs.base_ami.as_deref();
    let inputs = [
        (images::BASE, base),
        (images::BASE_ASKED, asked.filter(|asked| Some(*asked) != base)),
        (images::TEMPLATE, facts.inputs.template.as_deref()),
        (images::SPEC, facts.inputs.spec.as_deref()),
    ];
    tags.extend(inputs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
    tags.into_iter().map(|(name, value)| (name, value.chars().take(TAG_VALUE).collect())).collect()
}

/// The environment of a run, without secrets.
pub fn environment(subject: &Subject, build: &BuildId, debug: bool) -> BTreeMap<String, String> {
    let tags = serde_json::to_string(&build_tags(subject, build)).expect("a map of texts is JSON");
    let mut env = BTreeMap::from([("PKR_VAR_opsy_build_tags".to_owned(), tags)]);
    env.extend(debug.then(|| ("PACKER_LOG".to_owned(), "1".to_owned())));
    env
}
