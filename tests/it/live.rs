//! The live view of `opsy run --once` and `opsy status --watch`, in a real terminal, and the lines elsewhere.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use crate::bed::wait_for;
use crate::terminal::{CTRL_BACKSLASH, CTRL_Z, End, Terminal};
use crate::world::{DEADLINE, World, run, script_template};

/// The width of the terminal in these tests.
const COLUMNS: u16 = 60;
/// Begins every sequence that controls a terminal.
const ESCAPE: char = '\u{1b}';
/// The reasons of messages that every first run prints, in this order.
const MESSAGES: [&str; 6] =
    ["BuildStarted", "BuildSucceeded", "RollingOut", "UpdateStarted", "NodeGroupUpdated", "RolloutDone"];

fn once(world: &World, output: &str) -> Command {
    let mut opsy = world.opsy();
    opsy.args(["run", "--once", "--output", output]);
    opsy
}

/// Makes the build longer than the time between two reads of what it does.
fn slow_down(world: &World) {
    let sources = r#"sources = ["source.amazon-ebs.node"]"#;
    let slow = format!("{sources}\n  provisioner \"shell-local\" {{ inline = [\"sleep 5\"] }}");
    world.edit("packer/node/node.pkr.hcl", sources, &slow, "packer: a slow script");
}

/// Whether a row begins with one of the braille characters of the spinner.
fn is_spinner(row: &str) -> bool {
    row.starts_with(|char| ('\u{2800}'..='\u{28ff}').contains(&char))
}

fn is_object(row: &str) -> bool {
    row.starts_with("  pb/") || row.starts_with("  ar/")
}

/// The rows of the view on a screen: the numbers, and everything below them.
fn view(screen: &[String]) -> Vec<&str> {
    let rows = screen.iter().map(|row| row.trim_end()).skip_while(|row| !is_spinner(row));
    rows.take_while(|row| !row.is_empty()).collect()
}

/// The first view that has a row with all of these parts, in this order.
fn shown<'a>(end: &'a End, parts: &[&str]) -> Vec<&'a str> {
    let has = |row: &&str| parts.iter().try_fold(*row, |rest, part| Some(rest.split_once(part)?.1)).is_some();
    let found = end.screens.iter().map(|screen| view(screen)).find(|view| view.iter().any(has));
    found.unwrap_or_else(|| {
        let mut views: Vec<_> = end.screens.iter().map(|screen| view(screen).join("\n")).collect();
        views.dedup();
        panic!("{parts:?} was not shown:\n{}", views.join("\n"))
    })
}

/// The reasons of the messages in the output.
fn reasons<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let message = |line: &'a str| {
        let (object, rest) = line.strip_prefix("* ").or_else(|| line.strip_prefix("! "))?.split_once(' ')?;
        assert!(["PackerBuilder/default/node", "AMIRefresher/default/demo"].contains(&object), "{line}");
        Some(rest.split_once(": ")?.0)
    };
    lines.into_iter().filter_map(message).collect()
}

fn assert_messages(reasons: &[&str]) {
    let mut rest = reasons.iter();
    assert!(MESSAGES.iter().all(|wanted| rest.any(|reason| reason == wanted)), "{reasons:?}");
}

/// Every view fits the terminal, and nothing of it is left: the cursor is visible at the start of a line.
fn assert_clean(end: &End) {
    for row in end.screens.iter().flat_map(|screen| view(screen)) {
        assert!(row.chars().count() < usize::from(COLUMNS) && (is_spinner(row) || is_object(row)), "{row:?}");
    }
    assert!(!end.lines.iter().any(|line| is_spinner(line) || is_object(line)), "{:#?}", end.lines);
    assert!(!end.is_cursor_hidden && end.cursor_column == 0, "{:#?}", end.lines);
}

