//! `opsy reconcile KIND/NAME`: triggers a reconciliation and prints its result.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::annotate::{self, Live};
use super::target;
use crate::api::annotations::RECONCILE_AT;
use crate::api::conditions::{READY, SUSPENDED};
use crate::telemetry::out;

/// How often to check whether the reconciliation is done.
const LOOK: Duration = Duration::from_millis(300);

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    object: annotate::Named,
    /// Wait this long for the result; 0s does not wait
    #[arg(long, default_value = "60s", value_parser = crate::api::duration::parse)]
    timeout: Duration,
}

/// Triggers a reconciliation and waits for it.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    target::wait(async {
        let live = args.object.find().await?;
        let (name, place) = (&live.name, live.place());
        let asked = now().to_string();
        live.annotate(RECONCILE_AT, Some(&asked)).await?;
        out::line(format_args!("{name} reconciliation requested ({place}){}", live.later()))?;
        if !live.has_agent() || args.timeout.is_zero() {
            return Ok(ExitCode::SUCCESS);
        }
        let result = tokio::time::timeout(args.timeout, handled(&live, &asked)).await;
        let Ok(status) = result else {
            let seconds = args.timeout.as_secs();
            anyhow::bail!(
                "{name} was not reconciled within {seconds} s ({place}); check that an agent is running for \
                 this namespace, or wait longer with --timeout"
            );
        };
        out::line(format_args!("{name}: {}", summary(&status?)))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Waits for the reconciliation; returns the status that it wrote.
#[expect(clippy::disallowed_methods, reason = "a command waits for an agent in another process")]
async fn handled(live: &Live, asked: &str) -> anyhow::Result<Value> {
    loop {
        let status = live.status_now().await?;
        if status["lastHandledReconcileAt"] == asked {
            return Ok(status);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Formats the condition Ready, and Suspended if it is true, in one line.
fn summary(status: &Value) -> String {
    let find = |kind: &str| status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == kind);
    let ready = find(READY);
    let text = |field: &str| ready.and_then(|ready| ready[field].as_str()).unwrap_or("-").to_owned();
    let suspended = find(SUSPENDED).filter(|found| found["status"] == "True");
    let suspended =
        suspended.map(|found| format!("; Suspended: {}", found["message"].as_str().unwrap_or("-")));
    format!(
        "Ready={} {}: {}{}",
        text("status"),
        text("reason"),
        text("message"),
        suspended.unwrap_or_default()
    )
}

#[expect(clippy::disallowed_methods, reason = "a new value of the annotation, which people read")]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_condition_ready_is_one_line() {
        let ready =
            serde_json::json!({"type": "Ready", "status": "True", "reason": "UpToDate", "message": "x"});
        assert_eq!(summary(&serde_json::json!({"conditions": [ready]})), "Ready=True UpToDate: x");
        assert_eq!(summary(&Value::Null), "Ready=- -: -");
        let suspended = serde_json::json!({"type": "Suspended", "status": "True", "message": "y"});
        let status = serde_json::json!({"conditions": [suspended]});
        assert_eq!(summary(&status), "Ready=- -: -; Suspended: y");
    }
}
