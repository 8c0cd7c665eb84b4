//! `opsy suspend KIND/NAME` suspends an object during an incident, without a commit. `opsy resume KIND/NAME` resumes
//! it, also after a canceled build.

use std::process::ExitCode;

use anyhow::bail;

use super::annotate::{InGit, Named};
use super::target;
use crate::api::Kind;
use crate::api::annotations::{CANCEL, SUSPEND};
use crate::telemetry::out;

/// Suspends an object: nothing new is started for it.
pub fn suspend(args: &Named) -> anyhow::Result<ExitCode> {
    target::wait(async {
        let live = args.find().await?;
        live.annotate(SUSPEND, Some("true")).await?;
        let goes_on = match args.target.kind {
            Kind::PackerBuilder => "a running build continues (opsy cancel stops it)",
            Kind::AMIRefresher => "running updates of node groups finish, and no new one starts",
        };
        let (name, place, later) = (&live.name, live.place(), live.later());
        out::line(format_args!("{name} suspended ({place}); {goes_on}{later}"))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Removes the annotations of `suspend` and `cancel`. Fails if the manifest still suspends the object.
pub fn resume(args: &Named) -> anyhow::Result<ExitCode> {
    target::wait(async {
        let live = args.find().await?;
        let own = |annotation: &&str| !live.git.replaces.contains(annotation);
        for annotation in [SUSPEND, CANCEL].into_iter().filter(own) {
            live.annotate(annotation, None).await?;
        }
        let (name, place) = (&live.name, live.place());
        if let Some(why) = still_suspended(&live.git) {
            bail!("{name} is still suspended ({place}): {why}");
        }
        out::line(format_args!("{name} resumed ({place}){}", live.later()))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Returns what suspends the object in Git, and what to change there.
fn still_suspended(git: &InGit) -> Option<String> {
    let file = git.file.as_deref().unwrap_or("its manifest");
    let found = [
        git.annotation.then(|| format!("the annotation {SUSPEND}")),
        git.cancels.then(|| format!("the annotation {CANCEL}")),
        git.spec.then(|| "spec.suspend: true".to_owned()),
    ];
    let found: Vec<String> = found.into_iter().flatten().collect();
    let found = found.join(" and ");
    (!found.is_empty())
        .then(|| format!("its manifest suspends it; remove {found} from {file} and push the commit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_suspends_by_the_annotation_or_by_the_spec() {
        let file = || Some("builders/node.yaml".to_owned());
        let git = |annotation, spec| InGit { file: file(), annotation, spec, ..InGit::default() };
        assert_eq!(still_suspended(&git(false, false)), None);
        for (git, expected) in [
            (
                git(true, false),
                "its manifest suspends it; remove the annotation ami.opsy.dev/suspend from \
                 builders/node.yaml and push the commit",
            ),
            (
                InGit { file: None, ..git(false, true) },
                "its manifest suspends it; remove spec.suspend: true from its manifest and push the commit",
            ),
            (
                git(true, true),
                "its manifest suspends it; remove the annotation ami.opsy.dev/suspend and spec.suspend: true \
                 from builders/node.yaml and push the commit",
            ),
            (
                InGit { cancels: true, ..git(false, false) },
                "its manifest suspends it; remove the annotation ami.opsy.dev/cancel from builders/node.yaml and \
                 push the commit",
            ),
        ] {
            assert_eq!(still_suspended(&git).as_deref(), Some(expected));
        }
    }
}
