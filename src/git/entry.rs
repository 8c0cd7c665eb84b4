//! An entry of a commit or work tree: its kind and its ID, without its content. Pure.

/// The kind of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    File {
        executable: bool,
    },
    /// A symbolic link, with its target as written.
    Link(String),
    Submodule,
    /// An entry whose name is not UTF-8. The path shows the invalid bytes as `\xff`.
    Misnamed,
    /// A Git LFS pointer in place of the file. Only the listing of a work tree has this kind: in a commit, the agent
    /// recognizes pointers by their content.
    Pointer,
}

/// An entry of a commit or work tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The object ID in hexadecimal; in a work tree, the path.
    pub id: String,
    pub kind: EntryKind,
}

impl Entry {
    /// Returns Git's file mode, in octal.
    pub fn mode(&self) -> &'static str {
        match self.kind {
            EntryKind::File { executable: false } | EntryKind::Misnamed | EntryKind::Pointer => "100644",
            EntryKind::File { executable: true } => "100755",
            EntryKind::Link(_) => "120000",
            EntryKind::Submodule => "160000",
        }
    }
}
