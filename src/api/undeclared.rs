//! Why an object that is there has no document in the commit that is in force.

/// The state of an object that no document of the loaded commit declares, and that is not pruned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undeclared {
    /// No file of the repository holds its manifest.
    Gone,
    /// Its manifest is in this file, which cannot be read.
    Broken { file: String },
}
