//! What is likely behind the errors of a failed update, and how to go on. Pure.

/// EKS's error codes with what they usually mean.
const CAUSES: [(&[&str], &str); 4] = [
    (
        &["NodeCreationFailure"],
        "the new nodes did not join the cluster: often the group's user data is for another operating system or \
         Kubernetes version, or the nodes cannot reach the API server; look at the named instances",
    ),
    (
        &["PodEvictionFailure"],
        "pods on the named nodes could not be evicted: look at their PodDisruptionBudgets (kubectl get pdb -A), or \
         set refreshConfig.force: true to go on without them",
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
        "no instance could be launched: look at capacity, quotas, free addresses of the subnets, and rights to the \
         KMS key of the volumes",
    ),
    (
        &["AccessDenied", "OperationNotPermitted", "ClusterUnreachable"],
        "look at the role of the nodes and at who may reach the cluster",
    ),
];

/// The likely cause of the first error that is known, as the end of a sentence.
pub fn hint(errors: &[String]) -> String {
    let of = |error: &String| {
        let known = |codes: &[&str]| codes.iter().any(|code| error.starts_with(code));
        CAUSES.iter().find(|(codes, _)| known(codes)).map(|(_, cause)| *cause)
    };
    errors.iter().find_map(of).map_or_else(String::new, |cause| format!(". Likely cause: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_errors_say_what_to_look_at() {
        let said = hint(&["PodEvictionFailure: Reached max retries (ip-10-0-3-4)".to_owned()]);
        assert!(said.contains("PodDisruptionBudgets") && said.contains("force: true"), "{said}");
        let said = hint(&["Unknown: x".to_owned(), "NodeCreationFailure: y".to_owned()]);
        assert!(said.contains("user data"), "{said}");
        assert_eq!(hint(&["Unknown: x".to_owned()]), "");
    }
}
