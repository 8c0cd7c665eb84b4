//! The contract between the reconcilers and the loop: a reconcile returns a `Pass`, and `drive` writes it.

use std::borrow::Cow;
use std::time::Duration;

use crate::api::{Class, ObjectKey};

/// The result of one reconcile of an object: everything that `drive` does with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass<S> {
    /// The whole status; written if it differs from the object's.
    pub status: S,
    /// When to reconcile again, unless a wakeup comes first.
    pub look: Duration,
    /// The health of the object, for `--once`, exit codes and the terminal.
    pub health: ObjectHealth,
    /// Other objects to reconcile because of what was done.
    pub wake: Vec<Wake>,
    /// Messages about what was done or found; each is reported once.
    pub notes: Vec<Note>,
    /// A failure to back off from. The backoff then replaces `look`.
    pub failed: Option<(Class, String)>,
    /// The object is being deleted and none of its runs is live: its finalizer may be removed.
    pub release: bool,
}

/// The health of an object after a reconcile, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectHealth {
    /// In sync, and nothing is in progress.
    Settled,
    /// A run or rollout is in progress, or the next reconcile will start one.
    Busy,
    /// Waits on purpose, for a person or a time: suspended, disabled, canceled, no longer in Git, no eligible image.
    Waiting,
    /// Failed, and is retried.
    Failing,
    /// Needs attention: a person must act.
    Stalled,
}

/// Which objects to reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    Object(ObjectKey),
    /// Every refresher, because an image changed.
    Refreshers,
}

/// A message about an object. It is logged, counted by its reason, and published as an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// One CamelCase word, for machines.
    pub reason: Cow<'static, str>,
    pub message: String,
    pub warning: bool,
}
