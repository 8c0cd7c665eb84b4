//! What the runner's report says of a run, for either engine. Pure.

use jiff::Timestamp;
use opsy_runner::request as wire;

use super::{Artifact, Failure, Run, RunFacts, RunState};
use crate::api::{ImageId, Region, RunName};

/// A run with a report, as the engine tells it.
pub fn run(name: RunName, facts: RunFacts, report: wire::Report) -> Run {
    let at = |seconds| Timestamp::from_second(seconds).ok();
    let (started_at, ended_at) = (at(report.started_at), at(report.ended_at));
    let resources = resources(&report);
    Run { name, facts, state: state(report), started_at, ended_at, resources }
}

/// What a run may have left.
pub fn resources(report: &wire::Report) -> Vec<wire::Resource> {
    let mut resources = report.resources.clone();
    if report.outcome != wire::Outcome::Succeeded {
        // Images of a run that did not succeed are no result: they are to be looked for as leftovers.
        let image = |artifact: &wire::Artifact| wire::Resource {
            kind: wire::ResourceKind::Image,
            id: artifact.image.clone(),
        };
        resources.extend(report.artifacts.iter().map(image));
    }
    resources
}

pub fn state(report: wire::Report) -> RunState {
    let errors = report.errors;
    match report.outcome {
        wire::Outcome::Succeeded => succeeded(&report.artifacts),
        wire::Outcome::Failed => RunState::Failed(Failure::Packer { exit: report.exit, errors }),
        wire::Outcome::NoArtifact => RunState::Failed(Failure::NoArtifact { errors }),
        wire::Outcome::TimedOut => RunState::Failed(Failure::TimedOut),
        wire::Outcome::Cancelled => RunState::Failed(Failure::Cancelled),
        wire::Outcome::NotStarted => RunState::Failed(Failure::NotStarted(errors.join("; "))),
        wire::Outcome::Lost => RunState::Lost(errors.join("; ")),
    }
}

fn succeeded(artifacts: &[wire::Artifact]) -> RunState {
    let parsed: Result<Vec<_>, _> = artifacts
        .iter()
        .map(|artifact| {
            let region = Region::parse(artifact.region.as_str())?;
            ImageId::parse(artifact.image.as_str()).map(|image| Artifact { region, image })
        })
        .collect();
    match parsed {
        Ok(artifacts) => RunState::Succeeded(artifacts),
        Err(error) => RunState::Lost(format!("Packer's artifact cannot be read: {error}")),
    }
}
