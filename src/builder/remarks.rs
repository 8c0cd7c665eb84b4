//! What else a message must name, however the builder stands: images that are gone or another owner's, base
//! images that are gone, ambiguous or not the ones asked for. Pure; part of the report.

use super::base::Base;
use super::images::{self, Located};
use super::inputs;
use super::observe::Observed;
use super::spec::Spec;
use super::step::{Plan, Step};
use super::time;
use super::trust::{self, Origin};

/// Half-sentences to append to the message of a plan.
pub fn remarks(seen: &Observed, plan: &Plan) -> Vec<String> {
    let settled = active_images(plan);
    let mut remarks = Vec::new();
    if settled.is_none() {
        remarks.extend(gone_images(seen));
        remarks.extend(foreign_images(seen));
    }
    remarks.extend(unused_images(seen));
    let spec = seen.spec.as_ref().ok();
    if let (Some(spec), Some(base)) = (spec.filter(|spec| spec.base.is_some()), seen.base.known()) {
        remarks.extend(ambiguous(base));
        remarks.extend(gone_base(seen, base));
        remarks.extend(settled.into_iter().flatten().find_map(another_base));
        remarks.extend(settled.into_iter().flatten().find_map(|image| deprecated(seen, spec, image)));
    } else if let Some(spec) = spec {
        remarks.extend(settled.into_iter().flatten().find_map(|image| deprecated(seen, spec, image)));
    }
    remarks
}

/// The images of a plan that says that all is well.
fn active_images(plan: &Plan) -> Option<&[Located]> {
    match plan {
        Plan::Done { images, .. } => Some(images),
        Plan::Act { step: Step::Record(record), .. } if record.good => record.images.as_deref(),
        _ => None,
    }
}

fn gone_images(seen: &Observed) -> Vec<String> {
    let gone = seen.gone_for_sure().unwrap_or_default().into_iter();
    let words = gone.map(|image| {
        format!(
            "{} ({}, {}) is gone: it was deregistered by hand or by the template (-force, force_deregister)",
            image.id, image.architecture, image.region
        )
    });
    words.collect()
}

/// Images that another owner's tag keeps from counting, with what would make them ours.
fn foreign_images(seen: &Observed) -> Vec<String> {
    let images = seen.images.known().into_iter().flatten();
    let foreign = images.filter_map(|image| Some((&image.image.id, seen.subject.foreign_owner(image)?)));
    let words = foreign.map(|(id, owner)| {
        format!("{id} belongs to {owner:?}: --agent-id {owner} would make it this agent's")
    });
    words.collect()
}

/// Active images that do not count, though they have this builder's tags.
fn unused_images(seen: &Observed) -> Vec<String> {
    let images = seen.images.known().map(Vec::as_slice).unwrap_or_default();
    let active = images::active(images, &seen.subject, &seen.status, seen.now);
    let unrecorded = trust::unrecorded(&active, &seen.status).into_iter().map(|image| {
        format!("{} has the tag status=active, but no build recorded it: it is not used", image.image.id)
    });
    let not_promoted = active.iter().filter(|active| active.origin == Origin::NotPromoted).map(|active| {
        let id = &active.image.image.id;
        format!("{id} has the tag status=active, but it is not the result of a build that succeeded: it is not used; remove the tag status from the template")
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

fn gone_base(seen: &Observed, base: &Base) -> Option<String> {
    let recorded = seen.status.inputs.as_ref()?.base_ami.as_deref()?;
    base.is_gone(recorded)
        .then(|| format!("its base image {recorded} is gone: withdrawn by its owner or no longer shared"))
}

fn another_base(image: &Located) -> Option<String> {
    let (asked, used) = (image.tag(images::BASE_ASKED)?, image.tag(images::BASE)?);
    Some(format!(
        "it was made from {used}, not from {asked} that spec.amiFilters found: let the template use the variable ami_id"
    ))
}

/// A deprecated image that is not built again for it.
fn deprecated(seen: &Observed, spec: &Spec, image: &Located) -> Option<String> {
    let since = image.image.deprecated.filter(|at| *at <= seen.now)?;
    let why = match spec.rebuild_on.expired {
        true if inputs::expiry(image, spec).is_some_and(|at| at <= since) => return None,
        true => {
            "less than an hour after it was made, so that another build does not help: check deprecate_at"
        }
        false => "and spec.rebuildOn does not name Expired",
    };
    let (id, since) = (&image.image.id, time::to_second(since));
    Some(format!("EC2 has {id} as deprecated since {since}, {why}; refreshers do not roll it out"))
}
