//! Takes over the objects of a repository on this machine: the clone names its object directory as an alternate, as
//! `git clone --shared` does, so that a fetch copies nothing. libgit2's own transport would compress the whole history
//! again. The mirror links the clone before each fetch; both threads open the clone again when the source is repacked.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use git2::Repository;

/// The file that names further object directories, and the file that names commits without their parents.
const ALTERNATES: &str = "objects/info/alternates";
const SHALLOW: &str = "shallow";

/// Links a clone to the objects of its source. Returns true if that changed the clone, which must then be opened again.
pub(super) fn link(clone: &Path, source: &Repository) -> io::Result<bool> {
    let objects = fs::canonicalize(source.commondir().join("objects"))?;
    let mut line = objects.into_os_string().into_vec();
    // A line break would end the path. The objects of such a repository are copied.
    let is_one_line = !line.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
    line.push(b'\n');
    let linked = replace(&clone.join(ALTERNATES), is_one_line.then_some(line))?;
    if !is_one_line {
        return Ok(linked);
    }
    // A walk over the history must end where that of the source ends.
    let shallow = read(&source.commondir().join(SHALLOW))?;
    Ok(replace(&clone.join(SHALLOW), shallow)? || linked)
}

/// Gives a file this content, or removes it. Returns true if it differed.
fn replace(file: &Path, content: Option<Vec<u8>>) -> io::Result<bool> {
    if read(file)? == content {
        return Ok(false);
    }
    match content {
        None => fs::remove_file(file)?,
        Some(content) => {
            let new = file.with_extension("new");
            fs::create_dir_all(file.parent().unwrap_or(file))?;
            fs::write(&new, content)?;
            fs::rename(&new, file)?;
        }
    }
    Ok(true)
}

fn read(file: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        content => content.map(Some),
    }
}

/// The packs of the source of a clone. libgit2 does not notice that a pack was removed, for example by `git gc`.
#[derive(Debug, Default)]
pub(super) struct SourcePacks {
    folder: Option<PathBuf>,
    modified: Option<SystemTime>,
}

impl SourcePacks {
    /// Returns the state before a clone is opened.
    pub fn of(clone: &Path) -> Self {
        let line = read(&clone.join(ALTERNATES)).ok().flatten();
        let path = line.as_deref().map(|line| OsStr::from_bytes(line.strip_suffix(b"\n").unwrap_or(line)));
        let folder = path.map(|objects| Path::new(objects).join("pack"));
        let modified = folder.as_deref().and_then(modified);
        Self { folder, modified }
    }

    /// Returns true if packs were added or removed since.
    pub fn changed(&self) -> bool {
        self.folder.as_deref().is_some_and(|folder| modified(folder) != self.modified)
    }
}

fn modified(folder: &Path) -> Option<SystemTime> {
    fs::metadata(folder).and_then(|metadata| metadata.modified()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(path: &Path) -> Repository {
        Repository::init_bare(path).expect("a repository")
    }

    #[test]
    fn a_linked_clone_has_the_objects_of_its_source() {
        let home = tempfile::tempdir().expect("a directory");
        let (source, clone) = (repository(&home.path().join("s")), home.path().join("c"));
        let blob = source.blob(b"x").expect("a blob");
        repository(&clone);
        assert!(link(&clone, &source).expect("linked"));
        assert!(!link(&clone, &source).expect("linked"), "nothing to do");
        assert!(Repository::open(&clone).expect("a clone").find_blob(blob).is_ok());
        let seen = SourcePacks::of(&clone);
        assert!(!seen.changed());
        fs::remove_dir(home.path().join("s/objects/pack")).expect("removed");
        assert!(seen.changed(), "the source was repacked");
    }

    #[test]
    fn the_history_ends_where_that_of_the_source_ends() {
        let home = tempfile::tempdir().expect("a directory");
        let (source, clone) = (repository(&home.path().join("s")), home.path().join("c"));
        repository(&clone);
        let limit = home.path().join("s/shallow");
        fs::write(&limit, "1111111111111111111111111111111111111111\n").expect("written");
        link(&clone, &source).expect("linked");
        assert!(Repository::open(&clone).expect("a clone").is_shallow());
        fs::remove_file(&limit).expect("removed");
        assert!(link(&clone, &source).expect("linked"), "the source has its history now");
        assert!(!Repository::open(&clone).expect("a clone").is_shallow());
    }

    #[test]
    fn a_path_of_two_lines_is_not_linked() {
        let home = tempfile::tempdir().expect("a directory");
        let (source, clone) = (repository(&home.path().join("a\nb")), home.path().join("c"));
        repository(&clone);
        assert!(!link(&clone, &source).expect("not linked"));
        assert!(!clone.join(ALTERNATES).exists() && !SourcePacks::of(&clone).changed());
        let odd = repository(&home.path().join("# \"ü\" \t"));
        let blob = odd.blob(b"x").expect("a blob");
        assert!(link(&clone, &odd).expect("linked"));
        assert!(Repository::open(&clone).expect("a clone").find_blob(blob).is_ok());
    }
}
