//! What the ledger knows of a document, and the results that it returns.

use std::collections::BTreeSet;

use crate::api::{ObjectKey, Owner};
use crate::engine::kubernetes::objects::fingerprint::Fingerprint;
use crate::engine::kubernetes::objects::ownership;
use crate::manifest::{Document, DocumentText};

/// A document of the loaded commit.
#[derive(Clone, Debug)]
pub struct Desired {
    pub document: DocumentText,
    pub file: String,
    pub print: Fingerprint,
    /// Another fingerprint that is in sync: what the server, for example by an admission webhook, made of the document
    /// when it was applied and no other writer had a part in the object.
    pub accepted: Option<Fingerprint>,
    /// The resourceVersion that the last apply created, until it is observed. Until then there is nothing to compare.
    pub made: Option<u64>,
    /// Whether the object has been in sync with this document. A later difference is then drift.
    pub was_in_sync: bool,
}

impl Desired {
    pub fn new(document: &Document, owner: &Owner) -> Self {
        let labelled = ownership::labelled(document.json.value(), &document.file, owner);
        let print = ownership::of_document(&labelled);
        let (document, file) = (document.json.clone(), document.file.clone());
        Self { document, file, print, accepted: None, made: None, was_in_sync: false }
    }

    /// Whether it was made from an equal document.
    pub fn is_of(&self, document: &Document) -> bool {
        self.document == document.json && self.file == document.file
    }
}

/// What to do about one object.
#[derive(Clone, Debug)]
pub enum Action {
    /// Apply the document.
    Apply {
        document: DocumentText,
        file: String,
        /// Whether to take over field ownership first.
        takeover: bool,
        has_status: bool,
        /// The drift that is reverted, if the object had been in sync.
        drift: Option<String>,
    },
    /// Write the published status to an object that is in sync and has no status.
    Seed {
        version: u64,
    },
    Remove {
        uid: String,
    },
}

/// What an observation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Nothing: it is older than what is known.
    Stale,
    OtherOwner,
    Own {
        /// Reconcile the object.
        wake: bool,
        /// Apply the document again.
        reapply: bool,
    },
}

/// What loading a commit asks for.
pub struct Loaded {
    /// List all objects again, because objects of another owner are now the agent's.
    pub relist: bool,
    /// Documents that newly cannot be applied, and why.
    pub news: Vec<(ObjectKey, String)>,
    /// Objects to reconcile although the live object is the same: a wakeup may have been withheld from them, or they
    /// have come into sync or out of it.
    pub concerned: BTreeSet<ObjectKey>,
    /// Objects whose document is another one or is gone, and that do not exist for this owner: nothing is known of them
    /// any more. `None` if that can be any, because the owner is another one or there was none.
    pub unknown: Option<Vec<ObjectKey>>,
}
