//! Signals that stop the process, or end it at once: the terminal is restored before, and the view is shown again when the
//! process continues. Nothing else would do it: the process does not run then.

use std::io;
use std::time::Duration;

use rustix::process::{Signal, getpid, kill_process};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::{end, is_paused, pause, resume};

/// How long after a request to stop the process has stopped, unless it cannot be stopped. Then, or after `bg`, this is how
/// often to check whether the view can be shown again.
const LOOK: Duration = Duration::from_secs(1);
/// The exit code of a program that SIGQUIT (Ctrl-\) ends, as shells report it.
const QUIT: i32 = 131;

/// The signals, for the rest of the process: without a receiver, they would do nothing.
pub struct Stops {
    quit: unix::Signal,
    stop: unix::Signal,
    go_on: unix::Signal,
}

impl Stops {
    /// Receives the signals from now on.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            quit: signal(SignalKind::quit())?,
            stop: signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?,
            go_on: signal(SignalKind::from_raw(Signal::CONT.as_raw()))?,
        })
    }

    pub async fn handle(mut self) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = self.quit.recv() => {
                    end();
                    std::process::exit(QUIT);
                }
                _ = self.stop.recv() => {
                    pause();
                    stop();
                    look.reset();
                }
                _ = self.go_on.recv() => resume(),
                _ = look.tick(), if is_paused() => resume(),
            }
        }
    }
}

/// Stops the process. SIGTSTP has a handler, and SIGSTOP would also stop a process that no shell can continue; this signal
/// does not, as SIGTSTP does not.
fn stop() {
    // A process may always send signals to itself.
    let _ = kill_process(getpid(), Signal::TTOU);
}
