//! `opsy reconcile KIND/NAME`: triggers a reconciliation and prints its result. It fails if the object is not ready.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;

use super::annotate;
use super::ready::{is_ready, summary};
use super::{format_error, target};
use crate::api::annotations::RECONCILE_AT;
use crate::telemetry::out;

/// How often to check whether the reconciliation is done.
const LOOK: Duration = Duration::from_millis(300);
/// The field of status with the last request that was handled.
const HANDLED: &str = "lastHandledReconcileAt";

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
        // Written before this request, whatever time it names.
        let before = live.status(HANDLED);
        live.annotate(RECONCILE_AT, Some(&asked.to_string())).await?;
        out::line(format_args!("{name} reconciliation requested ({place}){}", live.later()))?;
        if !live.has_agent() || args.timeout.is_zero() {
            return Ok(ExitCode::SUCCESS);
        }
        let mut failed = None;
        let request = Request { asked, before };
        let read = async || live.status_now(RECONCILE_AT).await;
        let Ok(status) = tokio::time::timeout(args.timeout, handled(read, request, &mut failed)).await else {
            let seconds = args.timeout.as_secs();
            let check = match failed {
                Some(error) => format!("its status was not read at last: {error}"),
                None => "check that an agent is running for this namespace".to_owned(),
            };
            anyhow::bail!(
                "{name} was not reconciled within {seconds} s ({place}); {check}, or wait longer with --timeout"
            );
        };
        let status = status.with_context(|| format!("the result for {name} cannot be read ({place})"))?;
        out::line(format_args!("{name}: {}", summary(&status)))?;
        Ok(if is_ready(&status) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// A request, among those of other people, who may replace it at any time.
#[derive(Clone, Copy)]
struct Request<'a> {
    asked: Timestamp,
    /// What was handled last before this request.
    before: Option<&'a str>,
}

/// Waits for the reconciliation; returns the status that it wrote. `failed` is the error of the last read, if it failed.
///
/// # Errors
/// The status cannot be read, and will not be later: the object was deleted, or the user may not read it.
#[expect(clippy::disallowed_methods, reason = "a command waits for an agent in another process")]
async fn handled(
    read: impl AsyncFn() -> anyhow::Result<(Value, Option<String>)>,
    request: Request<'_>,
    failed: &mut Option<String>,
) -> anyhow::Result<Value> {
    loop {
        match read().await {
            Ok((status, requested)) if request.is_handled(&status, requested.as_deref()) => {
                return Ok(status);
            }
            Ok(_) => *failed = None,
            Err(error) if target::is_permanent(&error) => return Err(error),
            Err(error) => *failed = Some(format_error(&error)),
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Request<'_> {
    /// Whether it is handled, or a request that was written after it.
    fn is_handled(self, status: &Value, requested: Option<&str>) -> bool {
        let Some(handled) = status[HANDLED].as_str() else { return false };
        if handled == self.asked.to_string() {
            return true;
        }
        let is_later = handled.parse::<Timestamp>().is_ok_and(|handled| handled >= self.asked);
        // The clock of another person may be ahead: what was handled before is no result of this request. What is
        // requested now was written last, whatever time it names.
        self.before != Some(handled) && (is_later || requested == Some(handled))
    }
}

#[expect(clippy::disallowed_methods, reason = "a new value of the annotation, which people read")]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "2026-01-01T00:00:00Z";
    const OWN: &str = "2026-01-01T00:00:01Z";
    const AFTER: &str = "2026-01-01T00:00:02Z";

    fn request(before: Option<&str>) -> Request<'_> {
        Request { asked: OWN.parse().expect("a time"), before }
    }

    fn status(handled: Option<&str>) -> Value {
        serde_json::json!({ HANDLED: handled })
    }

    #[test]
    fn a_request_is_handled_with_its_own_time_or_by_a_later_request() {
        for (before, handled, requested, expected) in [
            (None, None, OWN, false),
            (None, Some(OWN), OWN, true),
            // Handled before, and not read any more.
            (None, Some(BEFORE), OWN, false),
            (None, Some("by hand"), OWN, false),
            // Another person asked later, and this is handled, or not yet.
            (None, Some(AFTER), AFTER, true),
            (None, Some(OWN), AFTER, true),
            (None, Some(BEFORE), AFTER, false),
            (None, Some(AFTER), "2026-01-01T00:00:03Z", true),
            // The request of another person was written later, although it names an earlier time or none.
            (None, Some(BEFORE), BEFORE, true),
            (None, Some("by hand"), "by hand", true),
            // The result of a request before, by a clock that is ahead.
            (Some(AFTER), Some(AFTER), OWN, false),
            (Some(AFTER), Some(AFTER), AFTER, false),
            (Some(AFTER), Some(OWN), OWN, true),
            (Some(AFTER), Some("2026-01-01T00:00:03Z"), OWN, true),
            (Some(AFTER), Some(BEFORE), BEFORE, true),
            (Some("by hand"), Some("by hand"), OWN, false),
            // Two requests at the same moment.
            (Some(OWN), Some(OWN), OWN, true),
        ] {
            assert_eq!(
                request(before).is_handled(&status(handled), Some(requested)),
                expected,
                "{before:?} {handled:?} {requested}"
            );
        }
    }

    #[tokio::test]
    async fn only_an_error_that_remains_ends_the_wait() {
        let refused = |code: u16| {
            let status = kube::core::Status { code, message: "no".to_owned(), ..Default::default() };
            target::refused(kube::Error::Api(Box::new(status)))
        };
        for (code, ends) in [(403, true), (404, true), (401, false), (500, false), (503, false)] {
            let reads = std::cell::Cell::new(0);
            let read = async || {
                reads.set(reads.get() + 1);
                if reads.get() == 1 { Err(refused(code)) } else { Ok((status(Some(OWN)), None)) }
            };
            let mut failed = None;
            let result = handled(read, request(None), &mut failed).await;
            assert_eq!((result.is_err(), reads.get() == 1), (ends, ends), "{code}: {result:?}");
            assert_eq!(failed.is_none(), ends, "{code}: {failed:?}");
        }
    }
}
