//! Which of its keys a server is asked for: one that known_hosts has. libgit2 decides that by `~/.ssh/known_hosts`, so it is
//! given a home directory with the lines of the hosts that this process connects to. What is trusted, this file does not
//! decide.

use std::collections::BTreeMap;
use std::ffi::{CString, c_int};
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::KnownHosts;
use crate::git::GitError;

/// The home directory that libgit2 has, and the lines in it, by host.
struct Home {
    file: PathBuf,
    lines: BTreeMap<String, Vec<String>>,
}

/// One for the process: libgit2 has one home directory.
static HOME: Mutex<Option<Home>> = Mutex::new(None);

/// Has libgit2 ask a host for keys that are known. `beside` is a directory that the agent may write to.
pub fn prefer(beside: &Path, known: &KnownHosts, host: &str, port: u16) -> Result<(), GitError> {
    // Locked while it is made, too: the option is set once.
    let mut home = HOME.lock().unwrap_or_else(PoisonError::into_inner);
    let home = match &mut *home {
        Some(home) => home,
        none => none.insert(make(beside)?),
    };
    let lines = known.lines_for(host, port);
    let name = format!("{host}:{port}");
    if home.lines.get(&name) == Some(&lines) && home.file.exists() {
        return Ok(());
    }
    home.lines.insert(name, lines);
    let text: String = home.lines.values().flatten().map(|line| format!("{line}\n")).collect();
    // A connection may read it at this moment: it is replaced whole.
    let new = home.file.with_extension("new");
    let parent = new.parent().unwrap_or(beside);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(|error| folder(parent, &error))?;
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &home.file));
    written.map_err(|error| folder(&home.file, &error))
}

fn make(beside: &Path) -> Result<Home, GitError> {
    let home = beside.join("ssh-home");
    let ssh = home.join(".ssh");
    let text = CString::new(home.as_os_str().as_encoded_bytes())
        .map_err(|_| GitError::Folder { folder: home.clone(), why: "holds a zero byte".to_owned() })?;
    // SAFETY: the option takes one C string, which libgit2 copies. It was initialized, since a clone is open, and reads the
    // value where it opens SSH connections, which no thread does before `HOME` is set.
    let set =
        unsafe { libgit2_sys::git_libgit2_opts(libgit2_sys::GIT_OPT_SET_HOMEDIR as c_int, text.as_ptr()) };
    match set {
        0 => Ok(Home { file: ssh.join("known_hosts"), lines: BTreeMap::new() }),
        _ => Err(GitError::Folder { folder: home, why: "libgit2 does not take it as its home".to_owned() }),
    }
}

fn folder(path: &Path, error: &std::io::Error) -> GitError {
    GitError::Folder { folder: path.to_owned(), why: error.to_string() }
}
