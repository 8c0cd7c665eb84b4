//! A registry on this machine that replaces others on the node, so that pods name images as people do.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::ControlPlane;
use crate::bed::{Process, request};

/// Ends when it is dropped, and removes its configuration from the node.
pub struct Registry {
    plane: &'static ControlPlane,
    url: String,
    _process: Process,
    _folder: tempfile::TempDir,
    places: Vec<PathBuf>,
}

impl Registry {
    /// Starts a registry that the node uses instead of these hosts. No other test pulls from them.
    pub fn instead_of(plane: &'static ControlPlane, hosts: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let options = [("--dir", &*folder.path().join("blobs"))];
        let process = Process::start("registry", &["registrybed.py"], &options);
        let url = process.text("url");
        let registries = PathBuf::from(plane.address("registries").as_str().expect("a path"));
        let places = hosts.iter().map(|host| registries.join(host)).collect();
        let registry = Self { plane, url, _process: process, _folder: folder, places };
        registry.tell_node();
        registry
    }

    /// Writes the node's configuration of the hosts, which containerd reads for each pull.
    fn tell_node(&self) {
        let url = &self.url;
        let hosts =
            format!("server = \"{url}\"\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
        for place in &self.places {
            fs::create_dir_all(place).expect("a directory");
            fs::write(place.join("hosts.toml"), &hosts).expect("a file");
        }
    }

    /// Serves an image of the node, `packer` or `git_sync`, under this name, with the additions in `more`.
    pub fn serve(&self, name: &str, image: &str, more: Value) {
        let mut asked = more;
        asked["name"] = name.into();
        asked["archive"] = self.plane.address("archive").clone();
        asked["image"] = self.plane.address("images")[image].clone();
        let added = request("POST", &format!("{}/_bed/image", self.url), Some(asked));
        assert!(added["digest"].is_string(), "{added}");
    }

    /// Number of reads of an image manifest, as in `name/manifests/tag`.
    pub fn pulls(&self, manifest: &str) -> usize {
        let journal = request("GET", &format!("{}/_bed/journal", self.url), None);
        let path = json!(format!("/v2/{manifest}"));
        journal.as_array().expect("a list").iter().filter(|entry| entry["path"] == path).count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        for place in &self.places {
            // The directory is gone if the node has ended.
            let _ = fs::remove_dir_all(place);
        }
    }
}
