//! The clock of the agent.

use jiff::Timestamp;

/// The only place that reads the clock. Whole seconds, as Kubernetes writes times.
#[expect(clippy::disallowed_methods, reason = "all other code gets this function as an argument")]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}
