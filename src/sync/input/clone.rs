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
    files: Files,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Files that were read ahead.
    ready: HashMap<String, Vec<u8>>,
    place: Place,
    failed: Option<GitError>,
}

/// Where the reader is.
#[derive(Debug, Default)]
struct Place {
    /// The position after the files that were read last.
    next: usize,
    /// The number of files that the last request was for.
    requested: usize,
}

/// The files that can be read: blob IDs and sizes, in the order of the files.
struct Files {
    all: Vec<(String, usize)>,
    /// The positions of the files, sorted by blob ID: the settings are read first and are not the first file, so a file
    /// can be anywhere, and looking through all files for each of them would be most of the work.
    sorted: Vec<usize>,
}

impl Files {
    fn new(all: Vec<(String, usize)>) -> Self {
        let mut sorted: Vec<usize> = (0..all.len()).collect();
        sorted.sort_unstable_by_key(|&at| (&all[at].0, at));
        Self { all, sorted }
    }

    /// The position of a blob: the first one from `next` on, or else the first one.
    fn position(&self, blob: &str, next: usize) -> Option<usize> {
        let from = |next| {
            let after = self.sorted.partition_point(|&at| (self.all[at].0.as_str(), at) < (blob, next));
            self.sorted.get(after).copied().filter(|&at| self.all[at].0 == blob)
        };
        from(next).or_else(|| from(0))
    }

    /// The IDs to read if this one is needed: twice as many as the last time, as long as the reader goes forward.
    fn batch(&self, place: &mut Place, blob: &str) -> Vec<String> {
        let Some(at) = self.position(blob, place.next) else {
            return vec![blob.to_owned()];
        };
        let is_forward = (place.next..place.next + AHEAD).contains(&at);
        let most = if is_forward { (place.requested * 2).clamp(1, AHEAD) } else { 1 };
        let batch = ahead(&self.all[at..], most);
        *place = Place { next: at + batch.len(), requested: batch.len() };
        batch
    }
}

impl Clone {
    pub fn new(git: &Handle, files: impl Iterator<Item = (String, usize)>) -> Self {
        Self { git: git.clone(), files: Files::new(files.collect()), state: Mutex::default() }
    }

    /// Returns why a file could not be read, if so.
    pub fn failure(&self) -> Option<GitError> {
        lock(&self.state).failed.take()
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
        let batch = self.files.batch(&mut state.place, blob);
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

    /// The number of requests that reading these blobs in this order takes.
    fn requests(files: &Files, blobs: impl Iterator<Item = String>) -> usize {
        let (mut place, mut ready, mut count) = (Place::default(), Vec::new(), 0);
        for blob in blobs {
            if !ready.contains(&blob) {
                ready = files.batch(&mut place, &blob);
                count += 1;
                assert!(ready.contains(&blob), "{blob} is read");
            }
        }
        count
    }

    #[test]
    fn files_are_read_together_although_the_settings_are_read_first_and_files_follow_that_are_not_read() {
        let id = |number: usize| format!("{:040x}", number * 7919 % 10_007);
        let files = Files::new((0..4_000).map(|number| (id(number), 10)).collect());
        let settings = id(2_000);
        let manifests = (0..2_000).map(id);
        let count = requests(&files, std::iter::once(settings).chain(manifests));
        assert!(count <= 2_000 / AHEAD + 10, "{count}");
    }

    #[test]
    fn a_blob_with_several_names_is_found_where_the_reader_is() {
        let files = Files::new(
            [("a", 1), ("b", 1), ("a", 1), ("c", 1)].map(|(id, size)| (id.to_owned(), size)).into(),
        );
        let mut place = Place::default();
        assert_eq!(files.batch(&mut place, "a"), ["a"]);
        assert_eq!(files.batch(&mut place, "a"), ["a", "c"], "the second name, and what follows it");
        assert_eq!(files.batch(&mut place, "a"), ["a"], "it was read before");
        assert_eq!(files.batch(&mut place, "x"), ["x"]);
    }

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
