//! The pod of a build. Pure; part of the Job.
//!
//! `install` copies the runner and unpacks the ConfigMap into the run's folder (git-sync, where it is asked for, puts the
//! repository there instead), then `packer` is that runner, supervising Packer in any image that has one. The folder is
//! an emptyDir: it ends with the pod, the result is the container's termination message.

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

/// Until a pod that was asked to stop is killed: the runner's grace, and time for it to report.
pub const GRACE: Duration = Duration::from_secs(900);
/// A restricted namespace takes no root; nobody's id in Packer's images.
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
        // No build needs the Kubernetes API: IRSA and EKS Pod Identity bring a token of their own.
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

/// Those of the flags and those of the builder. Without any, the ServiceAccount's are used.
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

/// Autoscalers are asked to leave the node alone: a build that is moved begins anew.
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
