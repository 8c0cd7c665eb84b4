//! Additions to the message of any plan: images that are missing or belong to another owner, and base images that are
//! missing, ambiguous or not the requested ones. Pure; part of the report.

use super::active;
use super::base::Base;
use super::inputs;
use super::located::Located;
use super::observe::Observed;
use super::spec::Spec;
use super::step::{Plan, Step};
use super::trust::Origin;
use crate::api::tags;
use crate::api::time;

/// Returns clauses to append to the message of a plan.
pub fn remarks(observed: &Observed, plan: &Plan) -> Vec<String> {
    let settled = active_images(plan);
    let mut remarks = Vec::new();
    if settled.is_none() {
        remarks.extend(gone_images(observed));
        remarks.extend(foreign_images(observed));
    }
    remarks.extend(unused_images(observed));
    let spec = observed.spec.as_ref().ok();
    if let (Some(spec), Some(base)) = (spec.filter(|spec| spec.base.is_some()), observed.base.known()) {
        remarks.extend(ambiguous(base));
        remarks.extend(gone_base(observed, base));
        remarks.extend(settled.into_iter().flatten().find_map(another_base));
        remarks.extend(settled.into_iter().flatten().find_map(|image| deprecated(observed, spec, image)));
    } else if let Some(spec) = spec {
        remarks.extend(settled.into_iter().flatten().find_map(|image| deprecated(observed, spec, image)));
    }
    remarks
}

/// Returns the images of a plan that reports the builder as ready.
fn active_images(plan: &Plan) -> Option<&[Located]> {
    match plan {
        Plan::Done { images, .. } => Some(images),
        Plan::Act { step: Step::Record(record), .. } if record.good => record.images.as_deref(),
        _ => None,
    }
}

fn gone_images(observed: &Observed) -> Vec<String> {
    let gone = observed.confirmed_gone().unwrap_or_default().into_iter();
    let words = gone.map(|image| {
        format!(
            "{} ({}, {}) is gone: it was deregistered by a person or by the template (-force, \
             force_deregister)",
            image.id, image.architecture, image.region
        )
    });
    words.collect()
}

/// Names images that do not count because of their owner, with the setting that would change that.
fn foreign_images(observed: &Observed) -> Vec<String> {
    let images = observed.images.known().into_iter().flatten();
    let foreign = images.filter_map(|image| Some((&image.image.id, observed.subject.foreign_owner(image)?)));
    let words = foreign.map(|(id, owner)| {
        format!("{id} belongs to another owner: only an agent with --agent-id {owner} uses it")
    });
    words.collect()
}

/// Names active images that do not count although they have the tags of this builder.
fn unused_images(observed: &Observed) -> Vec<String> {
    let images = observed.images.known().map(Vec::as_slice).unwrap_or_default();
    let active = active::active(images, &observed.subject, &observed.status, observed.now);
    let unrecorded = active::unrecorded(&active, &observed.status).into_iter().map(|image| {
        format!("{} has the tag status=active, but no recorded build made it: it is not used", image.image.id)
    });
    let not_promoted = active.iter().filter(|active| active.origin == Origin::NotPromoted).map(|active| {
        let id = &active.image.image.id;
        format!(
            "{id} has the tag status=active, but is not the result of a successful build: it is not used; \
             remove the tag status from the template"
        )
    });
    unrecorded.chain(not_promoted).collect()
}

fn ambiguous(base: &Base) -> Option<String> {
    let chosen = base.found.as_ref().filter(|_| !base.architectures.is_empty())?;
    Some(format!(
        "spec.amiFilters match images of {}, and {} was chosen: add a filter named architecture",
        base.architectures.join(" and "),
        chosen.architecture
    ))
}

fn gone_base(observed: &Observed, base: &Base) -> Option<String> {
    let recorded = observed.status.inputs.as_ref()?.base_ami.as_deref()?;
    base.is_gone(recorded)
        .then(|| format!("its base image {recorded} is gone: its owner withdrew it or no longer shares it"))
}

fn another_base(image: &Located) -> Option<String> {
    let (requested, used) = (image.tag(tags::BASE_ASKED)?, image.tag(tags::BASE)?);
    Some(format!(
        "it was made from {used}, not from {requested}, which spec.amiFilters found: use the variable ami_id \
         in the template"
    ))
}

/// Explains why a deprecated image is not rebuilt.
fn deprecated(observed: &Observed, spec: &Spec, image: &Located) -> Option<String> {
    let since = image.image.deprecated.filter(|at| *at <= observed.now)?;
    let why = match spec.rebuild_on.expired {
        true if inputs::expiry(image, spec).is_some_and(|at| at <= since) => return None,
        true => "less than an hour after its creation, so another build would not help: check deprecate_at",
        false => "and spec.rebuildOn does not contain Expired",
    };
    let (id, since) = (&image.image.id, time::to_second(since));
    Some(format!("{id} has been deprecated in EC2 since {since}, {why}; refreshers do not roll it out"))
}
