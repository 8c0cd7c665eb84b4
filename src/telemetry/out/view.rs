//! A view of work in progress: a few lines at the end of a terminal that are drawn again and again. What is printed
//! meanwhile appears above the view, and nothing of the view is left when it ends.

mod stops;

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use console::Term;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::keys::{self, is_in_foreground};
use super::visible;
use crate::api::lock::lock;
use stops::Stops;

/// How often the spinner moves.
const SPIN: Duration = Duration::from_millis(125);
/// The view in its first line, and the width of what is before the text.
const TEMPLATE: &str = "{spinner:.cyan} {msg}";
const INDENT: &str = "  ";

/// The view, if there is one. There is one terminal, so there is at most one view.
static SHOWN: Mutex<Option<Shown>> = Mutex::new(None);

/// A view and what it shows.
struct Shown {
    text: String,
    /// `None` while it is not on the screen: the process is stopped, or in the background.
    bar: Option<ProgressBar>,
}

/// A view, until it is dropped.
#[derive(Debug)]
pub struct View(());

/// The space for the text of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub lines: usize,
    pub columns: usize,
}

impl View {
    /// Begins a view, in a runtime. Returns `None` where only lines can be read: in a pipe or a file, in the background, on a terminal that
    /// cannot move its cursor, and in a CI pipeline.
    pub fn begin() -> Option<Self> {
        let (term, ci) = (variable("TERM"), variable("CI"));
        if !can_redraw(is_in_foreground(&io::stdout()), term.as_deref(), ci.as_deref()) {
            return None;
        }
        let stops = Stops::new().ok()?;
        *lock(&SHOWN) = Some(Shown { text: String::new(), bar: Some(bar("")) });
        keys::hide();
        tokio::spawn(stops.handle());
        Some(Self(()))
    }

    /// The space that the terminal has now. A line as wide as the terminal would wrap on some.
    pub fn size(&self) -> Size {
        let (rows, columns) = Term::stdout().size();
        Size {
            lines: usize::from(rows).saturating_sub(1).max(1),
            columns: usize::from(columns).saturating_sub(INDENT.len() + 1),
        }
    }

    /// Replaces what the view shows.
    pub fn draw(&self, lines: &[String]) {
        if let Some(shown) = &mut *lock(&SHOWN) {
            shown.text = visible(&lines.join(&format!("\n{INDENT}"))).into_owned();
            if let Some(bar) = &shown.bar {
                bar.set_message(shown.text.clone());
            }
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        end();
    }
}

/// Ends the view, if there is one, and restores the terminal. A process that exits without dropping the view must call it.
pub fn end() {
    if let Some(bar) = lock(&SHOWN).take().and_then(|shown| shown.bar) {
        bar.finish_and_clear();
    }
    keys::show();
}

/// Removes the view from the screen and restores the terminal, because the process is about to stop.
pub fn pause() {
    if let Some(bar) = lock(&SHOWN).as_mut().and_then(|shown| shown.bar.take()) {
        bar.finish_and_clear();
    }
    keys::show();
}

/// Whether there is a view that is not on the screen.
pub fn is_paused() -> bool {
    lock(&SHOWN).as_ref().is_some_and(|shown| shown.bar.is_none())
}

/// Shows the view again after the process was stopped, if it is in the foreground. What others have printed meanwhile stays:
/// a view that was on the screen is not removed.
pub fn resume() {
    let mut shown = lock(&SHOWN);
    let Some(shown) = shown.as_mut() else { return };
    if let Some(bar) = shown.bar.take() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if is_in_foreground(&io::stdout()) {
        shown.bar = Some(bar(&shown.text));
        keys::hide();
    }
}

/// A view at the end of the screen.
fn bar(text: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(TEMPLATE).unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout()).with_style(style);
    bar.set_message(text.to_owned());
    bar.enable_steady_tick(SPIN);
    bar
}

/// Prints above the view, if there is one. `print` must not print through this module.
pub fn above<T>(print: impl FnOnce() -> T) -> T {
    match &*lock(&SHOWN) {
        Some(Shown { bar: Some(bar), .. }) => bar.suspend(print),
        _ => print(),
    }
}

/// Whether lines on standard output can be drawn again, and whether a person sees them.
fn can_redraw(has_terminal: bool, term: Option<&str>, ci: Option<&str>) -> bool {
    let is_capable = term.is_some_and(|term| !matches!(term, "" | "dumb"));
    let is_pipeline = ci.is_some_and(|ci| !matches!(ci, "" | "0" | "false"));
    has_terminal && is_capable && !is_pipeline
}

#[expect(clippy::disallowed_methods, reason = "the terminal of a person, whose environment describes it")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_needs_a_terminal_that_moves_its_cursor_and_a_person() {
        let xterm = Some("xterm");
        assert!(can_redraw(true, xterm, None));
        assert!(can_redraw(true, xterm, Some("")) && can_redraw(true, xterm, Some("false")));
        assert!(!can_redraw(false, xterm, None), "a pipe, or in the background");
        assert!(!can_redraw(true, None, None) && !can_redraw(true, Some("dumb"), None));
        assert!(!can_redraw(true, xterm, Some("true")) && !can_redraw(true, xterm, Some("1")));
    }
}
