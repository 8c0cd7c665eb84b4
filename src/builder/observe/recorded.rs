//! Observes a builder by its published status alone, for a plan without access to AWS: the images are those that status
//! names, and the base image is the one of the last build. Templates of the agent's own repository are read from Git.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::template::resolve;
use super::{Observed, known_status, subject};
use crate::api::builder::{LaneImage, PackerBuilder, PackerBuilderStatus};
use crate::api::{Assumption, CommitId, ImageId, Region, Seen, annotations, tags};
use crate::aws::{Image, Tags};
use crate::builder::Context;
use crate::builder::base::Base;
use crate::builder::fleet::FleetView;
use crate::builder::located::Located;
use crate::builder::spec::{self, Spec};
use crate::builder::subject::Subject;
use crate::git::templates::Resolved;
use crate::sync::Synced;

/// Stands for a base image whose ID only EC2 knows.
const UNKNOWN_BASE: &str = "ami-00000000000000000";
/// Stands for a template in another repository of which nothing was built. It has no version, so it equals any other.
const UNKNOWN_TEMPLATE: &str = "unknown";

/// Observes it before it is known what the other builders have reported. Also returns what was assumed to be as it was.
pub async fn observe(object: &PackerBuilder, synced: &Synced, ctx: &Context) -> (Observed, Vec<Assumption>) {
    let subject = subject(object, ctx);
    let spec = spec::parse_in(object, |url| ctx.templates.is_own(url));
    let status = known_status(object);
    let settings = &synced.set.settings;
    let template = match spec.as_ref().ok().and_then(|spec| elsewhere(spec, &status, synced)) {
        Some(template) => Seen::Is(template),
        None => resolve(object, spec.as_ref().ok(), &subject.key, synced, ctx).await,
    };
    let assumed = spec.as_ref().map(assumed).unwrap_or_default();
    let observed = Observed {
        generation: object.metadata.generation,
        now: (ctx.now)(),
        deleting: object.metadata.deletion_timestamp.is_some(),
        undeclared: (ctx.undeclared)(&subject.key),
        suspended: annotations::suspended(&object.metadata),
        cancel: annotations::value(&object.metadata, annotations::CANCEL).map(str::to_owned),
        complete: synced.set.complete(),
        accounts: None,
        concurrent_builds: settings.concurrent_builds(),
        withheld: BTreeSet::new(),
        allow_mass_build: settings.allow_mass_build(),
        ending: ctx.ending.load(Ordering::Relaxed),
        last_slot_is_reserved: false,
        runs: Seen::Is(Vec::new()),
        live: Seen::Is(0),
        lasted: None,
        account: None,
        fleet: FleetView::default(),
        images: Seen::Is(images(&subject, &status)),
        base: Seen::Is(spec.as_ref().ok().map(|spec| base(spec, &status)).unwrap_or_default()),
        subject,
        spec,
        status,
        template,
    };
    (observed, assumed)
}

/// What is assumed to be as it was when the status was published, if it can cause a build.
fn assumed(spec: &Spec) -> Vec<Assumption> {
    let on = &spec.rebuild_on;
    let base = spec.base.as_ref().filter(|_| on.base_image);
    let base = base.map(|query| Assumption { what: "the base image", about: format!("{query:?}") });
    let source = spec.template.source.as_ref().filter(|source| on.template && source.repository.is_some());
    let template =
        source.map(|_| Assumption { what: "the template repository", about: format!("{:?}", spec.template) });
    base.into_iter().chain(template).collect()
}

/// The images that status names, with the tags that their promotion gave them.
fn images(subject: &Subject, status: &PackerBuilderStatus) -> Vec<Located> {
    let named = status.images.iter().flatten().filter(|image| image.gone != Some(true));
    named.filter_map(|image| located(subject, status, image)).collect()
}

fn located(subject: &Subject, status: &PackerBuilderStatus, named: &LaneImage) -> Option<Located> {
    let inputs = status.inputs.clone().unwrap_or_default();
    let mut all = Tags::from([
        (tags::OWNER.to_owned(), subject.owner.to_string()),
        (tags::BUILDER.to_owned(), subject.key.to_string()),
        (tags::STATUS.to_owned(), tags::ACTIVE.to_owned()),
    ]);
    let recorded = [
        (tags::CLUSTER, subject.cluster.clone()),
        (tags::BASE, inputs.base_ami),
        (tags::TEMPLATE, inputs.template),
        (tags::SPEC, inputs.spec),
    ];
    all.extend(recorded.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Some(Located {
        region: Region::parse(named.region.as_str()).ok()?,
        image: Image {
            tags: all,
            created: made_at(status, named),
            architecture: named.architecture.clone(),
            ..Image::named(ImageId::parse(named.id.as_str()).ok()?, named.name.clone().unwrap_or_default())
        },
    })
}

/// When the image was built: at the end of the run that made it.
fn made_at(status: &PackerBuilderStatus, named: &LaneImage) -> Option<Timestamp> {
    let made =
        status.history.iter().flatten().find(|run| run.images.iter().flatten().any(|id| *id == named.id));
    made.and_then(|run| run.ended_at).or(named.since)
}

/// The base image of the last build, or one that stands for it.
fn base(spec: &Spec, status: &PackerBuilderStatus) -> Base {
    let recorded = status.inputs.as_ref().and_then(|inputs| inputs.base_ami.clone());
    let recorded = recorded.and_then(|id| ImageId::parse(id).ok());
    let unknown = || ImageId::parse(UNKNOWN_BASE).expect("seventeen hex digits are an image ID");
    let id = spec.base.as_ref().map(|_| recorded.unwrap_or_else(unknown));
    Base { found: id.map(|id| Image::named(id, String::new())), ..Base::default() }
}

/// The template of the last build, if it is in another repository, which is not fetched.
fn elsewhere(spec: &Spec, status: &PackerBuilderStatus, synced: &Synced) -> Option<Resolved> {
    let url = spec.template.source.as_ref()?.repository.clone()?;
    let commit = status.commit.as_deref().and_then(|commit| CommitId::parse(commit).ok());
    let tag = status.inputs.as_ref().and_then(|inputs| inputs.template.clone());
    let tag = tag.unwrap_or_else(|| UNKNOWN_TEMPLATE.to_owned());
    Some(Resolved { commit: commit.unwrap_or_else(|| synced.commit.clone()), url, tag })
}
