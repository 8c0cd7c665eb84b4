//! The progress that `opsy run` prints for people: notes of reconciles, and the current step of Packer. On a terminal,
//! `opsy run --once` shows the steps in the live view instead, and the notes above it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::live::Frame;
use crate::api::text::one_line;
use crate::api::{Key, Kind, ObjectKey};
use crate::engine::objects::Objects;
use crate::engine::{Note, ObjectHealth, Runs};
use crate::task;
use crate::telemetry::out::{self, View};

/// How often the current step of Packer is read: fast enough to follow, one file per read.
const STEP_LOOK: Duration = Duration::from_millis(300);
/// The number of objects whose status is read for a view, in addition to one per line: some of them have no line.
const MARGIN: usize = 100;
/// If more objects are busy, the view is drawn once in `SLOW` looks, so that it takes little from their work.
const MANY: usize = 1_000;
const SLOW: u32 = 4;

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
            Some(view) => {
                task::before_exit(out::end_view);
                Steps::View { view, pause: 0 }
            }
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
    View {
        view: View,
        /// The number of looks until it is drawn again.
        pause: u32,
    },
    /// Contains the last step of each builder that was printed.
    Lines(BTreeMap<Key, String>),
}

async fn follow(
    mut notes: Receiver<(ObjectKey, Note)>,
    source: Source,
    mut steps: Steps,
    ended: CancellationToken,
) {
    let mut look = interval(STEP_LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
            Self::View { pause, .. } if *pause > 0 => *pause -= 1,
            Self::View { view, pause } => {
                let (size, health) = (view.size(), source.objects.board.health());
                let busy = health.values().filter(|health| **health == ObjectHealth::Busy).count();
                *pause = if busy > MANY { SLOW - 1 } else { 0 };
                view.draw(&source.frame(health, size.lines + MARGIN).lines(Timestamp::now(), size));
            }
            Self::Lines(steps) => print_steps(&*source.runs, steps),
        }
    }
}

impl Source {
    /// What the view shows. The status is read of at most this many objects, and only if they are not settled.
    fn frame(&self, health: BTreeMap<ObjectKey, ObjectHealth>, most: usize) -> Frame {
        let mut frame = Frame::default();
        let progress: BTreeMap<_, _> = self.runs.progress().into_iter().collect();
        let running = progress.keys().collect();
        let read = most_active(&health, &running, most);
        for (object, health) in &health {
            match object.kind {
                _ if *health == ObjectHealth::Settled => frame.count((*health).into()),
                _ if !read.contains(object) => frame.count_unread((*health).into()),
                Kind::PackerBuilder => {
                    let status = self.objects.builders.get(&object.key).and_then(|builder| builder.status);
                    frame.add_builder(object, &status.unwrap_or_default(), &progress, Some(*health));
                }
                Kind::AMIRefresher => {
                    let status =
                        self.objects.refreshers.get(&object.key).and_then(|refresher| refresher.status);
                    frame.add_refresher(object, &status.unwrap_or_default(), Some(*health));
                }
            }
        }
        frame
    }
}

/// The objects that are most likely to have a line: builders with a running build, then those that are busy or need
/// attention, then the others that are not settled.
fn most_active<'a>(
    health: &'a BTreeMap<ObjectKey, ObjectHealth>,
    running: &BTreeSet<&Key>,
    most: usize,
) -> BTreeSet<&'a ObjectKey> {
    let rank = |object: &ObjectKey, health: ObjectHealth| match health {
        _ if object.kind == Kind::PackerBuilder && running.contains(&object.key) => 0,
        ObjectHealth::Busy => 1,
        ObjectHealth::Stalled => 2,
        ObjectHealth::Waiting | ObjectHealth::Failing => 3,
        ObjectHealth::Settled => 4,
    };
    let unsettled = health.iter().filter(|(_, health)| **health != ObjectHealth::Settled);
    let mut ranked: Vec<_> = unsettled.map(|(object, health)| (rank(object, *health), object)).collect();
    ranked.sort_unstable();
    ranked.into_iter().take(most).map(|(_, object)| object).collect()
}

fn print_steps(runs: &dyn Runs, steps: &mut BTreeMap<Key, String>) {
    for (builder, progress) in runs.progress() {
        let step = one_line(&progress.line);
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
    let visible = |text: &str| out::visible(&one_line(text)).into_owned();
    let (object, reason, message) = (visible(object), visible(&note.reason), visible(&note.message));
    format!("{begin}{mark} {object}{end} {reason}: {message}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::out::Size;

    fn object(kind: Kind, name: &str) -> ObjectKey {
        ObjectKey { kind, key: Key { namespace: "default".to_owned(), name: name.to_owned() } }
    }

    #[test]
    fn how_many_objects_have_no_room_is_not_said_if_it_is_not_known() {
        let mut frame = Frame::default();
        for name in ["a", "b", "c"] {
            let object = object(Kind::AMIRefresher, name);
            frame.add_refresher(&object, &Default::default(), Some(ObjectHealth::Stalled));
        }
        let lines = |frame: &Frame| {
            let now = "2026-01-01T00:00:00Z".parse().expect("a time");
            frame.lines(now, Size { lines: 3, columns: 60 })
        };
        assert_eq!(lines(&frame), ["3 needing attention", "ar/a  stalled", "… and 2 more"]);
        frame.count_unread(ObjectHealth::Stalled.into());
        assert_eq!(lines(&frame), ["4 needing attention", "ar/a  stalled", "… and more"]);
    }

    #[test]
    fn the_objects_in_progress_are_read_first() {
        let builder = |name: &str| object(Kind::PackerBuilder, name);
        let health = BTreeMap::from([
            (builder("a"), ObjectHealth::Waiting),
            (builder("b"), ObjectHealth::Settled),
            (builder("c"), ObjectHealth::Stalled),
            (builder("d"), ObjectHealth::Busy),
            (builder("e"), ObjectHealth::Busy),
            (object(Kind::AMIRefresher, "f"), ObjectHealth::Busy),
        ]);
        let e = builder("e").key;
        let read = |most: usize| {
            let read = most_active(&health, &BTreeSet::from([&e]), most);
            read.into_iter().map(|object| object.key.name.as_str()).collect::<String>()
        };
        assert_eq!(
            [0, 1, 3, 4, 9].map(read),
            ["", "e", "def", "cdef", "acdef"],
            "in the order of the objects"
        );
    }

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
        let broken = Note { message: "failed:\n::error::no\r\n".to_owned(), ..note(true) };
        assert_eq!(line(object, &broken, false), "! PackerBuilder/default/web Built: failed: ::error::no\n");
    }
}
