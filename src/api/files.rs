//! Files on their way from a repository to a run.

/// One file of Packer's working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFile {
    /// Relative, `/`-separated, never leaving the folder.
    pub path: String,
    pub executable: bool,
    pub content: Vec<u8>,
}
