//! The standalone engine, put together: a state folder under a lock, builds as processes.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt;

use super::engine::{Claim, Engine};
use super::now;
use crate::api::{Key, Kind, ObjectKey, Owner};
use crate::engine::objects::Objects;
use crate::engine::standalone::home::StateFolder;
use crate::engine::standalone::runs::{Packer, Processes};
use crate::engine::standalone::secrets::Secrets;
use crate::engine::standalone::{clone_dir, lock, logs_dir, runs_dir};
use crate::git::auth::Address;
use crate::settings::{EnvSecrets, RunFlags};

/// Takes the state folder and takes up running builds.
pub fn start(flags: &RunFlags, repository: &Address, secrets: &EnvSecrets) -> anyhow::Result<Engine> {
    let state = flags.state.dir()?;
    let lock = lock::take(&state)?;
    let (objects, queues) = Objects::new();
    let secrets = Secrets {
        folder: flags.secrets.clone(),
        environment: secrets.builds.clone(),
        every_build: secrets.every_build.clone(),
    };
    let home = StateFolder::open(&state, objects.clone(), secrets.clone(), now)
        .context("the state folder cannot be read")?;
    let runs = processes(flags, secrets, &objects, &state)?;
    runs.recover().context("the runs of the state folder cannot be read")?;
    let claim = Claim {
        lost: futures::future::pending().boxed(),
        give_up: Box::new(move || {
            drop(lock);
            futures::future::ready(()).boxed()
        }),
    };
    Ok(Engine {
        objects,
        queues,
        home: Arc::new(home),
        runs: Arc::new(runs),
        owner: owner(repository, &flags.path),
        clone: clone_dir(&state),
        // It lies in the state folder beside the objects, under the same lock.
        clone_is_newest: true,
        claim,
    })
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
    let packer = Packer {
        program: flags.packer.clone(),
        plugins: plugins.map(|path| path.to_string_lossy().into_owned()),
    };
    let program = std::env::current_exe().context("this program cannot be found on disk")?;
    let objects = objects.clone();
    let ended = move |builder: &Key| {
        objects.wake(&ObjectKey { kind: Kind::PackerBuilder, key: builder.clone() });
    };
    Ok(Processes::new((runs_dir(state), logs_dir(state)), program, packer, secrets, ended))
}
