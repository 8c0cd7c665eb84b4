//! The files of the fixtures, and directories that are copied, read or searched.

use std::fs;
use std::path::{Path, PathBuf};

/// Copies a directory with the permissions of its files.
pub fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).expect("a directory");
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures")
}

/// A file of the repository `fixtures/repo`.
pub fn fixture(path: &str) -> String {
    fs::read_to_string(fixtures().join("repo").join(path)).expect("a fixture")
}

/// The template of the repository `fixtures/repo`.
pub fn template() -> &'static str {
    include_str!("fixtures/repo/packer/node/node.pkr.hcl")
}

/// A template with source `null`: no instance and no image, only a script that runs on this machine.
pub fn script_template(script: &str) -> String {
    format!(
        "variable \"ami_id\" {{}}
variable \"region\" {{}}
source \"null\" \"here\" {{ communicator = \"none\" }}
build {{
  sources = [\"source.null.here\"]
  provisioner \"shell-local\" {{ inline = [{script:?}] }}
}}
"
    )
}

/// Files below a directory that contain a string.
pub fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if fs::read(&path).expect("a file").windows(text.len()).any(|part| part == text.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

/// The text files below a directory, by their paths in `root`.
pub fn files_in(root: &Path, dir: &Path) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_in(root, &path));
        } else {
            let name = path.strip_prefix(root).expect("inside").to_string_lossy().into_owned();
            files.push((name, fs::read_to_string(&path).expect("a text file")));
        }
    }
    files
}
