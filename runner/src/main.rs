//! The static binary that an init container copies next to Packer: `install DIR` copies it,
//! `run DIR` supervises one Packer run. Everything else is in the library.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

const USAGE: &str = "usage: opsy-runner run DIR | opsy-runner install DIR";
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut args: Vec<OsString> = env::args_os().skip(1).collect();
    let dir = args.pop().map(PathBuf::from);
    match (args.as_slice(), dir) {
        ([verb], Some(dir)) if verb == "run" => opsy_runner::run(&dir),
        ([verb], Some(dir)) if verb == "install" => match install(&dir) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("opsy-runner: installing into {}: {error}", dir.display());
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

/// Copies this executable to `dir/opsy-runner`; a scratch image has no `cp` to do it with. By
/// rename, so that a repeated init container never leaves half a binary.
fn install(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let part = dir.join(".opsy-runner.part");
    fs::copy(env::current_exe()?, &part)?;
    fs::set_permissions(&part, fs::Permissions::from_mode(0o755))?;
    fs::rename(&part, dir.join("opsy-runner"))
}
