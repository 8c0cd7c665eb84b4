//! Why an object that is there has no document in the commit that is in force.

use std::sync::Arc;

use super::Key;

/// The state of an object that no document of the loaded commit declares, and that is not pruned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undeclared {
    /// No file of the repository holds its manifest.
    Gone,
    /// Its manifest is in this file, which cannot be read.
    Broken { file: String },
}

/// Returns for an object why no document declares it; `None` where one does, or the object is pruned.
pub type UndeclaredObjects = Arc<dyn Fn(&Key) -> Option<Undeclared> + Send + Sync>;
