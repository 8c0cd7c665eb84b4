//! For a person who changes the repository by a command of Opsy: who that is, and the change as a patch.

use std::path::Path;

use super::GitError;
use super::commit::Author;

/// The author that Git is configured with on this machine. `None` if Git does not know one.
pub fn configured_author() -> Option<Author> {
    let config = git2::Config::open_default().ok()?;
    Some(Author { name: config.get_string("user.name").ok()?, email: config.get_string("user.email").ok()? })
}

/// The change of a file as a patch that `git apply` accepts; empty if nothing changes.
pub fn patch(path: &str, before: &str, after: &str) -> Result<String, GitError> {
    let local = |error: git2::Error| GitError::local(Path::new(path), &error);
    if before == after {
        return Ok(String::new());
    }
    let path_of_file = Some(Path::new(path));
    let mut patch =
        git2::Patch::from_buffers(before.as_bytes(), path_of_file, after.as_bytes(), path_of_file, None)
            .map_err(local)?;
    let text = patch.to_buf().map_err(local)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_patch_names_the_file_and_shows_what_changes() {
        let patch = super::patch("refreshers/demo.yaml", "a: 1\nb: 2\n", "a: 1\nb: 3\n").expect("a patch");
        let head = "diff --git a/refreshers/demo.yaml b/refreshers/demo.yaml\n";
        assert!(patch.starts_with(head) && patch.ends_with("\n a: 1\n-b: 2\n+b: 3\n"), "{patch}");
        assert_eq!(super::patch("demo.yaml", "a", "a"), Ok(String::new()));
    }
}
