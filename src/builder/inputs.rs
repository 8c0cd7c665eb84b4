//! The three inputs of a build, the tags that store them, the build ID, and what makes an image outdated. Pure.
//!
//! Every tag has a format version. A tag that is absent or has an unknown version compares as equal, so that adopting
//! images or upgrading Opsy rebuilds nothing by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::located::Located;
use super::spec::{MAX_TAG_VALUE, RebuildOn, Spec};
use super::subject::{BuiltFrom, Subject};
use super::why::Why;
use crate::api::builder::{BaseImage, InputsRecord};
use crate::api::tags::{self, BROUGHT_BY};
use crate::api::time;
use crate::api::{BuildId, RunName};
use crate::aws::{Image, Tags};
use crate::engine::Run;

/// What a build would be made from now: the desired inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted<'a> {
    pub inputs: InputsRecord,
    /// The base image found, if one is requested.
    pub base: Option<&'a Image>,
    /// Recorded base images that still exist.
    pub older_bases: &'a [Image],
    /// The base image in status, which may not exist any more.
    pub remembered: Option<&'a BaseImage>,
}

/// If an image is deprecated this soon after its creation, a new image would be deprecated as soon. It is not rebuilt.
const MIN_LIFETIME: Duration = Duration::from_secs(3600);

/// Returns why an image that was built from `from` is outdated, if it is.
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
        .or_else(|| input_change(from, image.built_at(), wanted, &spec.rebuild_on))
}

/// Returns when an image becomes outdated without any change of inputs, if ever: by its age, or because EC2 deprecates
/// it.
pub fn expiry(image: &Located, spec: &Spec) -> Option<Timestamp> {
    expires(image, spec).into_iter().chain(deprecation(image, spec)).min()
}

fn expires(image: &Located, spec: &Spec) -> Option<Timestamp> {
    time::after(image.built_at()?, spec.expires_in?).filter(|_| spec.rebuild_on.expired)
}

/// Returns when EC2 deprecates the image, if a new build would make an image that lasts longer.
fn deprecation(image: &Located, spec: &Spec) -> Option<Timestamp> {
    let at = image.image.deprecated.filter(|_| spec.rebuild_on.expired)?;
    let lived = image.image.created.is_none_or(|created| time::between(created, at) > MIN_LIFETIME);
    lived.then_some(at)
}

