//! `opsy man`: prints the manual page, or writes one page per subcommand to a directory.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory;
use clap_mangen::{Man, generate_to};

use crate::telemetry::out;

#[derive(clap::Args)]
pub struct Args {
    /// Write the pages of all subcommands to this directory instead
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the page, or writes all of them.
pub fn run<C: CommandFactory>(args: &Args) -> anyhow::Result<ExitCode> {
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        Man::new(C::command()).render(&mut page)?;
        out::bytes(&page)?;
        return Ok(ExitCode::SUCCESS);
    };
    let failed = || format!("{} cannot be written", dir.display());
    fs::create_dir_all(dir).with_context(failed)?;
    generate_to(C::command(), dir).with_context(failed)?;
    out::line(dir.display())?;
    Ok(ExitCode::SUCCESS)
}
