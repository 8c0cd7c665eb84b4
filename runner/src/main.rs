//! The static binary that an init container copies next to Packer. `install DIR` copies it (to the directory given by
//! `--runner`, if set) and unpacks the contents of `--from`; `run DIR` supervises one Packer run. Everything else is in
//! the library.

use std::env;
use std::path::Path;
use std::process::ExitCode;

const USAGE: &str =
    "usage: opsy-runner run DIR | opsy-runner install DIR [--from CONFIG_DIR] [--runner RUNNER_DIR]";
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let args: Vec<String> = env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["run", dir] => opsy_runner::run(Path::new(dir)),
        ["install", dir] => install(dir, None, None),
        ["install", dir, "--from", from] | ["install", "--from", from, dir] => install(dir, Some(from), None),
        ["install", dir, "--from", from, "--runner", runner] => install(dir, Some(from), Some(runner)),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn install(dir: &str, from: Option<&str>, runner: Option<&str>) -> ExitCode {
    match opsy_runner::install(Path::new(dir), from.map(Path::new), runner.map(Path::new)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("opsy-runner: installing into {dir}: {error}");
            ExitCode::FAILURE
        }
    }
}
