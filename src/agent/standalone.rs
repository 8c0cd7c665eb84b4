//! The engine of one machine: a state directory under a lock, builds as processes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt;

use super::engine::{Claim, Engine};
use super::inputs::Inputs;
use super::now;
use crate::api::ids::digest;
use crate::api::{Key, Kind, ObjectKey, Owner};
use crate::engine::objects::Objects;
use crate::engine::standalone::environment::Inherited;
use crate::engine::standalone::home::StateHome;
use crate::engine::standalone::manifest_cache::ManifestCache;
use crate::engine::standalone::runs::{Packer, Processes};
use crate::engine::standalone::secrets::Secrets;
use crate::engine::standalone::{clone_dir, lock, logs_dir, owner_file, requests, runs_dir};
use crate::git::address::Address;
use crate::settings::{AccessFlags, EnvSecrets, RunFlags};

/// Locks the state directory, reads it, and attaches to builds that still run.
///
/// # Errors
/// Another agent uses the state directory, it cannot be used, or Packer's flags are invalid.
pub fn start(inputs: &Inputs) -> anyhow::Result<Engine> {
    let Inputs { flags, repository, .. } = inputs;
    let state = flags.state.dir()?;
    let lock = lock::take(&state, lock::EngineKind::Standalone)?;
    let (objects, queues) = Objects::new();
    let secrets = secrets(&flags.access, &inputs.secrets);
    let home = StateHome::open(&state, objects.clone(), secrets.clone(), now)
        .context("the state directory cannot be read")?;
    let home = Arc::new(home);
    let listener = Arc::downgrade(&home);
    let requests =
        requests::watch(&state, move || listener.upgrade().iter().for_each(|home| home.read_requests()));
    let runs = processes(flags, secrets, &objects, &state)?;
    runs.recover().context("the runs of the state directory cannot be read")?;
    let claim = Claim {
        // A file lock is held until the process ends.
        lost: futures::future::pending().boxed(),
        release: Box::new(move || {
            drop((lock, requests));
            futures::future::ready(()).boxed()
        }),
    };
    Ok(Engine {
        objects,
        queues,
        home,
        runs: Arc::new(runs),
        nodes: None,
        owner: flags.access.agent_id.clone().unwrap_or_else(|| owner(repository, &flags.access.path)),
        namespace: None,
        recorded_owner: recorded_owner(&state)?,
        clone: clone_dir(&state),
        // Builds run as the same user. Only the manifests of a verified commit may be used.
        manifest_cache: inputs.signers.is_none().then(|| ManifestCache::of(&state)),
        // The clone is beside the objects, under the same lock.
        clone_is_newest: true,
        claim,
    })
}

/// Where secrets are read on this machine.
pub(super) fn secrets(flags: &AccessFlags, variables: &EnvSecrets) -> Secrets {
    Secrets {
        folder: flags.secrets.clone(),
        environment: variables.builds.clone(),
        every_build: variables.every_build.clone(),
        ..Secrets::default()
    }
}

/// The owner that the agent of this state directory has worked for.
fn recorded_owner(state: &Path) -> anyhow::Result<Option<String>> {
    let file = owner_file(state);
    match std::fs::read_to_string(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).with_context(|| format!("{} cannot be read", file.display())),
    }
}

/// The default owner: the same for every address of the repository, whatever its scheme or credentials.
pub(super) fn owner(repository: &Address, path: &str) -> Owner {
    let digest = digest(&[&repository.identity(), path.trim_matches('/')]);
    Owner::parse(&digest[..16]).expect("hex digits are an owner")
}

fn processes(
    flags: &RunFlags,
    secrets: Secrets,
    objects: &Arc<Objects>,
    state: &Path,
) -> anyhow::Result<Processes> {
    let plugins = plugins(&flags.access)?;
    let packer = Packer {
        program: packer(&flags.access.packer)?,
        plugins: plugins.map(|path| path.to_string_lossy().into_owned()),
        inherits: Inherited::with(&flags.pass_env).map_err(|why| anyhow::anyhow!("--pass-env: {why}"))?,
    };
    let program = std::env::current_exe().context("the path of this program cannot be determined")?;
    let objects = objects.clone();
    let ended = move |builder: &Key| {
        objects.wake(&ObjectKey { kind: Kind::PackerBuilder, key: builder.clone() });
    };
    Ok(Processes::new((runs_dir(state), logs_dir(state)), program, packer, secrets, ended))
}

/// The directory of plugins that all builds share, if there is one.
pub(super) fn plugins(flags: &AccessFlags) -> anyhow::Result<Option<PathBuf>> {
    let plugins = flags.packer_plugins.as_ref().map(std::path::absolute).transpose()?;
    if let Some(dir) = plugins.as_ref().filter(|dir| !dir.is_dir()) {
        anyhow::bail!(
            "--packer-plugins {} is not a directory: create it, or correct the path",
            dir.display()
        );
    }
    Ok(plugins)
}

/// Packer as builds start it. Each has a working directory of its own, so a path is made absolute. A name is looked up
/// in PATH for each build.
pub(super) fn packer(program: &str) -> anyhow::Result<String> {
    use std::os::unix::fs::PermissionsExt as _;
    if !program.contains('/') {
        if !in_path(program) {
            tracing::warn!("{program} is not in PATH, so builds will fail: install it, or set --packer");
        }
        return Ok(program.to_owned());
    }
    let path = std::path::absolute(program)?;
    let advice = "correct --packer, or omit it to use the one in PATH";
    let found = std::fs::metadata(&path);
    let found = found.map_err(|error| anyhow::anyhow!("--packer {}: {error}; {advice}", path.display()))?;
    if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
        anyhow::bail!("--packer {} is not an executable file; {advice}", path.display());
    }
    Ok(path.to_string_lossy().into_owned())
}

#[expect(clippy::disallowed_methods, reason = "builds inherit this PATH")]
fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packer_is_taken_from_where_opsy_was_started_and_must_be_there() {
        assert_eq!(packer("packer").expect("a name"), "packer");
        let found = packer("/bin/../bin/sh").expect("a program");
        assert!(Path::new(&found).is_absolute());
        let here = std::env::current_dir().expect("a folder");
        let up = "../".repeat(here.components().count());
        assert!(Path::new(&packer(&format!("{up}bin/sh")).expect("a program")).is_absolute());
        for wrong in ["bin/packer-that-is-not-there", "/etc/passwd", "/tmp"] {
            let error = packer(wrong).expect_err("refused").to_string();
            assert!(error.contains(wrong) && error.contains("--packer"), "{error}");
        }
    }
}
