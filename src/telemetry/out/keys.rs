//! How a terminal shows the keys that send signals. Its own `^C` would move the cursor away from the view.

use std::io::{self, Stdout};
use std::sync::Mutex;

use rustix::process::getpgrp;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};

use crate::api::lock::lock;

/// The modes of the terminal of standard output before the keys were hidden.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Hides the keys. The terminal must be that of a process in the foreground: the others are stopped when they change it.
pub fn hide() {
    let terminal = io::stdout();
    let Ok(mut modes) = tcgetattr(&terminal) else { return };
    // If the process was stopped meanwhile, the first ones are still those to restore.
    lock(&BEFORE).get_or_insert_with(|| modes.clone());
    modes.local_modes.remove(LocalModes::ECHOCTL);
    // Without it, the key is visible, and a row of the view can be left.
    let _ = tcsetattr(&terminal, OptionalActions::Now, &modes);
}

/// Shows the keys again, if they are hidden.
pub fn show() {
    let terminal = io::stdout();
    if let Some(before) = lock(&BEFORE).take().filter(|_| is_in_foreground(&terminal)) {
        // If it fails, the terminal is gone.
        let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
    }
}

/// Whether this process may draw on its terminal, and receives its keys. A shell runs the others in the background.
pub fn is_in_foreground(terminal: &Stdout) -> bool {
    tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp())
}
