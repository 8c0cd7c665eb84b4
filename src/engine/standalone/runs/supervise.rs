//! Starts runners until a run has a result, and reads the state of runs.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use opsy_runner::request as wire;

use super::ProcessesShared;
use super::layout::SECRET;
use crate::api::lock::lock;
use crate::api::{Key, RunName};
use crate::engine::standalone::disk;
use crate::engine::standalone::folders::{self, RunDirectory};
use crate::engine::standalone::secrets::replaced;
use crate::engine::{EngineError, ReportDetails, Run, RunFacts, RunState, ended};

/// Runners that are started for one run. Each but the last ended without a result.
const RUNNER_TRIES: u32 = 3;
/// How often the lock of a runner is checked that is not a child of this process, and so cannot be waited for.
const LOCK_INTERVAL: Duration = Duration::from_millis(500);

impl ProcessesShared {
    pub fn secrets_of(
        &self,
        secret: Option<&str>,
        builder: &Key,
    ) -> Result<BTreeMap<String, String>, EngineError> {
        self.secrets.of_build(&builder.namespace, secret)
    }

    /// Starts runners until one has written a result. A runner knows whether Packer was started before, and then only
    /// reports.
    pub fn supervise(&self, dir: &Path, builder: &Key) -> io::Result<()> {
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

    /// The variables of the agent's environment that builds inherit.
    pub fn inherited(&self) -> Vec<(OsString, OsString)> {
        self.packer.inherits.of(std::env::vars_os())
    }

    /// The command of a runner, which leads its own session and receives none of the agent's settings.
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

    /// The directories of all runs. Each one that cannot be read is logged once.
    pub fn folders(&self) -> io::Result<Arc<Vec<RunDirectory>>> {
        let folders = self.list.read()?;
        let mut logged = lock(&self.logged);
        for folder in folders.iter() {
            if let Some(warning) = folder.warning()
                && logged.insert(folder.name.clone())
            {
                tracing::error!("{warning}");
            }
        }
        Ok(folders)
    }

    /// The run, if it belongs to that builder.
    pub fn run_of(&self, folder: &RunDirectory, builder: &Key) -> Option<Result<Run, EngineError>> {
        folder.facts.as_ref().ok().filter(|facts| facts.builder == *builder)?;
        Some(self.read(folder)?.map_err(|error| folder.error(&error)))
    }

    /// Whether the run is live. One that cannot be read counts as live if it may be.
    pub fn lives(&self, folder: &RunDirectory) -> bool {
        match self.read(folder) {
            Some(Ok(run)) => !run.state.ended(),
            Some(Err(_)) | None => self.watched().contains(&folder.name) || folder.may_live(),
        }
    }

    /// The run, unless its facts cannot be read.
    pub fn read(&self, folder: &RunDirectory) -> Option<io::Result<Run>> {
        let facts = folder.facts.as_ref().ok()?;
        Some(self.read_run(&folder.path, folder.name.clone(), facts.clone()))
    }

    fn read_run(&self, dir: &Path, name: RunName, facts: RunFacts) -> io::Result<Run> {
        if let Some(report) = opsy_runner::read_report(dir)? {
            return Ok(ended::run(name, facts, folders::without_paths(report, dir)));
        }
        let state = if !self.watched().contains(&name) && !opsy_runner::is_alive(dir)? {
            // The run may have ended since the report was read.
            if let Some(report) = opsy_runner::read_report(dir)? {
                return Ok(ended::run(name, facts, folders::without_paths(report, dir)));
            }
            RunState::Lost("the runner ended without a result".into())
        } else if dir.join(wire::STOP).exists() {
            RunState::Stopping
        } else {
            // The progress is only displayed, so an unreadable one is no error.
            opsy_runner::read_progress(dir).ok().flatten().map_or(RunState::Pending(None), RunState::Running)
        };
        let (resources, details) = (Vec::new(), ReportDetails::default());
        Ok(Run {
            id: name.to_string(),
            name,
            facts,
            state,
            started_at: None,
            ended_at: None,
            resources,
            details,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "another process's child: there is only its lock to check")]
fn wait_for_the_lock() {
    std::thread::sleep(LOCK_INTERVAL);
}
