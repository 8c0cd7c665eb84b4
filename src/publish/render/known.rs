//! What is known of the files in the branch: the version of each object that they were rendered from. Pure.

use std::collections::{BTreeSet, HashMap};

use crate::api::{ObjectKey, ObjectVersion};

/// Maximum number of listed objects. To look at more of them costs about as much as to look at all.
const LISTED: usize = 1024;

/// All objects that exist, with what is known of their files.
#[derive(Debug, Default)]
pub struct Known {
    objects: HashMap<ObjectKey, Entry>,
    /// Objects that must be looked at although they were not written; `None` if they are too many to be listed.
    pending: Option<BTreeSet<ObjectKey>>,
    /// Number of the current look at all objects.
    round: u64,
    /// Objects seen in this round, and what has changed in it.
    seen: usize,
    changes: Changes,
}

/// How the set of objects differs from the one before.
#[derive(Debug, Default)]
pub struct Changes {
    pub new: Vec<ObjectKey>,
    pub has_gone: bool,
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
        (self.round, self.seen, self.changes) = (self.round + 1, 0, Changes::default());
        self.pending = Some(BTreeSet::new());
    }

    /// Looks at one object.
    pub fn look(&mut self, object: &ObjectKey, version: Option<&ObjectVersion>) -> Look {
        let Some(entry) = self.objects.get_mut(object) else { return Look::Changed };
        self.seen += usize::from(entry.round != self.round);
        entry.round = self.round;
        let look = match entry.state {
            _ if version.is_none() || entry.version.as_ref() != version => Look::Changed,
            State::Rendered { .. } | State::Unknown => Look::Changed,
            State::InProgress => Look::InProgress,
            State::Nothing | State::Published => Look::Unchanged,
        };
        if look != Look::Unchanged {
            self.add_pending(object);
        }
        look
    }

    /// Records what the version of an object means.
    pub fn record(&mut self, object: ObjectKey, version: Option<ObjectVersion>, state: State) {
        let round = self.round;
        if version.is_none() || state.is_pending() {
            self.add_pending(&object);
        } else if let Some(pending) = &mut self.pending {
            pending.remove(&object);
        }
        match self.objects.get_mut(&object) {
            Some(entry) => *entry = Entry { version, state, images: entry.images, round },
            None => {
                self.seen += 1;
                self.changes.new.push(object.clone());
                self.objects.insert(object, Entry { version, state, images: None, round });
            }
        }
    }

    /// Records that an object does not exist any more.
    pub fn remove(&mut self, object: &ObjectKey) {
        if let Some(pending) = &mut self.pending {
            pending.remove(object);
        }
        self.changes.has_gone |= self.objects.remove(object).is_some();
    }

    fn add_pending(&mut self, object: &ObjectKey) {
        let Some(pending) = &mut self.pending else { return };
        pending.insert(object.clone());
        if pending.len() > LISTED {
            self.pending = None;
        }
    }

    /// Objects that must be looked at although they were not written; `None` if that can be any.
    pub fn pending(&self) -> Option<&BTreeSet<ObjectKey>> {
        self.pending.as_ref()
    }

    /// Returns whether `amis.json` in the branch has the images with this digest.
    pub fn has_images(&self, object: &ObjectKey, digest: u64) -> bool {
        self.objects.get(object).is_some_and(|entry| entry.images == Some(digest))
    }

    /// Ends the look at all objects: those that were not seen do not exist any more.
    pub fn end(&mut self) -> Changes {
        if self.seen < self.objects.len() {
            self.changes.has_gone = true;
            self.objects.retain(|_, entry| entry.round == self.round);
            if let Some(pending) = &mut self.pending {
                pending.retain(|object| self.objects.contains_key(object));
            }
        }
        self.take_changes()
    }

    /// Returns how the set of objects has changed since the look began.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// Returns whether an object exists.
    pub fn has(&self, object: &ObjectKey) -> bool {
        self.objects.contains_key(object)
    }

    /// The branch has what was rendered last.
    pub fn published(&mut self) {
        let listed = self.pending.replace(BTreeSet::new());
        let listed = listed.unwrap_or_else(|| self.objects.keys().cloned().collect());
        for object in listed {
            let Some(entry) = self.objects.get_mut(&object) else { continue };
            if let State::Rendered { images } = entry.state {
                (entry.state, entry.images) = (State::Published, images);
            }
            if entry.version.is_none() || entry.state.is_pending() {
                self.add_pending(&object);
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
        self.pending = None;
    }
}

impl State {
    /// Whether more is to be done, although the object may not be written any more.
    fn is_pending(self) -> bool {
        !matches!(self, Self::Nothing | Self::Published)
    }
}
