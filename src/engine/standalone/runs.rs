//! Builds as processes: `opsy packer-run DIR` in a session of its own, one folder a run. The agent
//! may die and come back: liveness is the lock the runner holds, the outcome is a file.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use opsy_runner::request as wire;

use super::disk;
use super::environment::{Inherited, is_secret};
use super::folders::{self, FACTS, RunFolder};
use super::logs;
use super::private;
use super::secrets::{Secrets, replaced};
use crate::api::files::TemplateFile;
use crate::api::{Class, Key, RunName};
use crate::engine::{Run, RunFacts, RunRequest, RunState, Runs, RunsError, Said, Stop, ended};

/// Folders being laid out or taken away: nothing runs in them.
const UNFINISHED: &str = ".new-";
/// Packer's clean-up takes minutes: it waits for instances to end.
const GRACE: Duration = Duration::from_secs(600);
/// Runners started for one folder before it is given up: each but the last died without a result.
const RUNNER_TRIES: u32 = 3;
/// How often the lock of a runner that is not our child is looked at: there is nothing to wait on.
const LOCK_LOOK: Duration = Duration::from_millis(500);

/// How Packer is run on this machine.
#[derive(Clone, Debug)]
pub struct Packer {
    /// Path, or a name looked up in PATH.
    pub program: String,
    /// Shared plugin folder, if any.
    pub plugins: Option<String>,
    /// What it inherits of the agent's environment.
    pub inherits: Inherited,
}

/// The runs of one state directory. Cheap to clone.
#[derive(Clone)]
pub struct Processes {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    logs: PathBuf,
    /// This program: it carries the runner as a hidden subcommand.
    program: PathBuf,
    packer: Packer,
    secrets: Secrets,
    /// Wakes the builder of a run that ended.
    ended: Box<dyn Fn(&Key) + Send + Sync>,
    /// Runs with a thread waiting for their end.
    watched: Mutex<BTreeSet<RunName>>,
    /// Runs that cannot be read and were told of.
    told: Mutex<BTreeSet<RunName>>,
}

impl Processes {
    pub fn new(
        (dir, logs): (PathBuf, PathBuf),
        program: PathBuf,
        packer: Packer,
        secrets: Secrets,
        ended: impl Fn(&Key) + Send + Sync + 'static,
    ) -> Self {
        let (watched, told) = (Mutex::default(), Mutex::default());
        let ended = Box::new(ended);
        Self { shared: Arc::new(Shared { dir, logs, program, packer, secrets, ended, watched, told }) }
    }

    /// After a restart: takes up every run that has no result, alive or not, and clears away folders
    /// nothing was started in.
    pub fn recover(&self) -> io::Result<()> {
        private::make(&self.shared.dir)?;
        for entry in std::fs::read_dir(&self.shared.dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(UNFINISHED) {
                std::fs::remove_dir_all(&path)?;
            }
        }
        for folder in self.shared.folders()? {
            // A result that cannot be read is left for a person: its builder is told.
            if let Ok(facts) = folder.facts
                && matches!(opsy_runner::read_report(&folder.path), Ok(None))
            {
                self.watch(folder.name, facts.builder)?;
            }
        }
        Ok(())
    }

    /// Waits for a run's end in a thread of its own, starting a runner where none lives.
    fn watch(&self, name: RunName, builder: Key) -> io::Result<()> {
        if !self.shared.watched().insert(name.clone()) {
            return Ok(());
        }
        let shared = self.shared.clone();
        let unwatch = name.clone();
        let thread = std::thread::Builder::new().name("run".into()).spawn(move || {
            let outcome = shared.see_to_its_end(&shared.dir.join(name.as_str()), &builder);
            if let Err(error) = outcome {
                tracing::error!(run = %name, %error, "the run cannot be supervised");
            }
            shared.watched().remove(&name);
            (shared.ended)(&builder);
        });
        if thread.is_err() {
            self.shared.watched().remove(&unwatch);
        }
        thread.map(drop)
    }

    fn start_now(&self, request: &RunRequest) -> Result<String, RunsError> {
        let dir = self.shared.dir.join(request.name.as_str());
        if !dir.exists() {
            // Looked up before anything is written: a missing secret starts nothing.
            self.shared.secrets_of(request.secret.as_deref(), &request.facts.builder)?;
            self.shared.lay_out(&dir, request).map_err(|error| failed("lay out the run", &error))?;
        }
        let builder = request.facts.builder.clone();
        self.watch(request.name.clone(), builder).map_err(|error| failed("start the run", &error))?;
        Ok(request.name.to_string())
    }
}