/// Returns which recorded input differs from the desired one, if one does.
pub fn input_change(
    from: &BuiltFrom,
    built_at: Option<Timestamp>,
    wanted: &Wanted<'_>,
    on: &RebuildOn,
) -> Option<Why> {
    let operator = InputsRecord::default();
    let (recorded, base) = match from {
        BuiltFrom::Inputs(inputs) => (inputs, inputs.base_ami.as_deref()),
        // An adopted image is used until it expires, unless the manifest sets `rebuildOn`.
        BuiltFrom::Operator { base } => (&operator, base.as_deref().filter(|_| on.explicit)),
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

/// Returns both values if they are known, comparable and different.
fn differs(recorded: Option<&str>, wanted: Option<&str>) -> Option<(String, String)> {
    let (recorded, wanted) = (recorded?, wanted?);
    let version = |tag: &str| tag.split_once('-').map(|(version, _)| version.to_owned());
    let comparable = version(recorded).is_some_and(|recorded| Some(recorded) == version(wanted));
    (comparable && recorded != wanted).then(|| (recorded.to_owned(), wanted.to_owned()))
}

/// Returns the recorded base image and the one found if the latter is newer or has another architecture. If the
/// recorded one does not exist any more, its date in status is used. If that is lost too, the date of the built image
/// is used: the recorded base image was the newest one then, so one that appeared later is newer.
fn newer_base(recorded: &str, built_at: Option<Timestamp>, wanted: &Wanted<'_>) -> Option<(String, String)> {
    let found = wanted.base.filter(|found| found.id.as_str() != recorded)?;
    let known = wanted.older_bases.iter().find(|image| image.id.as_str() == recorded);
    let remembered = wanted.remembered.filter(|base| base.id == recorded).and_then(|base| base.created);
    let than = known.map_or_else(|| remembered.or(built_at), |image| image.created);
    let another = known.is_some_and(|image| image.architecture != found.architecture);
    (another || found.created? > than?).then(|| (recorded.to_owned(), found.id.to_string()))
}

/// Returns the ID of the next build. It includes the previous build, so that building the same inputs again gives
/// another ID. After a crash the same values are read again, so a repeated start gives the same ID and starts nothing.
pub fn build_id(subject: &Subject, inputs: &InputsRecord, previous: Option<&str>) -> BuildId {
    let key = subject.key.to_string();
    let text = |field: &'_ Option<String>| field.clone().unwrap_or_default();
    let (base, template, spec) = (text(&inputs.base_ami), text(&inputs.template), text(&inputs.spec));
    BuildId::of(&[subject.owner.as_str(), &key, &base, &template, &spec, previous.unwrap_or_default()])
}

/// Returns the name of the run of a build. Engines recognize by it to which builder a run belongs.
pub fn run_name(builder: &str, build: &BuildId) -> RunName {
    RunName::of(builder, build)
}

/// Returns the tags that a template can set on everything that a build creates, so that orphans are found.
pub fn build_tags(subject: &Subject, build: &BuildId) -> Tags {
    let mut tags = Tags::from([
        (tags::BUILD.to_owned(), build.to_string()),
        (tags::OWNER.to_owned(), subject.owner.to_string()),
        (tags::BUILDER.to_owned(), subject.key.to_string()),
    ]);
    tags.extend(subject.cluster.clone().map(|cluster| (tags::CLUSTER.to_owned(), cluster)));
    tags
}

/// Returns all tags of a finished image: the operator's contract and Opsy's own. They depend only on the run and on the
/// base image that EC2 reports, so setting them twice has the same effect as setting them once.
pub fn image_tags(subject: &Subject, run: &Run, base: Option<&str>, status: &str) -> Tags {
    let facts = &run.facts;
    let made = time::to_second(run.ended_at.unwrap_or(facts.created_at));
    let mut tags = build_tags(subject, &facts.build);
    let own = [
        (BROUGHT_BY.0, BROUGHT_BY.1.to_owned()),
        (tags::CREATED_BY, subject.key.name.clone()),
        (tags::REPO, subject.repo.clone()),
        (tags::REPO_BRANCH, subject.branch.clone()),
        (tags::JOB, run.name.to_string()),
        (tags::BUILD_ID, facts.build.to_string()),
        (tags::CREATED, made.to_string()),
        (tags::COMMIT, facts.commit.to_string()),
        (tags::STATUS, status.to_owned()),
    ];
    tags.extend(own.map(|(name, value)| (name.to_owned(), value)));
    let requested = facts.inputs.base_ami.as_deref();
    let inputs = [
        (tags::BASE, base),
        (tags::BASE_ASKED, requested.filter(|requested| Some(*requested) != base)),
        (tags::TEMPLATE, facts.inputs.template.as_deref()),
        (tags::SPEC, facts.inputs.spec.as_deref()),
    ];
    tags.extend(inputs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))));
    tags.into_iter().map(|(name, value)| (name, value.chars().take(MAX_TAG_VALUE).collect())).collect()
}

/// Returns the environment of a run, without secrets.
pub fn environment(subject: &Subject, build: &BuildId, debug: bool) -> BTreeMap<String, String> {
    let tags = serde_json::to_string(&build_tags(subject, build)).expect("a map of strings is JSON");
    let mut env = BTreeMap::from([("PKR_VAR_opsy_build_tags".to_owned(), tags)]);
    env.extend(debug.then(|| ("PACKER_LOG".to_owned(), "1".to_owned())));
    env
}
