//! `opsy approve ar/NAME WAVE`: lets a wave of a rollout start with the image that is rolled out now.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::annotate::Named;
use super::target;
use crate::api::annotations::APPROVE;
use crate::api::checks::closest;
use crate::api::{ImageId, Kind, approvals};
use crate::telemetry::out;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub named: Named,
    /// The wave, as spec.rollout.waves names it
    #[arg(value_name = "WAVE")]
    pub wave: String,
    /// The image to approve; the command fails if it is not the target any more. Default: the current target
    #[arg(value_name = "AMI")]
    pub ami: Option<ImageId>,
}

/// Approves the current target for the wave, in addition to what is approved for other waves.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if args.named.target.kind != Kind::AMIRefresher {
        bail!("{} has no waves: approve a wave of an AMIRefresher, such as ar/demo", args.named.target);
    }
    target::wait(async {
        let live = args.named.find().await?;
        let (name, place, wave) = (&live.name, live.place(), &args.wave);
        check_wave(&live.object["spec"], wave).with_context(|| format!("{name} ({place})"))?;
        let Some(images) = live.status("targetAMI").and_then(images) else {
            bail!("{name} has no target image yet ({place}): approve the wave when `opsy status` shows one");
        };
        if let Some(ami) = args.ami.as_ref().filter(|ami| !images.contains(ami)) {
            let target = live.status("targetAMI").unwrap_or_default();
            bail!("{name} rolls out {target}, not {ami} ({place}): nothing is approved");
        }
        let (target, images) = (images.clone(), args.ami.clone().map_or(images, |ami| vec![ami]));
        live.update(APPROVE, |text| approvals::with(text.unwrap_or_default(), wave, &images, &target))
            .await?;
        let images: Vec<&str> = images.iter().map(ImageId::as_str).collect();
        let (images, later) = (images.join(", "), live.later());
        out::line(format_args!("{name} wave {wave:?} approved for {images} ({place}){later}"))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The images of the target.
fn images(target: &str) -> Option<Vec<ImageId>> {
    target.split(',').map(|image| ImageId::parse(image).ok()).collect()
}

/// The spec must have the wave, and the wave must need an approval.
fn check_wave(spec: &Value, name: &str) -> anyhow::Result<()> {
    let waves = || spec["rollout"]["waves"].as_array().into_iter().flatten();
    let names: Vec<&str> = waves().filter_map(|wave| wave["name"].as_str()).collect();
    let Some(wave) = waves().find(|wave| wave["name"] == name) else {
        let meant = closest(name, names.iter().copied());
        let meant = meant.map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
        match names.as_slice() {
            [] => bail!("spec.rollout.waves names no wave, so none needs an approval"),
            names => bail!("no wave {name:?}; the waves are {}{meant}", names.join(", ")),
        }
    };
    if wave["approval"] != "Required" {
        bail!("wave {name:?} needs no approval: its `approval` is not Required");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wave_must_exist_and_need_an_approval() {
        let spec = serde_json::json!({ "rollout": { "waves": [
            { "name": "canary" }, { "name": "prod", "approval": "Required" },
        ] } });
        let explain = |spec: &Value, name: &str| check_wave(spec, name).map_err(|error| error.to_string());
        assert_eq!(explain(&spec, "prod"), Ok(()));
        for (name, why) in [
            ("canary", "wave \"canary\" needs no approval: its `approval` is not Required"),
            ("prd", "no wave \"prd\"; the waves are canary, prod; did you mean prod?"),
        ] {
            assert_eq!(explain(&spec, name), Err(why.to_owned()));
        }
        let none = "spec.rollout.waves names no wave, so none needs an approval";
        assert_eq!(explain(&Value::Null, "prod"), Err(none.to_owned()));
    }
}
