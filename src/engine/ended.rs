//! From the runner's report to an ended run, for both engines. Pure.

use jiff::Timestamp;
use opsy_runner::request as wire;

use super::{Artifact, Failure, ReportDetails, Run, RunFacts, RunState};
use crate::api::ids::BadId;
use crate::api::{ImageId, Region, RunName};

/// The run that a report is about.
pub fn run(name: RunName, facts: RunFacts, report: wire::Report) -> Run {
    let at = |seconds| Timestamp::from_second(seconds).ok();
    let (started_at, ended_at) = (at(report.started_at), at(report.ended_at));
    let (details, resources) = (details(&report), report.resources.clone());
    Run { id: name.to_string(), name, facts, state: state(report), started_at, ended_at, resources, details }
}

/// What the report contains in addition to the outcome.
pub fn details(report: &wire::Report) -> ReportDetails {
    ReportDetails {
        command: report.command,
        place: report.place,
        build: report.build.clone(),
        errors: report.errors.clone(),
        output: report.output.clone(),
        artifacts: report.artifacts.iter().filter_map(|artifact| parsed(artifact).ok()).collect(),
    }
}

fn parsed(artifact: &wire::Artifact) -> Result<Artifact, BadId> {
    let region = Region::parse(artifact.region.as_str())?;
    let image = ImageId::parse(artifact.image.as_str())?;
    Ok(Artifact { region, image, build: artifact.build.clone() })
}

/// The outcome of the run.
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
    let parsed: Result<Vec<_>, _> = artifacts.iter().map(parsed).collect();
    match parsed {
        Ok(artifacts) => RunState::Succeeded(artifacts),
        Err(error) => RunState::Lost(format!("Packer's artifact cannot be read: {error}")),
    }
}
