//! Which ServiceAccount the agent itself has: no build may run under it.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::Api;
use kube::api::PostParams;

use super::Cluster;
use super::error::Refusal;
use crate::api::{Class, Key};

/// What the API server puts before the name of a ServiceAccount.
const PREFIX: &str = "system:serviceaccount:";

/// Asks the API server who the agent is. `None`: a person, or nobody knows; what refused the answer is logged.
///
/// # Errors
/// When it cannot be asked now: to go on without an answer would leave builds unfenced for as long as the agent runs.
pub async fn own(cluster: &Cluster) -> Result<Option<Key>, Refusal> {
    let reviews: Api<SelfSubjectReview> = Api::all(cluster.client.clone());
    match reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.map_err(Refusal::from) {
        Ok(review) => {
            let user = review.status.and_then(|status| status.user_info).and_then(|user| user.username);
            Ok(user.as_deref().and_then(account))
        }
        Err(refusal) if matches!(refusal.class, Class::Transient { .. }) => Err(refusal),
        Err(refusal) => {
            tracing::warn!(
                error = %refusal,
                "the agent cannot ask which ServiceAccount is its own, so no build is kept from using it: set --service-account"
            );
            Ok(None)
        }
    }
}

fn account(user: &str) -> Option<Key> {
    let (namespace, name) = user.strip_prefix(PREFIX)?.split_once(':')?;
    Some(Key { namespace: namespace.to_owned(), name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_service_account_is_one() {
        let key = Key { namespace: "ops".to_owned(), name: "opsy".to_owned() };
        assert_eq!(account("system:serviceaccount:ops:opsy"), Some(key));
        for user in ["alice", "system:node:a", "system:serviceaccount:ops", ""] {
            assert_eq!(account(user), None, "{user}");
        }
    }
}
