//! The directory of a run: created complete or not at all, and removed the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::Duration;

use opsy_runner::request as wire;

use super::ProcessesShared;
use crate::api::RunName;
use crate::api::files::TemplateFile;
use crate::engine::RunRequest;
use crate::engine::standalone::environment::is_secret;
use crate::engine::standalone::folders::FACTS;
use crate::engine::standalone::{disk, logs};

/// Prefix of directories that are being created or removed. Nothing runs in them.
pub const UNFINISHED: &str = ".new-";
/// File with the name of the run's Secret, for a runner that is started again.
pub const SECRET: &str = "secret.json";
/// Time for Packer's cleanup, which takes minutes because it waits until instances are terminated.
const GRACE: Duration = Duration::from_secs(600);

impl ProcessesShared {
    /// Saves the log of a run and removes its directory. A log that cannot be saved does not prevent the removal.
    pub fn remove_run(&self, run: &RunName) -> io::Result<()> {
        if let Err(error) = logs::keep(&self.dir.join(run.as_str()), &self.logs, run) {
            tracing::warn!(%run, %error, "the log of the run cannot be saved");
        }
        self.remove(run)
    }

    /// Renames the directory first: an incomplete one would look like a run that never began.
    fn remove(&self, run: &RunName) -> io::Result<()> {
        let old = self.dir.join(format!("{UNFINISHED}{run}"));
        std::fs::rename(self.dir.join(run.as_str()), &old)?;
        disk::sync_dir(&self.dir)?;
        std::fs::remove_dir_all(old)
    }

    /// Creates the directory of a run under another name, and renames it when it is complete.
    pub fn lay_out(&self, dir: &Path, request: &RunRequest) -> io::Result<()> {
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
        // After a power failure, scripts could be empty, and Packer would create an image without them.
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
}

fn write_file(work: &Path, file: &TemplateFile) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let relative = Path::new(&file.path);
    let inside = relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    if !inside {
        return Err(io::Error::other(format!("the path {} leads outside the repository", file.path)));
    }
    let path = work.join(relative);
    std::fs::create_dir_all(path.parent().unwrap_or(work))?;
    let mode = if file.executable { 0o755 } else { 0o644 };
    let mut open = std::fs::OpenOptions::new();
    let mut target = open.write(true).create_new(true).mode(mode).open(path)?;
    io::Write::write_all(&mut target, &file.content)
}
