//! The pod of a build, part of the Job. Pure.
//!
//! The init container `install` copies the runner and unpacks the ConfigMap into the run's directory; with
//! `spec.gitSync`, git-sync fetches the repository into it instead. Then the container `packer` runs the runner, which
//! supervises Packer in any image that has one. The directory is an emptyDir and ends with the pod. The result is the
//! termination message of the container.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    LocalObjectReference, PodSecurityContext, PodSpec, SeccompProfile, Toleration,
};

use super::containers;
use super::setup::Setup;
use super::volumes::volumes;
use crate::api::builder::{self as api, PodSettings};
use crate::engine::RunRequest;

/// Grace period of the pod: the runner's own one, and time for its report.
pub const GRACE: Duration = Duration::from_secs(900);
/// User and group of all containers. A restricted namespace refuses root, and no user of Packer's images has this ID.
pub const USER: i64 = 65532;

pub fn pod(request: &RunRequest, setup: &Setup) -> PodSpec {
    let PodSettings { node_selector, tolerations, .. } = request.pod.settings.clone();
    PodSpec {
        init_containers: Some(containers::before(request, setup)),
        containers: vec![containers::packer(request, setup)],
        volumes: Some(volumes(request)),
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(i64::try_from(GRACE.as_secs()).unwrap_or(i64::MAX)),
        service_account_name: request.pod.service_account.clone(),
        // No build needs the Kubernetes API. IRSA and EKS Pod Identity mount tokens of their own.
        automount_service_account_token: Some(false),
        image_pull_secrets: pull_secrets(request, setup),
        enable_service_links: Some(false),
        node_selector,
        tolerations: tolerations.map(|all| all.into_iter().map(toleration).collect()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

/// The pull secrets of the flags and of the builder. Without any, Kubernetes uses those of the ServiceAccount.
fn pull_secrets(request: &RunRequest, setup: &Setup) -> Option<Vec<LocalObjectReference>> {
    let mut names = setup.pull_secrets.clone();
    for name in request.pod.settings.image_pull_secrets.iter().flatten() {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let all: Vec<_> = names.into_iter().map(|name| LocalObjectReference { name }).collect();
    (!all.is_empty()).then_some(all)
}

/// The builder's annotations, and defaults that keep autoscalers from evicting the pod: a build cannot be resumed.
pub fn annotations(settings: &PodSettings) -> BTreeMap<String, String> {
    let stay = [
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
        ("karpenter.sh/do-not-disrupt", "true"),
    ];
    let stay = stay.map(|(name, value)| (name.to_owned(), value.to_owned()));
    stay.into_iter().chain(settings.annotations.clone().unwrap_or_default()).collect()
}

fn toleration(written: api::Toleration) -> Toleration {
    Toleration {
        key: written.key,
        operator: written.operator,
        value: written.value,
        effect: written.effect,
        toleration_seconds: written.toleration_seconds,
    }
}
