//! What is known of the files in the branch: the version of each object that they were rendered from. Pure.

use std::collections::HashMap;

use crate::api::{ObjectKey, ObjectVersion};

/// All objects that exist, with what is known of their files.
#[derive(Debug, Default)]
pub struct Known {
    objects: HashMap<ObjectKey, Entry>,
    /// Number of the current look at all objects.
    round: u64,
    /// Objects seen in this round, and whether any of them was new.
    seen: usize,
    has_new: bool,
}

#[derive(Debug)]
struct Entry {
    version: Option<ObjectVersion>,
    state: State,
    /// Digest of the images that `amis.json` has in the branch.
    images: Option<u64>,
    round: u64,
}

/// What the version of an object means for its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is nothing to publish.
    Nothing,
    /// The file stays as it is until the work ends.
    InProgress,
    /// The file is in the last batch, and so are images with this digest, unless `amis.json` has them already.
    Rendered { images: Option<u64> },
    /// The branch has the file.
    Published,
    /// It is not known whether the branch has the file.
    Unknown,
}

/// What to do with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The branch has all of it.
    Unchanged,
    /// As before, its file stays as it is until the work ends.
    InProgress,
    /// It must be decoded.
    Changed,
}

impl Known {
    /// Begins a look at all objects.
    pub fn begin(&mut self) {
        (self.round, self.seen, self.has_new) = (self.round + 1, 0, false);
    }

    /// Looks at one object.
    pub fn look(&mut self, object: &ObjectKey, version: Option<&ObjectVersion>) -> Look {
        let Some(entry) = self.objects.get_mut(object) else {
            self.has_new = true;
            return Look::Changed;
        };
        self.seen += usize::from(entry.round != self.round);
        entry.round = self.round;
        match entry.state {
            _ if version.is_none() || entry.version.as_ref() != version => Look::Changed,
            State::Rendered { .. } | State::Unknown => Look::Changed,
            State::InProgress => Look::InProgress,
            State::Nothing | State::Published => Look::Unchanged,
        }
    }

    /// Records what the version of an object means.
    pub fn record(&mut self, object: ObjectKey, version: Option<ObjectVersion>, state: State) {
        let round = self.round;
        let known = self.objects.get_mut(&object);
        match known {
            Some(entry) => *entry = Entry { version, state, images: entry.images, round },
            None => {
                self.seen += 1;
                self.objects.insert(object, Entry { version, state, images: None, round });
            }
        }
    }

    /// Returns whether `amis.json` in the branch has the images with this digest.
    pub fn has_images(&self, object: &ObjectKey, digest: u64) -> bool {
        self.objects.get(object).is_some_and(|entry| entry.images == Some(digest))
    }

    /// Ends the look: objects that were not seen do not exist any more. Returns whether the set of objects has changed.
    pub fn end(&mut self) -> bool {
        let has_gone = self.seen < self.objects.len();
        if has_gone {
            self.objects.retain(|_, entry| entry.round == self.round);
        }
        has_gone || self.has_new
    }

    /// Returns whether an object exists.
    pub fn has(&self, object: &ObjectKey) -> bool {
        self.objects.contains_key(object)
    }

    /// All objects that exist.
    pub fn objects(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.keys()
    }

    /// The branch has what was rendered last.
    pub fn published(&mut self) {
        for entry in self.objects.values_mut() {
            if let State::Rendered { images } = entry.state {
                (entry.state, entry.images) = (State::Published, images);
            }
        }
    }

    /// It is not known any more what the branch has.
    pub fn forget(&mut self) {
        for entry in self.objects.values_mut() {
            entry.images = None;
            if matches!(entry.state, State::Published | State::Rendered { .. }) {
                entry.state = State::Unknown;
            }
        }
    }
}
