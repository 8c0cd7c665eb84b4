//! `opsy completion SHELL`: prints the script with which a shell completes commands, flags and names of objects.
//!
//! The script calls `opsy` again for each completion, so that it fits the installed version and knows the objects.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use clap::{Command, CommandFactory, ValueEnum};
use clap_complete::CompletionCandidate;
use clap_complete::env::{CompleteEnv, Shells};

use super::objects as live;
use super::place::PlaceFlags;
use super::target::{self, kind_of};
use crate::api::Kind;
use crate::telemetry::out;

/// The variable by which the script asks for completions. Not clap's `COMPLETE`, which may be set for another
/// purpose: every command would then complete instead of running.
const VARIABLE: &str = "OPSY_COMPLETE";
/// The variable in which the script passes the index of the word at the cursor.
const INDEX: &str = "_CLAP_COMPLETE_INDEX";
/// A person waits for the completion: a cluster that takes longer contributes no names.
const LIMIT: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Powershell,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
            Self::Powershell => "powershell",
        }
    }
}

/// Prints the script.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let shells = Shells::builtins();
    let shell = shells.completer(args.shell.name()).expect("the library knows these shells");
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "opsy", "opsy", "opsy", &mut script)?;
    out::bytes(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Handles a request of the script, if this process was started by one.
///
/// # Safety
/// No other thread is running.
pub unsafe fn answer<C: CommandFactory>() {
    let command: fn() -> Command = C::command;
    let (mut arguments, is_bash) = (std::env::args_os().collect::<Vec<_>>(), variable(VARIABLE) == "bash");
    if is_bash {
        let begin = begin_of(&arguments);
        let current = variable(INDEX).to_str().and_then(|index| index.parse().ok()).unwrap_or_default();
        let (words, current) = joined(arguments.split_off(begin), current);
        arguments.extend(words);
        // SAFETY: as the caller promises.
        unsafe { std::env::set_var(INDEX, current.to_string()) };
    }
    let folder = std::env::current_dir().ok();
    let answered =
        CompleteEnv::with_factory(command).var(VARIABLE).try_complete(arguments, folder.as_deref());
    if answered.unwrap_or_else(|error| error.exit()) {
        std::process::exit(0);
    }
}

#[expect(clippy::disallowed_methods, reason = "the script of the shell sets it for this request")]
fn variable(name: &str) -> OsString {
    std::env::var_os(name).unwrap_or_default()
}

/// Where the words of the command line begin. Before them are those of the script: `opsy --`.
fn begin_of(arguments: &[OsString]) -> usize {
    arguments.iter().position(|word| word == "--").map_or(arguments.len(), |at| at + 1)
}

/// Joins what Bash splits: it ends words at `=` and `:`, which are then words themselves. The word at the cursor, whose
/// index is passed and returned, stays as it is, because Bash replaces only this part. A `=` directly before it is left
/// out: `--output json` is completed as `--output=json`.
fn joined(words: Vec<OsString>, current: usize) -> (Vec<OsString>, usize) {
    let separates =
        |word: &OsStr| !word.is_empty() && word.as_bytes().iter().all(|byte| b"=:".contains(byte));
    let (mut joined, mut follows, mut moved) = (Vec::<OsString>::new(), false, current);
    for (at, word) in words.into_iter().enumerate() {
        if at == current {
            moved = joined.len();
        }
        let is_separator = separates(&word);
        match joined.last_mut() {
            Some(_) if is_separator && word == "=" && at + 1 == current => {}
            // The first word is the command.
            Some(last) if at > 1 && at != current && (is_separator || follows) => last.push(word),
            _ => joined.push(word),
        }
        follows = is_separator;
    }
    (joined, moved)
}

/// Completions for a value that names an object: those that exist where the command line acts, and of which its command
/// takes the kind.
pub fn complete(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    // The place may also be named after the cursor.
    let (words, _) = joined(arguments.split_off(begin_of(&arguments)), usize::MAX);
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    // The first word is the command.
    let words = words.get(1..).unwrap_or_default();
    let place = place_of(words);
    let kinds = kinds_of(words);
    let shown = shown(&current.to_string_lossy(), kinds, &names_in_time(move || names(&place)));
    shown.into_iter().map(CompletionCandidate::new).collect()
}

/// The place that a command line selects. Words that select none are ignored.
fn place_of(words: &[String]) -> PlaceFlags {
    let mut place = PlaceFlags::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            // -nNAME
            None if word.len() > 2 && word.starts_with("-n") => {
                word.split_at_checked(2).map_or((word.as_str(), None), |(flag, value)| (flag, Some(value)))
            }
            None => (word.as_str(), None),
        };
        let mut value = || value.or_else(|| words.next().map(String::as_str)).map(str::to_owned);
        match flag {
            "--state" => place.state = value().map(PathBuf::from),
            "--kubeconfig" => place.kubeconfig = value().map(PathBuf::from),
            "--context" => place.context = value(),
            "--namespace" | "-n" => place.namespace = value(),
            _ => {}
        }
    }
    place
}

/// The kinds that the command of a command line takes.
fn kinds_of(words: &[String]) -> &'static [Kind] {
    match words.first().map(String::as_str) {
        Some("logs" | "cancel") => &[Kind::PackerBuilder],
        Some("approve" | "rollback") => &[Kind::AMIRefresher],
        _ => &[Kind::PackerBuilder, Kind::AMIRefresher],
    }
}

