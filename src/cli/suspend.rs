//! `opsy suspend KIND/NAME` and `opsy resume KIND/NAME`: for an incident, without a commit.

use std::process::ExitCode;

use super::annotate::Named;
use super::target;
use crate::api::Kind;
use crate::api::annotations::SUSPEND;
use crate::telemetry::out;

/// Has nothing new started.
pub fn suspend(args: &Named) -> anyhow::Result<ExitCode> {
    target::wait(async {
        let live = args.find().await?;
        live.annotate(SUSPEND, Some("true")).await?;
        let goes_on = match args.target.kind {
            Kind::PackerBuilder => "a build under way goes on (opsy cancel stops it)",
            Kind::AMIRefresher => "node groups being updated finish, no other is begun",
        };
        out::line(format_args!("{}: suspended; {goes_on}", live.name))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Takes that back.
pub fn resume(args: &Named) -> anyhow::Result<ExitCode> {
    target::wait(async {
        let live = args.find().await?;
        live.annotate(SUSPEND, None).await?;
        out::line(format_args!("{}: resumed", live.name))?;
        if live.object["spec"]["suspend"] == true {
            let name = live.name;
            out::line(format_args!(
                "{name}: spec.suspend is true, so it stays suspended until Git says otherwise"
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}
