//! Selects the host key that a server is asked for: one that known_hosts contains. libgit2 selects it by
//! `~/.ssh/known_hosts`, so it gets a home directory with the lines of the hosts that this process connects to. That
//! file does not decide which keys are trusted.

use std::collections::BTreeMap;
use std::ffi::{CString, c_int};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::KnownHosts;
use crate::api::lock::lock;
use crate::git::GitError;

/// The home directory of libgit2: the known_hosts file in it, and its lines by host.
struct Home {
    file: PathBuf,
    lines: BTreeMap<String, Vec<String>>,
}

/// There is one per process, because libgit2 has one home directory.
static HOME: Mutex<Option<Home>> = Mutex::new(None);

/// Makes libgit2 request a host key that is known. The home directory is created in `parent`.
pub fn prefer(parent: &Path, known: &KnownHosts, host: &str, port: u16) -> Result<(), GitError> {
    // Also locked during the creation, because the option may be set only once.
    let mut home = lock(&HOME);
    let home = match &mut *home {
        Some(home) => home,
        none => none.insert(create(parent)?),
    };
    let lines = known.lines_for(host, port);
    let name = format!("{host}:{port}");
    if home.lines.get(&name) == Some(&lines) && home.file.exists() {
        return Ok(());
    }
    home.lines.insert(name, lines);
    let text: String = home.lines.values().flatten().map(|line| format!("{line}\n")).collect();
    // A connection can read the file at the same time, so it is replaced atomically.
    let new = home.file.with_extension("new");
    let ssh = new.parent().unwrap_or(parent);
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(ssh);
    created.map_err(|error| unusable(ssh, &error))?;
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &home.file));
    written.map_err(|error| unusable(&home.file, &error))
}

fn create(parent: &Path) -> Result<Home, GitError> {
    let home = parent.join("ssh-home");
    let ssh = home.join(".ssh");
    let text = CString::new(home.as_os_str().as_encoded_bytes()).map_err(|_| GitError::CloneDirectory {
        folder: home.clone(),
        why: "its path contains a zero byte".to_owned(),
    })?;
    // SAFETY: the option takes one C string, which libgit2 copies. libgit2 is initialized, since a clone is open. It
    // reads the value when it opens SSH connections, which no thread does before `HOME` is set.
    let set =
        unsafe { libgit2_sys::git_libgit2_opts(libgit2_sys::GIT_OPT_SET_HOMEDIR as c_int, text.as_ptr()) };
    match set {
        0 => Ok(Home { file: ssh.join("known_hosts"), lines: BTreeMap::new() }),
        _ => Err(GitError::CloneDirectory {
            folder: home,
            why: "libgit2 does not accept it as its home directory".to_owned(),
        }),
    }
}

fn unusable(path: &Path, error: &std::io::Error) -> GitError {
    GitError::CloneDirectory { folder: path.to_owned(), why: error.to_string() }
}
