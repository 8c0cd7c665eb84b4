//! Determines the outcome of a run from how Packer ended and what it printed, and renders the report so that it fits
//! into the termination message of a pod. Pure.

use crate::lines::cut;
use crate::request::{Artifact, Outcome, Report, ResourceKind};

/// Kubernetes truncates the termination message of a container to 4096 bytes, which would leave
/// incomplete JSON.
pub const LARGEST: usize = 4000;
/// Number of errors that are kept as long as there is room; the first one is the cause.
const FEW_ERRORS: usize = 3;
/// Errors and output lines are not truncated below this length.
const SHORTEST_ERROR: usize = 200;

/// How Packer's first process ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Exited(i32),
    /// The signal that killed it; `None` if it did not exit even after SIGKILL.
    Killed(Option<i32>),
    /// Why it was not started.
    NotStarted(String),
}

/// Why a run was stopped early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Cancelled,
    Limit,
}

/// Returns the outcome of `packer build`, or of an earlier command that did not exit with 0. A build that
/// exits with 0 and an image although it was being stopped has succeeded: Packer named the image, so it exists.
pub fn outcome(end: &End, artifacts: &[Artifact], stop: Option<Stop>) -> Outcome {
    match (end, stop) {
        (End::Exited(0), _) if !artifacts.is_empty() => Outcome::Succeeded,
        (End::NotStarted(_), None) => Outcome::NotStarted,
        (_, Some(Stop::Cancelled)) => Outcome::Cancelled,
        (_, Some(Stop::Limit)) => Outcome::TimedOut,
        (End::Exited(0), None) => Outcome::NoArtifact,
        (_, None) => Outcome::Failed,
    }
}

/// Returns an error message to add to Packer's own errors if Packer did not exit by itself.
pub fn remark(end: &End) -> Option<String> {
    match end {
        End::Exited(_) => None,
        End::Killed(Some(signal)) => Some(format!("packer was terminated by signal {signal}")),
        End::Killed(None) => Some("packer did not exit after SIGKILL".to_owned()),
        End::NotStarted(reason) => Some(reason.clone()),
    }
}

/// Returns the report as JSON of at most [`LARGEST`] bytes. It drops errors after the cause first and truncates long
/// texts, then drops the output of scripts, then announced resources, which garbage collection also finds by tag. A
/// successful report never omits images, because a partial list would be promoted. If the images do not fit, the run
/// is reported as failed.
pub fn render(mut report: Report) -> (Report, String) {
    loop {
        let json = serde_json::to_string(&report).expect("a report has only string keys");
        if json.len() <= LARGEST {
            return (report, json);
        }
        shrink(&mut report);
    }
}

fn shrink(report: &mut Report) {
    if report.errors.len() > FEW_ERRORS {
        report.errors.pop();
    } else if let Some(longest) = longest(report).filter(|text| text.len() > SHORTEST_ERROR) {
        *longest = cut(longest, SHORTEST_ERROR.max(longest.len() / 2));
    } else if report.errors.len() > 1 {
        report.errors.pop();
    } else if !report.output.is_empty() {
        report.output.remove(0);
    } else if !report.resources.is_empty() {
        let tagged = |kind| !matches!(kind, ResourceKind::Region | ResourceKind::Image);
        let first = report.resources.iter().position(|resource| tagged(resource.kind));
        report.resources.remove(first.unwrap_or(0));
    } else {
        let images = std::mem::take(&mut report.artifacts).len();
        report.errors = vec![format!("packer reported {images} images, more than a report can hold")];
        if report.outcome == Outcome::Succeeded {
            report.outcome = Outcome::Failed;
        }
    }
}

