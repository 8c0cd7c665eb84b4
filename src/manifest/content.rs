//! The content of a file of a commit: in memory, or read from the clone when it is needed. A commit may be larger than
//! memory, so its files are read one at a time and not kept.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::SourceFile;

/// Reads contents by blob ID.
pub trait Blobs: Send + Sync {
    /// Returns the content. It is empty if it cannot be read, which the implementation records.
    fn read(&self, blob: &str) -> Vec<u8>;
}

/// The content of a file.
#[derive(Clone)]
pub enum Content {
    Bytes(Vec<u8>),
    Stored(Arc<dyn Blobs>),
}

impl SourceFile {
    /// Returns the content, which is read again for each call.
    pub fn content(&self) -> Cow<'_, [u8]> {
        match &self.content {
            Content::Bytes(bytes) => Cow::Borrowed(bytes),
            Content::Stored(blobs) => Cow::Owned(blobs.read(&self.blob)),
        }
    }
}

impl Content {
    /// Returns the number of bytes in memory.
    pub fn at_hand(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Stored(_) => 0,
        }
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bytes(one), Self::Bytes(other)) => one == other,
            (Self::Stored(one), Self::Stored(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Eq for Content {}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", String::from_utf8_lossy(bytes)),
            Self::Stored(_) => f.write_str("Stored"),
        }
    }
}
