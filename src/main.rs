//! The program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    opsy::cli::main().unwrap_or_else(|error| {
        eprintln!("opsy: {error:#}");
        ExitCode::FAILURE
    })
}