impl Runs for Processes {
    fn start(&self, request: RunRequest) -> BoxFuture<'_, Result<String, RunsError>> {
        let this = self.clone();
        blocking(move || this.start_now(&request)).boxed()
    }

    fn of<'a>(&'a self, builder: &'a Key) -> BoxFuture<'a, Result<Vec<Run>, RunsError>> {
        let (shared, builder) = (self.shared.clone(), builder.clone());
        blocking(move || {
            let folders = shared.folders().map_err(|error| failed("read the runs", &error))?;
            match folders.iter().find_map(|folder| folder.in_the_way_of(&builder)) {
                Some(error) => Err(error),
                None => folders.iter().filter_map(|folder| shared.run_of(folder, &builder)).collect(),
            }
        })
        .boxed()
    }

    fn live(&self) -> BoxFuture<'_, Result<usize, RunsError>> {
        let shared = self.shared.clone();
        blocking(move || {
            let folders = shared.folders().map_err(|error| failed("read the runs", &error))?;
            Ok(folders.iter().filter(|folder| shared.lives(folder)).count())
        })
        .boxed()
    }

    fn stop<'a>(&'a self, run: &'a RunName, _why: Stop) -> BoxFuture<'a, Result<(), RunsError>> {
        let path = self.shared.dir.join(run.as_str()).join(wire::STOP);
        blocking(move || disk::replace(&path, b"").map_err(|error| failed("stop the run", &error))).boxed()
    }

    fn forget<'a>(&'a self, run: &'a RunName) -> BoxFuture<'a, Result<(), RunsError>> {
        let (shared, run) = (self.shared.clone(), run.clone());
        blocking(move || match shared.put_away(&run) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove the run", &error)),
            _ => Ok(()),
        })
        .boxed()
    }

    fn secret<'a>(
        &'a self,
        secret: &'a Key,
        _withheld: &'a BTreeSet<Key>,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, RunsError>> {
        std::future::ready(self.shared.secrets.get(&secret.namespace, &secret.name)).boxed()
    }

    fn progress(&self) -> Vec<(Key, wire::Progress)> {
        let folders = self.shared.folders().unwrap_or_default();
        let live = folders.iter().filter_map(|folder| match self.shared.read(folder)?.ok()?.state {
            RunState::Running(progress) => Some((folder.facts.as_ref().ok()?.builder.clone(), progress)),
            _ => None,
        });
        live.collect()
    }
}

impl Shared {
    /// Keeps the log of a run and takes its folder away. A log that cannot be kept holds nothing up.
    fn put_away(&self, run: &RunName) -> io::Result<()> {
        if let Err(error) = logs::keep(&self.dir.join(run.as_str()), &self.logs, run) {
            tracing::warn!(%run, %error, "the log of the run cannot be kept");
        }
        self.remove(run)
    }

    /// Takes a run away under another name first: half a folder would look like a run that never began.
    fn remove(&self, run: &RunName) -> io::Result<()> {
        let old = self.dir.join(format!("{UNFINISHED}{run}"));
        std::fs::rename(self.dir.join(run.as_str()), &old)?;
        disk::sync_dir(&self.dir)?;
        std::fs::remove_dir_all(old)
    }

    /// Lays a run out under another name and moves it into place whole.
    fn lay_out(&self, dir: &Path, request: &RunRequest) -> io::Result<()> {
        let new = self.dir.join(format!("{UNFINISHED}{}", request.name));
        if new.exists() {
            std::fs::remove_dir_all(&new)?;
        }
        let work = new.join(wire::WORK);
        std::fs::create_dir_all(&work)?;
        for file in request.files.iter() {
            write_file(&work, file)?;
        }
        let namespace = &request.facts.builder.namespace;
        let masked = self.secrets.masked(namespace, request.secret.as_deref()).map_err(io::Error::other)?;
        let names = self.inherited().into_iter().filter_map(|(name, _)| name.into_string().ok());
        let secrets: BTreeSet<String> = names.filter(|name| is_secret(name)).chain(masked).collect();
        let secrets = secrets.into_iter().collect();
        disk::write_json(&new.join(wire::REQUEST), &self.wire_request(request, secrets))?;
        disk::write_json(&new.join(SECRET), &request.secret)?;
        disk::write_json(&new.join(FACTS), &request.facts)?;
        // Scripts that are empty after a power cut would make an image without them.
        rustix::fs::syncfs(std::fs::File::open(&new)?)?;
        std::fs::rename(&new, dir)?;
        disk::sync_dir(&self.dir)
    }

    fn wire_request(&self, request: &RunRequest, secrets: Vec<String>) -> wire::Request {
        wire::Request {
            packer: self.packer.program.clone(),
            steps: request.steps.clone(),
            env: request.env.clone(),
            secrets,
            limit_seconds: request.limit.as_secs(),
            grace_seconds: GRACE.as_secs(),
            defaults: BTreeMap::new(),
            plugins: self.packer.plugins.clone(),
            secrets_dir: None,
        }
    }

    fn secrets_of(&self, secret: Option<&str>, builder: &Key) -> Result<BTreeMap<String, String>, RunsError> {
        self.secrets.of_build(&builder.namespace, secret)
    }