#[test]
fn a_run_on_a_terminal_is_alive_and_leaves_its_messages_and_a_table() {
    let world = World::new();
    slow_down(&world);
    let end = Terminal::start(once(&world, "auto"), 120, COLUMNS).end();
    assert_eq!(end.status.code(), Some(0), "{:#?}", end.lines);
    shown(&end, &["pb/node  ", "build  ", " s  ", "amazon-ebs.node: "]);
    shown(&end, &["ar/demo  updating  ", " s  ", "1/3 node groups, "]);
    shown(&end, &["1 in sync, 1 in progress"]);
    assert_clean(&end);
    assert_messages(&reasons(end.lines.iter().map(String::as_str)));
    let begins = |start: &str| end.lines.iter().position(|line| line.starts_with(start));
    let table = begins("PACKERBUILDER  READY  ").expect("the table of builders");
    let rest = &end.lines[table + 1..];
    assert!(rest[0].starts_with("default/node   True   ImageReady  ami-"), "{rest:#?}");
    assert!(begins("AMIREFRESHER  READY  ").is_some_and(|refreshers| refreshers > table), "{rest:#?}");
    assert_eq!(end.lines.last().map(String::as_str), Some("2 in sync"), "{:#?}", end.lines);
    // Nothing else was printed, and no message is torn.
    let others = end.lines[..table].iter().filter(|line| !line.starts_with("* ") && !line.starts_with("! "));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn ctrl_c_ends_a_run_and_leaves_a_clean_terminal() {
    let world = World::new();
    let slow = script_template("echo working; sleep 600");
    world.push(&[("packer/node/node.pkr.hcl", Some(&slow))], "packer: a slow script");
    let mut terminal = Terminal::start(once(&world, "auto"), 40, COLUMNS);
    terminal.wait_for_row("the script", |row| {
        row.starts_with("  pb/node  build  ") && row.ends_with("null.here: working")
    });
    terminal.press_ctrl_c();
    let end = terminal.end();
    assert_eq!(end.status.code(), Some(1), "{:#?}", end.lines);
    let last = "opsy: interrupted; builds continue, and the next run resumes them";
    assert_eq!(end.lines.last().map(String::as_str), Some(last));
    assert!(end.lines.iter().any(|line| line.starts_with("default/node   False  ")), "{:#?}", end.lines);
    assert_clean(&end);
    assert!(!world.build_processes().0.is_empty(), "the build continues");
}

/// `opsy status --watch` of an empty state directory.
fn watch(state: &Path) -> Vec<OsString> {
    [
        env!("CARGO_BIN_EXE_opsy").as_ref(),
        "status".as_ref(),
        "--watch".as_ref(),
        "--state".as_ref(),
        state.as_os_str(),
    ]
    .map(OsStr::to_owned)
    .into()
}

fn has_view(screen: &[String]) -> bool {
    screen.iter().any(|row| is_spinner(row))
}

/// Starts the watch in a terminal, without a shell.
fn start_watch(state: &Path) -> Terminal {
    let words = watch(state);
    let mut opsy = Command::new(&words[0]);
    opsy.args(&words[1..]);
    let terminal = Terminal::start(opsy, 40, COLUMNS);
    terminal.wait_for_screen("the view", |screen| has_view(screen) && !terminal.shows_keys());
    terminal
}

#[test]
fn ctrl_backslash_ends_a_watch_at_once_and_restores_the_terminal() {
    let state = tempfile::tempdir().expect("a directory");
    let mut terminal = start_watch(state.path());
    terminal.press(CTRL_BACKSLASH);
    wait_for("the modes", DEADLINE, || terminal.shows_keys().then_some(()));
    let end = terminal.end();
    assert_eq!(end.status.code(), Some(131), "{end:#?}");
    assert_clean(&end);
}

#[test]
fn ctrl_z_restores_the_terminal_and_fg_shows_the_view_again() {
    let state = tempfile::tempdir().expect("a directory");
    // A shell with job control, as people use it.
    let script = r#""$@"; echo "stopped: $?"; read -r key; fg >/dev/null; echo "ended: $?""#;
    let mut shell = Command::new("sh");
    shell.args(["-m", "-c", script, "sh"]).args(watch(state.path()));
    let mut terminal = Terminal::start(shell, 40, COLUMNS);
    terminal.wait_for_screen("the view", |screen| has_view(screen) && !terminal.shows_keys());
    terminal.press(CTRL_Z);
    terminal.wait_for_screen("the stop", |screen| {
        screen.iter().any(|row| row.starts_with("stopped: ")) && !has_view(screen) && terminal.shows_keys()
    });
    terminal.press(b"\n");
    terminal.wait_for_screen("the view after fg", |screen| has_view(screen) && !terminal.shows_keys());
    terminal.press_ctrl_c();
    let end = terminal.end();
    assert!(end.lines.iter().any(|line| line == "ended: 130"), "{:#?}", end.lines);
    assert_clean(&end);
}

#[test]
fn a_watch_that_no_shell_can_continue_is_not_stopped() {
    let state = tempfile::tempdir().expect("a directory");
    let mut terminal = start_watch(state.path());
    terminal.press(CTRL_Z);
    terminal.wait_for_screen("no view", |screen| !has_view(screen));
    terminal.wait_for_screen("the view again", |screen| has_view(screen) && !terminal.shows_keys());
    terminal.press_ctrl_c();
    let end = terminal.end();
    assert_eq!(end.status.code(), Some(130), "{end:#?}");
    assert_clean(&end);
}

#[test]
fn a_watch_on_a_terminal_shows_the_build_of_another_process_until_ctrl_c() {
    let world = World::new();
    slow_down(&world);
    let agent = world.agent();
    world.wait("the state directory", || world.state().join("objects").exists().then_some(()));
    let mut opsy = world.opsy();
    opsy.args(["status", "--watch"]);
    let mut terminal = Terminal::start(opsy, 40, COLUMNS);
    terminal.wait_for_row("the build", |row| row.starts_with("  pb/node  build  "));
    terminal.wait_for_row("the end", |row| is_spinner(row) && row.ends_with(" 2 in sync"));
    terminal.press_ctrl_c();
    let end = terminal.end();
    assert_eq!(end.status.code(), Some(130), "{:#?}", end.lines);
    shown(&end, &["pb/node  build  ", " s"]);
    shown(&end, &["ar/demo  updating  ", " s  ", "/3 node groups, "]);
    assert_clean(&end);
    let table = world.run(&["status"]).stdout;
    let table: Vec<&str> = table.lines().collect();
    assert!(end.lines.iter().zip(&table).skip(1).all(|(left, table)| left == table), "{:#?}", end.lines);
    assert!(agent.stop().success());
}

#[test]
fn only_lines_are_printed_where_there_is_no_terminal_or_no_person() {
    let world = World::new();
    slow_down(&world);
    let piped = run(once(&world, "text"));
    assert_eq!((piped.status.code(), piped.stderr.as_str()), (Some(0), ""));
    assert!(!piped.stdout.contains(ESCAPE), "{}", piped.stdout);
    assert!(piped.stdout.contains("  node packer build: "), "{}", piped.stdout);
    assert_eq!(piped.stdout.lines().last(), Some("2 in sync"), "{}", piped.stdout);
    assert_messages(&reasons(piped.stdout.lines()));
    // The same in a terminal, where nothing is left to do.
    for (name, value) in [("TERM", "dumb"), ("CI", "true")] {
        let end = Terminal::start_with(once(&world, "auto"), 40, COLUMNS, &[(name, value)]).end();
        assert_eq!(end.lines.last().map(String::as_str), Some("2 in sync"), "{:#?}", end.lines);
        assert!(!end.lines.iter().any(|line| line.contains("PACKERBUILDER")), "{:#?}", end.lines);
        assert!(!end.printed.contains(ESCAPE), "{}", end.printed);
    }
    let is_color = |printed: &str| printed.contains("\u{1b}[36m");
    for (variables, colored) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let end = Terminal::start_with(once(&world, "auto"), 40, COLUMNS, variables).end();
        assert!(end.lines.iter().any(|line| line.starts_with("PACKERBUILDER ")), "{:#?}", end.lines);
        assert_eq!(is_color(&end.printed), colored, "{:?}", end.printed);
        let json = Terminal::start_with(once(&world, "json"), 40, COLUMNS, variables).end();
        assert!(!json.printed.contains(ESCAPE), "{}", json.printed);
    }
}
