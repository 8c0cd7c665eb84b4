//! The progress that `opsy run` prints for people: notes of reconciles, and the current step of Packer. On a terminal,
//! `opsy run --once` shows the steps in the live view instead, and the notes above it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::live::Frame;
use crate::api::{Key, Kind, ObjectKey};
use crate::engine::objects::Objects;
use crate::engine::{Note, ObjectHealth, Runs};
use crate::telemetry::out::{self, View};

/// How often the current step of Packer is read: fast enough to follow, one file per read.
const STEP_LOOK: Duration = Duration::from_millis(300);

/// The progress, printed until it is ended.
pub struct Progress {
    ended: CancellationToken,
    printing: JoinHandle<()>,
}

impl Progress {
    /// Starts to print, with a view if there is one.
    pub fn start((objects, runs): (Arc<Objects>, Arc<dyn Runs>), view: Option<View>) -> Self {
        let ended = CancellationToken::new();
        let notes = objects.board.listen();
        let steps = match view {
            Some(view) => Steps::View(view),
            None => Steps::Lines(BTreeMap::new()),
        };
        let printing = tokio::spawn(follow(notes, Source { objects, runs }, steps, ended.clone()));
        Self { ended, printing }
    }

    /// Prints the notes that are left, and ends the view.
    pub async fn end(self) {
        self.ended.cancel();
        // A panic is reported where it happens, and the work of the agent does not depend on what is printed.
        let _ = self.printing.await;
    }
}

/// Where the progress is read.
struct Source {
    objects: Arc<Objects>,
    runs: Arc<dyn Runs>,
}

/// How the steps of builds are shown.
enum Steps {
    View(View),
    /// Contains the last step of each builder that was printed.
    Lines(BTreeMap<Key, String>),
}

async fn follow(
    mut notes: Receiver<(ObjectKey, Note)>,
    source: Source,
    mut steps: Steps,
    ended: CancellationToken,
) {
    let mut look = tokio::time::interval(STEP_LOOK);
    loop {
        tokio::select! {
            biased;
            note = notes.recv() => match note {
                Ok((object, note)) => print(&object, &note),
                Err(RecvError::Lagged(count)) => out::progress(format_args!("  {count} messages are not shown")),
                Err(RecvError::Closed) => return,
            },
            () = ended.cancelled() => return,
            _ = look.tick() => steps.show(&source),
        }
    }
}

fn print(object: &ObjectKey, note: &Note) {
    let line = line(&object.to_string(), note, out::is_colored());
    // The line is already escaped, except for its own color. Work continues if the reader is gone.
    let _ = out::bytes(line.as_bytes());
}

impl Steps {
    #[expect(clippy::disallowed_methods, reason = "a person watches the time pass")]
    fn show(&mut self, source: &Source) {
        match self {
            Self::View(view) => view.draw(&source.frame().lines(Timestamp::now(), view.size())),
            Self::Lines(steps) => print_steps(&*source.runs, steps),
        }
    }
}

impl Source {
    /// What the view shows. The status is read only of objects that are not settled.
    fn frame(&self) -> Frame {
        let mut frame = Frame::default();
        let progress = self.runs.progress().into_iter().collect();
        for (object, health) in self.objects.board.health() {
            if health == ObjectHealth::Settled {
                frame.count(health.into());
                continue;
            }
            match object.kind {
                Kind::PackerBuilder => {
                    let status = self.objects.builders.get(&object.key).and_then(|builder| builder.status);
                    frame.add_builder(&object, &status.unwrap_or_default(), &progress, Some(health));
                }
                Kind::AMIRefresher => {
                    let status =
                        self.objects.refreshers.get(&object.key).and_then(|refresher| refresher.status);
                    frame.add_refresher(&object, &status.unwrap_or_default(), Some(health));
                }
            }
        }
        frame
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