    /// Starts runners until one has left a result. A runner knows by itself whether Packer was
    /// started before, and then only reports.
    fn see_to_its_end(&self, dir: &Path, builder: &Key) -> io::Result<()> {
        for _ in 0..RUNNER_TRIES {
            while opsy_runner::is_alive(dir)? {
                wait_for_the_lock();
            }
            if opsy_runner::read_report(dir)?.is_some() {
                return Ok(());
            }
            self.runner(dir, builder)?.status()?;
        }
        Ok(())
    }

    fn inherited(&self) -> Vec<(OsString, OsString)> {
        self.packer.inherits.of(std::env::vars_os())
    }

    /// The runner's process: it leads a session of its own and sees nothing of the agent's settings.
    #[expect(clippy::disallowed_methods, reason = "this engine runs builds as processes")]
    fn runner(&self, dir: &Path, builder: &Key) -> io::Result<Command> {
        let secret: Option<String> = disk::read_json(&dir.join(SECRET))?.flatten();
        let secrets = self.secrets_of(secret.as_deref(), builder).map_err(io::Error::other)?;
        let mut command = Command::new(&self.program);
        command.arg("packer-run").arg(dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env_clear().envs(self.inherited());
        for name in replaced(&secrets) {
            command.env_remove(name);
        }
        command.envs(secrets);
        Ok(command)
    }

    /// Every run's folder. Of one that cannot be read the log hears once.
    fn folders(&self) -> io::Result<Vec<RunFolder>> {
        let folders = folders::list(&self.dir)?;
        let mut told = self.told.lock().expect("no code panics while it holds the runs that were told of");
        for folder in &folders {
            if let Some(warning) = folder.warning()
                && told.insert(folder.name.clone())
            {
                tracing::error!("{warning}");
            }
        }
        Ok(folders)
    }

    /// The run, where it is that builder's.
    fn run_of(&self, folder: &RunFolder, builder: &Key) -> Option<Result<Run, RunsError>> {
        folder.facts.as_ref().ok().filter(|facts| facts.builder == *builder)?;
        Some(self.read(folder)?.map_err(|error| folder.error(&error)))
    }

    /// What cannot be read counts as live where it may be.
    fn lives(&self, folder: &RunFolder) -> bool {
        match self.read(folder) {
            Some(Ok(run)) => !run.state.ended(),
            Some(Err(_)) | None => self.watched().contains(&folder.name) || folder.may_live(),
        }
    }

    /// The run, unless its facts cannot be read.
    fn read(&self, folder: &RunFolder) -> Option<io::Result<Run>> {
        let facts = folder.facts.as_ref().ok()?;
        Some(self.read_run(&folder.path, folder.name.clone(), facts.clone()))
    }

    fn read_run(&self, dir: &Path, name: RunName, facts: RunFacts) -> io::Result<Run> {
        if let Some(report) = opsy_runner::read_report(dir)? {
            return Ok(ended::run(name, facts, folders::without_places(report, dir)));
        }
        let state = if !self.watched().contains(&name) && !opsy_runner::is_alive(dir)? {
            // It may have ended since the first look.
            if let Some(report) = opsy_runner::read_report(dir)? {
                return Ok(ended::run(name, facts, folders::without_places(report, dir)));
            }
            RunState::Lost("the runner ended without a result".into())
        } else if dir.join(wire::STOP).exists() {
            RunState::Stopping
        } else {
            // For people only: what cannot be read is not shown.
            opsy_runner::read_progress(dir).ok().flatten().map_or(RunState::Pending(None), RunState::Running)
        };
        let (resources, said) = (Vec::new(), Said::default());
        Ok(Run {
            id: name.to_string(),
            name,
            facts,
            state,
            started_at: None,
            ended_at: None,
            resources,
            said,
        })
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, BTreeSet<RunName>> {
        self.watched.lock().expect("no code panics while it holds the watched runs")
    }
}

/// Name of the secret the run needs, for a runner that is started again.
const SECRET: &str = "secret.json";

#[expect(clippy::disallowed_methods, reason = "another process's child: there is only its lock to look at")]
fn wait_for_the_lock() {
    std::thread::sleep(LOCK_LOOK);
}

fn write_file(work: &Path, file: &TemplateFile) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let relative = Path::new(&file.path);
    let inside = relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !inside {
        return Err(io::Error::other(format!("{} leads out of the repository", file.path)));
    }
    let path = work.join(relative);
    std::fs::create_dir_all(path.parent().unwrap_or(work))?;
    let mode = if file.executable { 0o755 } else { 0o644 };
    let mut open = std::fs::OpenOptions::new();
    let mut target = open.write(true).create_new(true).mode(mode).open(path)?;
    io::Write::write_all(&mut target, &file.content)
}

fn failed(what: &str, error: &io::Error) -> RunsError {
    RunsError { class: Class::TRANSIENT, message: format!("cannot {what}: {error}") }
}

/// Runs file work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RunsError> + Send + 'static,
) -> Result<T, RunsError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(RunsError { class: Class::TRANSIENT, message: format!("file work was cut off: {error}") })
    })
}
