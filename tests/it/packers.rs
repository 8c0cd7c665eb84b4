//! The two Packers that builds are tested with: the oldest that Opsy supports, and a current one.

use std::path::PathBuf;
use std::process::Command;

/// A version of Packer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packer {
    /// 1.6 as Debian has it, in PATH: its builders are inside.
    Old,
    /// A current one with its amazon plugin installed, below the folder that `OPSY_BED_PACKER` names.
    Current,
}

impl Packer {
    pub const BOTH: [Self; 2] = [Self::Old, Self::Current];

    /// What the agent and a build with it need beside `agent.json` and `build.json`: 1.6 makes things without tags.
    pub fn policies(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Old => (&["optional/agent-packer-1.6.json"], &["optional/build-packer-1.6.json"]),
            Self::Current => (&[], &[]),
        }
    }

    /// Has `opsy` build with it.
    pub fn choose(self, opsy: &mut Command) {
        if self == Self::Current {
            let folder = folder();
            opsy.env("OPSY_PACKER", folder.join("packer")).env("OPSY_PACKER_PLUGINS", folder.join("plugins"));
        }
    }
}

fn folder() -> PathBuf {
    let folder = PathBuf::from(std::env::var_os("OPSY_BED_PACKER").unwrap_or_default());
    assert!(
        folder.join("packer").is_file(),
        "OPSY_BED_PACKER ({}) names no folder with a current Packer: run the tests by `make test`, or set it to \
         what tests/bed/bin/packer prints",
        folder.display()
    );
    folder
}
