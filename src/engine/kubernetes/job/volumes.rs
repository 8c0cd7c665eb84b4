//! Volumes of a build's pod, and where its containers mount them. Pure; part of the Job.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::git_secret;
use super::resources::run_size;
use crate::engine::RunRequest;

/// The run's folder in the pod. Short: Packer's plugins have sockets below it. Not `/opsy`, which is the
/// agent in the runner's image, and a folder cannot be mounted over a file.
pub const FOLDER: &str = "/opsy-run";
/// Where the runner is installed. Only `install` can write there, so that the image of git-sync, which a builder
/// chooses, does not replace what supervises Packer.
pub const BIN: &str = "/opsy-bin";
pub const CONFIG: &str = "/opsy-config";
pub const SECRETS: &str = "/opsy-secrets";
/// git-sync keeps its checkouts here, and links the right one to the work folder.
pub const CHECKOUT: &str = "/opsy-run/git";
/// The runner takes 2 MiB, and twice that while it is copied.
const BIN_SIZE: &str = "64Mi";

pub fn volumes(request: &RunRequest) -> Vec<Volume> {
    let config = Volume {
        name: "config".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: request.name.to_string(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    let secrets = request.secret.as_ref().map(|name| Volume {
        name: "secrets".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.clone()),
            // A missing Secret is told by the environment, in words; a missing volume only by an event.
            optional: Some(true),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    let run = scratch("run", run_size(&request.pod.settings));
    let bin = scratch("bin", Quantity(BIN_SIZE.to_owned()));
    let of_git_sync = request.pod.git_sync.as_ref().and_then(git_secret::volume);
    [run, bin, config].into_iter().chain(secrets).chain(of_git_sync).collect()
}

/// A volume that ends with the pod. The kubelet evicts a pod that writes more, before it takes its node's disk.
fn scratch(name: &str, size: Quantity) -> Volume {
    Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource { size_limit: Some(size), medium: None }),
        ..Volume::default()
    }
}

pub fn mount(name: &str, path: &str, read_only: bool) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(read_only),
        ..VolumeMount::default()
    }
}
