//! A registry of this machine that takes the place of others on the node, so that pods name images as people do.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::super::{ControlPlane, root};
use crate::bed::{request, wait_for};

/// Start-up takes half a second on an idle machine, some on a busy one.
const START: Duration = Duration::from_secs(60);

/// Ends when it is dropped, and with it what the node was told.
pub struct Registry {
    plane: &'static ControlPlane,
    url: String,
    child: Child,
    _folder: tempfile::TempDir,
    places: Vec<PathBuf>,
}

impl Registry {
    /// One that the node asks instead of these hosts. No other test pulls from them.
    pub fn instead_of(plane: &'static ControlPlane, hosts: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let port_file = folder.path().join("address.json");
        let child = Command::new("python3")
            .arg(root().join("tests/bed/registry/registrybed.py"))
            .args(["--port", "0", "--die-with-parent", "--dir"])
            .arg(folder.path().join("blobs"))
            .arg("--port-file")
            .arg(&port_file)
            .stdout(Stdio::null())
            .spawn()
            .expect("python3 starts");
        let address = wait_for("the registry", START, || fs::read(&port_file).ok());
        let address: Value = serde_json::from_slice(&address).expect("JSON");
        let url = address["url"].as_str().expect("an address").to_owned();
        let registries = PathBuf::from(plane.address("registries").as_str().expect("a path"));
        let places = hosts.iter().map(|host| registries.join(host)).collect();
        let registry = Self { plane, url, child, _folder: folder, places };
        registry.tell_node();
        registry
    }

    /// containerd reads it for each pull.
    fn tell_node(&self) {
        let url = &self.url;
        let hosts =
            format!("server = \"{url}\"\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
        for place in &self.places {
            fs::create_dir_all(place).expect("a folder");
            fs::write(place.join("hosts.toml"), &hosts).expect("a file");
        }
    }

    /// Serves an image of the node, `packer` or `git_sync`, under this name, with what `more` adds to it.
    pub fn serve(&self, name: &str, image: &str, more: Value) {
        let mut asked = more;
        asked["name"] = name.into();
        asked["archive"] = self.plane.address("archive").clone();
        asked["image"] = self.plane.address("images")[image].clone();
        let added = request("POST", &format!("{}/_bed/image", self.url), Some(asked));
        assert!(added["digest"].is_string(), "{added}");
    }

    /// How often a manifest was read: of an image, as `name/manifests/tag`.
    pub fn pulls(&self, manifest: &str) -> usize {
        let journal = request("GET", &format!("{}/_bed/journal", self.url), None);
        let path = json!(format!("/v2/{manifest}"));
        journal.as_array().expect("a list").iter().filter(|entry| entry["path"] == path).count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        for place in &self.places {
            // A node that ended took it along.
            let _ = fs::remove_dir_all(place);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
