//! The two Packers that builds are tested with: the oldest that Opsy supports, and a current one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::world::run;

/// A version of Packer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packer {
    /// Packer 1.6 in PATH, as Debian packages it, with its builders compiled in.
    Old,
    /// A current Packer with its Amazon plugin, in the directory that `OPSY_BED_PACKER` names.
    Current,
}

impl Packer {
    pub const BOTH: [Self; 2] = [Self::Old, Self::Current];

    /// The IAM policies that the agent and a build need in addition to `agent.json` and `build.json`: Packer 1.6 creates
    /// some resources without tags.
    pub fn policies(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Old => (&["optional/agent-packer-1.6.json"], &["optional/build-packer-1.6.json"]),
            Self::Current => (&[], &[]),
        }
    }

    /// Makes `opsy` use this Packer for builds.
    pub fn choose(self, opsy: &mut Command) {
        if self == Self::Current {
            let folder = folder();
            opsy.env("OPSY_PACKER", folder.join("packer")).env("OPSY_PACKER_PLUGINS", folder.join("plugins"));
        }
    }
}

/// The directory of the current Packer and its plugins.
pub fn folder() -> PathBuf {
    let folder = PathBuf::from(std::env::var_os("OPSY_BED_PACKER").unwrap_or_default());
    assert!(
        folder.join("packer").is_file(),
        "OPSY_BED_PACKER ({}) is not a directory with a current Packer: run the tests with `make test`, or set it to \
         the output of tests/bed/bin/packer",
        folder.display()
    );
    folder
}

#[test]
fn an_older_go_is_refused_with_the_version_that_the_readme_states() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let bin = tempfile::tempdir().expect("a directory");
    let check = |version: &str| {
        let program = bin.path().join("go");
        std::fs::write(&program, format!("#!/bin/sh\necho {version}\n")).expect("a program");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("a program");
        let mut command = Command::new(root.join("tests/bed/bin/go-check"));
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", bin.path().display()));
        run(command)
    };
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let stated = readme.split_once("Rust 1.95, Go ").expect("the prerequisites").1;
    let stated = stated.split_whitespace().next().expect("a version");
    for (version, is_enough) in
        [("go1.24.9", false), ("go1.26.2", false), (&format!("go{stated}"), true), ("go1.30rc1", true)]
    {
        let outcome = check(version);
        assert_eq!(outcome.status.success(), is_enough, "{version}: {outcome:?}");
        let message = format!("missing: Go {stated} or newer (found: {}", version.trim_start_matches("go"));
        assert!(is_enough || outcome.stderr.contains(&message), "{outcome:?}");
    }
}
