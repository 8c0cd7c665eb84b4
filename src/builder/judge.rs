//! Is there a good active image in every lane, and if not, why not? Pure; part of the plan and of promotion.

use jiff::Timestamp;

use super::base::Base;
use super::images::{self, Active, Lane, Located};
use super::inputs::{self, Wanted};
use super::observe::{Observed, Resolved};
use super::spec::Spec;
use super::step::Why;
use crate::api::builder::InputsRecord;

/// What a build would be made from; nothing where the base image asked for does not exist.
pub fn wanted<'a>(
    seen: &'a Observed,
    spec: &Spec,
    template: &Resolved,
    base: &'a Base,
) -> Option<Wanted<'a>> {
    if spec.base.is_some() && base.found.is_none() {
        return None;
    }
    Some(Wanted {
        inputs: InputsRecord {
            base_ami: base.found.as_ref().map(|image| image.id.to_string()),
            template: Some(template.tag.clone()),
            spec: Some(spec.tag.clone()),
        },
        base: base.found.as_ref(),
        older_bases: &base.recorded,
        remembered: seen.status.base_image.as_ref(),
    })
}

/// The same, as far as everything for it is known.
pub fn wanted_now(seen: &Observed) -> Option<(&Spec, Wanted<'_>)> {
    let spec = seen.spec.as_ref().ok()?;
    Some((spec, wanted(seen, spec, seen.template.known()?, seen.base.known()?)?))
}

/// Rule 6: the good active image of every lane, those of the builder's own region first, or why there is none.
pub fn judge<'a>(
    seen: &Observed,
    spec: &Spec,
    wanted: &Wanted<'_>,
    active: &[Active<'a>],
    now: Timestamp,
) -> Result<Vec<&'a Located>, Why> {
    let lanes = images::lanes(&seen.status, active, Some(&spec.region));
    if lanes.is_empty() {
        return Err(Why::Missing);
    }
    let lanes = images::home_first(lanes, &spec.region);
    lanes.iter().map(|lane| good(lane, active, wanted, spec, now)).collect()
}

/// The active image of a lane, if it is still what Git asks for.
pub fn good<'a>(
    lane: &Lane,
    active: &[Active<'a>],
    wanted: &Wanted<'_>,
    spec: &Spec,
    now: Timestamp,
) -> Result<&'a Located, Why> {
    let Active { image, from, .. } = images::current(active, lane).ok_or(Why::Missing)?;
    match inputs::out_of_date(image, from, wanted, spec, now) {
        Some(why) => Err(why),
        None => Ok(image),
    }
}
