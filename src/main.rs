//! The program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    opsy::cli::main().unwrap_or_else(|error| {
        opsy::telemetry::out::error(opsy::cli::words(&error));
        ExitCode::FAILURE
    })
}
