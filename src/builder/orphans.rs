//! Decides which orphans of ended runs are garbage-collected, and when. Pure; part of the plan. `sweep` removes them.

use std::collections::BTreeSet;

use jiff::Timestamp;
use opsy_runner::request::ResourceKind;

use super::commands::PackerCommand;
use super::located::Located;
use super::observe::Observed;
use super::step::{Plan, Step, Sweep};
use super::sweep_record::{self, CHECK_DELAYS, RETAINED_MACHINE};
use crate::api::builder::SweepRecord;
use crate::api::tags;
use crate::api::{BuildId, Owner, Region, time};
use crate::engine::{Failure, Run, RunState};

/// Returns a garbage collection that is due for an ended, recorded run. None is due while a file of the repository is
/// broken or the images cannot be read, because it is then not certain which images are results.
pub fn due_sweep(observed: &Observed, now: Timestamp) -> Option<Plan> {
    // If only certain accounts may be changed, the account must be known. `wrong_account` has then compared it.
    let is_allowed = observed.accounts.is_none()
        || observed.account.as_ref().is_some_and(|account| account.known().is_some());
    let images = observed.images.known().filter(|_| observed.complete && is_allowed)?;
    let mut due = observed.sweeps().iter().filter(|sweep| sweep_record::is_due(sweep, now));
    let sweep = due.find_map(|record| sweep(observed, record, images))?;
    Some(Plan::act(Step::Sweep(Box::new(sweep)), "an ended build may have left orphans"))
}

/// Returns the record of when and where to look for orphans of a run. The results of the run are never among them.
pub fn sweep_record(observed: &Observed, run: &Run, results: &[String]) -> SweepRecord {
    let ended = run.ended_at.unwrap_or(run.facts.created_at);
    let retains = results.is_empty()
        && observed.spec.as_ref().is_ok_and(|spec| spec.commands.iter().any(PackerCommand::retains_machine));
    // A machine that is retained for a person delays all checks: its security group and volumes are free only after the
    // machine is gone.
    let wait = if retains { RETAINED_MACHINE } else { CHECK_DELAYS[0] };
    let resources = run.resources.iter().filter(|resource| resource.kind != ResourceKind::Region);
    let resources = resources.filter(|resource| !results.contains(&resource.id));
    let artifacts = run.artifacts().iter().map(|artifact| artifact.image.to_string());
    let artifacts = artifacts.filter(|image| !results.contains(image));
    let announced: Vec<String> = resources
        .map(sweep_record::announced_entry)
        .chain(artifacts.map(|image| format!("{}={image}", sweep_record::ARTIFACT)))
        .collect();
    let regions = used_regions(run);
    let everywhere = regions.is_empty() && was_interrupted(run, retains);
    SweepRecord {
        id: run.facts.build.to_string(),
        owner: Some(run.facts.owner.as_ref().unwrap_or(&observed.subject.owner).to_string()),
        region: run.facts.region.to_string(),
        regions: (!regions.is_empty()).then_some(regions),
        everywhere: everywhere.then_some(true),
        started_at: Some(run.facts.created_at),
        due: time::after(ended, wait),
        looks: Some(0),
        refused: None,
        announced: (!announced.is_empty()).then_some(announced),
    }
}

/// Returns whether the run may have left its machine in an unknown region. A template may set a region of its own,
/// which Packer reports only with its images. A Packer that ended by itself has cleaned up.
fn was_interrupted(run: &Run, retains_machine: bool) -> bool {
    let started = run.started_at.is_some();
    let interrupted = match &run.state {
        RunState::Lost(_) => true,
        RunState::Failed(Failure::Packer { exit, .. }) => exit.is_none() || retains_machine,
        RunState::Failed(Failure::NotStarted(_) | Failure::NoArtifact { .. }) => false,
        RunState::Failed(_) => started,
        _ => false,
    };
    interrupted && run.artifacts().is_empty()
}

/// Returns the regions other than the run's own that it used: those that Packer copied to, and those of its images.
fn used_regions(run: &Run) -> Vec<String> {
    let copied = run.resources.iter().filter(|resource| resource.kind == ResourceKind::Region);
    let copied = copied.filter_map(|resource| Region::parse(resource.id.as_str()).ok());
    let all = copied.chain(run.artifacts().iter().map(|artifact| artifact.region.clone()));
    let others: BTreeSet<Region> = all.filter(|region| *region != run.facts.region).collect();
    others.iter().map(ToString::to_string).collect()
}

/// Returns the garbage collection of a record, or `None` if the record cannot be parsed: it then identifies nothing.
fn sweep(observed: &Observed, record: &SweepRecord, images: &[Located]) -> Option<Sweep> {
    let regions = regions(record)?;
    let ids = record.announced.as_deref().unwrap_or_default();
    let announced = sweep_record::parse_announced(ids, record.started_at, regions.first());
    Some(Sweep {
        regions,
        owner: record
            .owner
            .as_deref()
            .map_or_else(|| Ok(observed.subject.owner.clone()), Owner::parse)
            .ok()?,
        everywhere: record.everywhere == Some(true),
        build: BuildId::parse(record.id.as_str()).ok()?,
        announced,
        checks: usize::try_from(record.looks.unwrap_or(0)).unwrap_or(CHECK_DELAYS.len()),
        refusals: sweep_record::refusals(record),
        spared: spared(observed, images),
    })
}

fn regions(record: &SweepRecord) -> Option<Vec<Region>> {
    let home = Region::parse(record.region.as_str()).ok()?;
    let others = record.regions.iter().flatten().filter_map(|region| Region::parse(region.as_str()).ok());
    Some(std::iter::once(home).chain(others).collect())
}

/// Returns every image that is known to be a result, with its snapshots.
fn spared(observed: &Observed, images: &[Located]) -> BTreeSet<String> {
    let history = observed.history().iter().filter_map(|record| record.images.as_ref()).flatten().cloned();
    let status = observed.status.images.iter().flatten().map(|image| image.id.clone());
    let mut spared: BTreeSet<String> = history.chain(status).collect();
    for located in images {
        if located.tag(tags::STATUS).is_some() || spared.contains(located.image.id.as_str()) {
            spared.extend(located.resources());
        }
    }
    spared
}
