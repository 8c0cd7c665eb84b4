//! Sets up the directory of a run in a pod: this executable next to Packer, the request, and the repository's
//! files. An init container runs it, because a scratch image has neither `cp` nor `tar`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};
use std::{env, fmt};

use flate2::read::GzDecoder;
use tar::{Archive, Entry, EntryType};

use crate::request::{FILES, REQUEST, WORK};

const RUNNER: &str = "opsy-runner";
/// Engines pack far less than this, so a larger archive was not packed by an engine.
const LARGEST_TREE: u64 = 256 * 1024 * 1024;

/// Copies this executable to `runner/opsy-runner` (`runner` is `dir` by default). If `from` is given, copies its
/// request to `dir` and unpacks its files there. The call is idempotent, because an init container may run twice.
///
/// # Errors
/// If anything cannot be written, or a packed file would be written outside the directory.
pub fn install(dir: &Path, from: Option<&Path>, runner: Option<&Path>) -> io::Result<()> {
    let runner = runner.unwrap_or(dir);
    fs::create_dir_all(dir)?;
    fs::create_dir_all(runner)?;
    copy(&env::current_exe()?, runner, RUNNER, 0o755).map_err(during("copying the runner"))?;
    let Some(from) = from else { return Ok(()) };
    copy(&from.join(REQUEST), dir, REQUEST, 0o600).map_err(during("copying the request"))?;
    let files = from.join(FILES);
    if files.exists() {
        unpack(&files, dir).map_err(during("unpacking the repository's files"))?;
    }
    Ok(())
}

fn during(what: &'static str) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Copies a file and renames it into place, so that no reader ever sees a partial file.
fn copy(from: &Path, dir: &Path, name: &str, mode: u32) -> io::Result<()> {
    let part = dir.join(format!(".{name}.part"));
    io::copy(&mut File::open(from)?, &mut File::create(&part)?)?;
    fs::set_permissions(&part, fs::Permissions::from_mode(mode))?;
    fs::rename(&part, dir.join(name))
}

/// Unpacks the files and renames their directory into place: a directory that exists is complete.
fn unpack(files: &Path, dir: &Path) -> io::Result<()> {
    let work = dir.join(WORK);
    if work.exists() {
        return Ok(());
    }
    let part = dir.join(format!(".{WORK}.part"));
    match fs::remove_dir_all(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir(&part)?,
    }
    let mut left = LARGEST_TREE;
    for entry in Archive::new(GzDecoder::new(File::open(files)?)).entries()? {
        let entry = entry?;
        left = left.checked_sub(entry.size()).ok_or_else(|| refused("the unpacked files are too large"))?;
        unpack_file(entry, &part)?;
    }
    fs::rename(&part, work)
}

/// Accepts only regular files inside the directory: engines pack no links and no devices.
fn unpack_file(mut entry: Entry<'_, impl io::Read>, work: &Path) -> io::Result<()> {
    let path = entry.path()?.into_owned();
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || entry.header().entry_type() != EntryType::Regular {
        return Err(refused(format_args!("{} is not a regular file inside the archive", path.display())));
    }
    let executable = entry.header().mode()? & 0o111 != 0;
    let path = work.join(path);
    fs::create_dir_all(path.parent().unwrap_or(work))?;
    let mut file = File::create_new(&path)?;
    io::copy(&mut entry, &mut file)?;
    let mode = if executable { 0o755 } else { 0o644 };
    file.set_permissions(fs::Permissions::from_mode(mode))
}

fn refused(why: impl fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn header(kind: EntryType, mode: u32, size: usize) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size as u64);
        header
    }

    fn pack(files: &[(&str, u32, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        let file = File::create(dir.path().join(FILES)).expect("a file");
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
        for (path, mode, text) in files {
            let mut header = header(EntryType::Regular, *mode, text.len());
            archive.append_data(&mut header, path, text.as_bytes()).expect("an entry");
        }
        archive.into_inner().and_then(GzEncoder::finish).expect("an archive");
        fs::write(dir.path().join(REQUEST), "{}").expect("a request");
        dir
    }

    #[test]
    fn lays_out_runner_request_and_files_and_a_second_time_changes_nothing() {
        let deep = format!("packer/{}/setup.sh", "d".repeat(120));
        let config = pack(&[("packer/node.pkr.hcl", 0o644, "source"), (&deep, 0o755, "#!/bin/sh")]);
        let dir = tempfile::tempdir().expect("a directory");
        for _ in 0..2 {
            install(dir.path(), Some(config.path()), None).expect("an installation");
        }
        let mode = |path: &str| fs::metadata(dir.path().join(path)).expect(path).permissions().mode() & 0o777;
        assert_eq!(mode("opsy-runner"), 0o755);
        assert_eq!(mode("request.json"), 0o600);
        assert_eq!(mode("work/packer/node.pkr.hcl"), 0o644);
        assert_eq!(mode(&format!("work/{deep}")), 0o755);
        let text = fs::read_to_string(dir.path().join("work/packer/node.pkr.hcl")).expect("the template");
        assert_eq!(text, "source");
    }

    #[test]
    fn the_runner_goes_where_nothing_else_does() {
        let config = pack(&[("a", 0o644, "new")]);
        let (dir, bin) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        install(dir.path(), Some(config.path()), Some(bin.path())).expect("an installation");
        let names = |dir: &Path| {
            let entries =
                fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").file_name());
            let mut names: Vec<_> = entries.collect();
            names.sort();
            names
        };
        assert_eq!(names(bin.path()), ["opsy-runner"]);
        assert_eq!(names(dir.path()), ["request.json", "work"]);
    }

    #[test]
    fn half_a_folder_of_an_init_container_that_was_killed_is_replaced() {
        let config = pack(&[("a", 0o644, "new")]);
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join(".work.part")).expect("a partial directory");
        fs::write(dir.path().join(".work.part/a"), "old").expect("a partial file");
        install(dir.path(), Some(config.path()), None).expect("an installation");
        assert_eq!(fs::read_to_string(dir.path().join("work/a")).expect("a file"), "new");
    }

    #[test]
    fn links_and_paths_that_lead_outside_are_refused() {
        let unpacked = |write: &dyn Fn(&mut tar::Builder<Vec<u8>>)| {
            let mut archive = tar::Builder::new(Vec::new());
            write(&mut archive);
            let bytes = archive.into_inner().expect("an archive");
            let work = tempfile::tempdir().expect("a directory");
            let mut archive = Archive::new(&bytes[..]);
            let entry = archive.entries().expect("entries").next().expect("one").expect("readable");
            unpack_file(entry, work.path()).map_err(|error| error.to_string())
        };
        let outside = unpacked(&|archive| {
            let mut header = header(EntryType::Regular, 0o644, 1);
            header.as_old_mut().name[..8].copy_from_slice(b"../hosts");
            header.set_cksum();
            archive.append(&header, &b"x"[..]).expect("an entry");
        });
        assert!(outside.is_err_and(|error| error.contains("../hosts")));
        let link = unpacked(&|archive| {
            let mut header = header(EntryType::Symlink, 0o644, 0);
            archive.append_link(&mut header, "link", "/etc/passwd").expect("an entry");
        });
        assert!(link.is_err_and(|error| error.contains("link")));
        assert!(
            unpacked(&|archive| {
                let mut header = header(EntryType::Regular, 0o644, 1);
                archive.append_data(&mut header, "a/b", &b"x"[..]).expect("an entry");
            })
            .is_ok()
        );
    }
}
