//! `opsy reconcile KIND/NAME`: triggers a reconciliation and prints its result. It fails if the object is not ready.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::annotate::{self, Live};
use super::ready::{is_ready, summary};
use super::{format_error, target};
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
        let asked = now();
        live.annotate(RECONCILE_AT, Some(&asked.to_string())).await?;
        out::line(format_args!("{name} reconciliation requested ({place}){}", live.later()))?;
        if !live.has_agent() || args.timeout.is_zero() {
            return Ok(ExitCode::SUCCESS);
        }
        let mut failed = None;
        let result = tokio::time::timeout(args.timeout, handled(&live, asked, &mut failed)).await;
        let Ok(status) = result else {
            let seconds = args.timeout.as_secs();
            let check = match failed {
                Some(error) => format!("its status was not read at last: {error}"),
                None => "check that an agent is running for this namespace".to_owned(),
            };
            anyhow::bail!(
                "{name} was not reconciled within {seconds} s ({place}); {check}, or wait longer with --timeout"
            );
        };
        out::line(format_args!("{name}: {}", summary(&status)))?;
        Ok(if is_ready(&status) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Waits for the reconciliation; returns the status that it wrote. `failed` is the error of the last read, if it failed.
#[expect(clippy::disallowed_methods, reason = "a command waits for an agent in another process")]
async fn handled(live: &Live, asked: Timestamp, failed: &mut Option<String>) -> Value {
    loop {
        match live.status_now(RECONCILE_AT).await {
            Ok((status, requested)) if is_handled(&status, requested.as_deref(), asked) => return status,
            Ok(_) => *failed = None,
            Err(error) => *failed = Some(format_error(&error)),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether the request of this time is handled, or a later one: another person may replace it at any time.
fn is_handled(status: &Value, requested: Option<&str>, asked: Timestamp) -> bool {
    let Some(handled) = status["lastHandledReconcileAt"].as_str() else { return false };
    let is_later = handled.parse::<Timestamp>().is_ok_and(|handled| handled >= asked);
    // What is requested now was written last, whatever time it names.
    is_later || (requested == Some(handled) && handled != asked.to_string())
}

#[expect(clippy::disallowed_methods, reason = "a new value of the annotation, which people read")]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_handled_with_its_own_time_or_by_a_later_request() {
        let asked: Timestamp = "2026-01-01T00:00:01Z".parse().expect("a time");
        let (before, own, after) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z");
        for (handled, requested, expected) in [
            (None, own, false),
            (Some(own), own, true),
            // Handled before, and not read any more.
            (Some(before), own, false),
            (Some("by hand"), own, false),
            // Another person asked later, and this is handled, or not yet.
            (Some(after), after, true),
            (Some(own), after, true),
            (Some(before), after, false),
            (Some(after), "2026-01-01T00:00:03Z", true),
            // The request of another person was written later, although it names an earlier time or none.
            (Some(before), before, true),
            (Some("by hand"), "by hand", true),
        ] {
            let status = serde_json::json!({ "lastHandledReconcileAt": handled });
            assert_eq!(is_handled(&status, Some(requested), asked), expected, "{handled:?} {requested}");
        }
    }
}
