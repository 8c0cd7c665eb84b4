//! Template files on their way from a repository to a run, and the file names of objects.

use std::borrow::Cow;

use super::ids::digest;

/// File systems allow 255 bytes. An extension and the suffix of a temporary file must fit as well.
const STEM_LIMIT: usize = 240;
/// Enough digits of a SHA-256 to tell long names apart.
const STEM_DIGITS: usize = 16;

/// Returns the file name of an object, without an extension. A long name is truncated and made unique by its hash.
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
/// Why a Git LFS pointer is not read, and what to do.
pub const POINTER: &str =
    "is a Git LFS pointer, and the file itself is not in the repository: commit it without LFS";
/// How a Git LFS pointer begins. The second line is from the time when Git LFS was called hawser, and is still valid.
const POINTERS: [&str; 2] =
    ["version https://git-lfs.github.com/spec/", "version https://hawser.github.com/spec/"];

/// One of the files that Packer works with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFile {
    /// Relative and separated by `/`. It never leaves the directory.
    pub path: String,
    pub executable: bool,
    pub content: Vec<u8>,
}

/// Returns whether this is a Git LFS pointer instead of the content of the file.
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
