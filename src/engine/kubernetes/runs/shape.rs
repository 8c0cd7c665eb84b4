//! Whether a pod matches the template of its Job. Pure.
//!
//! Anyone who may create pods can name a Job as the controller of one, and the Job's own controller then creates none.
//! Therefore a pod counts only if it has the containers of the Job's template, which cannot be changed, with their
//! image, command, arguments and volumes. Admission webhooks may add containers, variables and volumes to a pod, and
//! replace the registry by a mirror: of an image, only the last part of its name and its tag are compared.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use crate::api::ids::digest;

/// A digest per part of a template or pod: a container, a mount or a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape(Vec<[u8; 32]>);

impl Shape {
    pub fn of_job(job: &Job) -> Self {
        Self::of(job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()))
    }

    pub fn of_pod(pod: &Pod) -> Self {
        Self::of(pod.spec.as_ref())
    }

    fn of(pod: Option<&PodSpec>) -> Self {
        let Some(pod) = pod else { return Self::default() };
        let first = pod.init_containers.iter().flatten().map(|container| parts("init", container));
        let then = pod.containers.iter().map(|container| parts("container", container));
        let volumes = pod.volumes.iter().flatten().map(|volume| vec![vec![format!("{volume:?}")]]);
        Self(first.chain(then).chain(volumes).flatten().map(|part| short(&part)).collect())
    }

    /// Whether a pod has all parts of this template.
    pub fn fits(&self, pod: &Self) -> bool {
        self.0.iter().all(|part| pod.0.contains(part))
    }
}

/// The parts of a container: command, arguments, image and each mount.
fn parts(kind: &str, container: &Container) -> Vec<Vec<String>> {
    let named = |what: &str| vec![kind.to_owned(), container.name.clone(), what.to_owned()];
    let list = |what: &str, texts: &Option<Vec<String>>| {
        named(what).into_iter().chain(texts.iter().flatten().cloned()).collect::<Vec<_>>()
    };
    let image = container.image.as_deref().map(image_name).unwrap_or_default();
    let run = [list("command", &container.command), list("args", &container.args)];
    let mounts = container.volume_mounts.iter().flatten();
    let mounts = mounts.map(|mount| list("mount", &Some(vec![format!("{mount:?}")])));
    run.into_iter().chain([list("image", &Some(vec![image.to_owned()]))]).chain(mounts).collect()
}

/// The last part of an image's name, with its tag. A mirror has another registry, and may add a digest.
fn image_name(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(name, _)| name);
    image.rsplit_once('/').map_or(image, |(_, name)| name)
}

/// Half of a digest: long enough that nobody can create another part with the same one.
fn short(part: &[String]) -> [u8; 32] {
    let parts: Vec<&str> = part.iter().map(String::as_str).collect();
    let digest = digest(&parts);
    let mut short = [0; 32];
    for (byte, letter) in short.iter_mut().zip(digest.bytes()) {
        *byte = letter;
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec() -> Value {
        let mounts = json!([{"name": "run", "mountPath": "/opsy-run"}]);
        json!({
            "initContainers": [{
                "name": "install", "image": "ghcr.io/x/opsy:1", "command": ["/opsy-runner"], "volumeMounts": mounts,
            }],
            "containers": [{
                "name": "packer", "image": "hashicorp/packer:1", "command": ["/opsy-bin/opsy-runner", "run"],
                "volumeMounts": mounts,
            }],
            "volumes": [{"name": "run", "emptyDir": {}}],
        })
    }

    fn fits(change: impl FnOnce(&mut Value)) -> bool {
        let mut pod = json!({"metadata": {}, "spec": spec()});
        change(&mut pod["spec"]);
        let job: Job =
            serde_json::from_value(json!({"spec": {"template": {"spec": spec()}}})).expect("a Job");
        Shape::of_job(&job).fits(&Shape::of_pod(&serde_json::from_value(pod).expect("a pod")))
    }

    #[test]
    fn a_pod_matches_its_template_whatever_a_webhook_adds() {
        assert!(fits(|_| {}));
        assert!(fits(|spec| {
            let sidecar = json!({"name": "mesh", "image": "mesh:1"});
            spec["containers"].as_array_mut().expect("containers").insert(0, sidecar);
            let token = json!({"name": "token", "emptyDir": {}});
            spec["volumes"].as_array_mut().expect("volumes").push(token);
            let mount = json!({"name": "token", "mountPath": "/token"});
            spec["containers"][1]["volumeMounts"].as_array_mut().expect("mounts").push(mount);
            spec["containers"][1]["env"] = json!([{"name": "AWS_ROLE_ARN", "value": "x"}]);
            spec["containers"][1]["image"] = json!("mirror.example:5000/hub/packer:1@sha256:00");
        }));
    }

    #[test]
    fn a_pod_that_runs_something_else_does_not_match() {
        let edits: [(&str, Value); 7] = [
            ("/containers/0/command", json!(["sh"])),
            ("/containers/0/args", json!(["x"])),
            ("/containers/0/image", json!("forged:1")),
            ("/containers/0/name", json!("other")),
            ("/initContainers", json!([])),
            ("/containers/0/volumeMounts", json!([])),
            ("/volumes/0/emptyDir", json!({"medium": "Memory"})),
        ];
        for (path, value) in edits {
            let (parent, field) = path.rsplit_once('/').expect("a path");
            assert!(
                !fits(|spec| spec.pointer_mut(parent).expect("a place")[field] = value.clone()),
                "{path}"
            );
        }
    }
}