fn longest(report: &mut Report) -> Option<&mut String> {
    report.errors.iter_mut().chain(&mut report.output).max_by_key(|text| text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Command, Resource};

    fn artifact(region: &str) -> Artifact {
        Artifact {
            region: region.into(),
            image: "ami-0123456789abcdef0".into(),
            build: "amazon-ebs.node".into(),
        }
    }

    fn report(errors: Vec<String>) -> Report {
        let resource = Resource { kind: ResourceKind::Instance, id: "i-0502e3594373eef5d".into() };
        Report {
            outcome: Outcome::Succeeded,
            command: Some(Command::Build),
            exit: Some(0),
            artifacts: vec![artifact("us-east-1")],
            resources: vec![resource],
            place: None,
            build: None,
            errors,
            output: Vec::new(),
            started_at: 1,
            ended_at: 2,
        }
    }

    #[test]
    fn outcomes() {
        let image = [artifact("us-east-1")];
        let cases = [
            (End::Exited(0), true, None, Outcome::Succeeded),
            (End::Exited(0), true, Some(Stop::Cancelled), Outcome::Succeeded),
            (End::Exited(0), true, Some(Stop::Limit), Outcome::Succeeded),
            (End::Exited(0), false, None, Outcome::NoArtifact),
            (End::Exited(0), false, Some(Stop::Cancelled), Outcome::Cancelled),
            (End::Exited(1), true, None, Outcome::Failed),
            (End::Exited(1), true, Some(Stop::Cancelled), Outcome::Cancelled),
            (End::Exited(1), false, Some(Stop::Limit), Outcome::TimedOut),
            (End::Killed(Some(9)), true, None, Outcome::Failed),
            (End::Killed(None), false, Some(Stop::Limit), Outcome::TimedOut),
            (End::NotStarted("absent".into()), false, None, Outcome::NotStarted),
            (End::NotStarted("stopped".into()), false, Some(Stop::Cancelled), Outcome::Cancelled),
        ];
        for (end, has_image, stop, expected) in cases {
            let artifacts = if has_image { &image[..] } else { &[] };
            assert_eq!(outcome(&end, artifacts, stop), expected, "{end:?} {has_image} {stop:?}");
        }
    }

    #[test]
    fn the_cause_stays_and_texts_are_cut_between_characters() {
        let long = |n| format!("{n} {}", "ä\n\"".repeat(300));
        let output = (0..8).map(long).collect();
        let (kept, json) = render(Report { output, ..report((0..40).map(long).collect()) });
        assert!(json.len() <= LARGEST);
        assert!(kept.errors[0].starts_with("0 ") && kept.errors.len() <= FEW_ERRORS, "{:?}", kept.errors);
        assert!(kept.output.last().is_some_and(|line| line.starts_with("7 ")), "{:?}", kept.output);
        assert_eq!((kept.artifacts.len(), kept.resources.len()), (1, 1));
        let (kept, json) = render(report(vec!["ä".repeat(20_000)]));
        assert!(json.len() <= LARGEST && kept.errors[0].ends_with('…'));
    }

    #[test]
    fn regions_and_images_outlast_what_is_found_by_tag() {
        let many =
            |kind, lead: &str| (0..100).map(|n| Resource { kind, id: format!("{lead}{n:032}") }).collect();
        let mut resources: Vec<Resource> = many(ResourceKind::Instance, "i-");
        resources.push(Resource { kind: ResourceKind::Region, id: "eu-west-1".into() });
        let (kept, json) = render(Report { resources, ..report(vec!["red".into()]) });
        assert!(json.len() <= LARGEST && kept.resources.len() < 101);
        assert!(kept.resources.iter().any(|resource| resource.kind == ResourceKind::Region));
    }

    #[test]
    fn images_of_a_success_are_all_there_or_it_is_none() {
        let regions =
            |count: usize| (0..count).map(|n| artifact(&format!("us-east-{n}"))).collect::<Vec<_>>();
        let (kept, _) = render(Report { artifacts: regions(34), ..report(vec!["noise".repeat(900)]) });
        assert_eq!((kept.outcome, kept.artifacts.len()), (Outcome::Succeeded, 34));
        let (kept, json) = render(Report { artifacts: regions(90), ..report(vec![]) });
        assert_eq!((kept.outcome, kept.artifacts.len()), (Outcome::Failed, 0));
        assert!(kept.errors[0].contains("90 images") && json.len() <= LARGEST);
    }
}
