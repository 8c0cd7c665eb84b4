//! What `opsy run` prints for people while it runs: notes of reconciles, and the current step of Packer.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::api::{Key, ObjectKey};
use crate::engine::{Note, Runs};
use crate::telemetry::out;

/// How often the current step of Packer is read: fast enough to follow, one file per read.
const STEP_LOOK: Duration = Duration::from_millis(300);

/// Prints until the agent ends.
pub async fn follow(mut notes: Receiver<(ObjectKey, Note)>, runs: Arc<dyn Runs>) {
    let mut look = tokio::time::interval(STEP_LOOK);
    let mut steps: BTreeMap<Key, String> = BTreeMap::new();
    loop {
        tokio::select! {
            note = notes.recv() => match note {
                Ok((object, note)) => out::progress(line(&object.to_string(), &note)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            _ = look.tick() => print_steps(&*runs, &mut steps),
        }
    }
}

fn print_steps(runs: &dyn Runs, steps: &mut BTreeMap<Key, String>) {
    for (builder, progress) in runs.progress() {
        let step = progress.line.trim().to_owned();
        if !step.is_empty() && steps.get(&builder) != Some(&step) {
            out::progress(format_args!("  {} packer {}: {step}", builder.name, progress.command));
            steps.insert(builder, step);
        }
    }
}

/// One line for a note, colored on a terminal.
fn line(object: &str, note: &Note) -> String {
    let mark = if note.warning { "!" } else { "*" };
    if std::io::stdout().is_terminal() {
        let color = if note.warning { 33 } else { 36 };
        return format!("\x1b[{color}m{mark} {object}\x1b[0m {}: {}", note.reason, note.message);
    }
    format!("{mark} {object} {}: {}", note.reason, note.message)
}
