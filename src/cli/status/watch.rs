//! `opsy status --watch`: on a terminal, the live view of what is working; elsewhere, one line for each change.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use opsy_runner::request::Progress;
use tokio::signal::unix::{SignalKind, signal};

use super::{Args, Output, item, name, print, tables};
use crate::api::text::one_line;
use crate::api::{Key, Kind};
use crate::cli::format;
use crate::cli::live::Frame;
use crate::cli::objects::{Object, Observed, Reader};
use crate::cli::ready::summary;
use crate::cli::{format_error, target};
use crate::telemetry::out::{self, View};

/// How often the objects are read: a person notices no shorter delay, and an API server no such request.
const INTERVAL: Duration = Duration::from_secs(2);
/// Longer reads are given up and repeated: a connection can end without a sign of it. A connection that cannot be opened is
/// given up after a third of this, with a message that says what to do.
const READ: Duration = Duration::from_secs(90);
/// How often the view is drawn between two reads, so that a person sees the time pass.
const DRAWS: u32 = 4;
/// The exit codes of a program that SIGINT (Ctrl-C) or SIGTERM ends, as shells report them.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// Prints until a signal ends it, or the reader of the output is gone.
pub async fn follow(args: &Args, reader: &Reader<'_>) -> anyhow::Result<ExitCode> {
    match (args.output == Output::Text).then(View::begin).flatten() {
        Some(view) => redraw(args, reader, view).await,
        None => print_changes(args, reader).await,
    }
}

/// Draws until a signal ends it. Then only the table is left, as `opsy status` prints it.
async fn redraw(args: &Args, reader: &Reader<'_>, view: View) -> anyhow::Result<ExitCode> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (mut reads, mut last) = (Reads::new(args, reader), None);
    let code = tokio::select! {
        failed = draw_until_failed(&mut reads, &view, &mut last) => match failed? {},
        _ = interrupt.recv() => INTERRUPTED,
        _ = terminate.recv() => TERMINATED,
    };
    drop(view);
    last.map_or(Ok(()), |last| print(args, &last))?;
    if let Some(why) = reads.failure {
        out::error(format!("this is not the current status, which cannot be read: {why}"));
    }
    Ok(ExitCode::from(code))
}

