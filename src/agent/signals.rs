//! SIGINT and SIGTERM, which ask the agent to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals, handled from when this is made. Without a handler, they have no effect on the first process of a
/// container.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Returns when one of them is received.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
