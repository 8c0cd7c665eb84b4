//! Files on their way from a repository to a run, and the names of files of objects.

use std::borrow::Cow;

use super::ids::digest;

/// File systems take 255 bytes; an ending and the suffix of a temporary file must fit, too.
const STEM_LIMIT: usize = 240;
/// Enough of a SHA-256 to tell long names apart.
const STEM_DIGITS: usize = 16;

/// The name of an object as that of its file, without an ending: a long one is cut, and made unique by its hash.
pub fn file_stem(name: &str) -> Cow<'_, str> {
    if name.len() <= STEM_LIMIT {
        return Cow::Borrowed(name);
    }
    let most = STEM_LIMIT - STEM_DIGITS - 1;
    let cut = (0..=most).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    Cow::Owned(format!("{}-{}", &name[..cut], &digest(&[name])[..STEM_DIGITS]))
}

/// The specification of Git LFS limits a pointer to less than this.
pub const POINTER_LIMIT: usize = 1024;
/// Why a file that Git LFS keeps is not read, and what to do.
pub const POINTER: &str =
    "is a Git LFS pointer, and the file itself is not in the repository: commit it without LFS";
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let long = |end: &str| format!("{}{end}", "a".repeat(252));
        assert_eq!(file_stem("node"), "node");
        assert_eq!(file_stem(&"a".repeat(240)), "a".repeat(240));
        assert_eq!(file_stem(&long("b")).len(), 240);
        assert_ne!(file_stem(&long("b")), file_stem(&long("c")));
    }
}
