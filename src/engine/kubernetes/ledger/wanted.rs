//! What the ledger goes by of a document, and what it answers.

use crate::api::{ObjectKey, Owner};
use crate::engine::kubernetes::ownership::{self, Fingerprint};
use crate::manifest::{Document, Json};

/// A document of the loaded commit.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub document: Json,
    pub file: String,
    pub print: Fingerprint,
    /// Another fingerprint that applying this document left as it was, without anybody else's part in it: what an
    /// admission webhook makes of it. The server is the judge.
    pub accepted: Option<Fingerprint>,
    /// Version the last apply made, until it is seen: until then there is nothing to compare.
    pub made: Option<u64>,
    /// The object was once as this document says: what differs from then on, somebody changed.
    pub settled: bool,
}

impl Wanted {
    pub fn new(document: &Document, owner: &Owner) -> Self {
        let labelled = ownership::labelled(&document.json.value(), &document.file, owner);
        let print = ownership::of_document(&labelled);
        let (document, file) = (document.json.clone(), document.file.clone());
        Self { document, file, print, accepted: None, made: None, settled: false }
    }

    pub fn is_of(&self, document: &Document) -> bool {
        self.document == document.json && self.file == document.file
    }
}

/// What to do about one object.
#[derive(Clone, Debug)]
pub enum Job {
    Apply {
        document: Json,
        file: String,
        takeover: bool,
        has_status: bool,
        /// Why the object is not as Git says any more, where it once was.
        drift: Option<String>,
    },
    /// It is as Git says and has no status yet.
    Seed {
        version: u64,
    },
    Remove {
        uid: String,
    },
}

/// What a sighting asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Older than what is known.
    Stale,
    /// Another owner's.
    Foreign,
    Ours {
        wake: bool,
        mend: bool,
    },
}

/// What taking a commit asks for.
pub struct Loaded {
    /// Objects of another owner turned out to be ours: they must be seen again.
    pub look_again: bool,
    /// What people must hear.
    pub news: Vec<(ObjectKey, String)>,
}
