//! `opsy reconcile KIND/NAME`: triggers a reconciliation and prints its result. It fails if the object is not ready.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::annotate::{self, Live};
use super::ready::{is_ready, summary};
use super::target;
use crate::api::annotations::RECONCILE_AT;
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

/// Triggers a reconciliation and waits for it. The exit code is 1 if the object is not ready afterwards.
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
        let status = status?;
        out::line(format_args!("{name}: {}", summary(&status)))?;
        Ok(if is_ready(&status) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

#[expect(clippy::disallowed_methods, reason = "a new value of the annotation, which people read")]
fn now() -> Timestamp {
    Timestamp::now()
}
