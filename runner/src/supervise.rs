//! One run from its directory to its result: acquires the lock, checks for an earlier run, runs the commands in
//! order, stops them on request or at the time limit, and writes the report.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fmt, fs, io};

use crate::folder::{Folder, Started, termination_message, write_termination_message};
use crate::mask::{ALWAYS, Mask, PROXIES, user_info};
use crate::output::{Log, Output, Readers};
use crate::packer::{EXIT_UNKNOWN_COMMAND, Environment, arguments, environment, skipped};
use crate::process::{self, Child};
use crate::report::{End, Stop, outcome, remark, render};
use crate::request::{Artifact, Command, Outcome, Place, Progress, Report, Request, Resource, Step};
use crate::signals::Signals;

/// How often the stop file is checked and progress is written; signals are noticed immediately.
const LOOK: Duration = Duration::from_millis(500);
/// How often processes that are being killed are checked.
const SHORT_LOOK: Duration = Duration::from_millis(20);
/// SIGKILL takes effect immediately unless the kernel hangs; the result must not wait longer than this.
const KILL_TAKES: Duration = Duration::from_secs(30);
/// How long to wait for the rest of the output after all known processes have exited.
const DRAIN: Duration = Duration::from_secs(5);

/// The variable with the path of the termination message of a pod.
const TERMINATION_MESSAGE: &str = "OPSY_TERMINATION_MESSAGE";