/// Draws until the objects cannot be read for good. `last` is what was read last.
#[expect(clippy::disallowed_methods, reason = "a person watches, and sees the time pass")]
async fn draw_until_failed(
    reads: &mut Reads<'_>,
    view: &View,
    last: &mut Option<Observed>,
) -> anyhow::Result<Infallible> {
    let (reader, mut shown) = (reads.reader, None);
    loop {
        let read = async {
            pause(INTERVAL * u32::from(shown.is_some())).await;
            reads.next().await
        };
        let drawing = async {
            loop {
                shown.iter().for_each(|shown: &Frame| view.draw(&shown.lines(Timestamp::now(), view.size())));
                pause(INTERVAL / DRAWS).await;
            }
        };
        let read = tokio::select! {
            read = read => read?,
            never = drawing => never,
        };
        if let Some(read) = read {
            shown = Some(frame(&read.objects, &reader.progress()));
            *last = Some(read);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a person watches, and the objects are in another process")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

fn frame(objects: &[Object], progress: &BTreeMap<Key, Progress>) -> Frame {
    let mut frame = Frame::default();
    for object in objects {
        match object.id.kind {
            Kind::PackerBuilder => frame.add_builder(&object.id, &object.builder_status(), progress, None),
            Kind::AMIRefresher => frame.add_refresher(&object.id, &object.refresher_status(), None),
        }
    }
    frame
}

/// Prints a line for each change.
async fn print_changes(args: &Args, reader: &Reader<'_>) -> anyhow::Result<ExitCode> {
    let (mut reads, mut shown) = (Reads::new(args, reader), BTreeMap::new());
    loop {
        if let Some(read) = reads.next().await? {
            let now = states(args.output, &read.objects)?;
            if !out::lines(&changes(&shown, &now))? {
                return Ok(ExitCode::SUCCESS);
            }
            shown = now;
        }
        pause(INTERVAL).await;
    }
}

/// Reads of the selected objects. What cannot be read is reported once.
struct Reads<'a> {
    args: &'a Args,
    reader: &'a Reader<'a>,
    reported: BTreeSet<String>,
    has_succeeded: bool,
    /// Why the last read failed.
    failure: Option<String>,
}

impl<'a> Reads<'a> {
    fn new(args: &'a Args, reader: &'a Reader<'a>) -> Self {
        Self { args, reader, reported: BTreeSet::new(), has_succeeded: false, failure: None }
    }

    /// Reads the objects. Returns `None` if that fails and is to be repeated.
    ///
    /// # Errors
    /// The first read failed, or each later one will, too.
    async fn next(&mut self) -> anyhow::Result<Option<Observed>> {
        let read = tokio::time::timeout(READ, self.reader.read()).await;
        let late = |_| {
            let seconds = READ.as_secs();
            Err(anyhow::anyhow!("it was not read within {seconds} s: check that the cluster can be reached"))
        };
        let mut observed = match read.unwrap_or_else(late) {
            Ok(observed) => observed,
            Err(error) if !self.has_succeeded || target::is_permanent(&error) => return Err(error),
            Err(error) => {
                let why = one_line(&format_error(&error));
                if self.failure.as_ref() != Some(&why) {
                    let seconds = INTERVAL.as_secs();
                    out::error(format!(
                        "the status cannot be read, and is read again every {seconds} s: {why}"
                    ));
                }
                self.failure = Some(why);
                return Ok(None);
            }
        };
        self.has_succeeded = true;
        if self.failure.take().is_some() {
            out::error("the status can be read again");
        }
        self.args.select.select(&mut observed.objects, &mut observed.unreadable);
        for why in observed.errors(self.args.output.is_table()) {
            if self.reported.insert(why.clone()) {
                out::error(why);
            }
        }
        Ok(Some(observed))
    }
}

/// What is printed for each object, or for a part of it, by its name.
fn states(output: Output, objects: &[Object]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut states = BTreeMap::new();
    for object in objects {
        let id = object.id.to_string();
        match output {
            Output::Text | Output::Wide => {
                let held: String = object.held.iter().map(|image| format!("; {image}")).collect();
                states.insert(id.clone(), format!("{id}  {}", one_line(&(summary(&object.status) + &held))));
                for group in object.status["nodeGroups"].as_array().into_iter().flatten() {
                    let group_name = group["name"].as_str().unwrap_or_default();
                    let state = one_line(&tables::group_state(group));
                    states.insert(format!("{id} {group_name}"), format!("{id}  {group_name}: {state}"));
                }
            }
            Output::Json => drop(states.insert(id, out::escaped(&item(object).to_string()).into_owned())),
            Output::Yaml => {
                let document = format::yaml(&item(object))?;
                states.insert(id, format!("---\n{}", document.trim_end()));
            }
            Output::Name => drop(states.insert(id, name(object))),
        }
    }
    Ok(states)
}

/// The lines for what differs: new and changed states, and what does not exist any more.
fn changes(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> String {
    let changed = now.iter().filter(|(name, state)| before.get(*name) != Some(state));
    let changed = changed.map(|(_, state)| state.clone() + "\n");
    let gone = before.keys().filter(|name| !now.contains_key(*name)).map(|name| format!("{name}  deleted\n"));
    changed.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::ObjectKey;

    fn object(kind: Kind, status: Value) -> Object {
        let key = Key { namespace: "default".to_owned(), name: "node".to_owned() };
        Object::new(ObjectKey { kind, key }, Value::Null, status)
    }

    fn ready(reason: &str) -> Value {
        json!([{"type": "Ready", "status": "True", "reason": reason, "message": "m\nn"}])
    }

    #[test]
    fn only_what_changes_is_a_line() {
        let group = |state: &str| json!({"conditions": ready("Done"), "nodeGroups": [{"name": "web", "state": state}]});
        let of = |objects: &[Object]| states(Output::Text, objects).expect("states");
        let first = of(&[object(Kind::PackerBuilder, json!({"conditions": ready("ImageReady")}))]);
        let all = "PackerBuilder/default/node  Ready=True ImageReady: m n\n";
        assert_eq!(changes(&BTreeMap::new(), &first), all);
        assert_eq!(changes(&first, &first), "");
        let (pending, current) =
            ["Pending", "Current"].map(|state| of(&[object(Kind::AMIRefresher, group(state))])).into();
        let line = "AMIRefresher/default/node  web: Current\n";
        assert_eq!(changes(&pending, &current), line);
        let gone = changes(&first, &current);
        assert!(gone.ends_with("PackerBuilder/default/node  deleted\n") && gone.contains(line), "{gone}");
    }

    #[test]
    fn documents_are_valid_and_control_no_terminal() {
        let status = json!({"message": "\u{9b}2J \u{202e}x"});
        let builder = object(Kind::PackerBuilder, status.clone());
        for output in [Output::Json, Output::Yaml] {
            let states = states(output, std::slice::from_ref(&builder)).expect("states");
            let text = states.into_values().next().expect("a document");
            assert_eq!(out::visible(&text), text, "printed unchanged");
            let document: Value = match output {
                Output::Json => serde_json::from_str(&text).expect("a line of JSON"),
                _ => serde_saphyr::from_str(&text).expect("YAML"),
            };
            assert_eq!((&document["name"], &document["status"]), (&json!("node"), &status));
        }
    }
}
