//! Logs, metrics and health. For machines, logs are JSON. For people, they contain only errors and what no reconcile
//! reports (`cli::progress` prints that), such as an unreadable repository or a rejected push of status.

pub mod health;
pub mod listen;
pub mod metrics;
pub mod out;
mod process;

use tracing_subscriber::EnvFilter;

/// Starts logging to standard error. `OPSY_LOG` holds a filter such as `debug` or `opsy=debug`.
pub fn start(people: bool) {
    let default = if people { "error,opsy::sync=warn,opsy::publish=warn" } else { "info" };
    let filter = EnvFilter::try_from_env("OPSY_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // If standard error cannot be written to, the failure cannot be logged there either.
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| out::Stderr);
    let logs = logs.log_internal_errors(false);
    if people {
        logs.with_target(false).init();
    } else {
        // The current span has the object; the list would repeat it, with the span of kube.
        logs.json().flatten_event(true).with_span_list(false).init();
    }
}
