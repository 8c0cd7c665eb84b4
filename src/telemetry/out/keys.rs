//! How a terminal shows the keys that send signals. Its own `^C` would move the cursor away from the view.

use std::io::{self, Stdout};

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

/// The modes of the terminal of standard output before these keys were hidden. They are set again when this is dropped.
#[derive(Debug)]
pub struct HiddenKeys(Option<Termios>);

impl HiddenKeys {
    /// Hides the keys. The terminal must be that of a process in the foreground: the others are stopped when they change it.
    pub fn hide() -> Self {
        let terminal = io::stdout();
        let before = tcgetattr(&terminal).ok();
        if let Some(mut modes) = before.clone() {
            modes.local_modes.remove(LocalModes::ECHOCTL);
            // Without it, the key is visible, and a row of the view can be left.
            let _ = tcsetattr(&terminal, OptionalActions::Now, &modes);
        }
        Self(before)
    }
}

impl Drop for HiddenKeys {
    fn drop(&mut self) {
        let terminal = io::stdout();
        if let Some(before) = self.0.as_ref().filter(|_| is_in_foreground(&terminal)) {
            // If it fails, the terminal is gone.
            let _ = tcsetattr(&terminal, OptionalActions::Now, before);
        }
    }
}

/// Whether this process may draw on its terminal, and receives its keys. A shell runs the others in the background.
pub fn is_in_foreground(terminal: &Stdout) -> bool {
    tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp())
}