/// The names that begin with the current word, with the kind as it is written there.
fn shown(current: &str, kinds: &[Kind], names: &[(Kind, String)]) -> Vec<String> {
    let (written, begin) = match current.split_once('/') {
        Some((kind, begin)) => (Some(kind), begin),
        None => (None, ""),
    };
    let of_kind = names.iter().filter(|(kind, _)| {
        kinds.contains(kind) && written.is_none_or(|written| kind_of(written) == Ok(*kind))
    });
    let of_name = of_kind.filter(|(_, name)| name.starts_with(begin));
    let all = of_name.map(|(kind, name)| format!("{}/{name}", written.unwrap_or(kind.short())));
    all.filter(|shown| shown.starts_with(current)).collect()
}

/// The objects at a place. Without access to them, there are none.
fn names(place: &PlaceFlags) -> Vec<(Kind, String)> {
    target::wait(live::names(place)).unwrap_or_default()
}

/// The names, if they are found in time. They are looked up in a thread of their own, because the credentials of a
/// kubeconfig may come from a program, for which kube blocks. The thread ends with the process.
fn names_in_time(find: impl FnOnce() -> Vec<(Kind, String)> + Send + 'static) -> Vec<(Kind, String)> {
    let (send, found) = mpsc::channel();
    std::thread::spawn(move || send.send(find()));
    found.recv_timeout(LIMIT).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_place_is_that_of_the_command_line() {
        let place = |line: &str| {
            let PlaceFlags { state, kubeconfig, context, namespace, .. } = place_of(&words(line));
            let path = |path: Option<PathBuf>| path.map(|path| path.display().to_string());
            [path(state), path(kubeconfig), context, namespace].map(Option::unwrap_or_default)
        };
        assert_eq!(place("approve ar/"), ["", "", "", ""]);
        assert_eq!(place("approve --context prod -n team ar/"), ["", "", "prod", "team"]);
        assert_eq!(place("logs pb/ --kubeconfig=/k --namespace=team"), ["", "/k", "", "team"]);
        assert_eq!(place("status -nteam --state /s -w"), ["/s", "", "", "team"]);
        assert_eq!(place("status --no-color --context"), ["", "", "", ""]);
    }

    #[test]
    fn what_bash_splits_is_one_word_again() {
        let split = |line: &str, current: usize| {
            let words = line.split(' ').map(OsString::from).collect();
            let (words, current) = joined(words, current);
            let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
            (words.join(" "), current)
        };
        for (line, current, expected, at) in [
            ("opsy logs pb/", 2, "opsy logs pb/", 2),
            (
                "opsy logs --context arn : aws : eks : eu-west-1 : 123 : cluster/x pb/",
                14,
                "opsy logs --context arn:aws:eks:eu-west-1:123:cluster/x pb/",
                4,
            ),
            ("opsy logs --namespace = team pb/n -w", 5, "opsy logs --namespace=team pb/n -w", 3),
            ("opsy logs pb/ --context = a :: b", 2, "opsy logs pb/ --context=a::b", 2),
            // The word at the cursor is a part.
            ("opsy status --output = j", 4, "opsy status --output j", 3),
            ("opsy status --output = ", 4, "opsy status --output ", 3),
            ("opsy status --context arn : a", 5, "opsy status --context arn: a", 4),
            ("opsy", 1, "opsy", 1),
        ] {
            assert_eq!(split(line, current), (expected.to_owned(), at), "{line}");
        }
        let (line, _) = split("opsy approve --context arn : aws : eks -n = team ar/", usize::MAX);
        let place = place_of(&words(&line));
        assert_eq!(place.context.as_deref(), Some("arn:aws:eks"));
        assert_eq!(place.namespace.as_deref(), Some("team"));
    }

    #[test]
    fn the_kinds_are_those_that_the_command_takes_and_written_as_in_the_word() {
        let names = [
            (Kind::PackerBuilder, "node".to_owned()),
            (Kind::PackerBuilder, "gpu".to_owned()),
            (Kind::AMIRefresher, "demo".to_owned()),
        ];
        let shown = |line: &str| {
            let words = words(line);
            shown(words.last().expect("a word"), kinds_of(&words), &names).join(" ")
        };
        for (line, expected) in [
            ("reconcile ", "pb/node pb/gpu ar/demo"),
            ("reconcile a", "ar/demo"),
            ("reconcile pb/n", "pb/node"),
            ("status packerbuilder/", "packerbuilder/node packerbuilder/gpu"),
            ("status Builder/g", "Builder/gpu"),
            ("status deployment/", ""),
            ("logs ", "pb/node pb/gpu"),
            ("cancel --context prod ", "pb/node pb/gpu"),
            ("cancel ar/", ""),
            ("approve ", "ar/demo"),
            ("rollback amirefresher/d", "amirefresher/demo"),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
    }

    #[test]
    fn names_that_are_not_found_in_time_are_not_shown() {
        let one = vec![(Kind::PackerBuilder, "node".to_owned())];
        let found = one.clone();
        assert_eq!(names_in_time(move || found), one);
        let (_end, ended) = mpsc::channel::<()>();
        let started = Instant::now();
        // As an exec plugin that waits for a person.
        let late = names_in_time(move || {
            let _ = ended.recv();
            one
        });
        assert!(late.is_empty() && started.elapsed() >= LIMIT);
    }
}
