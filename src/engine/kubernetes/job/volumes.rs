//! Volumes of a build's pod, and where its containers mount them, part of the Job. Pure.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, SecretVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::git_secret;
use super::resources::run_size;
use crate::engine::RunRequest;

/// The run's directory in the pod. Its path is short, because Packer's plugins have sockets below it. It is not
/// `/opsy`, which is the agent's binary in the runner's image: a directory cannot be mounted over a file.
pub const FOLDER: &str = "/opsy-run";
/// The directory of the runner. Only `install` can write to it, so that the image of git-sync, which a builder chooses,
/// cannot replace what supervises Packer.
pub const BIN: &str = "/opsy-bin";
pub const CONFIG: &str = "/opsy-config";
pub const SECRETS: &str = "/opsy-secrets";
/// The directory of git-sync's checkouts, to one of which the working directory is a link.
pub const CHECKOUT: &str = "/opsy-run/git";
/// The runner needs 2 MiB, and twice that while it is copied.
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
            // The container's environment requires the Secret, too, and the kubelet reports that in the pod's status.
            // For a volume it would only publish an Event.
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

/// An emptyDir with a size limit. The kubelet evicts a pod that exceeds it, before the node's disk is full.
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
