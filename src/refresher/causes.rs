//! The likely cause of a failed EKS update and its remedy, by error code. Appended to the failure by `plan`. Pure.

/// The error code of a drain that did not end in time.
const EVICTION: &str = "PodEvictionFailure";
/// EKS error codes, and what they usually mean.
const CAUSES: [(&[&str], &str); 4] = [
    (
        &["NodeCreationFailure"],
        "the new nodes did not join the cluster. Often the user data of the group is for another operating system or \
         Kubernetes version, or the nodes cannot reach the API server: check the named instances",
    ),
    (
        &[EVICTION],
        "pods on the named nodes could not be evicted: check their PodDisruptionBudgets (kubectl get pdb -A), or set \
         refreshConfig.force: true to continue without evicting them",
    ),
    (
        &[
            "AsgInstanceLaunchFailures",
            "InsufficientFreeAddresses",
            "IpNotAvailable",
            "EniLimitReached",
            "InstanceLimitExceeded",
            "InsufficientNumberOfReplicas",
        ],
        "no instance could be launched: check capacity, quotas, free addresses in the subnets, and permissions for the \
         KMS key of the volumes",
    ),
    (
        &["AccessDenied", "OperationNotPermitted", "ClusterUnreachable"],
        "check the IAM role of the nodes and who may reach the cluster",
    ),
];

/// The cause of a failed update, as the end of a sentence; empty if none is known. `blocked_by` is what was found to hold
/// up the drain.
pub fn explain(errors: &[String], blocked_by: Option<&str>) -> String {
    match blocked_by.filter(|_| errors.iter().any(|error| error.starts_with(EVICTION))) {
        Some(what) => format!(". It was blocked: {what}"),
        None => hint(errors),
    }
}

/// The likely cause of the first known error.
fn hint(errors: &[String]) -> String {
    let cause_of = |error: &String| {
        let is_known = |codes: &[&str]| codes.iter().any(|code| error.starts_with(code));
        CAUSES.iter().find(|(codes, _)| is_known(codes)).map(|(_, cause)| *cause)
    };
    errors.iter().find_map(cause_of).map_or_else(String::new, |cause| format!(". Likely cause: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_errors_name_the_remedy() {
        let text = hint(&["PodEvictionFailure: Reached max retries (ip-10-0-3-4)".to_owned()]);
        assert!(text.contains("PodDisruptionBudgets") && text.contains("force: true"), "{text}");
        let text = hint(&["Unknown: x".to_owned(), "NodeCreationFailure: y".to_owned()]);
        assert!(text.contains("user data"), "{text}");
        assert_eq!(hint(&["Unknown: x".to_owned()]), "");
    }

    #[test]
    fn what_blocked_a_drain_explains_only_the_failure_of_the_drain() {
        let by = Some("PodDisruptionBudget shop/api allows no disruption of pod shop/a");
        let eviction = ["PodEvictionFailure: Reached max retries".to_owned()];
        assert_eq!(
            explain(&eviction, by),
            ". It was blocked: PodDisruptionBudget shop/api allows no disruption of pod shop/a"
        );
        assert_eq!(explain(&eviction, None), hint(&eviction));
        let launch = ["NodeCreationFailure: y".to_owned()];
        assert_eq!(explain(&launch, by), hint(&launch));
    }
}
