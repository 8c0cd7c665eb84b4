//! SIGINT and SIGTERM, by which an agent is asked to end.

/// Waits for a signal. For the time before an agent works: as a container's first process nobody ends it
/// unless it does so itself.
pub async fn asked_to_stop() -> std::io::Result<()> {
    Signals::new()?.next().await;
    Ok(())
}

/// SIGINT and SIGTERM.
pub struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    pub fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
