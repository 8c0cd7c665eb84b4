//! `opsy suspend KIND/NAME` and `opsy resume KIND/NAME`: for an incident, without a commit.

use std::process::ExitCode;

use super::annotate::Named;
use super::target;
use crate::api::Kind;
use crate::api::annotations::SUSPEND;

/// Has nothing new started.
pub fn suspend(args: &Named) -> anyhow::Result<ExitCode> {
    target::wait(async {
        let live = args.find().await?;
        live.annotate(SUSPEND, Some("true")).await?;
        let goes_on = match args.target.kind {
            Kind::PackerBuilder => "a build under way goes on (opsy cancel stops it)",
            Kind::AMIRefresher => "node groups being updated finish, no other is begun",
        };
        println!("{}: suspended; {goes_on}", live.name);
        Ok(ExitCode::SUCCESS)
    })
}

/// Takes that back.
pub fn resume(args: &Named) -> anyhow::Result<ExitCode> {
    target::wait(async {
        let live = args.find().await?;
        live.annotate(SUSPEND, None).await?;
        println!("{}: resumed", live.name);
        if live.object.data["spec"]["suspend"] == true {
            println!("{}: spec.suspend is true, so it stays suspended until Git says otherwise", live.name);
        }
        Ok(ExitCode::SUCCESS)
    })
}
