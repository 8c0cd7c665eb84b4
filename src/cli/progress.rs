//! The progress that `opsy run` prints for people: notes of reconciles, and the current step of Packer.

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
                Ok((object, note)) => {
                    let line = line(&object.to_string(), &note, std::io::stdout().is_terminal());
                    // The line is already escaped, except for its own color. Work continues if the reader is gone.
                    let _ = out::bytes(line.as_bytes());
                }
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

/// Formats a note as one line. Nothing in it controls a terminal except the color that is added here.
fn line(object: &str, note: &Note, colored: bool) -> String {
    let mark = if note.warning { "!" } else { "*" };
    let color = if note.warning { 33 } else { 36 };
    let (begin, end) = if colored { (format!("\x1b[{color}m"), "\x1b[0m") } else { (String::new(), "") };
    let visible = |text: &str| out::visible(text).into_owned();
    let (object, reason, message) = (visible(object), visible(&note.reason), visible(&note.message));
    format!("{begin}{mark} {object}{end} {reason}: {message}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_our_colors_and_no_others() {
        let note = |warning| Note { reason: "Built".into(), message: "ami-1\u{1b}[2J".to_owned(), warning };
        let object = "PackerBuilder/default/web";
        assert_eq!(
            line(object, &note(false), true),
            "\u{1b}[36m* PackerBuilder/default/web\u{1b}[0m Built: ami-1\\u{1b}[2J\n"
        );
        assert!(line(object, &note(true), true).starts_with("\u{1b}[33m! "));
        assert_eq!(line(object, &note(false), false), "* PackerBuilder/default/web Built: ami-1\\u{1b}[2J\n");
    }
}
