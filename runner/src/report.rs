//! What came of a run, from how Packer ended and what it said; and its form that fits into a
//! pod's termination message. Pure.

use crate::lines::cut;
use crate::request::{Artifact, Outcome, Report};

/// Kubernetes keeps 4096 bytes of a container's termination message and cuts the rest, which would
/// leave half a JSON document.
pub const LARGEST: usize = 4000;
/// The last error is not cut below this.
const SHORTEST_ERROR: usize = 200;

/// How Packer's first process ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Exited(i32),
    /// By this signal; `None` when it did not even go on SIGKILL.
    Killed(Option<i32>),
    /// The reason it never ran.
    NotStarted(String),
}

/// Why a run was asked to end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    Cancelled,
    Limit,
}

/// The outcome of `packer build`, or of a command before it that did not exit 0. A build that ended
/// well though it was being stopped has succeeded: Packer named the image, so it is there.
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

/// What to add to Packer's own errors, if they leave something out.
pub fn remark(end: &End) -> Option<String> {
    match end {
        End::Exited(_) => None,
        End::Killed(Some(signal)) => Some(format!("packer was ended by signal {signal}")),
        End::Killed(None) => Some("packer did not end on SIGKILL".to_owned()),
        End::NotStarted(reason) => Some(reason.clone()),
    }
}

/// The report as JSON of at most [`LARGEST`] bytes. Errors go first, oldest first; then announced
/// resources, which a sweep finds by tag as well. Images are never left out of a success: a report
/// with some of them would be promoted, so more than fit is a failure that says so.
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
    let longest_last = report.errors.last().map_or(0, String::len);
    if report.errors.len() > 1 {
        report.errors.remove(0);
    } else if longest_last > SHORTEST_ERROR {
        report.errors[0] = cut(&report.errors[0], SHORTEST_ERROR.max(longest_last / 2));
    } else if !report.resources.is_empty() {
        report.resources.remove(0);
    } else {
        let images = std::mem::take(&mut report.artifacts).len();
        report.errors = vec![format!("packer named {images} images, more than a report can hold")];
        if report.outcome == Outcome::Succeeded {
            report.outcome = Outcome::Failed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Command, Resource, ResourceKind};

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
            errors,
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
    fn errors_go_oldest_first_and_are_cut_between_characters() {
        let (kept, json) = render(report((0..40).map(|n| format!("{n} {}", "ä\n\"".repeat(300))).collect()));
        assert!(json.len() <= LARGEST);
        assert!(kept.errors.last().is_some_and(|error| error.starts_with("39 ")), "{:?}", kept.errors);
        assert_eq!((kept.artifacts.len(), kept.resources.len()), (1, 1));
        let (kept, json) = render(report(vec!["ä".repeat(20_000)]));
        assert!(json.len() <= LARGEST && kept.errors[0].ends_with('…'));
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
