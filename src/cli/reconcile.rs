//! `opsy reconcile KIND/NAME`: has the agent look at an object anew, and says what it found.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::annotate::{self, Live};
use super::target;
use crate::api::annotations::RECONCILE_AT;
use crate::api::conditions::READY;
use crate::telemetry::out;

/// How often to look whether the pass was made.
const LOOK: Duration = Duration::from_millis(300);

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    object: annotate::Named,
    /// How long to wait for the pass; 0s does not wait.
    #[arg(long, default_value = "60s", value_parser = crate::api::duration::parse)]
    timeout: Duration,
}

/// Asks for a pass and waits for it.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    target::wait(async {
        let live = args.object.find().await?;
        let asked = now().to_string();
        live.annotate(RECONCILE_AT, Some(&asked)).await?;
        if !live.has_agent() {
            out::line(format_args!(
                "{}: noted; the next opsy run with this state folder does it",
                live.name
            ))?;
            return Ok(ExitCode::SUCCESS);
        }
        out::line(format_args!("{}: asked to look anew", live.name))?;
        if args.timeout.is_zero() {
            return Ok(ExitCode::SUCCESS);
        }
        let told = tokio::time::timeout(args.timeout, handled(&live, &asked)).await;
        let Ok(told) = told else {
            let seconds = args.timeout.as_secs();
            anyhow::bail!("no pass was made within {seconds} s: does an agent work in this namespace?");
        };
        out::line(format_args!("{}: {}", live.name, words(&told?)))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Waits for the pass; answers the status it wrote.
#[expect(clippy::disallowed_methods, reason = "a command waits for an agent that is elsewhere")]
async fn handled(live: &Live, asked: &str) -> anyhow::Result<Value> {
    loop {
        let status = live.status_now().await?;
        if status["lastHandledReconcileAt"] == asked {
            return Ok(status);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// How it stands, in one line.
fn words(status: &Value) -> String {
    let ready = status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == READY);
    let text = |field: &str| ready.and_then(|ready| ready[field].as_str()).unwrap_or("-").to_owned();
    format!("Ready={} {}: {}", text("status"), text("reason"), text("message"))
}

#[expect(clippy::disallowed_methods, reason = "a new value of the annotation, which people read")]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_it_stands_is_one_line() {
        let ready =
            serde_json::json!({"type": "Ready", "status": "True", "reason": "UpToDate", "message": "x"});
        assert_eq!(words(&serde_json::json!({"conditions": [ready]})), "Ready=True UpToDate: x");
        assert_eq!(words(&Value::Null), "Ready=- -: -");
    }
}
