//! `opsy cancel KIND/NAME`: stops the build under way.

use std::process::ExitCode;

use anyhow::bail;

use super::annotate::Named;
use super::target;
use crate::api::Kind;
use crate::api::annotations::CANCEL;
use crate::telemetry::out;

/// What `jobStatus` says of a run that is not over.
const LIVE: [&str; 2] = ["Pending", "Running"];

/// Names the build to stop, as its builder's status knows it.
pub fn run(args: &Named) -> anyhow::Result<ExitCode> {
    if args.target.kind == Kind::AMIRefresher {
        bail!("a node group's update cannot be cancelled; opsy suspend {} has no other begun", args.target);
    }
    target::wait(async {
        let live = args.find().await?;
        let (build, word) = (live.status("buildID"), live.status("jobStatus").unwrap_or("none"));
        let Some(build) = build.filter(|_| LIVE.contains(&word)) else {
            bail!("{}: no build is under way (the last: {word})", live.name);
        };
        live.annotate(CANCEL, Some(build)).await?;
        let name = &live.name;
        out::line(format_args!(
            "{name}: build {build} is to stop; it cleans up first, which may take minutes"
        ))?;
        Ok(ExitCode::SUCCESS)
    })
}
