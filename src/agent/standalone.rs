//! The standalone engine, put together: a state directory under a lock, builds as processes.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt;

use super::engine::{Claim, Engine};
use super::now;
use crate::api::{Key, Kind, ObjectKey, Owner};
use crate::engine::objects::Objects;
use crate::engine::standalone::environment::Inherited;
use crate::engine::standalone::home::StateFolder;
use crate::engine::standalone::runs::{Packer, Processes};
use crate::engine::standalone::secrets::Secrets;
use crate::engine::standalone::{asked, clone_dir, lock, logs_dir, owner_file, runs_dir};
use crate::git::address::Address;
use crate::settings::{EnvSecrets, RunFlags};

/// Takes the state directory and takes up running builds.
pub fn start(flags: &RunFlags, repository: &Address, secrets: &EnvSecrets) -> anyhow::Result<Engine> {
    let state = flags.state.dir()?;
    let lock = lock::take(&state, lock::Engine::Standalone)?;
    let (objects, queues) = Objects::new();
    let secrets = Secrets {
        folder: flags.secrets.clone(),
        environment: secrets.builds.clone(),
        every_build: secrets.every_build.clone(),
        ..Secrets::default()
    };
    let home = StateFolder::open(&state, objects.clone(), secrets.clone(), now)
        .context("the state directory cannot be read")?;
    let home = Arc::new(home);
    let hears = Arc::downgrade(&home);
    let asked = asked::watch(&state, move || hears.upgrade().iter().for_each(|home| home.hear()));
    let runs = processes(flags, secrets, &objects, &state)?;
    runs.recover().context("the runs of the state directory cannot be read")?;
    let claim = Claim {
        lost: futures::future::pending().boxed(),
        give_up: Box::new(move || {
            drop((lock, asked));
            futures::future::ready(()).boxed()
        }),
    };
    Ok(Engine {
        objects,
        queues,
        home,
        runs: Arc::new(runs),
        owner: flags.agent_id.clone().unwrap_or_else(|| owner(repository, &flags.path)),
        namespace: None,
        noted_owner: noted_owner(&state)?,
        clone: clone_dir(&state),
        // It lies in the state directory beside the objects, under the same lock.
        clone_is_newest: true,
        claim,
    })
}

/// Whose agent worked in this state directory so far.
fn noted_owner(state: &Path) -> anyhow::Result<Option<String>> {
    let file = owner_file(state);
    match std::fs::read_to_string(&file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).with_context(|| format!("{} cannot be read", file.display())),
    }
}

/// The same for every clone of the repository, whatever the credentials or the scheme.
fn owner(repository: &Address, path: &str) -> Owner {
    let digest = crate::api::ids::digest(&[&repository.identity(), path.trim_matches('/')]);
    Owner::parse(&digest[..16]).expect("hex digits are an owner")
}

fn processes(
    flags: &RunFlags,
    secrets: Secrets,
    objects: &Arc<Objects>,
    state: &Path,
) -> anyhow::Result<Processes> {
    let plugins = flags.packer_plugins.as_ref().map(std::path::absolute).transpose()?;
    if let Some(dir) = plugins.as_ref().filter(|dir| !dir.is_dir()) {
        anyhow::bail!("--packer-plugins {} is not a folder: make it, or correct the path", dir.display());
    }
    let packer = Packer {
        program: packer(&flags.packer)?,
        plugins: plugins.map(|path| path.to_string_lossy().into_owned()),
        inherits: Inherited::with(&flags.pass_env).map_err(|why| anyhow::anyhow!("--pass-env: {why}"))?,
    };
    let program = std::env::current_exe().context("this program cannot be found on disk")?;
    let objects = objects.clone();
    let ended = move |builder: &Key| {
        objects.wake(&ObjectKey { kind: Kind::PackerBuilder, key: builder.clone() });
    };
    Ok(Processes::new((runs_dir(state), logs_dir(state)), program, packer, secrets, ended))
}

/// Packer as builds start it, in folders of their own: a path is taken from where Opsy was started. A name is
/// looked up in PATH for each build.
fn packer(program: &str) -> anyhow::Result<String> {
    use std::os::unix::fs::PermissionsExt as _;
    if !program.contains('/') {
        if !in_path(program) {
            tracing::warn!(
                "{program} is not in PATH: builds will fail; install it, or name it with --packer"
            );
        }
        return Ok(program.to_owned());
    }
    let path = std::path::absolute(program)?;
    let advice = "correct --packer, or leave it out to use the one in PATH";
    let found = std::fs::metadata(&path);
    let found = found.map_err(|error| anyhow::anyhow!("--packer {}: {error}; {advice}", path.display()))?;
    if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
        anyhow::bail!("--packer {} is not a program; {advice}", path.display());
    }
    Ok(path.to_string_lossy().into_owned())
}

#[expect(clippy::disallowed_methods, reason = "where builds will look for it")]
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
