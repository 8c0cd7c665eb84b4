//! `opsy cancel KIND/NAME`: stops the running build.

use std::process::ExitCode;

use anyhow::bail;

use super::annotate::Named;
use super::target;
use crate::api::Kind;
use crate::api::annotations::CANCEL;
use crate::api::words::RunPhase;
use crate::telemetry::out;

/// Values of `jobStatus` while a build runs.
const LIVE: [&str; 2] = [RunPhase::Pending.as_str(), RunPhase::Running.as_str()];

/// Asks the agent to stop the build that the status of the builder names.
pub fn run(args: &Named) -> anyhow::Result<ExitCode> {
    if args.target.kind == Kind::AMIRefresher {
        bail!(
            "the update of a node group cannot be canceled; `opsy suspend {}` prevents the next one",
            args.target
        );
    }
    target::wait(async {
        let live = args.find().await?;
        let (name, place) = (&live.name, live.place());
        let (build, state) = (live.status("buildID"), live.status("jobStatus").unwrap_or("none"));
        if let Some(build) = build.filter(|_| state == RunPhase::Stopping.as_str()) {
            bail!("build {build} of {name} is already being stopped ({place})");
        }
        let Some(build) = build.filter(|_| LIVE.contains(&state)) else {
            bail!("{name} has no running build (last build: {state}) ({place})");
        };
        live.annotate(CANCEL, Some(build)).await?;
        let later = live.later();
        out::line(format_args!(
            "{name} cancellation of build {build} requested ({place}); Packer cleans up first, which can \
             take minutes; run `opsy resume {}` to build again{later}",
            args.target
        ))?;
        Ok(ExitCode::SUCCESS)
    })
}
