//! Builds as processes: `opsy packer-run DIR`, each in a session and a directory of its own. Runs survive a restart of
//! the agent: a run is live while its runner holds a lock, and its result is a file.
//!
//! `supervise` starts runners and reads runs; `layout` creates and removes their directories.

mod layout;
mod supervise;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use opsy_runner::request as wire;

use super::environment::Inherited;
use super::folders::RunDirectory;
use super::run_list::RunList;
use super::secrets::Secrets;
use super::{disk, private};
use crate::api::lock::lock;
use crate::api::{Key, RunName};
use crate::engine::{EngineError, Run, RunRequest, RunState, Runs, Stop};
use layout::UNFINISHED;

/// How Packer runs on this machine.
#[derive(Clone, Debug)]
pub struct Packer {
    /// Path, or a name that is looked up in PATH.
    pub program: String,
    /// Shared plugin directory, if any.
    pub plugins: Option<String>,
    /// The variables of the agent's environment that it inherits.
    pub inherits: Inherited,
}

/// The runs of one state directory. Cheap to clone.
#[derive(Clone)]
pub struct Processes {
    shared: Arc<ProcessesShared>,
}

/// What the threads that supervise runs share.
struct ProcessesShared {
    /// The directory of the runs.
    dir: PathBuf,
    list: RunList,
    /// The directory of the logs of ended runs.
    logs: PathBuf,
    /// This program, which contains the runner as a hidden subcommand.
    program: PathBuf,
    packer: Packer,
    secrets: Secrets,
    /// Wakes the builder of a run that has ended.
    ended: Box<dyn Fn(&Key) + Send + Sync>,
    /// Runs with a thread that waits for their end.
    watched: Mutex<BTreeSet<RunName>>,
    /// Unreadable runs that were logged.
    logged: Mutex<BTreeSet<RunName>>,
}

impl Processes {
    pub fn new(
        (dir, logs): (PathBuf, PathBuf),
        program: PathBuf,
        packer: Packer,
        secrets: Secrets,
        ended: impl Fn(&Key) + Send + Sync + 'static,
    ) -> Self {
        let (watched, logged) = (Mutex::default(), Mutex::default());
        let ended = Box::new(ended);
        let list = RunList::new(dir.clone());
        let shared = ProcessesShared { dir, list, logs, program, packer, secrets, ended, watched, logged };
        Self { shared: Arc::new(shared) }
    }

    /// After a restart, supervises every run without a result, live or not, and removes unfinished directories.
    pub fn recover(&self) -> io::Result<()> {
        private::make(&self.shared.dir)?;
        for entry in std::fs::read_dir(&self.shared.dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(UNFINISHED) {
                std::fs::remove_dir_all(&path)?;
            }
        }
        for folder in self.shared.folders()?.iter() {
            // A result that cannot be read is left for a person. The builder reports it.
            if let Ok(facts) = &folder.facts
                && matches!(opsy_runner::read_report(&folder.path), Ok(None))
            {
                self.watch(folder.name.clone(), facts.builder.clone())?;
            }
        }
        Ok(())
    }

    /// Waits for the end of a run in a thread, which starts a runner if none is alive.
    fn watch(&self, name: RunName, builder: Key) -> io::Result<()> {
        if !self.shared.watched().insert(name.clone()) {
            return Ok(());
        }
        let shared = self.shared.clone();
        let unwatch = name.clone();
        let thread = std::thread::Builder::new().name("run".into()).spawn(move || {
            let outcome = shared.supervise(&shared.dir.join(name.as_str()), &builder);
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

    fn start_run(&self, request: &RunRequest) -> Result<String, EngineError> {
        let dir = self.shared.dir.join(request.name.as_str());
        if !dir.exists() {
            // Read before anything is written, so that a missing Secret starts nothing.
            self.shared.secrets_of(request.secret.as_deref(), &request.facts.builder)?;
            self.shared
                .lay_out(&dir, request)
                .map_err(|error| failed("write the run's directory", &error))?;
        }
        let builder = request.facts.builder.clone();
        self.watch(request.name.clone(), builder).map_err(|error| failed("start the run", &error))?;
        Ok(request.name.to_string())
    }
}

impl ProcessesShared {
    /// Whether a builder certainly has no run. Most builders have none at most times, and to hand each question to another
    /// thread would cost more than the answer.
    fn has_none_of(&self, builder: &Key) -> bool {
        let is_of_another =
            |run: &RunDirectory| run.facts.as_ref().is_ok_and(|facts| facts.builder != *builder);
        self.list.unchanged().is_some_and(|runs| runs.iter().all(is_of_another))
    }

    fn watched(&self) -> MutexGuard<'_, BTreeSet<RunName>> {
        lock(&self.watched)
    }
}

impl Runs for Processes {
    fn start(&self, request: RunRequest) -> BoxFuture<'_, Result<String, EngineError>> {
        let this = self.clone();
        blocking(move || this.start_run(&request)).boxed()
    }

    fn of<'a>(&'a self, builder: &'a Key) -> BoxFuture<'a, Result<Vec<Run>, EngineError>> {
        if self.shared.has_none_of(builder) {
            return ready(Ok(Vec::new())).boxed();
        }
        let (shared, builder) = (self.shared.clone(), builder.clone());
        blocking(move || {
            let folders = shared.folders().map_err(|error| failed("read the runs", &error))?;
            match folders.iter().find_map(|folder| folder.blocks(&builder)) {
                Some(error) => Err(error),
                None => folders.iter().filter_map(|folder| shared.run_of(folder, &builder)).collect(),
            }
        })
        .boxed()
    }

    fn live(&self) -> BoxFuture<'_, Result<usize, EngineError>> {
        if self.shared.list.unchanged().is_some_and(|runs| runs.is_empty()) {
            return ready(Ok(0)).boxed();
        }
        let shared = self.shared.clone();
        blocking(move || {
            let folders = shared.folders().map_err(|error| failed("read the runs", &error))?;
            Ok(folders.iter().filter(|folder| shared.lives(folder)).count())
        })
        .boxed()
    }

    fn stop<'a>(&'a self, run: &'a RunName, _why: Stop) -> BoxFuture<'a, Result<(), EngineError>> {
        let path = self.shared.dir.join(run.as_str()).join(wire::STOP);
        blocking(move || disk::replace(&path, b"").map_err(|error| failed("stop the run", &error))).boxed()
    }

    fn forget<'a>(&'a self, run: &'a RunName) -> BoxFuture<'a, Result<(), EngineError>> {
        let (shared, run) = (self.shared.clone(), run.clone());
        blocking(move || match shared.remove_run(&run) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove the run", &error)),
            _ => Ok(()),
        })
        .boxed()
    }

    fn secret<'a>(
        &'a self,
        secret: &'a Key,
        _withheld: &'a BTreeSet<Key>,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, EngineError>> {
        ready(self.shared.secrets.get(&secret.namespace, &secret.name)).boxed()
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

fn failed(what: &str, error: &io::Error) -> EngineError {
    EngineError::transient(format!("cannot {what}: {error}"))
}

/// Runs file operations outside the asynchronous threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(EngineError::transient(format!("the file operation was canceled: {error}")))
    })
}
