//! Files on their way from a repository to a run.

/// The specification of Git LFS limits a pointer to less than this.
pub const POINTER_LIMIT: usize = 1024;
/// How a Git LFS pointer begins; the second is its first name, which is still read.
const POINTERS: [&str; 2] =
    ["version https://git-lfs.github.com/spec/", "version https://hawser.github.com/spec/"];

/// One file of those Packer works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFile {
    /// Relative, `/`-separated, never leaving the folder.
    pub path: String,
    pub executable: bool,
    pub content: Vec<u8>,
}

/// Is this the content of a Git LFS pointer, in place of the file?
pub fn is_pointer(content: &[u8]) -> bool {
    content.len() <= POINTER_LIMIT && POINTERS.iter().any(|start| content.starts_with(start.as_bytes()))
}
