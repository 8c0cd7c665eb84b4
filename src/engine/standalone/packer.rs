//! The version of Packer, for `opsy check`.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Packer prints its version at once. What does not is no Packer.
const LIMIT: Duration = Duration::from_secs(30);

/// Runs `packer version`, and returns its first line.
///
/// # Errors
/// Why it cannot be run, or how it failed.
#[expect(clippy::disallowed_methods, reason = "this engine runs Packer")]
pub async fn version(program: &str) -> Result<String, String> {
    let mut command = Command::new(program);
    // Without the variable, Packer asks a server for newer versions.
    command.arg("version").env("CHECKPOINT_DISABLE", "1").stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(LIMIT, command.output()).await {
        Ok(ended) => ended.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("it did not end within {} s", LIMIT.as_secs())),
    };
    let printed =
        String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr });
    let line = printed.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned();
    match (output.status.success(), line.starts_with("Packer ")) {
        (true, true) => Ok(line),
        (true, false) => Err(format!("it printed {line:?} instead of its version")),
        (false, _) => Err(format!("{}: {line}", output.status)),
    }
}
