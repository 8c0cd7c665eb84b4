//! Why an existing object has no document in the loaded commit.

use std::sync::Arc;

use super::Key;

/// The state of an object that no document of the loaded commit declares, and that is not pruned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undeclared {
    /// No file of the repository contains its manifest.
    Gone,
    /// Its manifest is in this file, which cannot be read.
    Broken { file: String },
}

/// Returns why no document declares an object, or `None` if one does or the object is pruned.
pub type UndeclaredObjects = Arc<dyn Fn(&Key) -> Option<Undeclared> + Send + Sync>;