/// Why there is no report.
#[derive(Debug)]
pub enum Error {
    Locked(PathBuf),
    Io(&'static str, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Locked(dir) => write!(f, "another runner has locked the directory {}", dir.display()),
            Error::Io(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

/// Runs the request in `dir`. Returns `Ok(true)` if the run succeeded or a result already existed.
pub fn run(dir: &Path) -> Result<bool, Error> {
    let during = |what: &'static str| move |error| Error::Io(what, error);
    // This comes first, because PID 1 loses every signal without a handler.
    let signals = Signals::install().map_err(during("installing signal handlers"))?;
    process::adopt_orphans().map_err(during("adopting orphans"))?;
    let dir = fs::canonicalize(dir).map_err(during("resolving the run directory"))?;
    let folder = Folder::new(&dir);
    let Some(_lock) = folder.lock().map_err(during("locking the run directory"))? else {
        return Err(Error::Locked(dir));
    };
    let first = std::process::id() == 1;
    let message = termination_message(said_message(), first);
    if let Some(before) = folder.report().map_err(during("reading the result"))? {
        tell(message.as_deref(), &render(before).1);
        return Ok(true);
    }
    let report = report(&folder, &signals, message.is_some() || first);
    folder.clear_scratch();
    let (report, json) = render(report);
    tell(message.as_deref(), &json);
    folder.write_result(&json).map_err(during("writing the result"))?;
    Ok(report.outcome == Outcome::Succeeded)
}

#[expect(clippy::disallowed_methods, reason = "the pod specification sets it, not the agent's settings")]
fn said_message() -> Option<PathBuf> {
    env::var_os(TERMINATION_MESSAGE).map(PathBuf::from)
}

/// Writes the termination message. A failure is only logged, because the result file contains the same report.
fn tell(path: Option<&Path>, json: &str) {
    if let Some(Err(error)) = path.map(|path| write_termination_message(path, json)) {
        crate::say(&format_args!("writing the termination message: {error}"));
    }
}

/// Returns the report for this directory: of a new run, or of a build that was lost because its runner was killed.
fn report(folder: &Folder, signals: &Signals, echo: bool) -> Report {
    let now = unix_now();
    let request = match folder.request() {
        Ok(request) => request,
        Err(error) => return no_run(now, Outcome::NotStarted, format!("reading the request: {error}")),
    };
    let grace = Duration::from_secs(request.grace_seconds);
    process::end_strays(folder.dir(), grace, || signals.wait(SHORT_LOOK));
    match folder.started() {
        Started::Never => {}
        Started::At(started) => return lost(folder, started),
        Started::Sometime => return lost(folder, now),
    }
    if let Err(error) = folder.prepare() {
        return no_run(now, Outcome::NotStarted, format!("preparing the run directory: {error}"));
    }
    let env = environment(env::vars_os().collect(), &request, folder.dir(), Path::is_dir);
    let output = Output {
        mask: mask(&request, &env),
        log: Mutex::new(Log::new(folder.log().ok(), echo)),
        folder: folder.clone(),
    };
    let began = Instant::now();
    let written = (began, String::new());
    Run {
        folder,
        request: &request,
        env,
        output: Arc::new(output),
        signals,
        began,
        now,
        stop: None,
        written,
        artifacts: Vec::new(),
        resources: Vec::new(),
    }
    .steps()
}

fn lost(folder: &Folder, started_at: i64) -> Report {
    let reason = "the runner was killed while packer was building".to_owned();
    let report = no_run(started_at, Outcome::Lost, reason);
    Report { command: Some(Command::Build), resources: folder.announced(), ..report }
}

fn mask(request: &Request, env: &Environment) -> Mask {
    let names = request.secrets.iter().map(String::as_str).chain(ALWAYS);
    let values = names
        .filter_map(|name| env.get(std::ffi::OsStr::new(name)))
        .map(|value| value.to_string_lossy().into_owned());
    let mounted = request.secrets_dir.as_ref().map(|dir| mounted_secrets(Path::new(dir))).unwrap_or_default();
    let proxies = PROXIES.iter().filter_map(|name| env.get(std::ffi::OsStr::new(name)));
    let proxies = proxies.flat_map(|address| user_info(&address.to_string_lossy()));
    let values: Vec<String> = values.chain(mounted).chain(proxies).collect();
    Mask::new(values.iter().map(String::as_str))
}

/// Returns the contents of the files of a mounted Secret. The Secret was mounted before this process started, so an
/// entry that cannot be read is not a key of the Secret.
fn mounted_secrets(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let values = entries.filter_map(|entry| fs::read(entry.path()).ok());
    values.map(|value| String::from_utf8_lossy(&value).into_owned()).collect()
}

fn no_run(started_at: i64, outcome: Outcome, error: String) -> Report {
    Report {
        outcome,
        command: None,
        exit: None,
        artifacts: Vec::new(),
        resources: Vec::new(),
        place: None,
        build: None,
        errors: vec![error],
        output: Vec::new(),
        started_at,
        ended_at: unix_now(),
    }
}

/// A run in progress.
struct Run<'a> {
    folder: &'a Folder,
    request: &'a Request,
    env: Environment,
    output: Arc<Output>,
    signals: &'a Signals,
    began: Instant,
    now: i64,
    stop: Option<Stop>,
    written: (Instant, String),
    /// Images of the builds that have succeeded so far; `resources` likewise.
    artifacts: Vec<Artifact>,
    resources: Vec<Resource>,
}

impl Run<'_> {
    fn steps(mut self) -> Report {
        for number in 0..self.request.steps.len() {
            let step = &self.request.steps[number];
            let readers = Readers::new();
            if self.is_stopping() {
                return self.ended(number, End::NotStarted("stopped before it started".to_owned()), &readers);
            }
            if let Some(why) = skipped(step) {
                self.output.note(&format!("skipping packer {}: {why}", step.command.name()));
                continue;
            }
            if let Some(report) = self.step(number, readers) {
                return report;
            }
        }
        no_run(self.now, Outcome::NotStarted, "the request contains no build command".to_owned())
    }

    /// Runs one command. Returns a report if the run ends with it.
    fn step(&mut self, number: usize, mut readers: Readers) -> Option<Report> {
        let steps = &self.request.steps;
        let step = &steps[number];
        if step.command == Command::Build
            && let Err(error) = self.folder.mark_started(self.now)
        {
            // Without the marker, a restart could build twice.
            return Some(self.ended(
                number,
                End::NotStarted(format!("recording the start of the build: {error}")),
                &readers,
            ));
        }
        let arguments = arguments(step);
        self.output.note(&format!("$ packer {}", arguments.join(" ")));
        let work = step.dir.iter().fold(self.folder.work(), |work, dir| work.join(dir));
        let end = match process::spawn(&self.request.packer, &arguments, &self.env, &work) {
            Ok(child) => self.supervise(child, step.command, &mut readers),
            Err(error) => End::NotStarted(format!("starting {}: {error}", self.request.packer)),
        };
        match (step.command, &end) {
            (Command::Init, End::Exited(EXIT_UNKNOWN_COMMAND)) => {
                self.output.note("skipping packer init: this version of Packer does not have it");
                None
            }
            (Command::Init | Command::Validate, End::Exited(0)) => None,
            (Command::Build, End::Exited(0)) if number + 1 < steps.len() => {
                let tally = readers.tally();
                self.artifacts.extend(tally.artifacts());
                self.resources.extend(tally.resources().iter().cloned());
                None
            }
            _ => Some(self.ended(number, end, &readers)),
        }
    }

    /// Waits until Packer has ended, kills its remaining processes and reads the rest of the output.
    fn supervise(&mut self, child: Child, command: Command, readers: &mut Readers) -> End {
        readers.start(child.stdout, true, &self.output);
        readers.start(child.stderr, false, &self.output);
        let end = self.wait(child.leader, command, readers);
        process::kill_group(child.leader);
        process::reap(child.leader);
        let until = Instant::now() + KILL_TAKES;
        process::end_descendants(|| {
            self.signals.wait(SHORT_LOOK);
            Instant::now() < until
        });
        readers.finish(DRAIN);
        end
    }

    fn wait(&mut self, leader: rustix::process::Pid, command: Command, readers: &Readers) -> End {
        let mut asked: Option<Instant> = None;
        let mut killed: Option<Instant> = None;
        let grace = Duration::from_secs(self.request.grace_seconds);
        loop {
            match process::ended(leader) {
                Ok(Some(end)) => return end,
                Ok(None) => {}
                Err(error) => self.output.note(&format!("waiting for packer: {error}")),
            }
            if asked.is_none() && self.is_stopping() {
                self.output.note("stopping packer");
                process::terminate(leader);
                asked = Some(Instant::now());
            }
            if killed.is_none() && asked.is_some_and(|asked| asked.elapsed() >= grace) {
                self.output.note("packer did not stop within the grace period; killing it");
                process::kill_group(leader);
                killed = Some(Instant::now());
            }
            if killed.is_some_and(|killed| killed.elapsed() >= KILL_TAKES) {
                return End::Killed(None);
            }
            self.show_progress(command, readers);
            self.signals.wait(self.until_next(asked, grace));
        }
    }

    /// Returns how long to wait: at most until the time limit or the end of the grace period.
    fn until_next(&self, asked: Option<Instant>, grace: Duration) -> Duration {
        let due = match asked {
            Some(asked) => grace.saturating_sub(asked.elapsed()),
            None => Duration::from_secs(self.request.limit_seconds).saturating_sub(self.began.elapsed()),
        };
        LOOK.min(due).max(SHORT_LOOK)
    }

    /// Returns whether this run must end early. The first reason is kept.
    fn is_stopping(&mut self) -> bool {
        if self.stop.is_none() {
            if self.signals.stop_asked() || self.folder.stop_asked() {
                self.stop = Some(Stop::Cancelled);
            } else if self.began.elapsed() >= Duration::from_secs(self.request.limit_seconds) {
                self.stop = Some(Stop::Limit);
            }
        }
        self.stop.is_some()
    }

    fn show_progress(&mut self, command: Command, readers: &Readers) {
        let line = readers.tally().progress.clone();
        if line == self.written.1 || self.written.0.elapsed() < LOOK {
            return;
        }
        let elapsed = self.began.elapsed().as_secs();
        let progress = Progress { command: command.name().to_owned(), line, at: unix_now(), elapsed };
        // Progress is for display only, so a full disk does not stop a build.
        let _ = self.folder.progress(&progress);
        self.written = (Instant::now(), progress.line);
    }

    fn ended(&self, number: usize, end: End, readers: &Readers) -> Report {
        let step = &self.request.steps[number];
        let tally = readers.tally();
        let mut artifacts: Vec<Artifact> = self.artifacts.iter().cloned().chain(tally.artifacts()).collect();
        artifacts.sort();
        artifacts.dedup();
        let outcome = match step.command {
            Command::Build => outcome(&end, &artifacts, self.stop),
            // Only a build creates images.
            Command::Init | Command::Validate => outcome(&end, &[], self.stop),
        };
        let succeeded = outcome == Outcome::Succeeded;
        let named = tally.errors();
        let said = match outcome {
            // What a successful build printed in red is noise.
            Outcome::Succeeded => Vec::new(),
            _ if named.is_empty() && self.stop.is_none() => tally.last_words(),
            _ => named,
        };
        let errors = said.into_iter().chain(remark(&end).map(|text| self.output.mask.apply(&text))).collect();
        Report {
            outcome,
            command: Some(step.command),
            exit: if let End::Exited(code) = end { Some(code) } else { None },
            artifacts,
            resources: self.resources.iter().chain(tally.resources()).cloned().collect(),
            place: self.place(number),
            build: tally.build().filter(|_| !succeeded).map(|name| self.output.mask.apply(name)),
            errors,
            output: if succeeded { Vec::new() } else { tally.output() },
            started_at: self.now,
            ended_at: unix_now(),
        }
    }

    /// Returns the position of a step among the steps with the same command, if there are several.
    fn place(&self, number: usize) -> Option<Place> {
        let steps = &self.request.steps;
        let alike = |steps: &[Step]| {
            steps.iter().filter(|step| step.command == self.request.steps[number].command).count()
        };
        let of = alike(steps);
        (of > 1).then(|| Place { number: alike(&steps[..=number]), of })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the times in a report are for display and for the engine's history"
)]
fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
