//! The checks of Packer: the binary of this machine, or the images of build pods.

use super::super::standalone;
use super::Checks;
use super::report::{Check, Group};
use crate::engine::standalone::packer;
use crate::settings::AccessFlags;

const GROUP: Group = Group::Packer;

pub async fn check(flags: &AccessFlags) -> Checks {
    if flags.cluster.is_kubernetes() {
        return images(flags);
    }
    vec![program(flags).await, plugins(flags)]
}

async fn program(flags: &AccessFlags) -> Check {
    const NAME: &str = "packer";
    const REMEDY: &str = "Install Packer, or name the binary with --packer.";
    match standalone::packer(&flags.packer) {
        Ok(program) => match packer::version(&program).await {
            Ok(version) => GROUP.passed(NAME, format!("{version} ({program})")),
            Err(why) => GROUP.failed(NAME, format!("{program} cannot be run: {why}"), REMEDY),
        },
        Err(error) => GROUP.failed(NAME, error.to_string(), REMEDY),
    }
}

fn plugins(flags: &AccessFlags) -> Check {
    const NAME: &str = "plugins";
    match standalone::plugins(flags) {
        Ok(Some(dir)) if std::fs::read_dir(&dir).is_err() => GROUP.failed(
            NAME,
            format!("{} cannot be read", dir.display()),
            "Make the directory of --packer-plugins readable for the user that runs opsy.",
        ),
        Ok(Some(dir)) => GROUP.passed(NAME, format!("all builds share {}", dir.display())),
        Ok(None) => GROUP.skipped(NAME, "--packer-plugins is not set: each build installs its plugins"),
        Err(error) => {
            GROUP.failed(NAME, error.to_string(), "Create the directory, or correct --packer-plugins.")
        }
    }
}

fn images(flags: &AccessFlags) -> Checks {
    const REMEDY: &str = "Set --runner-image to an image that contains /opsy-runner: the image of the agent.";
    let runner = match flags.cluster.runner_image.as_str() {
        "" => GROUP.failed("runner image", "--runner-image is not set, so no build can start", REMEDY),
        image => {
            GROUP.skipped("runner image", format!("{image}: only a build shows whether it can be pulled"))
        }
    };
    let packer = format!("{}: only a build shows whether it can be pulled", flags.cluster.packer_image);
    vec![runner, GROUP.skipped("packer image", packer)]
}
