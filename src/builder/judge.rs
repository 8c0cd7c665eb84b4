//! Whether every lane has a good active image, and if not, why. Pure; part of the plan and of promotion.

use jiff::Timestamp;

use super::active::{self, Active};
use super::base::Base;
use super::inputs::{self, Wanted};
use super::located::{self, Lane, Located};
use super::observe::{Observed, Resolved};
use super::spec::Spec;
use super::why::Why;
use crate::api::builder::InputsRecord;

/// Returns what a build would be made from, or `None` if the requested base image does not exist.
pub fn wanted<'a>(
    observed: &'a Observed,
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
        remembered: observed.status.base_image.as_ref(),
    })
}

/// Returns the spec and what a build would be made from, or `None` if anything of it is unknown.
pub fn wanted_now(observed: &Observed) -> Option<(&Spec, Wanted<'_>)> {
    let spec = observed.spec.as_ref().ok()?;
    Some((spec, wanted(observed, spec, observed.template.known()?, observed.base.known()?)?))
}

/// Rule 6: returns the good active image of every lane, those of the builder's own region first, or why a lane has
/// none.
pub fn judge<'a>(
    observed: &Observed,
    spec: &Spec,
    wanted: &Wanted<'_>,
    active: &[Active<'a>],
    now: Timestamp,
) -> Result<Vec<&'a Located>, Why> {
    let lanes = active::lanes(&observed.status, active, Some(&spec.region));
    if lanes.is_empty() {
        return Err(Why::Missing);
    }
    let lanes = located::home_first(lanes, &spec.region);
    lanes.iter().map(|lane| good(lane, active, wanted, spec, now)).collect()
}

/// Returns the active image of a lane if it is good, or why it is not.
pub fn good<'a>(
    lane: &Lane,
    active: &[Active<'a>],
    wanted: &Wanted<'_>,
    spec: &Spec,
    now: Timestamp,
) -> Result<&'a Located, Why> {
    let Active { image, from, .. } = active::current(active, lane).ok_or(Why::Missing)?;
    match inputs::out_of_date(image, from, wanted, spec, now) {
        Some(why) => Err(why),
        None => Ok(image),
    }
}
