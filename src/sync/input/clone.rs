//! Reads manifests from the clone when the reader needs them, on the reader's thread. The reader goes through the files in
//! their order, so those that follow are read with the one that it needs: each request to the clone wakes another thread.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::api::lock::lock;
use crate::git::{GitError, Handle};
use crate::manifest::Blobs;

/// Maximum number of files, and of their bytes, that are read ahead. The first file is read alone, because in most
/// commits one file has changed.
const AHEAD: usize = 64;
const BYTES_AHEAD: usize = 1024 * 1024;

/// The files of a commit that can be read.
pub(super) struct Clone {
    git: Handle,
    /// Blob IDs and sizes, in the order of the files.
    files: Vec<(String, usize)>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Files that were read ahead.
    ready: HashMap<String, Vec<u8>>,
    /// The position after the files that were read last.
    next: usize,
    /// The number of files that the last request was for.
    requested: usize,
    failed: Option<GitError>,
}

impl Clone {
    pub fn new(git: &Handle, files: impl Iterator<Item = (String, usize)>) -> Self {
        Self { git: git.clone(), files: files.collect(), state: Mutex::default() }
    }

    /// Returns why a file could not be read, if so.
    pub fn failure(&self) -> Option<GitError> {
        lock(&self.state).failed.take()
    }

    /// The IDs to read if this one is needed.
    fn batch(&self, state: &mut State, blob: &str) -> Vec<String> {
        let Some(at) = self.files[state.next..].iter().position(|(id, _)| id == blob) else {
            return vec![blob.to_owned()];
        };
        let most = (state.requested * 2).clamp(1, AHEAD);
        let batch = ahead(&self.files[state.next + at..], most);
        state.next += at + batch.len();
        state.requested = batch.len();
        batch
    }
}

/// The IDs of the first files: one in any case, and more within the limits.
fn ahead(files: &[(String, usize)], most: usize) -> Vec<String> {
    let mut bytes = 0;
    let fits = |(index, (_, size)): &(usize, &(String, usize))| {
        bytes += size;
        *index == 0 || bytes <= BYTES_AHEAD
    };
    files.iter().take(most).enumerate().take_while(fits).map(|(_, (id, _))| id.clone()).collect()
}

impl Blobs for Clone {
    fn read(&self, blob: &str) -> Vec<u8> {
        let mut state = lock(&self.state);
        if let Some(content) = state.ready.remove(blob) {
            return content;
        }
        let batch = self.batch(&mut state, blob);
        let files = batch.iter().map(|id| (id.clone(), id.clone())).collect();
        match futures::executor::block_on(self.git.read(files)) {
            Ok(blobs) => {
                state.ready = blobs.into_iter().map(|blob| (blob.path, blob.content)).collect();
                state.ready.remove(blob).unwrap_or_default()
            }
            Err(error) => {
                state.failed.get_or_insert(error);
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_are_read_ahead_as_the_limits_allow() {
        let files = |sizes: &[usize]| -> Vec<(String, usize)> {
            sizes.iter().enumerate().map(|(index, size)| (index.to_string(), *size)).collect()
        };
        assert_eq!(ahead(&files(&[10, 10, 10]), 2), ["0", "1"]);
        assert_eq!(ahead(&files(&[10]), 2), ["0"]);
        assert_eq!(ahead(&files(&[BYTES_AHEAD * 2, 1]), 2), ["0"]);
        assert_eq!(ahead(&files(&[1, BYTES_AHEAD, 1]), 3), ["0"]);
    }
}
