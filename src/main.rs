//! The `opsy` program. All of its code is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    opsy::cli::main().unwrap_or_else(|error| {
        opsy::telemetry::out::error(opsy::cli::format_error(&error));
        ExitCode::FAILURE
    })
}
